"""Drills: dense lessons for the beginning of the training in what answers ask for too seldom to be learnt there."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from odb_dllm.tiny.training.drills_equations import equations
from odb_dllm.tiny.training.drills_kinds import kinds
from odb_dllm.tiny.training.drills_recall import recall
from odb_dllm.tiny.training.marks import unmarked


@dataclass(frozen=True)
class Subject:
    """Marked texts of at least so many characters, how often they are drawn, and how long a token of theirs is."""

    write: Callable[[random.Random, int], str]
    share: float
    characters: float


SUBJECTS = (Subject(equations, 0.4, 1.4), Subject(recall, 0.4, 4.3), Subject(kinds, 0.2, 3.2))


def drill(rng: random.Random, tokens: int) -> tuple[str, list[tuple[int, int]]]:
    """A text of about so many tokens on one subject, and the spans of the results in it."""
    subject = rng.choices(SUBJECTS, [each.share for each in SUBJECTS])[0]
    return unmarked(subject.write(rng, round(tokens * subject.characters)))
