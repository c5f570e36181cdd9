"""``odb-dllm report --compare A B``: two results of the same tasks, sample by sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odb_dllm.errors import InputError
from odb_dllm.report.collected import place_of
from odb_dllm.report.mixing import asked, short, taken
from odb_dllm.report.paired import Difference, GeometricMean, difference, geometric_mean
from odb_dllm.report.runs import Run

WORDS = {(False, True): "gained", (True, False): "lost"}  # was right in A, is right in B
Key = tuple[str, str, str, str]  # task, setting, model, place; empty where it tells nothing apart


@dataclass(frozen=True)
class Change:
    """A sample whose answer, or score, is another one in B."""

    task: str  # leaf
    index: int
    question: str
    answers: tuple[str, str]  # in A, in B
    right: tuple[bool | None, bool | None]  # None where it has no score

    @property
    def kind(self) -> str:
        """gained, lost, or text: other words, and no verdict that turned."""
        return "text" if None in self.right else WORDS.get((bool(self.right[0]), bool(self.right[1])), "text")


@dataclass(frozen=True)
class Comparison:
    """Of one cell in A and one in B, on the documents that both answered."""

    a: Run
    b: Run
    documents: int
    accuracy: Difference | None  # B less A
    seconds: GeometricMean | None  # A / B of the forwards' time: above 1, B is faster
    nfe: GeometricMean | None  # A / B
    same: int  # answers that are the same to the letter
    changed: tuple[Change, ...]  # first what was gained or lost
    differing: tuple[str, ...]  # what else is not the same, a phrase each


def pairs(a: Path, b: Path, runs: tuple[Sequence[Run], Sequence[Run]]) -> tuple[list[tuple[Run, Run]], list[str]]:
    """Cells of the same task and setting; of the same task alone, where both folders have one setting for each.

    Where a side holds several models, also of the same model; and of the same place, where both sides have it.

    Args:
        a, b: the folders, as they were given.
        runs: what was found in each.

    Returns:
        The pairs; and a sentence on each run that stands in none.

    Raises:
        InputError: no cell is in both.
    """
    key = _key(runs)
    taken_of = [taken(mine, key) for mine in runs]
    ours, theirs = ({key(run): run for run in best} for best, _ in taken_of)
    common = sorted(ours.keys() & theirs.keys(), key=_order)
    if not common:
        held = [", ".join(" ".join(filter(None, each)) for each in sorted(of)) for of in (ours, theirs)]
        raise InputError(f"Nothing is in both folders: {a} holds {held[0]}; {b} holds {held[1]}.")
    said = [note for _, notes in taken_of for note in notes]
    for side, mine, other in (("A", ours, theirs), ("B", theirs, ours)):
        if only := sorted(mine.keys() - other.keys(), key=_order):
            words = (" ".join(filter(None, (*mine[each].result.cell.key, *each[2:]))) for each in only)
            said.append(f"Only in {side}: {', '.join(words)}.")
    return [(ours[each], theirs[each]) for each in common], said


def _key(runs: tuple[Sequence[Run], Sequence[Run]]) -> Callable[[Run], Key]:
    """What tells the cells of two sides apart, as far as it takes."""
    models = [{run.result.cell.model for run in mine} for mine in runs]
    several = any(len(each) > 1 for each in models)
    short_names = all(len({Path(name).name for name in each}) == len(each) for each in models)

    def model(run: Run) -> str:
        name = run.result.cell.model
        return "" if not several else (Path(name).name if short_names else name)

    alone = all(len({(run.result.cell.task, model(run)) for run in mine}) == len(mine) for mine in runs)

    def cell(run: Run) -> tuple[str, str, str]:
        return run.result.cell.task, "" if alone else run.result.cell.setting, model(run)

    ours, theirs = ({(cell(run), run.place) for run in mine} for mine in runs)
    placed = {each for each, _ in ours & theirs}
    return lambda run: (*cell(run), str(run.place) if cell(run) in placed else "")


def _order(key: Key) -> tuple[Any, ...]:
    return *place_of(key[:2]), key


def compare(a: Run, b: Run) -> Comparison:
    """Compare two cells of one task; raises ``InputError`` where they share no documents, or asked other ones."""
    common = sorted(a.samples.keys() & b.samples.keys())
    if not common:
        raise InputError(f"{a.folder} and {b.folder} share no documents.")
    _refuse_other_data(a, b)
    rows = [each.result.rows for each in (a, b)]
    correct = [{each: right for each, right in run.result.correct.items() if each in common} for run in (a, b)]
    changes = [
        Change(*each, a.samples[each].question, answers, right)
        for each in common
        if (answers := (a.samples[each].answer, b.samples[each].answer))
        and (right := (correct[0].get(each), correct[1].get(each)))
        and (answers[0] != answers[1] or right[0] != right[1])
    ]
    return Comparison(
        a,
        b,
        documents=len(common),
        accuracy=difference(correct[1], correct[0]),
        seconds=geometric_mean(*({each: row.seconds for each, row in of.items()} for of in rows)),
        nfe=geometric_mean(*({each: float(row.nfe) for each, row in of.items()} for of in rows)),
        same=sum(a.samples[each].answer == b.samples[each].answer for each in common),
        changed=tuple(sorted(changes, key=lambda each: each.kind == "text")),
        differing=tuple(_differing(a, b)),
    )


def _refuse_other_data(a: Run, b: Run) -> None:
    ours = dict(asked(a))
    for name, value in asked(b):
        if None not in (value, ours.get(name)) and value != ours[name]:
            raise InputError(f"{a.folder} and {b.folder} did not ask the same: they differ in the {name}.")


def _differing(a: Run, b: Run) -> list[str]:
    """What may explain a difference: fields of the setting, model, place and version."""

    def about(run: Run) -> Mapping[str, object]:
        cell = run.result.cell
        values = {f"{name} of the setting": value for name, value in run.setting.items()}
        values |= {name: getattr(cell, name) for name in ("model", "dtype", "gen_length", "block_length")}
        known = {"weights": run.weights, "place": str(run.place), "version of odb_dllm": run.version}
        return {**values, **{name: value for name, value in known.items() if value is not None}}

    ours, theirs = about(a), about(b)
    return [
        f"{name}: {short(ours[name])} in A, {short(theirs[name])} in B"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
