"""The miniature benchmarks: endless problems from a seed, in the formats of five published benchmarks.

A generator draws a problem from a ``random.Random``. Whether it belongs to the training or to the test side is read off
the hash of its key, so not even problems that differ in names and wording alone are on both.

    python -m odb_dllm.tiny.problems        # writes the data of all tasks again
"""

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from odb_dllm.tiny.problems import bbh, code, gsm8k, minerva_math
from odb_dllm.tiny.problems.problem import Draw, Plain, Problem

__all__ = ["MINIATURES", "Miniature", "Problem", "distinct", "heldout", "is_test", "problems", "shots", "write"]

TASKS = Path(__file__).parents[1] / "tasks"
TEST_SEED, SHOTS_SEED = 20_001, 10_001
SHOTS = 8  # worked examples that ship with a task
_TEST_SHARE = 16  # one key in this many, counted by hash, is on the test side


@dataclass(frozen=True)
class Miniature:
    """A task without subtasks: its generator and its folder under ``tasks``."""

    task: str
    draw: Draw
    folder: str
    items: int = 1000  # test problems that ship
    share: float = 1.0  # of the training, relative to the others


_BBH = {
    "boolean_expressions": 0.25,
    "object_counting": 0.3,
    "date_understanding": 0.55,
    "tracking_shuffled_objects": 0.8,
}
MINIATURES = {
    each.task: each
    for each in (
        Miniature("gsm8k_mini", gsm8k.draw, "gsm8k_mini", share=0.8),
        Miniature("minerva_math_mini", minerva_math.draw, "minerva_math_mini", share=2.0),
        *(
            Miniature(f"bbh_mini_{name}", bbh.DRAWS[name], f"bbh_mini/{name}", 250, share)
            for name, share in _BBH.items()
        ),
        Miniature("humaneval_mini", code.draw_humaneval, "humaneval_mini", share=0.4),
        Miniature("mbpp_mini", code.draw_mbpp, "mbpp_mini", share=0.4),
    )
}


def is_test(key: str) -> bool:
    """Whether the problem of this key is on the test side."""
    return zlib.crc32(key.encode()) % _TEST_SHARE == 0


def problems(task: str, seed: int | str, split: str, variety: float = 1.0) -> Iterator[Problem]:
    """The problems of one side, ``"train"`` or ``"test"``, without end; the same seed gives the same ones.

    variety: the share of choices between wordings of an answer that are free; the others take a fixed option, so that
        at 0 a question settles its answer word by word.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', not {split!r}.")
    rng, draw = random.Random(f"{task} {split} {seed}"), MINIATURES[task].draw
    wording = rng if variety == 1.0 else Plain(f"{task} {split} {seed} wording", variety)
    while True:
        problem = draw(rng, wording)
        if is_test(problem.key) == (split == "test"):
            yield problem


def distinct(source: Iterator[Problem], count: int) -> list[Problem]:
    """The first `count` problems with different keys."""
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = next(source)
        found.setdefault(problem.key, problem)
    return list(found.values())


def heldout(task: str, count: int) -> list[Problem]:
    """Test problems; the first ones are those that ship with the task."""
    return distinct(problems(task, TEST_SEED, "test"), count)


def shots(task: str, count: int = SHOTS) -> list[Problem]:
    """Worked examples, from the training side, the shortest first."""
    return sorted(distinct(problems(task, SHOTS_SEED, "train"), count), key=lambda p: len(p.prompt + p.answer))


def write(root: Path = TASKS) -> None:
    """Write the shipped ``test.jsonl`` and ``train.jsonl`` of every task."""
    for each in MINIATURES.values():
        folder = root / each.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, chosen in (("test", heldout(each.task, each.items)), ("train", shots(each.task))):
            lines = [json.dumps(p.document, ensure_ascii=False) + "\n" for p in chosen]
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
