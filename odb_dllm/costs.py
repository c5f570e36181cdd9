"""What forwards cost: milliseconds by the tokens that one of them feeds, on an H200 or as measured elsewhere."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from odb_dllm.errors import InputError

Points = tuple[tuple[int, float], ...]  # (tokens, milliseconds), by tokens
Kind = Literal["refresh", "step"]

# All matrix products of one forward at LLaDA-8B's shapes on an H200, bfloat16, in one graph.
H200: Points = (
    (1, 4.00), (32, 4.11), (64, 4.15), (128, 4.44), (160, 4.85), (192, 5.50), (256, 6.16), (512, 11.7), (1024, 22.8),
    (2048, 44.7),
)  # fmt: skip
EVERY_TOKEN: Points = ((1, 1.0), (2, 2.0))  # a machine on which no token is free, as a CPU


@dataclass(frozen=True)
class StepCosts:
    """A step's time by tokens, or a refresh's, piecewise linear: flat before the first point, on as at the end."""

    points: Points = H200

    def milliseconds(self, tokens: int) -> float:
        """Time of a forward that feeds so many tokens, those of all its sequences together."""
        (before, shorter), (last, longest) = self.points[-2:]
        if tokens > last:
            return longest + (tokens - last) * (longest - shorter) / (last - before)
        counts, times = zip(*self.points, strict=True)
        return float(np.interp(tokens, counts, times))


@dataclass(frozen=True)
class ForwardCosts:
    """The time of each kind of forward, one sequence at a time."""

    refresh: StepCosts  # of forwards that see no cache
    step: StepCosts  # of those that do

    def milliseconds(self, kind: Kind, tokens: int) -> float:
        """Time of a forward that feeds so many tokens."""
        return (self.refresh if kind == "refresh" else self.step).milliseconds(tokens)


def alone() -> int:
    """The number of sequences under way where there is one."""
    return 1


@dataclass(frozen=True)
class Budget:
    """What more tokens cost a sequence now."""

    costs: StepCosts = StepCosts()
    load: Callable[[], int] = alone  # sequences that step together, this one included

    def milliseconds(self, tokens: int) -> float:
        """Time of a step in which this sequence feeds so many tokens.

        Every other one counts as many: a batch's forward is padded to its longest sequence, and they choose alike.
        """
        return self.costs.milliseconds(self.load() * tokens)


def costs_of(device: str) -> StepCosts:
    """What is assumed of a kind of device where nothing was measured: an H200's times; on a CPU, every token costs."""
    return StepCosts(EVERY_TOKEN if device == "cpu" else H200)


def read_costs(given: Any) -> Points | None:
    """A curve from a file of ``odb-dllm bench --out``, or from pairs (tokens, milliseconds); None stays None.

    More tokens never cost less: where a measurement says so, the higher time before it holds.

    Raises:
        InputError: there is no such file, it holds no measured steps, or these are no such pairs.
    """
    if given is None:
        return None
    return _curve(_measured(given, "step") if isinstance(given, (str, Path)) else given, given)


def read_forward_costs(file: str | Path) -> ForwardCosts:
    """The curves of refreshes and of steps in a file of ``odb-dllm bench --out``; raises ``InputError``."""
    return ForwardCosts(*(StepCosts(_curve(_measured(file, kind), file)) for kind in ("refresh", "step")))


def _curve(pairs: Any, given: Any) -> Points:
    """Pairs (tokens, milliseconds) by tokens, times rising; ``given``: what they come from, for the error."""
    try:
        points = sorted((_tokens(tokens), _time(milliseconds)) for tokens, milliseconds in pairs)
    except (TypeError, ValueError, OverflowError):
        points = []
    if len(points) < 2 or len({tokens for tokens, _ in points}) < len(points):
        raise InputError(
            "costs must be a file that `odb-dllm bench --out` wrote, or two or more pairs (tokens, milliseconds) of "
            f"different tokens, not {given!r}."
        )
    times = np.maximum.accumulate([time for _, time in points]).tolist()
    return tuple((tokens, time) for (tokens, _), time in zip(points, times, strict=True))


def _measured(file: str | Path, kind: str) -> Iterable[tuple[int, float]]:
    """The floor at every number of tokens, and on top what the measured forwards took more than theirs (its mean)."""
    try:
        figures = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
        floors = {int(tokens): float(seconds) for tokens, seconds in figures["floor_seconds"].items()}
        measured = [each for each in figures["forwards"] if each["kind"] == kind]
        over = _means((int(each["tokens"]), float(each["seconds"]) - float(each["floor"])) for each in measured)
        tokens = sorted(floors.keys() | over.keys())
        times = _along(tokens, floors) + _along(tokens, over)
    except OSError as error:
        raise InputError(f"costs {str(file)!r} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        forwards = "steps" if kind == "step" else "refreshes"
        raise InputError(
            f"costs {str(file)!r} holds no measured {forwards}: give a file that `odb-dllm bench --out` wrote."
        ) from None
    return [(count, 1e3 * seconds) for count, seconds in zip(tokens, times.tolist(), strict=True)]


def _means(measured: Iterable[tuple[int, float]]) -> Mapping[int, float]:
    """The mean of what was measured at each number of tokens."""
    values: dict[int, list[float]] = {}
    for tokens, value in measured:
        values.setdefault(tokens, []).append(value)
    return {tokens: sum(each) / len(each) for tokens, each in values.items()}


def _along(tokens: list[int], values: Mapping[int, float]) -> np.ndarray:
    known = sorted(values)
    return np.interp(tokens, known, [values[each] for each in known])


def _tokens(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(value)
    return int(value)


def _time(value: Any) -> float:
    if isinstance(value, (bool, str)) or not (math.isfinite(value) and value > 0):
        raise ValueError(value)
    return float(value)
