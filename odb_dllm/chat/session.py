"""A conversation with a model under a setting that may change: what was said, and what each answer cost."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from odb_dllm.arguments import Arguments
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.presets import get_setting
from odb_dllm.settings import Setting
from odb_dllm.stream import Conversation, Snapshot, blank, settle, stream
from odb_dllm.version import __version__


@dataclass(frozen=True)
class Answer:
    """What one answer cost; the terms are those of docs/statistics.md."""

    setting: str
    prompt_tokens: int
    dropped_messages: int  # the oldest, which the prompt had no room for
    tokens: int
    nfe: int
    refreshes: int
    steps: int
    fed_tokens: int
    tokens_per_forward: float
    tokens_per_second: float
    seconds: float


@dataclass
class Session:
    model: DiffusionModel
    setting: Setting
    given: Mapping[str, Any]  # the setting's fields that were given one by one: they outlast a switch
    conversation: Conversation
    answers: list[Answer] = field(default_factory=list)  # one for each of the assistant's messages
    dropped: int = 0  # messages that the last prompt had no room for

    @classmethod
    def start(cls, model: DiffusionModel, arguments: Arguments, system: str | None) -> "Session":
        given = {name: getattr(arguments.setting, name) for name in arguments.explicit}
        return cls(model, arguments.setting, given, Conversation(system))

    def switch(self, name: str) -> None:
        """Go on under another setting; raises ``InputError`` and changes nothing where that cannot be."""
        self.setting = get_setting(name, **self.given)

    def reset(self) -> None:
        self.conversation.reset()
        self.answers.clear()
        self.dropped = 0

    def ask(self, question: str, on_dropped: Callable[[int], None]) -> Generator[Snapshot, None, None]:
        """Put a question, and yield the answer as it is made: the blank canvas first, then after each forward.

        The question stays in the conversation; ``keep`` or ``take_back`` what comes of it.

        Args:
            on_dropped: called with the number of oldest messages that do not fit any more, where more than before.
        """
        setting, stop = settle(self.model, self.setting)
        self.conversation.ask(question)
        prompt = self.conversation.prompt_ids(self.model, setting.gen_length)
        if prompt.dropped > self.dropped:
            on_dropped(prompt.dropped)
        self.dropped, self._prompt_tokens = prompt.dropped, len(prompt.ids)
        yield blank(self.model, setting)
        yield from stream(self.model, prompt.ids, setting, stop, sequence=len(self.answers))

    def keep(self, text: str, snapshot: Snapshot, *, stopped: bool) -> None:
        """Take an answer, complete or as far as it stands, into the conversation."""
        self.conversation.answer(text, stopped=stopped)
        self.answers.append(
            Answer(
                setting=self.setting.name,
                prompt_tokens=self._prompt_tokens,
                dropped_messages=self.dropped,
                tokens=snapshot.answer_length,
                nfe=snapshot.nfe,
                refreshes=snapshot.refreshes,
                steps=snapshot.steps,
                fed_tokens=snapshot.fed_tokens,
                tokens_per_forward=snapshot.tokens_per_forward,
                tokens_per_second=snapshot.tokens_per_second,
                seconds=snapshot.seconds,
            )
        )

    def save(self, path: Path) -> None:
        """Write the conversation as JSON. Raises ``OSError``."""
        path.write_text(json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def document(self) -> dict[str, Any]:
        """The conversation with its setting, and with the statistics of each answer, as JSON takes it."""
        answers = iter(self.answers)
        messages: list[dict[str, Any]] = []
        for message in self.conversation.messages:
            messages.append({"role": message.role, "content": message.content})
            if message.role == "assistant":
                messages[-1] |= {"stopped": message.stopped, "statistics": asdict(next(answers))}
        values = asdict(settle(self.model, self.setting)[0])
        setting = {k: getattr(v, "__name__", str(v)) if callable(v) else v for k, v in values.items()}
        return {
            "odb_dllm": __version__,
            "model": self.model.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.model.device),
            "setting": setting,
            "system": self.conversation.system,
            "messages": messages,
        }


def progress(snapshot: Snapshot) -> str:
    """How far an answer is, in a line."""
    size = snapshot.block[1] - snapshot.block[0]
    done = int((~snapshot.masked).sum())
    return (
        f"block {snapshot.block[1] // size} of {snapshot.length // size}, {done} of {snapshot.length} "
        f"tokens decided, NFE {snapshot.nfe}, {snapshot.seconds:.1f} s"
    )


def costs(snapshot: Snapshot) -> str:
    """What an answer has cost, in a line."""

    def count(number: int, word: str) -> str:
        return f"{number} {word}" + ("" if number == 1 else "es" if word.endswith("sh") else "s")

    forwards = f"{count(snapshot.refreshes, 'refresh')} + {count(snapshot.steps, 'step')}"
    return (
        f"{snapshot.tokens_per_second:.1f} tokens/s, NFE {snapshot.nfe} = {forwards}, "
        f"{snapshot.tokens_per_forward:.1f} tokens per forward, {snapshot.seconds:.2f} s"
    )
