"""Endless arithmetic word problems in GSM8K's format, with small non-negative numbers and one to three operations.

`Problems(seed, split)` yields `Problem(question, answer)`; the answer is a step per line with calculator annotations
and a last line `#### n`. Train and test never share a problem: the hash of its story and numbers says on which side it
is, so not even a problem that differs only in its names is on both.

    python -m odb_dllm.tiny.problems        # writes the data of the gsm8k_mini task again
"""

import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from odb_dllm.tiny.stories import BOXES, CHAINS, NAMES_HER, NAMES_HIM, PLACES, STORIES, THINGS

LARGEST = 99  # no number of a problem or of a step is larger
TASK = Path(__file__).parent / "tasks" / "gsm8k_mini"
TEST_SEED, SHOTS_SEED = 20_001, 10_001
_TEST_SHARE = 16  # one story in this many, counted by hash, is a test problem
_CHAIN_SHARE = 0.2
_STEP = re.compile(r"\[(\w+)=(\w+)([-+*/])(\w+)\]")
_APPLY: dict[str, Callable[[int, int], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@dataclass(frozen=True)
class Problem:
    """One word problem."""

    question: str
    answer: str


def prompt(question: str) -> str:
    """The text that comes before the answer, as lm-eval's gsm8k renders it."""
    return f"Question: {question}\nAnswer:"


@dataclass(frozen=True)
class _Story:
    """A story, ready to be drawn from: wordings expanded, steps parsed."""

    numbers: list[tuple[str, int, int, str | None]]  # name, low, high, the number or literal it is a multiple of
    wordings: list[str]
    answer: str  # a format string with the slots of the steps filled in
    steps: list[tuple[str, str, str, str]]  # name, left, operator, right
    final: str

    def draw(self, rng: random.Random) -> dict[str, int] | None:
        """Numbers for one problem, or None where they break a rule of the format."""
        values: dict[str, int] = {}
        for name, low, high, factor in self.numbers:
            values[name] = rng.randint(low, high) * (_value(factor, values) if factor else 1)
        if max(values.values()) > LARGEST:
            return None
        for name, left, operator, right in self.steps:
            result = _APPLY[operator](_value(left, values), _value(right, values))
            if result != int(result) or not 2 <= result <= LARGEST:
                return None
            values[name] = int(result)
        return values


def _value(name: str, values: dict[str, int]) -> int:
    return values[name] if name in values else int(name)


def _shown(name: str, operator: str, left: str, right: str) -> str:
    """One step as text: ``3+4=<<3+4=7>>7`` with slots in place of names."""
    left, right = (part if part.isdigit() else "{" + part + "}" for part in (left, right))
    return f"{left}{operator}{right}=<<{left}{operator}{right}={{{name}}}>>{{{name}}}"


def _expand(text: str) -> list[str]:
    """All wordings of a text with ``(x|y)`` choices."""
    parts = re.split(r"\(([^()]*\|[^()]*)\)", text)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _parse(numbers: str, question: str, answer: str) -> _Story:
    drawn = []
    for item in numbers.split():
        match = re.fullmatch(r"(\w)=(\d+)\.\.(\d+)(?:\*(\w+))?", item)
        assert match, f"not a number of a story: {item}"
        drawn.append((match[1], int(match[2]), int(match[3]), match[4]))
    steps = [(name, left, operator, right) for name, left, operator, right in _STEP.findall(answer)]
    shown = _STEP.sub(lambda m: _shown(m[1], m[3], m[2], m[4]), answer)
    return _Story(drawn, _expand(question), shown, steps, steps[-1][0])


_STORIES = [_parse(*story) for story in STORIES]
_PEOPLE = [(name, ("she", "her", "her")) for name in NAMES_HER.split()]
_PEOPLE += [(name, ("he", "him", "his")) for name in NAMES_HIM.split()]
_THINGS, _BOXES, _PLACES = THINGS.split(), BOXES.split(), PLACES.split()


def _slots(rng: random.Random) -> dict[str, str]:
    """Names, pronouns, objects and places of one problem."""
    (a, (he, him, his)), (b, _), (c, _) = rng.sample(_PEOPLE, 3)
    things, stuff = rng.sample(_THINGS, 2)
    boxes, box = rng.choice(_BOXES).split(":")
    words = {"A": a, "B": b, "C": c, "he": he, "him": him, "his": his, "He": he.capitalize()}
    return words | {"things": things, "stuff": stuff, "boxes": boxes, "box": box, "place": rng.choice(_PLACES)}


def _story(rng: random.Random) -> tuple[str, str, str]:
    """(key, question, answer) of a story from the list."""
    index = rng.randrange(len(_STORIES))
    story = _STORIES[index]
    values = story.draw(rng)
    while values is None:
        values = story.draw(rng)
    slots = _slots(rng) | values
    question = rng.choice(story.wordings).format_map(slots)
    answer = f"{story.answer.format_map(slots)}\n#### {values[story.final]}"
    return f"{index} {sorted(values.items())}", question, answer


def _chain(rng: random.Random) -> tuple[str, str, str]:
    """(key, question, answer) of a running quantity with one to three changes."""
    index = rng.randrange(len(CHAINS))
    opening, gains, losses, question, step = CHAINS[index]
    slots = _slots(rng)
    total = rng.randint(5, 40)
    key, told, steps = [f"chain {index}", str(total)], [opening.format_map(slots | {"n": total})], []
    previous = None
    for _ in range(rng.choice((1, 2, 2, 3, 3))):
        up = total < 12 or (total < 60 and rng.random() < 0.5)
        change = rng.randint(2, 20) if up else rng.randint(2, min(20, total - 2))
        event = rng.choice([text for text in (gains if up else losses) if text != previous])
        previous, sign = event, "+" if up else "-"
        after = total + change if up else total - change
        shown = f"{total}{sign}{change}=<<{total}{sign}{change}={after}>>{after}"
        told.append(event.format_map(slots | {"k": change}))
        steps.append(step.format_map(slots | {"sum": shown}))
        key.append(f"{sign}{change}")
        total = after
    told.append(question.format_map(slots))
    return " ".join(key), " ".join(told), "\n".join([*steps, f"#### {total}"])


def is_test(key: str) -> bool:
    """Whether a problem (its story and numbers) is on the test side."""
    return zlib.crc32(key.encode()) % _TEST_SHARE == 0


class Problems:
    """The problems of one split, ``"train"`` or ``"test"``, without end; the same seed gives the same ones."""

    def __init__(self, seed: int | str, split: str) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}.")
        self._rng = random.Random(f"{split} {seed}")
        self._test = split == "test"

    def __iter__(self) -> Iterator[Problem]:
        return self

    def __next__(self) -> Problem:
        while True:
            make = _chain if self._rng.random() < _CHAIN_SHARE else _story
            key, question, answer = make(self._rng)
            if is_test(key) == self._test:
                return Problem(question, answer)


def distinct(problems: Problems, count: int) -> list[Problem]:
    """The first `count` problems with different questions."""
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = next(problems)
        found.setdefault(problem.question, problem)
    return list(found.values())


def heldout(count: int) -> list[Problem]:
    """Test problems; the first 200 are those of the gsm8k_mini task."""
    return distinct(Problems(TEST_SEED, "test"), count)


def shots(count: int) -> list[Problem]:
    """Worked examples for few-shot prompts, from the training side; the first 8 are those of the gsm8k_mini task."""
    return distinct(Problems(SHOTS_SEED, "train"), count)


def write_task(folder: Path = TASK) -> None:
    """Write the shipped `test.jsonl` and `train.jsonl`."""
    for name, problems in (("test", heldout(200)), ("train", shots(8))):
        lines = [json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_task()
