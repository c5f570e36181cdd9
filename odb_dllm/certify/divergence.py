"""Where two generations of a request part: the first forward after which their decisions differ, and by how little."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from odb_dllm.contract import Bools, Event, Floats, Forward, Ints, Prediction
from odb_dllm.costs import Budget, costs_of
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.sampler import capacity, sample
from odb_dllm.scheduler import Request
from odb_dllm.settings import Setting
from odb_dllm.tensor_parallel.leader import engine_of

MARGINS = {
    "token": "log-probability gap of the two tokens, in the reference",
    "threshold": "distance of the confidence from the threshold, in the reference",
    "order": "gap of two log confidences that the two rank differently, in the reference",
    "confidence": "largest difference of a log confidence between the two",
}


@dataclass(frozen=True)
class Divergence:
    """The first forward after which two generations differ, and the prediction in it that was decisive."""

    forward: int  # its index, from 0
    kind: str  # one of MARGINS
    margin: float  # what MARGINS says of the kind
    position: int  # on the canvas
    tokens: tuple[int, int]  # predicted there: by the reference, by the other
    confidences: tuple[float, float]
    noise: float  # largest difference of a log confidence between the two in this forward


class _Side:
    """One engine's generation, forward by forward."""

    def __init__(self, model: DiffusionModel, request: Request) -> None:
        self.engine, prompt, shift = engine_of(model), np.asarray(request.prompt, np.int64), model.network.shift
        self.cache = self.engine.open(capacity(request.setting, len(prompt), shift))
        self.events: list[Event] = []
        self.sampler: Generator[Forward, Prediction, Generation] = sample(
            prompt,
            request.setting,
            request.stop,
            model.ids.mask,
            shift=shift,
            sequence=request.sequence,
            watch=self.events.append,
            budget=Budget(costs_of(model.device.type)),
        )
        self.forward: Forward | None = next(self.sampler)

    def answer(self, forward: Forward) -> Prediction:
        return self.engine.answer([(self.cache, forward)])[0]

    def rate(self, tokens: Ints) -> Floats:
        """The log probabilities of others' tokens; to be asked while the cache is as the forward finds or leaves it."""
        assert self.forward is not None
        return self.answer(replace(self.forward, labels=tokens, draw=None)).log_confidence

    def advance(self, prediction: Prediction) -> Event:
        """Go on to the next forward, None at the end; what came of this one."""
        try:
            self.forward = self.sampler.send(prediction)
        except StopIteration:
            self.forward = None
        return self.events[-1]

    def close(self) -> None:
        self.sampler.close()
        if self.cache is not None:
            self.cache.close()


def first_divergence(reference: DiffusionModel, fast: DiffusionModel, request: Request) -> Divergence | None:
    """Run a generation on two engines side by side until they part; None where they never do."""
    sides = _Side(reference, request), _Side(fast, request)
    try:
        for index in range(len(request.prompt) + 2 * request.setting.gen_length + 1):
            forward = sides[0].forward
            if forward is None:
                return None
            predictions = sides[0].answer(forward), sides[1].answer(forward)
            gaps = predictions[0].log_confidence - sides[0].rate(predictions[1].token)
            events = [side.advance(made) for side, made in zip(sides, predictions, strict=True)]
            if decision(events[0]) != decision(events[1]) or _next(sides[0]) != _next(sides[1]):
                return _explain(index, forward, predictions, gaps, request)
        raise AssertionError("a generation does not end")
    finally:
        for side in sides:
            side.close()


def divergence_after(
    reference: DiffusionModel, request: Request, before: Sequence[Prediction], last: tuple[Prediction, Prediction]
) -> Divergence:
    """Explain where two recorded generations part, running the reference's again up to there.

    Args:
        before: the reference's predictions in the forwards after which both decided the same.
        last: what the reference and the other predicted in the forward after which they did not.
    """
    side = _Side(reference, request)
    try:
        for prediction in before:
            assert side.forward is not None
            side.answer(side.forward)  # which fills the cache
            side.advance(prediction)
        assert side.forward is not None
        # Both rated in one way: the fast engine predicts tokens by its own kernels, and rates given ones as the plain.
        gaps = np.abs(side.rate(last[0].token) - side.rate(last[1].token))
        return _explain(len(before), side.forward, last, gaps, request)
    finally:
        side.close()


def decision(event: Event) -> tuple[object, ...]:
    """What came of a forward, to be compared."""
    lists = event.accepted.tolist(), event.tokens.tolist(), event.drafts.tolist()
    return event.end, event.branch, *lists


def digest(forward: Forward) -> int:
    """Of what a forward feeds and asks; a generation's forwards with an equal history differ in nothing else."""
    branch = b"" if forward.branch is None else forward.branch.tobytes()
    arrays = (forward.tokens, forward.positions, forward.targets)
    return hash((forward.kind, branch, *(each.tobytes() for each in arrays)))


def _next(side: _Side) -> int | None:
    """Of the forward that comes next: equal decisions may be followed by other drafts."""
    return None if side.forward is None else digest(side.forward)


def _explain(
    index: int, forward: Forward, predictions: tuple[Prediction, Prediction], gaps: Floats, request: Request
) -> Divergence:
    """Find the decisive prediction: a token, a threshold, an order; else the one that differs most.

    ``gaps`` [t]: between the log probabilities of the two predicted tokens, in the reference.
    """
    ours, theirs = (made.log_confidence for made in predictions)
    noise = np.abs(ours - theirs)
    differs = predictions[0].token != predictions[1].token
    crosses, distance = _crossing(ours, theirs, request)
    ranked = _swapped(ours, theirs)
    if differs.any():
        kind, at = "token", int(np.where(differs, gaps, np.inf).argmin())
        margin = float(gaps[at])
    elif crosses.any():
        kind, at = "threshold", int(np.where(crosses, distance, np.inf).argmin())
        margin = float(distance[at])
    elif ranked is not None:
        kind, (at, margin) = "order", ranked
    else:
        kind, at, margin = "confidence", int(noise.argmax()), float(noise.max())
    return Divergence(
        forward=index,
        kind=kind,
        margin=margin,
        position=int(forward.targets[at, 1]),
        tokens=(int(predictions[0].token[at]), int(predictions[1].token[at])),
        confidences=(float(np.exp(ours[at])), float(np.exp(theirs[at]))),
        noise=float(noise.max()),
    )


def _crossing(ours: Floats, theirs: Floats, request: Request) -> tuple[Bools, Floats]:
    """Which confidences lie on two sides of the setting's threshold, or of the length's; the distance to that."""
    crosses, distance = np.zeros(len(ours), bool), np.full(len(ours), np.inf)
    for limit in _limits(request.setting, request.stop.theta):
        here = (np.exp(ours) >= limit) != (np.exp(theirs) >= limit)
        distance = np.where(here, np.minimum(distance, np.abs(np.exp(ours) - limit)), distance)
        crosses |= here
    return crosses, distance


def _limits(setting: Setting, theta: float) -> list[float]:
    limits = [setting.threshold] if setting.rule in ("threshold", "carry") and setting.threshold is not None else []
    return limits + ([theta] if setting.length == "adaptive" else [])


def _swapped(ours: Floats, theirs: Floats) -> tuple[int, float] | None:
    """Of neighbours in our order that are in another one in theirs: the closest pair's first, and its gap."""
    order = np.argsort(-ours, kind="stable")
    swapped = np.flatnonzero(np.diff(theirs[order]) > 0)
    if not len(swapped):
        return None
    gaps = -np.diff(ours[order])[swapped]
    best = int(gaps.argmin())
    return int(order[swapped[best]]), float(gaps[best])
