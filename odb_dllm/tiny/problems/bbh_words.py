"""What the subtasks of the BIG-Bench Hard miniature share: a worked problem, sentences with choices in them, names.

No name and no sentence of a solution has a capital letter Q: the benchmark stops there.
"""

import random
import re
from dataclasses import dataclass


def words(text: str) -> list[str]:
    """A table's words."""
    return text.split()


NAMES = words(
    "Anna Emma Lucy Grace Ella Lily Nora Ruby Clara Alice Julia Sarah Laura Kate Jane Rosa Helen Nina Eva Mei "
    "Tom Ben Sam Jack Leo Max Noah Liam Henry Peter Paul Mark James John David Adam Frank Simon Tim Dan"
)


@dataclass(frozen=True)
class Worked:
    """A problem without the benchmark's phrases."""

    key: str
    text: str  # what is asked
    steps: list[str]
    target: str


class Wording:
    """A sentence with ``(x|y)`` choices, drawn anew every time, and ``{slots}``."""

    _CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")

    def __init__(self, text: str) -> None:
        self._parts = [part.split("|") for part in self._CHOICE.split(text)]

    def draw(self, rng: random.Random, **slots: object) -> str:
        text = "".join([p[0] if len(p) == 1 else p[int(rng.random() * len(p))] for p in self._parts])
        return text.format_map(slots)


def wordings(*texts: str) -> list[Wording]:
    """Sentences to choose from."""
    return [Wording(text) for text in texts]


def draw(rng: random.Random, choices: list[Wording], **slots: object) -> str:
    """One of the sentences, drawn like the choices in it, so that the last one is the plain one."""
    return choices[int(rng.random() * len(choices))].draw(rng, **slots)


def upper_first(text: str) -> str:
    """The text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def listed(items: list[str]) -> str:
    """Three or more items in a sentence."""
    return ", ".join(items[:-1]) + f", and {items[-1]}"
