"""Intervals and tests on right and wrong answers: Wilson's interval, differences on the same items, McNemar's test."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, sqrt
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
