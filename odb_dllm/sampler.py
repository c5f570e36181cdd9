"""The one sampler: block by block from left to right, a refresh and then steps until the block is complete.

It is a generator: it yields a ``Forward``, is sent the ``Prediction`` and returns a ``Generation``. Which tokens are
fed, what is cached, which positions are unmasked and where the canvas ends follows from the ``Setting`` alone.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from odb_dllm import speculation as spec
from odb_dllm.contract import Draw, Event, Floats, Forward, Guidance, Ints, Prediction, Range
from odb_dllm.errors import InputError
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule, first_match, first_predicted
from odb_dllm.unmasking import RULES, Moment, schedule, top

Watcher = Callable[[Event], None]
Answer = Generator[Forward, Prediction, Prediction]


class NonFiniteLogits(ArithmeticError):
    """The model returned NaN or infinite logits."""


@dataclass(frozen=True)
class Generation:
    """What one generation gave, and what it cost."""

    tokens: list[int]  # the response canvas at the end, EOS fill included
    nfe: int  # forwards: refreshes + steps
    refreshes: int
    forward_lengths: list[int]  # tokens fed to each forward, branches included
    predicted_lengths: list[int]  # response length after each block's prediction; empty without adaptive length
    average_predicted_length: float | None  # their mean; None without adaptive length
    decode_length: int  # up to the stop pattern's first token after an early exit, else the whole canvas
    latency: float = 0.0  # seconds from admission to the last token
    seconds: float = 0.0  # forward time, each forward's shared out by tokens fed
    refresh_seconds: float = 0.0
    step_seconds: float = 0.0

    @property
    def tokens_per_forward(self) -> float:
        """TPF: decode length / NFE."""
        return self.decode_length / self.nfe


@dataclass
class Canvas:
    """The state of one generation."""

    setting: Setting
    stop: StopRule
    mask: int
    tokens: Ints  # [prompt + gen_length]
    prompt: int  # P
    end: int
    horizon: int  # R, the remaining length that was last found
    sequence: int
    watch: Watcher | None
    fed: list[int] = field(default_factory=list)  # tokens of each forward
    predicted: list[int] = field(default_factory=list)
    predicted_at: int = -1  # forwards run when that was last predicted
    refreshes: int = 0
    shift: int = 0

    def is_masked(self, block: Range) -> np.ndarray:
        return self.tokens[slice(*block)] == self.mask


def sample(
    prompt: Ints,
    setting: Setting,
    stop: StopRule,
    mask: int,
    *,
    shift: int = 0,
    sequence: int = 0,
    watch: Watcher | None = None,
) -> Generator[Forward, Prediction, Generation]:
    """Generate ``setting.gen_length`` tokens after ``prompt`` (int64 [P]).

    Args:
        mask: id of the mask token.
        shift: rows before a position at which the model predicts it.
        sequence: with the seed, decides the noise of this generation.
        watch: called with an ``Event`` after each forward.

    Raises:
        NonFiniteLogits: a prediction that was needed is NaN or infinite.
    """
    tokens = np.concatenate([prompt, np.full(setting.gen_length, mask, np.int64)])
    canvas = Canvas(setting, stop, mask, tokens, len(prompt), len(tokens), setting.gen_length, sequence, watch)
    canvas.shift = shift
    decode = _plain if setting.speculation == "none" else _speculative
    decode_length = None
    start = canvas.prompt
    while start < canvas.end and decode_length is None:
        block = (start, start + setting.span)
        yield from decode(canvas, block)
        decode_length = _exit(canvas, block)
        start = block[1]
    response = tokens[canvas.prompt : canvas.end].tolist()
    return Generation(
        tokens=response,
        nfe=len(canvas.fed),
        refreshes=canvas.refreshes,
        forward_lengths=canvas.fed,
        predicted_lengths=canvas.predicted,
        average_predicted_length=float(np.mean(canvas.predicted)) if canvas.predicted else None,
        decode_length=len(response) if decode_length is None else decode_length,
    )


def capacity(setting: Setting, prompt: int, shift: int = 0) -> int:
    """Cache slots that a generation needs: its canvas, and room for the branches of a step."""
    if setting.cache == "none":
        return 0
    block = setting.span
    branches = 0
    if setting.speculation != "none":
        branches = spec.fed_tokens(block, 0, spec.JUMP)
    if setting.speculation == "jump-share":
        branches = max(branches, spec.fed_tokens(block, min(block, (1 + shift) * max(spec.SWITCH_AT)), spec.SHARE))
    return prompt + setting.gen_length + branches


def _plain(canvas: Canvas, block: Range) -> Generator[Forward, Prediction, None]:
    """Unmask by the setting's rule, forward after forward."""
    setting = canvas.setting
    rule = RULES[setting.rule] if isinstance(setting.rule, str) else setting.rule
    assert rule is not None
    forward = _opening(canvas, block)
    prediction = yield from _open(canvas, block, forward)
    step, masks = 0, int(canvas.is_masked(block).sum())
    opened = int(_opens_one(canvas, forward))
    while True:
        open_ = block[0] + np.flatnonzero(canvas.is_masked(block))
        share = float(np.mean(forward.tokens == canvas.mask))
        moment = Moment(setting, step, masks, forward.kind == "refresh", share, opened)
        score = _scores(canvas, prediction)
        taken = np.arange(len(score)) == 0 if _opens_one(canvas, forward) else np.asarray(rule(score, moment), bool)
        if taken.shape != score.shape:
            raise InputError(f"The rule must say True or False for each of {len(score)} masks, not {taken.shape}.")
        if not taken.any() and rule is not schedule:  # whatever another rule says, each forward decides something
            taken = top(score, 1)
        _accept(canvas, block, forward, open_[taken], prediction.token[taken], prediction.confidence[taken])
        if taken.all():
            return
        forward = _step(canvas, block)
        prediction = yield from _ask(canvas, forward)
        step += 1


def _speculative(canvas: Canvas, block: Range) -> Generator[Forward, Prediction, None]:
    """Accept-jump and jump-share: verify several drafts in one step (ODB-dLLM section 3.3)."""
    threshold = canvas.setting.threshold
    assert threshold is not None
    start = block[0]
    forward = _opening(canvas, block)
    prediction = yield from _open(canvas, block, forward)
    token, score = prediction.token, prediction.log_confidence  # [B], of the branch that was chosen last
    taken = spec.taken_by(score[None], np.ones((1, len(score)), bool), threshold)[0]
    if _opens_one(canvas, forward):
        taken = np.arange(len(score)) == 0
    _accept(canvas, block, forward, start + np.flatnonzero(taken), token[taken], prediction.confidence[taken])
    layout, first = spec.JUMP, True
    while (masked := canvas.is_masked(block)).any():
        drafts = spec.draft_order(score, masked, 2 if layout is spec.JUMP else 4)
        draft_tokens, draft_score = token[drafts], score[drafts]
        branches = spec.fill_branches(canvas.tokens[slice(*block)], drafts, draft_tokens, layout)
        forward = _branched_step(canvas, block, branches, layout)
        prediction = yield from _ask(canvas, forward)

        open_ = branches == canvas.mask  # [branches, B]
        tokens = np.full(open_.shape, -1)
        scores = np.full(open_.shape, -np.inf)
        tokens[open_], scores[open_] = prediction.token, prediction.log_confidence
        taken = spec.taken_by(scores, open_, threshold)
        verdicts = spec.draft_verdicts(taken, tokens, drafts, draft_tokens)
        chosen = spec.choose_jump(verdicts) if layout is spec.JUMP else spec.choose_share(verdicts)

        # A draft that the chosen branch holds is decided with the confidence it was drafted with.
        token, score = tokens[chosen].copy(), scores[chosen].copy()
        token[drafts], score[drafts] = (
            np.where(open_[chosen, drafts], token[drafts], draft_tokens),
            np.where(open_[chosen, drafts], score[drafts], draft_score),
        )
        decided = taken[chosen] | (masked & ~open_[chosen])
        positions = start + np.flatnonzero(decided)
        _accept(
            canvas,
            block,
            forward,
            positions,
            token[decided],
            np.exp(score[decided]),
            drafts=start + drafts,
            branch=chosen,
        )
        may_switch = canvas.setting.speculation == "jump-share" and layout is spec.JUMP and not first
        if may_switch and masked.sum() <= spec.SWITCH_AT[chosen]:
            layout = spec.SHARE
        first = False


def _opens_one(canvas: Canvas, forward: Forward) -> bool:
    """Whether this forward decides its block's first position and nothing else.

    Where predictions are shifted, that position's is read before the block, in a row that no step feeds.
    """
    return canvas.shift > 0 and forward.kind == "refresh"


def _scores(canvas: Canvas, prediction: Prediction) -> Floats:
    """What the rule ranks a block's masks by, [m]: the prediction's score, or noise in part or alone."""
    setting, rank = canvas.setting, prediction.rank
    if setting.remasking == "random":
        return _noise(canvas, len(rank))
    if setting.alg_temp == 0:
        return rank
    # The highest of these are a draw without replacement from softmax(value / alg_temp).
    value = np.exp(rank) if setting.score == "confidence" else rank
    uniform = _noise(canvas, len(rank)).clip(min=np.finfo(float).tiny)
    return value / setting.alg_temp - np.log(-np.log(uniform))


def _opening(canvas: Canvas, block: Range) -> Forward:
    """The first forward of a block, over the whole canvas (or what is kept of it)."""
    cache = canvas.setting.cache
    until = canvas.end if canvas.setting.length == "adaptive" else block[1]
    return _forward(
        canvas,
        "step" if cache == "none" else "refresh",
        _span(*_kept(canvas, block)),
        np.arange(block[0], until),
        store={"none": None, "prefix": (0, block[0]), "dual": (0, canvas.end)}[cache],
    )


def _step(canvas: Canvas, block: Range) -> Forward:
    """A later forward of a block, without branches."""
    start = block[0]
    kept = _kept(canvas, block)
    wanted = start + np.flatnonzero(canvas.is_masked(block))
    if canvas.setting.cache == "none":
        return _forward(canvas, "step", _span(*kept), wanted)
    if canvas.setting.cache == "prefix":
        rest = [(max(first, start), last) for first, last in kept]
        return _forward(canvas, "step", _span(*rest), wanted, sees=_ranges((0, start)))
    # The block's own keys and values may be overwritten: steps replace them, and the next refresh does so anyway.
    return _forward(canvas, "step", np.arange(*block), wanted, sees=_around(canvas, block), store=block)


def _branched_step(canvas: Canvas, block: Range, branches: Ints, layout: spec.Layout) -> Forward:
    """A step that feeds several branches of the block (dual cache)."""
    own = spec.own_positions(canvas.is_masked(block), canvas.shift)
    fed = np.ones(branches.shape, bool)
    shared = None
    if layout is spec.SHARE:  # only branch 0 feeds what is decided already, and lends it to the others
        fed[1:] = own
        shared = np.concatenate([~own, np.zeros(int(fed[1:].sum()), bool)])
    branch, offset = np.nonzero(fed)
    assert len(offset) == spec.fed_tokens(len(own), int(own.sum()), layout)
    wanted_branch, wanted = np.nonzero(branches == canvas.mask)
    return Forward(
        "step",
        tokens=branches[fed],
        positions=block[0] + offset,
        targets=np.stack([wanted_branch, block[0] + wanted], axis=1),
        end=canvas.end,
        sees=_around(canvas, block),
        branch=branch,
        shared=shared,
        draw=_draw(canvas),
    )


def _forward(canvas: Canvas, kind: Any, positions: Ints, wanted: Ints, **more: Any) -> Forward:
    """A forward of a single branch over the canvas as it stands."""
    setting, tokens = canvas.setting, canvas.tokens[positions]
    more |= {"draw": _draw(canvas), "score": setting.score}
    if setting.cfg_scale > 0:
        more["guidance"] = Guidance(np.where(positions < canvas.prompt, canvas.mask, tokens), setting.cfg_scale)
    targets = np.stack([np.zeros_like(wanted), wanted], axis=1)
    return Forward(kind, tokens, positions, targets, canvas.end, **more)


def _draw(canvas: Canvas) -> Draw | None:
    """How the next forward draws its tokens; None where it takes the arg-max of plain logits."""
    setting = canvas.setting
    if setting.temperature == 0 and not setting.filters:
        return None
    filters = (setting.top_p, setting.top_k) if setting.filters else ()
    return Draw(setting.temperature, setting.seed, canvas.sequence, len(canvas.fed), *filters)


def _kept(canvas: Canvas, block: Range) -> tuple[Range, ...]:
    """What a block's forwards may see of the canvas: all of it, or the block, a window and the last position."""
    if canvas.setting.suffix == "full":
        return ((0, canvas.end),)
    assert canvas.setting.window_size is not None
    window = min(block[1] + canvas.setting.window_size, canvas.end)
    return _ranges((0, window), (max(window, canvas.end - 1), canvas.end))


def _around(canvas: Canvas, block: Range) -> tuple[Range, ...]:
    """What a step sees in a dual cache: all that is kept but the block."""
    after = ((max(first, block[1]), last) for first, last in _kept(canvas, block))
    return _ranges((0, block[0]), *after)


def _ranges(*ranges: Range) -> tuple[Range, ...]:
    return tuple((first, last) for first, last in ranges if first < last)


def _span(*ranges: Range) -> Ints:
    return np.concatenate([np.arange(*each) for each in ranges])


def _ask(canvas: Canvas, forward: Forward) -> Answer:
    """Run a forward, count it, and refuse predictions that are not numbers."""
    prediction = yield forward
    canvas.fed.append(len(forward))
    canvas.refreshes += forward.kind == "refresh"
    if not prediction.finite.all():
        where = int(forward.targets[np.flatnonzero(~prediction.finite)[0], 1])
        raise NonFiniteLogits(f"the logits at position {where} are NaN or infinite (forward {len(canvas.fed)}).")
    return prediction


def _open(canvas: Canvas, block: Range, forward: Forward) -> Answer:
    """Run a block's first forward, predict the length where that is adaptive, and return the block's predictions."""
    prediction = yield from _ask(canvas, forward)
    if canvas.setting.length == "adaptive":
        _predict_length(canvas, block, prediction)
    return prediction[forward.targets[:, 1] < block[1]]


def _predict_length(canvas: Canvas, block: Range, prediction: Prediction) -> None:
    """Shrink the canvas to the block in which a stop pattern is predicted (ODB-dLLM section 3.2)."""
    found = first_predicted(prediction.token, prediction.confidence, canvas.stop, canvas.horizon)
    if found is not None:
        size = canvas.setting.span
        canvas.horizon = (found + size) // size * size
        canvas.end = min(canvas.end, block[0] + canvas.horizon)
    canvas.predicted.append(canvas.end - canvas.prompt)
    canvas.predicted_at = len(canvas.fed)


def _exit(canvas: Canvas, block: Range) -> int | None:
    """The decode length where a complete block holds a stop pattern; the rest of the canvas becomes EOS."""
    if not canvas.setting.early_exit:
        return None
    offset = first_match(canvas.tokens[slice(*block)], canvas.stop.patterns)
    if offset is None:
        return None
    canvas.tokens[block[1] :] = canvas.stop.eos[0]
    return block[0] - canvas.prompt + offset + 1


def _accept(
    canvas: Canvas,
    block: Range,
    forward: Forward,
    positions: Ints,
    tokens: Ints,
    confidence: Floats,
    **more: Any,
) -> None:
    """Write tokens to the canvas and tell those who watch."""
    canvas.tokens[positions] = tokens
    if canvas.watch is None:
        return
    canvas.watch(
        Event(
            kind=forward.kind,
            sequence=canvas.sequence,
            forward=len(canvas.fed) - 1,
            block=block,
            end=canvas.end,
            fed=len(forward),
            cached=sum(last - first for first, last in forward.sees),
            accepted=positions,
            tokens=tokens,
            confidence=confidence,
            masks_left=int(canvas.is_masked(block).sum()),
            predicted_length=canvas.predicted[-1] if canvas.predicted_at == len(canvas.fed) else None,
            **more,
        )
    )


def _noise(canvas: Canvas, count: int) -> Floats:
    """Uniform noise for random remasking, keyed by seed, sequence and forward."""
    key = np.array([canvas.setting.seed % 2**64, canvas.sequence % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=len(canvas.fed))).random(count)
