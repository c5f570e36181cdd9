"""A few words again and again, some of them hidden: a lesson in finding where it stood before what stands here."""

import random

from odb_dllm.tiny.problems.bbh_tracking import OBJECTS
from odb_dllm.tiny.problems.bbh_words import NAMES
from odb_dllm.tiny.training.marks import marked

_WORDS = (2, 3, 3, 4, 4, 5, 6, 7, 8)  # in the list that is repeated
_HIDDEN_SHARE = 0.4


def repeats(rng: random.Random, characters: int) -> str:
    """A list of names and objects in any order, then the same list to the end, with words hidden in it."""
    words = rng.sample(NAMES + OBJECTS, rng.choice(_WORDS))
    text, i = f" {' '.join(words)}.", 0
    while len(text) < characters:
        word = words[i % len(words)]
        i += 1
        text += f" {marked(word) if rng.random() < _HIDDEN_SHARE else word}{'.' if i % len(words) == 0 else ''}"
    return text
