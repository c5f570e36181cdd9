"""Inputs and outputs that tell a program from those that are wrong by one part."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from odb_dllm.tiny.problems.code_programs import CHARS, DIGITS, RANGE, SIBLINGS, Program
from odb_dllm.tiny.problems.functions import Part, compiled
from odb_dllm.tiny.problems.functions_results import (
    ALL,
    ANY,
    COUNT,
    COUNTS,
    FIRST,
    LARGEST,
    LAST,
    LONGEST,
    PRODUCT,
    SHORTEST,
    SMALLEST,
    SUM,
)
from odb_dllm.tiny.problems.functions_steps import WORDS
from odb_dllm.tiny.problems.programs import Pipeline, Several
from odb_dllm.tiny.problems.programs_steps import Chain, Choice

_WORDS = WORDS.split()
_TOO_LONG = re.compile(r"\d{5}|.{41}")  # of an output
_ALIKE = {
    one.key: [r for r in group if r is not one]
    for group in ((SUM, COUNT, PRODUCT), (LARGEST, SMALLEST, FIRST, LAST), (LONGEST, SHORTEST), (ANY, ALL))
    for one in group
}


def _parts_of(program: Program) -> Iterator[tuple[Part, Callable[[Part], Program]]]:
    """Each part, and how to put another in its place."""
    if isinstance(program, Pipeline):
        for i, part in enumerate(program.conditions):
            yield part, lambda p, i=i: replace(program, conditions=_put(program.conditions, i, p))  # type: ignore[misc]
        if program.map:
            yield program.map, lambda p: replace(program, map=p)
    elif isinstance(program, Chain):
        for i, part in enumerate(program.steps):
            yield part, lambda p, i=i: replace(program, steps=_put(program.steps, i, p))  # type: ignore[misc]
    elif isinstance(program, Choice):
        for i, part in enumerate(program.conditions):
            yield part, lambda p, i=i: replace(program, conditions=_put(program.conditions, i, p))  # type: ignore[misc]
    else:
        for i, one in enumerate(program.parts):
            for part, put in _parts_of(one):
                yield part, lambda p, i=i, put=put: program.put(i, put(p))  # type: ignore[misc]


def _put(parts: tuple[Part, ...], index: int, part: Part) -> tuple[Part, ...]:
    return (*parts[:index], part, *parts[index + 1 :])


def rivals(program: Program) -> list[Program]:
    """Programs that are wrong by one part: it is missing, has the next constant, or is another reduction."""
    found: list[Program] = [*program.without_a_part()]
    if isinstance(program, Pipeline) and (program.source.item, program.reduction) != ("str", COUNT):
        found += [replace(program, reduction=r) for r in _ALIKE.get(program.reduction.key, ())]
    if isinstance(program, Choice) and len(program.conditions) > 2:
        return found  # a test for each constant as well would be too many
    for part, put in _parts_of(program):
        family = SIBLINGS.get(part, [part])
        if len(family) > 1:
            at = family.index(part)
            found.append(put(family[at + 1] if at + 1 < len(family) else family[at - 1]))
    return found


def _number(rng: random.Random, edges: Sequence[Any], signed: bool, share: float = 0.5) -> int:
    if edges and rng.random() < share:
        return int(rng.choice(edges))
    return rng.randint(-9, 20) if signed else rng.randint(0, 25)


def _signed(program: Program) -> bool:
    return any(p.key in ("positive", "negative", "abs", "negate") for p, _ in _parts_of(program))


def _string(rng: random.Random, edges: Sequence[str], longest: int = 9) -> str:
    letters = [*rng.choice(_WORDS)]
    for edge in rng.sample(edges, min(len(edges), rng.randint(1, 3))):
        letters.insert(rng.randint(0, len(letters)), edge)
    return "".join(letters[:longest])


def _items(rng: random.Random, program: Pipeline, edges: list[Any], signed: bool) -> list[Any]:
    """Items of a list, of which some meet all conditions of a pipeline and others do not."""
    source = program.source
    if source.item == "int":
        pool: list[Any] = [_number(rng, edges, signed) for _ in range(10)]
        if source is DIGITS:
            pool = [abs(n) % 10 for n in pool]
    elif source is CHARS:
        pool = [*rng.choice(_WORDS), *rng.choice(_WORDS), *edges, *edges]
        rng.shuffle(pool)
    else:
        pool = rng.sample(_WORDS, 20)
    tests = [compiled(c.codes[0]) for c in program.conditions]
    good = [i for i in pool if all(t(i) for t in tests)]
    bad = [i for i in pool if i not in good]
    few = 3 if source.item == "int" else 2
    items = good[: rng.randint(1, few)] + bad[: rng.randint(1, few - 1)]
    if program.reduction in (ANY, ALL) and rng.random() < 0.5:
        items = (good if program.reduction is ALL else bad)[: rng.randint(2, 4)]
    rng.shuffle(items)
    if program.reduction is COUNTS and good:
        items.append(good[0])
    return items


def _argument(rng: random.Random, program: Program, edges: list[Any], signed: bool) -> Any:
    """An input on which the parts of the program matter."""
    if isinstance(program, Several):
        return _argument(rng, rng.choice(program.parts), edges, signed)
    if isinstance(program, Choice):
        return _number(rng, edges, True, 0.8)
    if isinstance(program, Chain):
        if program.noun == "number":
            return _number(rng, edges, signed)
        if program.noun == "string":
            return _string(rng, edges)
        few = [rng.randint(0, 20) for _ in range(rng.randint(3, 5))]
        return [*few, few[0]] if len(few) < 5 else few
    if program.source is RANGE:
        return max(2, rng.choice(edges) + rng.randint(0, 3)) if edges and rng.random() < 0.7 else rng.randint(2, 12)
    if program.source is CHARS and program.reduction not in (ANY, ALL):
        return _string(rng, edges)
    items = _items(rng, program, edges, signed)
    if program.source is DIGITS:
        items = items or [1, 0]
        return int("".join(map(str, items)))
    between = {"text": " ", "chars": ""}.get(program.source.key)
    return items if between is None else between.join(items)


_EMPTY = {"list[int]": [], "list[str]": [], "str": ""}


def draw_tests(rng: random.Random, program: Program, count: int, empty: bool) -> list[tuple[str, str]] | None:
    """Inputs and outputs that tell the program from its rivals, or None where some do not within a few attempts."""
    wrong = rivals(program)
    edges = [e for part, _ in _parts_of(program) for e in part.edges]
    signed = _signed(program)
    found: dict[str, str] = {}
    outputs: list[str] = []
    for _ in range((8 if isinstance(program, Choice) else 3) * count):
        argument = _argument(rng, program, edges, signed)
        shown, output = repr(argument), repr(program.run(argument))
        if shown in found or _TOO_LONG.search(output) or outputs.count(output) > count // 2:
            continue
        beaten = [w for w in wrong if repr(w.run(argument)) != output]
        if not beaten and wrong and len(found) < count - 1:
            continue
        wrong = [w for w in wrong if w not in beaten]
        found[shown] = output
        outputs.append(output)
        if len(found) == count:
            break
    if wrong or len(found) < count or len({*outputs}) < 2:
        return None
    tests = [*found.items()]
    if empty and program.hints[0] in _EMPTY:
        nothing = _EMPTY[program.hints[0]]
        tests.append((repr(nothing), repr(program.run(nothing))))
    return tests
