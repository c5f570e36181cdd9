"""Wilson's interval; and of the same items, differences, McNemar's test, and the mean ratio of what they took."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, cos, exp, inf, log, pi, sin, sqrt, tan
from typing import TypeVar

Item = TypeVar("Item")
Z = 1.959963984540054  # two-sided 95 %


def wilson(right: int, count: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    share, extra = right / count, z * z / count
    centre = (share + extra / 2) / (1 + extra)
    half = z * sqrt(share * (1 - share) / count + extra / (4 * count)) / (1 + extra)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of as uneven a split of the items that changed, were each as likely to be gained as lost."""
    changed = gained + lost
    tail = sum(comb(changed, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


@dataclass(frozen=True)
class Difference:
    """Accuracy of one setting less that of another, on the items that both answered."""

    items: int
    gained: int  # right here, wrong there
    lost: int  # wrong here, right there
    value: float
    low: float
    high: float
    p: float


def difference(ours: Mapping[Item, bool], theirs: Mapping[Item, bool]) -> Difference | None:
    """Compare two settings item by item; None where they have no item in common.

    The interval is that of Agresti and Min (2005): Wald's for matched pairs, half an item added to each of the
    four cells, which keeps its width above zero when no item changed.
    """
    common = ours.keys() & theirs.keys()
    if not common:
        return None
    gained = sum(ours[item] and not theirs[item] for item in common)
    lost = sum(theirs[item] and not ours[item] for item in common)
    count, more, less = len(common) + 2, gained + 0.5, lost + 0.5
    centre = (more - less) / count
    half = Z * sqrt(more + less - (more - less) ** 2 / count) / count
    return Difference(
        items=len(common),
        gained=gained,
        lost=lost,
        value=(gained - lost) / len(common),
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        p=mcnemar(gained, lost),
    )


@dataclass(frozen=True)
class GeometricMean:
    """Of the ratios of two settings, item by item."""

    items: int
    value: float
    low: float  # of the 95 % interval
    high: float


def geometric_mean(ours: Mapping[Item, float], theirs: Mapping[Item, float]) -> GeometricMean | None:
    """The geometric mean of ours / theirs over the items that both have above zero; None where there are none.

    The interval is that of Student's t on the logarithms of the ratios; of a single item, it is everything.
    """
    logs = [log(ours[item] / theirs[item]) for item in ours.keys() & theirs.keys() if ours[item] > 0 < theirs[item]]
    if not logs:
        return None
    count, mean = len(logs), sum(logs) / len(logs)
    if count == 1:
        return GeometricMean(1, exp(mean), 0.0, inf)
    error = sqrt(sum((each - mean) ** 2 for each in logs) / (count - 1) / count)
    half = student(count - 1) * error
    return GeometricMean(count, exp(mean), exp(mean - half), exp(mean + half))


def student(freedom: int, share: float = 0.95) -> float:
    """What Student's t stays within, up or down, with this probability; ``freedom``: degrees of it, at least 1."""
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return sqrt(freedom) * tan(low)


def _within(angle: float, freedom: int) -> float:
    """Probability that |t| < sqrt(freedom) tan(angle): Abramowitz and Stegun 26.7.3 and 26.7.4."""
    odd = freedom % 2
    term, total = (cos(angle) if odd else 1.0), 0.0
    for i in range(odd, freedom - 1, 2):
        total += term
        term *= cos(angle) ** 2 * (i + 1) / (i + 2)
    inside = sin(angle) * total
    return (angle + inside) * 2 / pi if odd else inside
