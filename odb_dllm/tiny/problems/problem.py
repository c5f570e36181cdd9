"""What every generator of problems gives."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LAST = 1 - 2**-30  # this part of the way through any list is its last entry


@dataclass(frozen=True)
class Problem:
    """One document of a miniature benchmark, as its task's files hold it and as it is asked."""

    key: str  # what is asked, whatever the wording and the names: it decides between train and test
    prompt: str  # as lm-eval renders the document, without worked examples
    answer: str  # what follows the prompt, with the space or newline in between, up to end of text
    document: dict[str, Any]  # a line of the task's JSONL


Draw = Callable[[random.Random, random.Random], Problem]  # of either side, from the generators of content and wording


class Plain(random.Random):
    """Draws wordings that vary in a share `variety` of all choices only; the others are settled.

    Then `random()` is just below 1, by which a sentence takes its last option, and `choice` the first of two to four.

    It is never asked for samples of several, which would have to differ.
    """

    def __init__(self, seed: str, variety: float) -> None:
        super().__init__(seed)
        self._variety = variety

    def random(self) -> float:
        free = super().random() < self._variety
        return super().random() if free else _LAST
