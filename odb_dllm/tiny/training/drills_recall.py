"""Who has what, told once and asked again and again: a dense lesson in looking up a word by the word before it.

It is learnt soonest from many short rows with one small dictionary each, later from longer ones, and hardly at all from
rows with several of them. What is looked up stands as in the prompts and solutions of tracking_shuffled_objects.
"""

import random
from collections.abc import Callable

from odb_dllm.tiny.problems.bbh_tracking import KINDS, Kind, said, swapped
from odb_dllm.tiny.problems.bbh_words import NAMES, listed
from odb_dllm.tiny.training.marks import marked

_PEOPLE, _PEOPLE_CHANCES = (2, 3, 4, 5), (5, 3, 2, 1)
_FEW, _SAID = 100, 200  # characters of a text for two people alone, and for what is told as in a solution alone
_TIMES, _TIMES_CHANCES = (0, 1, 2, 3), (6, 2, 1, 1)
_PROMPT_SHARE = 0.4  # of the beginnings are told as in a prompt, others as in a solution, which is learnt sooner


def _people(rng: random.Random, kind: Kind, number: int) -> tuple[list[str], list[str]]:
    """Names, and what they have."""
    return rng.sample(NAMES, number), rng.sample(kind.objects, number)


def _told(rng: random.Random, prompts: float = _PROMPT_SHARE) -> tuple[str, list[str], list[str]]:
    """Who has what at the start, told as in a prompt or as in a solution; the names, and what they have."""
    kind = rng.choice(KINDS)
    names, objects = _people(rng, kind, rng.choices(_PEOPLE, _PEOPLE_CHANCES)[0])
    start = listed([kind.holds.format(p=p, o=o) for p, o in zip(names, objects, strict=True)])
    return f"At the start, {start if rng.random() < prompts else said(names, objects)}.", names, objects


def _asked(rng: random.Random, text: str, names: list[str], held: list[str], characters: int) -> str:
    """The text, then who has what, in any order, to the end."""
    while len(text) < characters:
        i = rng.randrange(len(names))
        text += f" {names[i]} {marked(held[i])},"
    return text


def pairs(rng: random.Random, characters: int) -> str:
    """What two people have, as a solution says it, then asked: the look-up in its barest form."""
    names, held = _people(rng, rng.choice(KINDS), 2)
    return _asked(rng, f"{said(names, held)}.", names, held, characters)


def _swap(rng: random.Random, names: list[str], held: list[str]) -> str:
    a, b = rng.sample(range(len(names)), 2)
    return " " + swapped(rng, "Then", names, held, (a, b))


def _swaps(rng: random.Random, names: list[str], held: list[str], characters: int) -> str:
    """A few swaps, if they fit."""
    text = ""
    for _ in range(rng.choices(_TIMES, _TIMES_CHANCES)[0]):
        text += _swap(rng, names, held) if len(text) < characters else ""
    return text


def questions(rng: random.Random, characters: int) -> str:
    """A few people, sometimes some swaps, then who has what, in any order, to the end."""
    text, names, held = _told(rng, _PROMPT_SHARE if characters > _SAID else 0.0)
    text += _swaps(rng, names, held, characters // 4 - len(text))
    return _asked(rng, text, names, held, characters)


def swaps(rng: random.Random, characters: int) -> str:
    """Again and again a few people, who has what, some swaps and one more, of which only the names are given."""
    text = ""
    while len(text) < characters:
        told, names, held = _told(rng)
        text += told + _swaps(rng, names, held, characters // 4 - len(told))
        text += _swap(rng, names, [marked(each) for each in held]) + "\n"
    return text


_FORMS: dict[Callable[[random.Random, int], str], float] = {questions: 0.7, swaps: 0.3}
_ROOM = 400  # characters, in which any form ends


def recall(rng: random.Random, characters: int) -> str:
    """A marked text of at least so many characters, in one of the forms, or in a simpler one where there is no room."""
    if characters < _FEW:
        return pairs(rng, characters)
    write = rng.choices(list(_FORMS), list(_FORMS.values()))[0]
    return (write if characters > _ROOM else questions)(rng, characters)
