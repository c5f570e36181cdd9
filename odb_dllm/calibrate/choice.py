"""Choose θ from what each θ of a grid does to the documents, and show the trade-off."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from odb_dllm.benchmarks import DEFAULT_THETA
from odb_dllm.calibrate.replay import Outcome
from odb_dllm.statistics import markdown

GRID = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
CERTAINTY = 0.95  # of the bound on how many answers are cut
ALIKE = 0.001  # shares of the canvas saved that differ by no more are one


@dataclass(frozen=True)
class Point:
    """One θ over all documents."""

    theta: float
    documents: int
    cut: int
    canvas: float  # mean over the documents of their mean canvas length
    saved: float  # share of the full canvas

    @property
    def share(self) -> float:
        return self.cut / self.documents

    @property
    def bound(self) -> float:
        """The share cut is at most this, with 95 % certainty."""
        return upper_bound(self.cut, self.documents)


@dataclass(frozen=True)
class Choice:
    """The θ chosen, or None where none cuts few enough."""

    point: Point | None
    proven: bool  # whether the documents suffice to claim the limit

    @property
    def theta(self) -> float | None:
        return self.point.theta if self.point else None


def summarise(theta: float, outcomes: Sequence[Outcome], gen_lengths: Sequence[int]) -> Point:
    """Add up what one θ does; ``gen_lengths`` are the documents' full canvases."""
    count = len(outcomes)
    canvas = sum(outcome.canvas for outcome in outcomes) / count
    return Point(theta, count, sum(o.cut for o in outcomes), canvas, 1 - canvas * count / sum(gen_lengths))


def upper_bound(cut: int, documents: int, certainty: float = CERTAINTY) -> float:
    """One-sided Clopper-Pearson bound: the largest share under which so few cuts are not yet surprising."""
    if cut >= documents:
        return 1.0

    def chance(share: float) -> float:  # of at most ``cut``
        logs = (
            math.lgamma(documents + 1)
            - math.lgamma(i + 1)
            - math.lgamma(documents - i + 1)
            + i * math.log(share)
            + (documents - i) * math.log1p(-share)
            for i in range(cut + 1)
        )
        return math.fsum(map(math.exp, logs))

    low, high = cut / documents, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) > 1 - certainty else (low, middle)
    return high


def documents_needed(limit: float, certainty: float = CERTAINTY) -> int:
    """How many documents, with none of them cut, it takes to claim that at most ``limit`` are."""
    return math.ceil(math.log(1 - certainty) / math.log1p(-limit))


def choose(points: Sequence[Point], limit: float) -> Choice:
    """The lowest θ that may be used, which saves most: it and every stricter one cut few enough.

    With enough documents, "few enough" is that the bound is at most ``limit``. Going from the strictest θ down and
    ending at the first that fails keeps the bound's certainty, although many θ are tried. With fewer documents no
    cut is allowed, and θ does not go below the default, since no cut among a few proves little. Nor does it go lower
    than the default, or than what comes nearest to it, for nothing: where that saves as much, it is taken.
    """
    proven = bool(points) and points[0].documents >= documents_needed(limit)
    passed: list[Point] = []
    for point in sorted(points, key=lambda point: -point.theta):
        few = point.bound <= limit if proven else point.cut == 0
        if not few or (not proven and point.theta < DEFAULT_THETA):
            break
        passed.append(point)
    if not passed:
        return Choice(None, proven)
    lowest = passed[-1]
    most = max(lowest.theta, DEFAULT_THETA)
    alike = [point for point in passed if point.theta <= most and point.saved >= lowest.saved - ALIKE]
    return Choice(alike[0], proven)


def table(points: Sequence[Point], chosen: float | None) -> str:
    """Every θ as a line of a Markdown table."""
    lines = [["theta", "mean canvas", "saved", "answers cut", "share", "at most (95 %)", ""]]
    for point in points:
        lines.append(
            [
                f"{point.theta:g}",
                f"{point.canvas:.1f}",
                f"{point.saved:.1%}",
                f"{point.cut} of {point.documents}",
                f"{point.share:.2%}",
                f"{point.bound:.2%}",
                "chosen" if point.theta == chosen else "",
            ]
        )
    return markdown(lines)


def verdict(choice: Choice, documents: int, limit: float, *, eos_guard: bool) -> str:
    """What the choice is worth, in a sentence or two."""
    needed = documents_needed(limit)
    if choice.point is None:
        few = f"surely cuts at most {limit:.1%} of the answers" if choice.proven else "leaves every answer whole"
        way = "leave this task its full canvas (length=fixed)" if eos_guard else "try eos_guard=True, or length=fixed"
        return f"No theta of the grid {few}: {way}."
    point = choice.point
    if choice.proven:
        return f"theta {point.theta:g}: at most {point.bound:.2%} of the answers are cut short, with 95 % certainty."
    return (
        f"theta {point.theta:g} cuts none of {documents} answers, which only bounds the share by {point.bound:.1%}: "
        f"to claim {limit:.1%} takes {needed} documents without a cut. With fewer, theta does not go below "
        f"{DEFAULT_THETA:g}."
    )
