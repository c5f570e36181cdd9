"""What one run took beside another: wall time, forwards, and counted operations and bytes, on the same documents."""

from collections.abc import Collection, Iterable, Mapping

from odb_dllm.report.documents import Document
from odb_dllm.report.runs import Run
from odb_dllm.report.table import FAST, NONE, VANILLAS, Ratio, ratio, wall

BASES: dict[str, tuple[str, ...]] = {"vanilla": VANILLAS, "fast_dllm": (FAST,)}  # whom the papers compare with
COUNTED = ("nfe", "flops", "bytes")  # depend on no machine
MEASURES = ("wall", *COUNTED)


def measures(run: Run) -> dict[str, Mapping[Document, float]]:
    """What each document took; wall time in seconds."""
    return {
        "wall": wall(run.result),
        "nfe": {document: row.nfe for document, row in run.result.rows.items()},
        "flops": {document: work.flops for document, work in run.work.items()},
        "bytes": {document: work.bytes for document, work in run.work.items()},
    }


def base(run: Run, runs: Iterable[Run], settings: Collection[str]) -> Run | None:
    """The run of one of the settings on the same task, from the same place if there is one."""
    task = run.result.cell.task
    found = [each for each in runs if each.result.cell.task == task and each.result.cell.setting in settings]
    return next((each for each in found if each.place == run.place), found[0] if found else None)


def over(run: Run, slow: Run) -> dict[str, Ratio]:
    """How much less a run took than another, by measure; wall time between runs from the same place alone."""
    names = MEASURES if run.place == slow.place else COUNTED
    ours, theirs = measures(run), measures(slow)
    made = {name: ratio(slow.result.cell, theirs[name], run.result.cell, ours[name]) for name in names}
    return {name: found for name, found in made.items() if found is not None}


def documents(made: Mapping[str, Ratio]) -> str:
    """How many documents ratios were taken on: one number where all measures have the same, else one for each."""
    counts = {name: each.items for name, each in made.items()}
    if len(set(counts.values())) > 1:
        return ", ".join(f"{count} in {name}" for name, count in counts.items())
    return str(next(iter(counts.values()), NONE))
