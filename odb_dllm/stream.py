"""One generation watched forward by forward, and the conversation that its prompt is made from.

What everything that shows an answer while it is made needs: the chat in the terminal, a demo in a browser. In short:

    conversation = Conversation(system="Answer briefly.")
    conversation.ask("What is 3+4?")
    setting, stop = settle(model, get_setting("jump-share", gen_length=128))
    prompt = conversation.prompt_ids(model, setting.gen_length)
    for snapshot in stream(model, prompt.ids, setting, stop):
        show(pieces(model, snapshot))
    conversation.answer(answer_text(model, snapshot))

Nothing here prints, and nothing knows of terminals or browsers.
"""

from bisect import bisect_left
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from odb_dllm.benchmarks import resolve
from odb_dllm.contract import Bools, Event, Floats, Forward, Ints, Prediction, Range
from odb_dllm.costs import Budget, costs_of
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.sampler import capacity, sample
from odb_dllm.scheduler import Request, check
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule, first_match
from odb_dllm.tensor_parallel.leader import engine_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["mask", "text", "special"]
MOST_BYTES = 4  # of a character in UTF-8: so many tokens may share one
HALF = "\ufffd"  # what bytes decode to that are no character


@dataclass(frozen=True)
class Snapshot:
    """The response after one forward. Positions are offsets in the response: the prompt ends at 0.

    Arrays are copies that nobody changes later, as long as the canvas is now (``length``): where the length is adaptive
    they become shorter from one snapshot to the next, and never longer. A position that is decided stays as it is.
    """

    forward: int  # index of this forward, from 0; -1 in a blank canvas, before the first
    kind: Literal["refresh", "step"]
    fed: int  # tokens that this forward was fed, branches included
    cached: int  # cached positions that it saw
    block: Range  # the block that is decided now
    length: int  # canvas end: where the response ends as far as is known
    predicted_length: int | None  # length predicted last; None while, or where, none is
    tokens: Ints  # [length], the mask token where nothing is decided
    masked: Bools  # [length]
    decided: Ints  # positions that this forward decided, ascending; under some rules at times none
    decided_at: Ints  # [length], the forward that decided each; -1: none yet, or EOS that fills after an early exit
    guess: Ints  # [length], the token last predicted at each position; the mask token where none ever was
    confidence: Floats  # [length], its softmax probability in (0, 1]; NaN (no JSON!) where none ever was
    drafts: Ints  # positions that a speculative step drafted, most confident first; else empty
    branch: int | None  # the branch that such a step chose
    nfe: int  # forwards so far: refreshes + steps
    refreshes: int
    fed_tokens: int  # of all forwards so far
    seconds: float  # wall time of generating so far; the time that the caller took between snapshots is left out
    answer_length: int  # tokens before the first mask, EOS or stop pattern: the answer as far as it stands
    generation: Generation | None = None  # in the last snapshot, and there alone: what ``generate`` returns

    @property
    def steps(self) -> int:
        return self.nfe - self.refreshes

    @property
    def finished(self) -> bool:
        return self.generation is not None

    @property
    def tokens_per_forward(self) -> float:
        """As docs/statistics.md defines it, once finished; decided positions / forwards until then."""
        done = int((~self.masked).sum()) if self.generation is None else self.generation.decode_length
        return done / self.nfe if self.nfe else 0.0

    @property
    def tokens_per_second(self) -> float:
        """``answer_length`` / ``seconds``."""
        return self.answer_length / self.seconds if self.seconds else 0.0


def blank(model: DiffusionModel, setting: Setting) -> Snapshot:
    """The canvas before the first forward, all masks: what to show until ``stream`` yields."""
    return _Response(model, setting).snapshot(0.0)


def settle(model: DiffusionModel, setting: Setting) -> tuple[Setting, StopRule]:
    """Return the setting and stop rule of a conversation, for ``stream``.

    With a chat template, the end-of-turn token counts as EOS; there is no task, whose thresholds would apply.
    """
    return resolve(model, replace(setting, end_of_turn=has_template(model)))


def stream(
    model: DiffusionModel, prompt_ids: Sequence[int], setting: Setting, stop: StopRule, *, sequence: int = 0
) -> Generator[Snapshot, None, None]:
    """Generate one response, and yield a ``Snapshot`` after each forward.

    The tokens are those of ``odb_dllm.generate`` for the same prompt, setting and sequence. The last snapshot has
    ``generation`` set and holds its tokens. The next forward runs when the next snapshot is asked for, in the
    caller's thread; the engine of a model is not thread-safe, so run one stream of a model at a time.

    To stop in the middle, call ``close()`` on what this returns (or drop it): no more forwards run, and the cache is
    released. The last snapshot stays valid.

    Args:
        model: from ``load_model``.
        prompt_ids: token ids, such as ``Conversation.prompt_ids`` makes.
        setting: with ``stop`` from ``settle``, or from ``benchmarks.resolve``.
        stop: what ends the answer.
        sequence: with ``setting.seed``, decides the noise where the temperature is above 0. Give each turn of a
            conversation another one.

    Raises:
        InputError: the prompt does not fit the model (at once, before any snapshot is asked for), or memory does not
            suffice (while running).
        NonFiniteLogits: the model's logits are NaN or infinite (while running).
    """
    check(model, [Request(prompt_ids, setting, stop, sequence)])
    return _stream(model, np.asarray(prompt_ids, np.int64), setting, stop, sequence)


def _stream(
    model: DiffusionModel, prompt: Ints, setting: Setting, stop: StopRule, sequence: int
) -> Generator[Snapshot, None, None]:
    engine = engine_of(model)
    resumed, seconds = engine.clock(), 0.0
    events: list[Event] = []
    response = _Response(model, setting, len(prompt), stop)
    shift = model.network.shift
    sampler = sample(
        prompt,
        setting,
        stop,
        model.ids.mask,
        shift=shift,
        sequence=sequence,
        watch=events.append,
        budget=Budget(costs_of(model.device.type)),
    )
    cache, generation = None, None
    try:
        cache = engine.open(capacity(setting, len(prompt), shift))
        forward = next(sampler)
        while generation is None:
            asked, started = forward, engine.clock()
            prediction = engine.answer([(cache, asked)])[0]
            response.seconds.append(engine.clock() - started)
            try:
                forward = sampler.send(prediction)
            except StopIteration as finished:
                generation = finished.value
            response.take(asked, prediction, events.pop())
            seconds += engine.clock() - resumed
            yield response.snapshot(seconds, generation)
            resumed = engine.clock()
    except torch.OutOfMemoryError:
        raise InputError(f"Memory on {model.device} does not suffice: use a shorter prompt or gen_length.") from None
    finally:
        sampler.close()
        if cache is not None:
            cache.close()


class _Response:
    """What is known of each position of a response, and what it has cost."""

    def __init__(self, model: DiffusionModel, setting: Setting, prompt: int = 0, stop: StopRule | None = None) -> None:
        size, mask, nothing = setting.gen_length, model.ids.mask, np.empty(0, np.int64)
        self.mask, self.prompt, self.patterns = mask, prompt, stop.patterns if stop else ()
        self.tokens, self.guess = np.full(size, mask, np.int64), np.full(size, mask, np.int64)
        self.confidence, self.decided_at = np.full(size, np.nan), np.full(size, -1, np.int64)
        self.predicted: int | None = None
        self.nfe = self.refreshes = self.fed_tokens = 0
        self.seconds: list[float] = []  # of each forward
        block, end = (prompt, prompt + setting.span), prompt + size
        self.event = Event("refresh", 0, -1, block, end, 0, 0, nothing, nothing, np.empty(0), setting.span)

    def take(self, forward: Forward, prediction: Prediction, event: Event) -> None:
        """Write down what a forward predicted, and what was decided by it."""
        seen = forward.targets[:, 0] == (event.branch or 0)
        at = forward.targets[seen, 1] - self.prompt
        self.guess[at], self.confidence[at] = prediction.token[seen], prediction.confidence[seen]
        # A draft may be decided with the confidence that it was drafted with: the event knows.
        at = event.accepted - self.prompt
        self.tokens[at] = self.guess[at] = event.tokens
        self.confidence[at], self.decided_at[at] = event.confidence, event.forward
        if event.predicted_length is not None:
            self.predicted = event.predicted_length
        self.event = event
        self.nfe += 1
        self.refreshes += event.kind == "refresh"
        self.fed_tokens += event.fed

    def snapshot(self, seconds: float, generation: Generation | None = None) -> Snapshot:
        event, length = self.event, self.event.end - self.prompt
        tokens = self.tokens[:length].copy()
        if generation is not None:
            tokens[:] = generation.tokens  # after an early exit, EOS fill what is left
            alone = [1] * self.nfe
            generation = replace(generation, latency=seconds, forward_seconds=self.seconds, batches=alone)
        masked = tokens == self.mask
        return Snapshot(
            forward=event.forward,
            kind=event.kind,
            fed=event.fed,
            cached=event.cached,
            block=(event.block[0] - self.prompt, event.block[1] - self.prompt),
            length=length,
            predicted_length=self.predicted,
            tokens=tokens,
            masked=masked,
            decided=event.accepted - self.prompt,
            decided_at=self.decided_at[:length].copy(),
            guess=self.guess[:length].copy(),
            confidence=self.confidence[:length].copy(),
            drafts=event.drafts - self.prompt,
            branch=event.branch,
            nfe=self.nfe,
            refreshes=self.refreshes,
            fed_tokens=self.fed_tokens,
            seconds=seconds,
            answer_length=_answer_length(tokens, masked, self.patterns),
            generation=generation,
        )


def _answer_length(tokens: Ints, masked: Bools, patterns: Sequence[Sequence[int]]) -> int:
    standing = tokens[: int(masked.argmax())] if masked.any() else tokens
    end = first_match(standing, patterns)
    return len(standing) if end is None else end


# Text -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Some positions of the response that are shown as one: a token, or several that share a character."""

    kind: Kind  # special: EOS, end of turn and their like, whose text is empty; so is a mask's
    text: str
    positions: Range


def pieces(model: DiffusionModel, snapshot: Snapshot) -> list[Piece]:
    """The response as text piece by piece, in order, without gaps: what to draw.

    Bytes that make no character yet, as their neighbour is still masked, are U+FFFD. Texts are as the model wrote
    them, control characters included: whoever shows them must make them harmless.
    """
    tokenizer, tokens = _tokenizer(model), snapshot.tokens.tolist()
    found: list[Piece] = []
    while (first := found[-1].positions[1] if found else 0) < snapshot.length:
        last, text = first + 1, ""
        if not snapshot.masked[first]:
            text = _wording(tokenizer, (tokens[first],))
        if text.endswith(HALF):
            run = int(snapshot.masked[first : first + MOST_BYTES].argmax()) or MOST_BYTES
            longer = [_wording(tokenizer, tuple(tokens[first : first + n])) for n in range(2, run + 1)]
            whole = next((n for n, words in enumerate(longer, 2) if not words.endswith(HALF)), None)
            if whole is not None:
                last, text = min(first + whole, snapshot.length), longer[whole - 2]
        found.append(Piece("mask" if snapshot.masked[first] else "text" if text else "special", text, (first, last)))
    return found


@lru_cache(maxsize=2**16)
def _wording(tokenizer: "PreTrainedTokenizerBase", ids: tuple[int, ...]) -> str:
    """The text of a few tokens in the middle of a sentence: some decoders drop the space that a text begins with."""
    before = tokenizer.encode("a", add_special_tokens=False)
    return _decode(tokenizer, [*before, *ids])[len(_decode(tokenizer, before)) :]


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def answer_text(model: DiffusionModel, snapshot: Snapshot) -> str:
    """The answer as far as it stands: up to the first mask, EOS or stop pattern, without special tokens."""
    return _decode(_tokenizer(model), snapshot.tokens[: snapshot.answer_length].tolist())


# Conversation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str
    stopped: bool = False  # an answer that was stopped before its end


@dataclass(frozen=True)
class Prompt:
    """A conversation as token ids; ``dropped``: so many of its oldest messages did not fit and are left out."""

    ids: list[int]
    dropped: int


@dataclass
class Conversation:
    """What was said, in order: user and assistant in turn. A system message is kept apart, and is never dropped."""

    system: str | None = None
    messages: list[Message] = field(default_factory=list)

    def ask(self, text: str) -> None:
        self.messages.append(Message("user", text))

    def answer(self, text: str, *, stopped: bool = False) -> None:
        self.messages.append(Message("assistant", text, stopped))

    def take_back(self) -> None:
        """Forget a question that got no answer."""
        if self.messages and self.messages[-1].role == "user":
            self.messages.pop()

    def reset(self) -> None:
        """Forget all messages but the system's."""
        self.messages.clear()

    def prompt_ids(self, model: DiffusionModel, gen_length: int) -> Prompt:
        """Return the conversation as a prompt for the next answer of ``gen_length`` tokens.

        By the tokenizer's chat template, ending where the assistant is to speak. A tokenizer without one (a base
        model's) gets the plain text: each question followed by its answer, an empty line between turns.

        Where the conversation and the answer exceed the model's maximum, the oldest turns (a question and its answer)
        are left out of the prompt; ``messages`` stays as it is.

        Raises:
            InputError: no tokenizer; a template that refuses the conversation; a last question that does not fit alone.
        """
        questions = [i for i, message in enumerate(self.messages) if message.role == "user"] or [0]
        room = model.max_length - gen_length

        def fits(dropped: int) -> bool:
            return len(self._ids(model, dropped)) <= room

        at = 0 if fits(0) else bisect_left(questions, True, key=fits)
        if at == len(questions):
            length = len(self._ids(model, questions[-1]))
            raise InputError(
                f"A question of {length} tokens and gen_length {gen_length} exceed the model's maximum of "
                f"{model.max_length} tokens."
            )
        return Prompt(self._ids(model, questions[at]), questions[at])

    def _ids(self, model: DiffusionModel, dropped: int) -> list[int]:
        head = [] if self.system is None else [Message("system", self.system)]
        spoken = [*head, *self.messages[dropped:]]
        tokenizer = _tokenizer(model)
        if not has_template(model):
            return list(tokenizer.encode(_plain(spoken)))
        try:
            text = tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in spoken],
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # jinja's errors, which templates raise for roles that they do not know
            raise InputError(f"The chat template refused the conversation: {error}") from error
        return list(tokenizer.encode(text, add_special_tokens=False))


def has_template(model: DiffusionModel) -> bool:
    """Whether the model's tokenizer has a chat template."""
    return _tokenizer(model).chat_template is not None


def _plain(messages: Sequence[Message]) -> str:
    """Question and answer run on: so a base model's continuation is read back as it was written."""
    text = ""
    for message in messages:
        text += message.content if message.role == "assistant" or not text else f"\n\n{message.content}"
    return text


def _tokenizer(model: DiffusionModel) -> "PreTrainedTokenizerBase":
    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer, and a conversation is text.")
    return model.tokenizer
