"""Draws programs from the bank of functions: which parts go together, and how often."""

import random
from collections.abc import Sequence
from typing import Any

from odb_dllm.tiny.problems.functions import (
    CHAR_CONDITIONS,
    CHAR_MAPS,
    NUMBER_MAPS,
    SIGNS,
    WORD_CONDITIONS,
    WORD_LENGTHS,
    WORD_MAPS,
    Family,
    Part,
    number_conditions,
)
from odb_dllm.tiny.problems.functions_results import (
    ALL,
    ANY,
    COUNT,
    COUNTS,
    FIRST,
    JOINS,
    LARGEST,
    LAST,
    LIST,
    LONGEST,
    PRODUCT,
    SHORTEST,
    SMALLEST,
    STRING,
    SUM,
    Reduction,
)
from odb_dllm.tiny.problems.functions_steps import LABELS, LIST_STEPS, NUMBER_STEPS, STRING_STEPS
from odb_dllm.tiny.problems.programs import Pipeline, Several, Source
from odb_dllm.tiny.problems.programs_steps import Chain, Choice

_NUMBERS = ("x", "n", "num", "item", "value", "v")
Program = Pipeline | Several | Chain | Choice

LISTS = Source(
    "list", "numbers", "in the list", ("numbers", "nums", "values", "items"), _NUMBERS, "{p}", "list[int]", "int", list
)
RANGE = Source(
    "range",
    "numbers",
    "from 1 to n",
    ("n",),
    ("i", "x", "num", "value"),
    "range(1, {p} + 1)",
    "int",
    "int",
    lambda n: [*range(1, n + 1)],
)
DIGITS = Source(
    "digits",
    "digits",
    "of n",
    ("n",),
    ("d", "x", "digit", "value"),
    "map(int, str({p}))",
    "int",
    "int",
    lambda n: [int(d) for d in str(n)],
)
CHARS = Source(
    "chars", "characters", "in the text", ("text", "s", "string"), ("c", "ch", "char", "x"), "{p}", "str", "str", list
)
TEXT_WORDS = Source(
    "text",
    "words",
    "in the text",
    ("text", "s", "line"),
    ("w", "word", "x", "item"),
    "{p}.split()",
    "str",
    "str",
    str.split,
)
WORD_LIST = Source(
    "words",
    "words",
    "in the list",
    ("words", "names", "items"),
    ("w", "word", "x", "s"),
    "{p}",
    "list[str]",
    "str",
    list,
)
_HIGH, _LOW = number_conditions(20), number_conditions(8)
_CONDITIONS: dict[str, list[Family]] = {
    "list": [*_HIGH, *SIGNS],
    "range": _HIGH,
    "digits": _LOW,
    "chars": CHAR_CONDITIONS,
    "text": WORD_CONDITIONS,
    "words": WORD_CONDITIONS,
}
_MAPS = {"int": NUMBER_MAPS, "chars": CHAR_MAPS, "text": WORD_MAPS, "words": WORD_MAPS}
_OF_NUMBERS = (SUM, SUM, COUNT, LIST, LIST, LARGEST, SMALLEST, PRODUCT, ANY, ALL, FIRST, LAST, COUNTS)
_OF_DIGITS = (SUM, COUNT, LIST, LARGEST, SMALLEST, PRODUCT, ANY, ALL, FIRST, LAST)
_OF_CHARS = (COUNT, LIST, STRING, STRING, ANY, ALL, FIRST, LAST, COUNTS)
_OF_WORDS = (COUNT, LIST, LIST, JOINS, JOINS, LONGEST, SHORTEST, ANY, ALL, FIRST, LAST)
_REDUCTIONS: dict[str, tuple[Any, ...]] = {
    "list": _OF_NUMBERS,
    "range": (SUM, SUM, COUNT, LIST, LIST, PRODUCT),
    "digits": _OF_DIGITS,
    "chars": _OF_CHARS,
    "text": _OF_WORDS,
    "words": _OF_WORDS,
}
_SOURCES = (LISTS, LISTS, LISTS, RANGE, DIGITS, CHARS, CHARS, TEXT_WORDS, WORD_LIST)
_LABELS = LABELS.split()
_UNMAPPED = {"count", "any", "all", "first", "last", "counts"}
_CHAINS: tuple[tuple[str, Sequence[str], str, list[Family]], ...] = (
    ("string", ("text", "s", "string", "word"), "str", STRING_STEPS),
    ("number", ("n", "x", "num", "number"), "int", NUMBER_STEPS),
    ("list", ("numbers", "nums", "values", "items"), "list[int]", LIST_STEPS),
)
_BOUNDS = [next(f for f in _HIGH if f[0].key == f"{name} 1") for name in ("below", "upto", "above", "from")]
SIBLINGS = {
    part: family
    for families in (*_CONDITIONS.values(), *_MAPS.values(), *(c[3] for c in _CHAINS))
    for family in families
    for part in family
}


def _parts(rng: random.Random, families: list[Family], count: int) -> tuple[Part, ...]:
    return tuple(rng.choice(family) for family in rng.sample(families, count))


def _reduction(rng: random.Random, source: Source) -> Reduction:
    chosen = rng.choice(_REDUCTIONS[source.key])
    return rng.choice(chosen) if isinstance(chosen, list) else chosen


def _pipeline(rng: random.Random, source: Source | None = None, most: int = 2) -> Pipeline:
    source = source or rng.choice(_SOURCES)
    reduction = _reduction(rng, source)
    mapped = reduction.key not in _UNMAPPED and rng.random() < 0.65
    if reduction is ALL:
        count = 1
    elif mapped:
        count = rng.choice((0, 1, 1, 1, 2, 2))
    else:
        count = rng.choice((1, 2, 2, 2))
    conditions = _parts(rng, _CONDITIONS[source.key], min(count, most))
    conditions = tuple(sorted(conditions, key=lambda c: not c.adjective))  # in the order of the sentence
    if source.item == "str" and reduction is LIST and source is not CHARS and rng.random() < 0.5:
        return Pipeline(source, conditions, WORD_LENGTHS[0], rng.choice((SUM, LIST, LARGEST, SMALLEST)))
    families = _MAPS["int" if source.item == "int" else source.key]
    return Pipeline(source, conditions, rng.choice(rng.choice(families)) if mapped else None, reduction)


def _several(rng: random.Random) -> Several:
    source, count = rng.choice(_SOURCES), rng.choice((2, 2, 3))
    found: list[Pipeline] = []
    while len(found) < count:
        one = _pipeline(rng, source, most=1)
        if one.reduction.noun:
            found.append(one)
    return Several(tuple(found))


def _chain(rng: random.Random) -> Chain:
    noun, params, hint, families = rng.choice(_CHAINS)
    return Chain(noun, params, hint, _parts(rng, families, rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4))))


def _choice(rng: random.Random, counts: Sequence[int]) -> Choice:
    count = rng.choice(counts)
    conditions = _parts(rng, [*_HIGH, *SIGNS], count)
    if count > 2:  # those of unlike families would leave some results without numbers
        steps = sorted(rng.sample(range(0, len(_BOUNDS[0]), 2), count - 1))
        up = rng.random() < 0.5
        bounds = [rng.choice(_BOUNDS[:2] if up else _BOUNDS[2:])[i] for i in (steps if up else reversed(steps))]
        conditions = (*bounds, conditions[0]) if rng.random() < 0.5 else (conditions[0], *bounds)
    if rng.random() < 0.7:
        return Choice(conditions, tuple(rng.sample(_LABELS, count + 1)))
    return Choice(conditions, _parts(rng, NUMBER_MAPS, count + 1))


def draw_program(rng: random.Random, choices: Sequence[int]) -> Program:
    """A program of any kind; `choices` says how many conditions a choice may have."""
    draw = rng.random()
    if draw < 0.42:
        return _pipeline(rng)
    if draw < 0.64:
        return _several(rng)
    return _chain(rng) if draw < 0.85 else _choice(rng, choices)
