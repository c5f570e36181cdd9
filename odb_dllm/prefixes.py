"""Prompt prefixes that several sequences share: keys and values are computed once, and copied from then on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import Tensor

from odb_dllm.contract import Ints

KEPT = 2  # prefixes at a time: the documents of a task come one after the other


@dataclass
class Spent:
    """What computing prefixes has cost a model so far; no generation counts it."""

    forwards: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Prefixes:
    """Keys and values of the last prefixes, by their tokens."""

    def __init__(self) -> None:
        self._kept: dict[bytes, list[Tensor]] = {}

    def fill(self, tokens: Ints, slots: Sequence[Tensor], compute: Callable[[], object]) -> None:
        """Have the keys and values of a prefix in ``slots``, where ``compute`` puts them if they are not kept."""
        kept = self._kept.pop(key := tokens.tobytes(), None)
        if kept is None:
            compute()
            while len(self._kept) >= KEPT:  # before the copies are made: memory may be short
                del self._kept[next(iter(self._kept))]
            kept = [each.clone() for each in slots]
        else:
            for each, known in zip(slots, kept, strict=True):
                each.copy_(known)
        self._kept[key] = kept


def in_common(prompts: Sequence[Sequence[Any]]) -> int:
    """How many first tokens all of the prompts share."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))
