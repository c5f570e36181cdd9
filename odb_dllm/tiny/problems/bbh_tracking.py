"""Tracking shuffled objects: what everybody has after each swap."""

import random
from dataclasses import dataclass

from odb_dllm.tiny.problems.bbh_words import NAMES, Wording, Worked, draw, listed, wordings, words

_LETTERS = "ABCDE"
# By people: how often 2, 3, 4 ... swaps occur.
_SWAPS = {3: (28, 24, 18, 12, 10, 8), 4: (34, 28, 20, 12, 6), 5: (46, 32, 22)}


@dataclass(frozen=True)
class Kind:
    """What is swapped: how that is told, asked and listed."""

    name: str
    opening: Wording
    holds: str  # who has what at the start
    swap: str
    ends: str
    option: str
    objects: list[str]


_COLORS = words("red blue green black white pink brown gold purple orange gray")
KINDS = [
    Kind(
        "balls",
        Wording("{people} are playing (a game|with balls)."),
        "{p} has a {o} ball",
        "swap balls",
        "{p} has the",
        "{o} ball",
        [color for color in _COLORS if color != "orange"],
    ),
    Kind(
        "gifts",
        Wording("{people} are (swapping gifts|at a party)."),
        "{p} gets a {o} box",
        "swap gifts",
        "{p} has the",
        "{o} box",
        [color for color in _COLORS if color != "orange"],
    ),
    Kind(
        "books",
        Wording("{people} each (buy|borrow) a book."),
        "{p} has the {o}",
        "swap books",
        "{p} has the",
        "{o}",
        words("atlas novel diary comic saga primer manual story reader guide"),
    ),
    Kind(
        "dancers",
        Wording("{people} are (at a dance|dancing)."),
        "{p} dances with {o}",
        "switch partners",
        "{p} dances with",
        "{o}",
        words("Lola Rita Karl Hugo Ivan Olga Vera Yuri Zoe Carlos"),
    ),
    Kind(
        "players",
        Wording("{people} (are on|play for) a soccer team."),
        "{p} is the {o}",
        "trade positions",
        "{p} is the",
        "{o}",
        words("striker keeper winger captain sweeper defender forward reserve"),
    ),
    Kind(
        "seats",
        Wording("{people} (sit on|have) colored chairs."),
        "{p} has the {o} chair",
        "change seats",
        "{p} has the",
        "{o} chair",
        _COLORS,
    ),
]

OBJECTS = sorted({each for kind in KINDS for each in kind.objects})

# Whoever is looked up, with what: the last time that "name object" was said holds. Both stand behind a space, as in the
# prompt, so that they are the same tokens.
_START = wordings(
    "We (begin|start) with {state}.",
    "(Initially|First of all), {state}.",
    "(In the|As a) beginning, {state}.",
    "At the start, {state}.",
)
_SWAP = wordings(
    "{when}, {a} {x} and {b} {y} (trade|switch): {a} {y} and {b} {x}, (which gives|that is) {state}.",
    "{when}, {a} {x} (trades|switches) with {b} {y}, (so|hence) {a} {y} and {b} {x}: {state}.",
    "{when}, from {a} {x} and {b} {y} to {a} {y} and {b} {x}, (so|now) {state}.",
    "{when}, {a} {x} and {b} {y} swap, so {a} {y} and {b} {x}: {state}.",
)
# The option is said as it is listed, which is how its letter is looked up.
_END = wordings(
    "(So|Now) {p} {o}, {letter} {o}.",
    "(So|Thus) the end is {p} {o}, {letter} {o}.",
    "(In|At) the end, {p} {o}, {letter} {o}.",
)


def said(names: list[str], objects: list[str]) -> str:
    """Who has what, as solutions say it."""
    return ", ".join(f"{name} {held}" for name, held in zip(names, objects, strict=True))


def swapped(rng: random.Random, when: str, names: list[str], held: list[str], pair: tuple[int, int]) -> str:
    """The sentence of a swap; exchanges what the two hold."""
    a, b = pair
    slots = {"when": when, "a": names[a], "b": names[b], "x": held[a], "y": held[b]}
    held[a], held[b] = held[b], held[a]
    return draw(rng, _SWAP, **slots, state=said(names, held))


def _swaps(rng: random.Random, people: int) -> list[tuple[int, int]]:
    """Pairs, no pair twice in a row."""
    chosen: list[tuple[int, int]] = []
    number = rng.choices(range(2, 2 + len(_SWAPS[people])), _SWAPS[people])[0]
    while len(chosen) < number:
        a, b = rng.sample(range(people), 2)
        if not chosen or {a, b} != set(chosen[-1]):
            chosen.append((a, b))
    return chosen


def _when(swaps: list[tuple[int, int]]) -> list[str]:
    """How the sentence of every swap begins."""
    return ["First", *["Then"] * (len(swaps) - 2), "Finally"]


def _told(rng: random.Random, kind: Kind, names: list[str], objects: list[str], swaps: list[tuple[int, int]]) -> str:
    """Who has what, and the swaps, as the prompt tells them."""
    opening = kind.opening.draw(rng, people=listed(names))
    start = listed([kind.holds.format(p=p, o=o) for p, o in zip(names, objects, strict=True)])
    events = [f"{w}, {names[a]} and {names[b]} {kind.swap}." for w, (a, b) in zip(_when(swaps), swaps, strict=True)]
    return f"{opening} At the start, {start}. {' '.join(events)}"


def make(rng: random.Random, wording: random.Random) -> Worked:
    """Three to five people and two to seven swaps, fewer where there are more people."""
    people = rng.choices((3, 4, 5), (50, 30, 20))[0]
    kind = rng.choice(KINDS)
    names, objects = rng.sample(NAMES, people), rng.sample(kind.objects, people)
    swaps, asked = _swaps(rng, people), rng.randrange(people)
    told = _told(rng, kind, names, objects, swaps)
    order = rng.sample(range(people), people)  # of the options, by who has the object at the start

    held = list(objects)
    steps = [draw(wording, _START, state=said(names, held))]
    steps += [swapped(wording, when, names, held, pair) for when, pair in zip(_when(swaps), swaps, strict=True)]

    options = [f"({letter}) {kind.option.format(o=objects[i])}" for letter, i in zip(_LETTERS, order, strict=False)]
    target = f"({_LETTERS[order.index(objects.index(held[asked]))]})"
    steps.append(draw(wording, _END, p=names[asked], o=held[asked], letter=target))
    text = "\n".join([f"{told} At the end, {kind.ends.format(p=names[asked])}", "Options:", *options])
    pairs = " ".join(f"{min(pair)}{max(pair)}" for pair in swaps)
    return Worked(f"{kind.name} {people} {pairs} {asked} {order}", text, steps, target)
