"""``odb-dllm report --compare A B``: two results of the same tasks, sample by sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from odb_dllm.errors import InputError
from odb_dllm.report.collected import place_of
from odb_dllm.report.mixing import asked, short, taken
from odb_dllm.report.paired import Difference, GeometricMean, difference, geometric_mean
from odb_dllm.report.runs import Run

WORDS = {(False, True): "gained", (True, False): "lost"}  # was right in A, is right in B


@dataclass(frozen=True)
class Change:
    """A sample whose answer is another one in B."""

    task: str  # leaf
    index: int
    question: str
    answers: tuple[str, str]  # in A, in B
    right: tuple[bool | None, bool | None]  # None where it has no score

    @property
    def kind(self) -> str:
        """gained, lost, or text: only the words are others."""
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


def pairs(a: Path, b: Path, runs: tuple[Sequence[Run], Sequence[Run]]) -> list[tuple[Run, Run]]:
    """Cells of the same task and setting; of the same task alone, where both folders have one setting for each.

    Args:
        a, b: the folders, as they were given.
        runs: what was found in each.

    Raises:
        InputError: no cell is in both.
    """
    alone = all(len({run.result.cell.task for run in mine}) == len(mine) for mine in runs)
    ours, theirs = (_by_key(mine, alone) for mine in runs)
    common = sorted(ours.keys() & theirs.keys(), key=place_of)
    if not common:
        held = [", ".join(" ".join(filter(None, key)) for key in sorted(each)) for each in (ours, theirs)]
        raise InputError(f"Nothing is in both folders: {a} holds {held[0]}; {b} holds {held[1]}.")
    return [(ours[key], theirs[key]) for key in common]


def unpaired(made: Sequence[tuple[Run, Run]], runs: tuple[Sequence[Run], Sequence[Run]]) -> list[str]:
    """A sentence for each folder that holds cells which the other one lacks."""
    said = []
    for i, (side, mine) in enumerate(zip("AB", runs, strict=True)):
        known = {pair[i].result.cell.key for pair in made}
        if only := sorted({run.result.cell.key for run in mine} - known, key=place_of):
            said.append(f"Only in {side}: {', '.join(' '.join(key) for key in only)}.")
    return said


def _by_key(runs: Sequence[Run], alone: bool) -> dict[tuple[str, str], Run]:
    def key(run: Run) -> tuple[str, str]:
        return run.result.cell.task, "" if alone else run.result.cell.setting

    return {key(run): run for run in taken(runs, key)[0]}


def compare(a: Run, b: Run) -> Comparison:
    """Compare two cells of one task; raises ``InputError`` where they share no documents, or asked other ones."""
    common = sorted(a.samples.keys() & b.samples.keys())
    if not common:
        raise InputError(f"{a.folder} and {b.folder} share no documents.")
    _refuse_other_data(a, b)
    rows = [each.result.rows for each in (a, b)]
    correct = [{each: right for each, right in run.result.correct.items() if each in common} for run in (a, b)]
    changes = [
        Change(*each, a.samples[each].question, answers, (correct[0].get(each), correct[1].get(each)))
        for each in common
        if (answers := (a.samples[each].answer, b.samples[each].answer)) and answers[0] != answers[1]
    ]
    return Comparison(
        a,
        b,
        documents=len(common),
        accuracy=difference(correct[1], correct[0]),
        seconds=geometric_mean(*({each: row.seconds for each, row in of.items()} for of in rows)),
        nfe=geometric_mean(*({each: float(row.nfe) for each, row in of.items()} for of in rows)),
        same=len(common) - len(changes),
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
