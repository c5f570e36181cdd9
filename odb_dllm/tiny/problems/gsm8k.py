"""Endless arithmetic word problems in GSM8K's format, with small non-negative numbers and one to seven operations.

The answer is a step per line with calculator annotations and a last line `#### n`. How each line is worded is drawn
apart from the question, so that an answer cannot be foretold word by word; what is computed follows from the question.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Union

from odb_dllm.tiny.problems.problem import Problem
from odb_dllm.tiny.problems.stories import BOXES, NAMES_HER, NAMES_HIM, ONE_STEP, PLACES, PLANTS, THINGS, TWO_STEPS
from odb_dllm.tiny.problems.stories_more import CHAINS, FIRST, FOUR_STEPS, LAST, MIDDLE, ONLY, PLAIN, THREE_STEPS

LARGEST = 99  # no number of a problem or of a step is larger
LARGEST_CHANGE = 30  # of a running quantity
# How many steps, as often as listed; the share of problems up to four steps that are about a running quantity.
_STEPS = [count for count, share in {1: 28, 2: 24, 3: 16, 4: 3, 5: 3, 6: 3, 7: 3}.items() for _ in range(share)]
_CHAIN_SHARE = 0.4
_PLAIN_SHARE = 0.35  # of sentences that only say what is done with the numbers
_APPLY: dict[str, Callable[[int, int], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}

# Alternatives, each a list of texts and further choices.
Choice = list[list[Union[str, "Choice"]]]


def _choice(text: str) -> Choice:
    """Read ``x|y`` with ``(x|y)`` inside."""

    def read(tokens: Iterator[str]) -> Choice:
        found: Choice = [[]]
        for token in tokens:
            if token == ")":
                break
            if token == "|":
                found.append([])
            elif token:
                found[-1].append(read(tokens) if token == "(" else token)
        return found

    return read(iter(re.split(r"([(|)])", text)))


def _choose(choice: Choice, rng: random.Random) -> str:
    """One of the wordings; all alternatives of a choice are equally likely."""
    parts = choice[int(rng.random() * len(choice))]
    return "".join([part if isinstance(part, str) else _choose(part, rng) for part in parts])


@dataclass(frozen=True)
class _Step:
    """One operation and the ways to say it."""

    name: str
    left: str
    operator: str
    right: str
    told: Choice
    plain: Choice


@dataclass(frozen=True)
class _Story:
    """A story, ready to be drawn from."""

    key: str
    numbers: list[tuple[str, int, int, str | None]]  # name, low, high, the number or literal it is a multiple of
    question: Choice
    steps: list[_Step]

    def draw(self, rng: random.Random) -> dict[str, int]:
        """The numbers of one problem, drawn again where they break a rule of the format."""
        while True:
            values: dict[str, int] = {}
            for name, low, high, factor in self.numbers:
                values[name] = rng.randint(low, high) * (_value(factor, values) if factor else 1)
            if max(values.values()) <= LARGEST and all(self._take(step, values) for step in self.steps):
                return values

    @staticmethod
    def _take(step: _Step, values: dict[str, int]) -> bool:
        """Add a step's result to the values; False where it is no number of the format (or one in the singular)."""
        result = _APPLY[step.operator](_value(step.left, values), _value(step.right, values))
        values[step.name] = int(result)
        return result == int(result) and 2 <= result <= LARGEST


def _value(name: str, values: dict[str, int]) -> int:
    return int(name) if name.isdigit() else values[name]


def _parse(key: str, numbers: str, question: str, *steps: str) -> _Story:
    drawn = []
    for item in numbers.split():
        match = re.fullmatch(r"(\w)=(\d+)\.\.(\d+)(?:\*(\w+))?", item)
        assert match, f"not a number of a story: {item}"
        low, high, factor = int(match[2]), int(match[3]), match[4]
        drawn.append((match[1], low, high, factor))
    return _Story(key, drawn, _choice(question), [_parse_step(step) for step in steps])


def _parse_step(text: str) -> _Step:
    match = re.fullmatch(r"(\w)=(\w+)([-+*/])(\w+) (.+?): (.+)", text)
    assert match, f"not a step of a story: {text}"
    name, left, operator, right, unit, sentence = match.groups()
    return _Step(name, left, operator, right, _choice(sentence), _choice(PLAIN[operator].replace("@", unit)))


_STORIES = {
    count: [_parse(f"{count}.{index}", *story) for index, story in enumerate(stories)]
    for count, stories in enumerate((ONE_STEP, TWO_STEPS, THREE_STEPS, FOUR_STEPS), start=1)
}


@dataclass(frozen=True)
class _Chain:
    """A running quantity, ready to be drawn from."""

    key: str
    opening: Choice
    events: dict[str, list[Choice]]  # by the sign of the change
    question: Choice
    told: Choice
    plain: dict[str, Choice]


_CHAINS = [
    _Chain(
        f"chain.{index}",
        _choice(opening),
        {"+": [_choice(text) for text in gains], "-": [_choice(text) for text in losses]},
        _choice(question),
        _choice(sentence),
        {sign: _choice(PLAIN[sign].replace("@", unit)) for sign in "+-"},
    )
    for index, (opening, gains, losses, question, unit, sentence) in enumerate(CHAINS)
]
_ONLY, _FIRST, _MIDDLE, _LAST = (_choice(text) for text in (ONLY, FIRST, MIDDLE, LAST))
_PEOPLE = [(name, ("she", "her", "her")) for name in NAMES_HER.split()]
_PEOPLE += [(name, ("he", "him", "his")) for name in NAMES_HIM.split()]
_THINGS, _BOXES, _PLACES, _PLANTS = THINGS.split(), BOXES.split(), PLACES.split(), PLANTS.split()


def _slots(rng: random.Random) -> dict[str, str]:
    """Names, pronouns, objects and places of one problem."""
    (a, (he, him, his)), (b, _), (c, _) = rng.sample(_PEOPLE, 3)
    things, stuff = rng.sample(_THINGS, 2)
    plants, crops = rng.sample(_PLANTS, 2)
    boxes, box = rng.choice(_BOXES).split(":")
    words = {"A": a, "B": b, "C": c, "he": he, "him": him, "his": his, "He": he.capitalize()}
    words |= {"things": things, "stuff": stuff, "plants": plants, "crops": crops, "boxes": boxes, "box": box}
    return words | {"place": rng.choice(_PLACES)}


def _equation(left: int, operator: str, right: int, result: int, wording: random.Random) -> str:
    """One step as GSM8K shows it, such as ``3+4=<<3+4=7>>7``; what commutes stands in either order."""
    if operator in "+*" and wording.random() < 0.5:
        left, right = right, left
    return f"{left}{operator}{right}=<<{left}{operator}{right}={result}>>{result}"


def _line(told: Choice, plain: Choice, equation: str, at: int, count: int, wording: random.Random) -> str:
    """The sentence of step `at` of `count`, counted from 0, with slots for names."""
    connective = _ONLY if count == 1 else _FIRST if at == 0 else _LAST if at == count - 1 else _MIDDLE
    sentence = _choose(plain if wording.random() < _PLAIN_SHARE else told, wording)
    return _choose(connective, wording) + sentence.replace("#", equation) + "."


def _capital(text: str) -> str:
    """The text as the beginning of a line."""
    return text[0].upper() + text[1:]


def _story(story: _Story, rng: random.Random, wording: random.Random) -> tuple[str, str, list[str], int]:
    """Key, question, lines of the answer and result of a story from the lists."""
    values, slots = story.draw(rng), _slots(rng)
    question = _choose(story.question, rng).format_map(slots | values)
    lines = []
    for at, step in enumerate(story.steps):
        numbers = _value(step.left, values), step.operator, _value(step.right, values), values[step.name]
        text = _line(step.told, step.plain, _equation(*numbers, wording), at, len(story.steps), wording)
        lines.append(_capital(text.format_map(slots | values)))
    key = " ".join([story.key, *(str(values[name]) for name, *_ in story.numbers)])
    return key, question, lines, values[story.steps[-1].name]


def _chain(chain: _Chain, count: int, rng: random.Random, wording: random.Random) -> tuple[str, str, list[str], int]:
    """The same of a running quantity with `count` changes, all by different numbers."""
    total, slots, lines = rng.randint(5, 60), _slots(rng), []
    key, told = [chain.key, str(total)], [_choose(chain.opening, rng).format_map(slots | {"n": total})]
    changes: list[int] = []
    previous = None
    for at in range(count):
        sign = "+" if total < 12 or (total < LARGEST - 25 and rng.random() < 0.5) else "-"
        most = min(LARGEST_CHANGE, LARGEST - total if sign == "+" else total - 2)
        changes.append(rng.choice([k for k in range(2, most + 1) if k not in changes]))
        event = rng.choice([event for event in chain.events[sign] if event is not previous])
        previous, after = event, total + changes[-1] if sign == "+" else total - changes[-1]
        told.append(_choose(event, rng).format_map(slots | {"k": changes[-1]}))
        equation = _equation(total, sign, changes[-1], after, wording)
        lines.append(_capital(_line(chain.told, chain.plain[sign], equation, at, count, wording).format_map(slots)))
        key.append(f"{sign}{changes[-1]}")
        total = after
    told.append(_choose(chain.question, rng).format_map(slots))
    return " ".join(key), " ".join(told), lines, total


def draw(rng: random.Random, wording: random.Random) -> Problem:
    """A word problem; its key is the kind of story and the numbers."""
    count = rng.choice(_STEPS)
    if count not in _STORIES or rng.random() < _CHAIN_SHARE:
        key, question, lines, result = _chain(rng.choice(_CHAINS), count, rng, wording)
    else:
        key, question, lines, result = _story(rng.choice(_STORIES[count]), rng, wording)
    answer = "\n".join([*lines, f"#### {result}"])
    document = {"question": question, "answer": answer}
    return Problem(key, f"Question: {question}\nAnswer:", f" {answer}", document)
