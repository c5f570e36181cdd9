"""Which thing is of which kind, and whether that is the kind asked for, as solutions of object_counting say it."""

import random

from odb_dllm.tiny.problems.bbh_counting import ALL, KIND_OF, THINGS, numbered, short
from odb_dllm.tiny.training.marks import marked

_ALL_SHARE = 0.1  # of the texts ask for all things
_ASKED_SHARE = 0.4  # of the things are of the kind asked for, others by chance


def kinds(rng: random.Random, characters: int) -> str:
    """A kind that is asked for, then one thing after the other with its kind, and whether it counts."""
    asked = ALL if rng.random() < _ALL_SHARE else rng.choice(list(THINGS))
    text = f"Just {asked} count, from the start;"
    while len(text) < characters:
        kind = asked if asked in THINGS and rng.random() < _ASKED_SHARE else rng.choice(list(THINGS))
        thing, n = rng.choice(THINGS[kind]), rng.choice((1, rng.randint(2, 9)))
        said = asked if asked == ALL else KIND_OF[thing]
        counts = "so" if said == asked else "none"  # of one token each, as are the kinds, so that no length tells them
        text += f" {numbered(thing, n)}: {marked(short(said))}, {marked(counts)};"
    return text
