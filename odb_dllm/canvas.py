"""The state of one generation, and the forwards that are asked over it."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from odb_dllm.contract import Draw, Event, Floats, Forward, Guidance, Ints, Pass, Prediction, Range
from odb_dllm.generation import NonFiniteLogits
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule, first_mass, first_match, first_predicted

Watcher = Callable[[Event], None]
Answer = Generator[Forward, Prediction, Prediction]
Decided = tuple[Ints, Ints, Floats]  # positions, tokens, confidences
NOTHING: Decided = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class Opened(NamedTuple):
    """A block's first forward, and its predictions for the block."""

    forward: Forward
    prediction: Prediction


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
    found: bool = False  # whether a stop pattern was ever predicted
    cached: int = 0  # one past the last position whose keys and values were ever stored
    passes: list[Pass] = field(default_factory=list)
    shift: int = 0
    shared: int = 0  # first positions whose keys and values the first refresh takes from a prefix that others share
    late: Decided = NOTHING  # what a refresh decided of the block before, until the forward is noted

    def is_masked(self, block: Range) -> np.ndarray:
        return self.tokens[slice(*block)] == self.mask


def extend(canvas: Canvas, start: int) -> int:
    """Give a canvas that began short ``grow`` positions from ``start`` on, until an end is predicted; its end."""
    canvas.end = _extended(canvas, start)
    return canvas.end


def _extended(canvas: Canvas, start: int) -> int:
    if canvas.setting.grow is None or canvas.found:
        return canvas.end
    return min(len(canvas.tokens), max(canvas.end, start + canvas.setting.grow))


def opening(canvas: Canvas, block: Range) -> Forward:
    """The first forward of a block, over the whole canvas or what of it is kept or refreshed."""
    cache, fed = canvas.setting.cache, _kept(canvas, block)
    if cache == "none":
        return _forward(canvas, "step", _span(*fed), _wanted(canvas, block, fed))
    if cache == "prefix":
        return _forward(canvas, "refresh", _span(*fed), _wanted(canvas, block, fed), store=(0, block[0]))
    sees: tuple[Range, ...] = ()
    prefix = None if canvas.cached or not canvas.shared else canvas.tokens[: canvas.shared]
    if (part := _refreshed(canvas, block)) is not None:
        fed, sees = (part,), _ranges((0, part[0]), (part[1], min(canvas.cached, canvas.end)))
    canvas.cached = max(min(canvas.cached, canvas.end), fed[-1][1])
    more = {"sees": sees, "store": (fed[0][0], canvas.end), "prefix": prefix}
    return _forward(canvas, "refresh", _span(*fed), _wanted(canvas, block, fed), **more)


def _wanted(canvas: Canvas, block: Range, fed: tuple[Range, ...]) -> Ints:
    """What a block's first forward predicts: what is left of the one before, the block, and for lengths all behind."""
    last = fed[-1][1] if canvas.setting.predicts_length else block[1]
    return np.concatenate([_left(canvas, block), np.arange(block[0], last)])


def _left(canvas: Canvas, block: Range) -> Ints:
    """Masks of the block before, where that went ahead."""
    first = max(canvas.prompt, block[0] - canvas.setting.span)
    return first + np.flatnonzero(canvas.is_masked((first, block[0])))


def _refreshed(canvas: Canvas, block: Range) -> Range | None:
    """The part of the canvas that a block's first forward feeds, the rest being cached; None: all of it."""
    if not canvas.cached:
        return (canvas.shared, canvas.end) if canvas.shared else None
    kind, _, number = canvas.setting.refresh.partition(":")
    if kind == "window":
        reach = max(int(number), canvas.shift)
        first = min([block[0] - reach, *(_left(canvas, block) - canvas.shift)])
        return max(canvas.prompt, first), min(block[1] + int(number), canvas.end)
    index = (block[0] - canvas.prompt) // canvas.setting.span
    if kind == "full" or (kind == "every" and index % int(number) == 0):
        return None
    before = int(number or 0) if kind == "response" else 0  # tokens of the prompt
    return max(0, canvas.prompt - before), canvas.end


def plain_step(canvas: Canvas, block: Range) -> Forward:
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
    return _forward(canvas, "step", np.arange(*block), wanted, sees=around(canvas, block), store=block)


def _forward(canvas: Canvas, kind: Any, positions: Ints, wanted: Ints, **more: Any) -> Forward:
    """A forward of a single branch over the canvas as it stands."""
    setting, tokens = canvas.setting, canvas.tokens[positions]
    more |= {"draw": draw_of(canvas), "score": setting.score}
    if setting.cfg_scale > 0:
        more["guidance"] = Guidance(np.where(positions < canvas.prompt, canvas.mask, tokens), setting.cfg_scale)
    targets = np.stack([np.zeros_like(wanted), wanted], axis=1)
    return Forward(kind, tokens, positions, targets, canvas.end, **more)


def draw_of(canvas: Canvas) -> Draw | None:
    """How the next forward draws its tokens; None where it takes the arg-max of plain logits."""
    setting = canvas.setting
    if setting.temperature == 0 and not setting.filters:
        return None
    filters = (setting.top_p, setting.top_k) if setting.filters else ()
    return Draw(setting.temperature, setting.seed, canvas.sequence, len(canvas.fed), *filters)


def opens_one(canvas: Canvas, forward: Forward) -> bool:
    """Whether this forward decides its block's first position and nothing else.

    Where predictions are shifted, that position's is read before the block, in a row that no step feeds.
    """
    return canvas.shift > 0 and forward.kind == "refresh"


def _kept(canvas: Canvas, block: Range) -> tuple[Range, ...]:
    """What a block's forwards may see of the canvas: all of it, or the block, a window and the last position."""
    if canvas.setting.suffix == "full":
        return ((0, canvas.end),)
    assert canvas.setting.window_size is not None
    window = min(block[1] + canvas.setting.window_size, canvas.end)
    return _ranges((0, window), (max(window, canvas.end - 1), canvas.end))


def around(canvas: Canvas, block: Range) -> tuple[Range, ...]:
    """What a step sees in a dual cache: all that is kept and was ever fed but the block."""
    after = ((max(first, block[1]), min(last, canvas.cached)) for first, last in _kept(canvas, block))
    return _ranges((0, block[0]), *after)


def _ranges(*ranges: Range) -> tuple[Range, ...]:
    return tuple((first, last) for first, last in ranges if first < last)


def _span(*ranges: Range) -> Ints:
    return np.concatenate([np.arange(*each) for each in ranges])


def ask(canvas: Canvas, forward: Forward) -> Answer:
    """Run a forward, count it, and refuse predictions that are not numbers."""
    prediction = yield forward
    canvas.fed.append(len(forward))
    if not prediction.finite.all():
        where = int(forward.targets[np.flatnonzero(~prediction.finite)[0], 1])
        raise NonFiniteLogits(f"the logits at position {where} are NaN or infinite (forward {len(canvas.fed)}).")
    return prediction


def begin(canvas: Canvas, block: Range) -> Generator[Forward, Prediction, Opened | None]:
    """Run a block's first forward: decide what is left of the block before, and predict the length where adaptive.

    None where the block before turns out to hold the answer's end.
    """
    forward = opening(canvas, block)
    prediction = yield from ask(canvas, forward)
    positions = forward.targets[:, 1]
    if (left := positions < block[0]).any():
        canvas.late = positions[left], prediction.token[left], prediction.confidence[left]
        canvas.tokens[positions[left]] = prediction.token[left]
        if stops_at(canvas, (block[0] - canvas.setting.span, block[0])) is not None:
            accept(canvas, block, forward, *NOTHING)
            return None
    if canvas.setting.predicts_length:
        _predict_length(canvas, block, prediction[~left])
    return Opened(forward, prediction[~left & (positions < block[1])])


def unfinished(canvas: Canvas, block: Range) -> bool:
    """Whether a block takes another step: it has masks, and more than it may leave to the next block's refresh."""
    masks = int(np.count_nonzero(canvas.is_masked(block)))
    if masks == 0 or masks > canvas.setting.ahead:
        return masks > 0
    return stops_at(canvas, block) is not None or block[1] >= _extended(canvas, block[1])


def stops_at(canvas: Canvas, block: Range) -> int | None:
    """Where in a block a stop pattern ends the generation; None where none does."""
    return first_match(canvas.tokens[slice(*block)], canvas.stop.patterns) if canvas.setting.early_exit else None


def _predict_length(canvas: Canvas, block: Range, prediction: Prediction) -> None:
    """Shrink the canvas to the block in which a stop pattern is predicted (ODB-dLLM section 3.2)."""
    if canvas.setting.length == "mass":
        found = first_mass(prediction.token, prediction.confidence, canvas.stop)
    else:
        found = first_predicted(prediction.token, prediction.confidence, canvas.stop, canvas.horizon)
    if found is not None:
        canvas.found = True
        size = canvas.setting.span
        canvas.horizon = (found + size) // size * size
        canvas.end = min(canvas.end, block[0] + canvas.horizon)
    canvas.predicted.append(canvas.end - canvas.prompt)
    canvas.predicted_at = len(canvas.fed)


def accept(
    canvas: Canvas,
    block: Range,
    forward: Forward,
    positions: Ints,
    tokens: Ints,
    confidence: Floats,
    **more: Any,
) -> None:
    """Write tokens to the canvas, note the forward, and tell those who watch."""
    canvas.tokens[positions] = tokens
    if canvas.late is not NOTHING:
        decided = zip(canvas.late, (positions, tokens, confidence), strict=True)
        positions, tokens, confidence = (np.concatenate(pair) for pair in decided)
        canvas.late = NOTHING
    cached = sum(last - first for first, last in forward.sees)
    numbers = (len(forward), cached, len(forward.targets), (block[0] - canvas.prompt) // canvas.setting.span)
    branches = 1 if forward.branch is None else int(forward.branch[-1]) + 1
    speculated = (branches, len(more["drafts"]), more["branch"]) if "branch" in more else (branches,)
    canvas.passes.append(Pass(forward.kind, *numbers, canvas.end - canvas.prompt, len(positions), *speculated))
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
            cached=cached,
            accepted=positions,
            tokens=tokens,
            confidence=confidence,
            masks_left=int(canvas.is_masked(block).sum()),
            predicted_length=canvas.predicted[-1] if canvas.predicted_at == len(canvas.fed) else None,
            **more,
        )
    )
