"""Drills: dense lessons, at the beginning above all, in what answers ask for too seldom to be learnt there."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from odb_dllm.tiny.training.drills_equations import equations
from odb_dllm.tiny.training.drills_factors import factors
from odb_dllm.tiny.training.drills_kinds import kinds
from odb_dllm.tiny.training.drills_options import options
from odb_dllm.tiny.training.drills_recall import recall
from odb_dllm.tiny.training.drills_repeats import repeats
from odb_dllm.tiny.training.marks import unmarked


@dataclass(frozen=True)
class Subject:
    """Marked texts of at least so many characters, how often they are drawn, and how long a token of theirs is."""

    write: Callable[[random.Random, int], str]
    share: float
    characters: float


LOOK_UPS = (Subject(repeats, 0.3, 4.6), Subject(recall, 0.4, 4.3), Subject(options, 0.3, 2.6))
FACTS = (Subject(equations, 0.7, 1.4), Subject(factors, 0.13, 1.6), Subject(kinds, 0.17, 3.2))


def drill(rng: random.Random, tokens: int, subjects: tuple[Subject, ...]) -> tuple[str, list[tuple[int, int]]]:
    """A text of about so many tokens on one of the subjects, and the spans of the results in it."""
    subject = rng.choices(subjects, [each.share for each in subjects])[0]
    return unmarked(subject.write(rng, round(tokens * subject.characters)))
