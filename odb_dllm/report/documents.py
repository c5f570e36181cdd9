"""Which documents of a benchmark are asked: all, the first few of each of its tasks, or a subset by prompt length.

A document is a pair (task, index); the task is a leaf, such as one of bbh's 27.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Document = tuple[str, int]
STRATA = 5


@dataclass(frozen=True)
class Stratum:
    """Documents of about the same prompt length, of which some are asked for all."""

    size: int
    asked: tuple[Document, ...]


def deal(counts: Mapping[str, int], limit: int | None) -> dict[str, list[int]]:
    """Split ``limit`` documents evenly over tasks, the remainder to the first ones; None: all of them.

    What a short task cannot give, the others do. Tasks that get none are left out. The documents are the first of each
    task, and every one that a limit takes, a higher limit takes too.
    """
    left = sum(counts.values()) if limit is None else min(limit, sum(counts.values()))
    taken = dict.fromkeys(counts, 0)
    while left:
        for task, count in counts.items():
            if left and taken[task] < count:
                taken[task] += 1
                left -= 1
    return {task: list(range(count)) for task, count in taken.items() if count}


def stratify(lengths: Mapping[Document, int], count: int, seed: int, strata: int = STRATA) -> list[Stratum]:
    """Draw ``count`` documents, spread over equally large groups of about the same prompt length."""
    ordered = sorted(lengths, key=lambda document: (lengths[document], document))
    count = min(count, len(ordered))
    groups = min(strata, count)
    edges = [len(ordered) * i // groups for i in range(groups + 1)]
    sizes = {str(i): edges[i + 1] - edges[i] for i in range(groups)}
    shares = deal(sizes, count)
    chance = random.Random(seed)
    return [
        Stratum(sizes[str(i)], tuple(sorted(chance.sample(ordered[edges[i] : edges[i + 1]], len(shares[str(i)])))))
        for i in range(groups)
    ]


def by_task(documents: Sequence[Document]) -> dict[str, list[int]]:
    """The indices of each task, sorted."""
    found: dict[str, list[int]] = {}
    for task, index in sorted(documents):
        found.setdefault(task, []).append(index)
    return found
