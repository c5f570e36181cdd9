"""Which letter an option has: a lesson in looking up a word by the next but one.

As with names, it is learnt soonest from many short rows of two options; what stands between options and answers in
solutions, the same objects with names before them and no letter, comes in longer ones.
"""

import random

from odb_dllm.tiny.problems.bbh_tracking import KINDS
from odb_dllm.tiny.problems.bbh_words import NAMES
from odb_dllm.tiny.training.marks import marked

_OPTIONS, _OPTIONS_CHANCES = (2, 3, 4, 5), (3, 4, 3, 2)
_FEW = 130  # characters of a text of two bare options alone
_NAME_SHARE = 0.5  # of the answers say first who has the object
_TOLD_SHARE = 0.3  # of what follows longer lists of options says who has an object, and no letter
_LETTERS = "ABCDE"


def options(rng: random.Random, characters: int) -> str:
    """The options of a question, then said again with their letters hidden, in any order, to the end.

    Behind longer lists, some of the sentences say who has an object, and no letter.
    """
    kind, few = rng.choice(KINDS), characters < _FEW
    count = 2 if few else rng.choices(_OPTIONS, _OPTIONS_CHANCES)[0]
    objects, names = rng.sample(kind.objects, count), rng.sample(NAMES, count)
    option = "{o}" if few else kind.option
    lines = [f"({letter}) {option.format(o=o)}" for letter, o in zip(_LETTERS, objects, strict=False)]
    text = "\n".join([*lines, ""] if few else ["Options:", *lines, ""])
    while len(text) < characters:
        i = rng.randrange(count)
        if not few and rng.random() < _TOLD_SHARE:
            text += f" {rng.choice(names)} {objects[i]},"
        else:
            name = f" {rng.choice(names)} {objects[i]}," if rng.random() < _NAME_SHARE else ""
            text += f"{name} ({marked(_LETTERS[i])}) {objects[i]}."
    return text
