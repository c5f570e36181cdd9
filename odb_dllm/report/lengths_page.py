"""The page of two rules of length prediction: the table, the answers that were cut, both as sections and as CSV."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from odb_dllm.report.compare_page import begun, ended, verdict
from odb_dllm.report.html import Section, Table
from odb_dllm.report.lengths import Comparison, Side
from odb_dllm.report.runs import Run
from odb_dllm.report.table import NONE, text, write_csv

Runs = Mapping[str, tuple[Run, Run]]  # by task
ABOUT = (
    "Samples are paired: the documents that both settings answered. Gained, lost and McNemar's exact p are the second "
    "setting's against the first.",
    "Lengths are means per sample, in tokens of the response. Answer length: up to the first stop pattern, else the "
    "whole canvas. First prediction: the canvas after the first block's. Canvas per refresh: the response that a "
    "refresh was over, the first one coming before any prediction.",
    "Cut: a prediction had shortened the canvas, and it ended before a stop pattern or EOS was written. An answer that "
    "fills it to the last token is among them, complete or not.",
)
FIXED = (
    "Shorter than fixed: the answer has fewer tokens than the same document's under a fixed length, which is the last "
    "line of a task."
)


def sections(made: Sequence[Comparison], runs: Runs, remarks: Sequence[str] = ()) -> list[Section]:
    """The table, and the answers that were cut."""
    about = [*remarks, *ABOUT, *([FIXED] if any(each.fixed for each in made) else [])]
    return [Section("Lengths and cut answers", about, [Table(figure_rows(made), grouped=True)]), _cut(made, runs)]


def figure_rows(made: Sequence[Comparison]) -> list[list[str]]:
    """A row per task and setting, below the heads."""
    heads = ["task", "setting", "n", "right", "gained", "lost", "McNemar p", "answer length", "first prediction"]
    heads += ["canvas per refresh", "cut", "cut and wrong", "shorter than fixed", "NFE", "refreshes"]
    return [heads, *(_row(_flat(each, side)) for each in made for side in each.sides)]


def _row(of: Mapping[str, Any]) -> list[str]:
    return [
        of["task"],
        of["setting"],
        str(of["documents"]),
        _share(of["right"], of["documents"]),
        text(of["gained"], "d"),
        text(of["lost"], "d"),
        text(of["mcnemar_p"], ".3g"),
        *(text(of[name], ".1f") for name in ("answer_length", "first_prediction", "canvas_per_refresh")),
        _share(of["cut"], of["documents"]),
        text(of["cut_and_wrong"], "d"),
        _share(of["shorter_than_fixed"], of["documents_of_fixed"]),
        *(text(of[name], ".2f") for name in ("nfe", "refreshes")),
    ]


def _share(part: int | None, count: int) -> str:
    return NONE if part is None else f"{part} ({part / count:.1%})"


def _cut(made: Sequence[Comparison], runs: Runs) -> Section:
    """Every answer that either setting's prediction cut."""
    heads = ["document", "cut under", "its length", "other's length", "right", "other right", "question", "its end"]
    rows = [
        [
            f"{leaf} {index}",
            side.setting,
            *(str(each.samples[leaf, index].length) for each in (side, other)),
            *(verdict(each.samples[leaf, index].right) for each in (side, other)),
            begun(run.samples[leaf, index].question),
            ended(run.samples[leaf, index].answer),
        ]
        for side, other, run in _each(made, runs)
        for leaf, index in side.cut
    ]
    return Section("Cut answers", [] if rows else ["No answer was cut."], [Table([heads, *rows])] if rows else [])


def _each(made: Sequence[Comparison], runs: Runs) -> Iterator[tuple[Side, Side, Run]]:
    """Both sides of each task, each with the other and its run."""
    for each in made:
        if each.task in runs:
            yield each.a, each.b, runs[each.task][0]
            yield each.b, each.a, runs[each.task][1]


# CSV -------------------------------------------------------------------------------------------------------


def figures_csv(made: Sequence[Comparison]) -> str:
    """A line per task and setting, in full precision; empty where there is none."""
    rows = [_flat(each, side) for each in made for side in each.sides]
    return write_csv(list(rows[0]), rows)


def _flat(made: Comparison, side: Side) -> dict[str, Any]:
    paired, predicts = made.accuracy if side is made.b else None, side is not made.fixed
    return {
        "task": made.task,
        "setting": side.setting,
        "documents": len(side.samples),
        "right": side.right,
        "gained": paired and paired.gained,
        "lost": paired and paired.lost,
        "mcnemar_p": paired and paired.p,
        "answer_length": side.length,
        "first_prediction": side.first,
        "canvas_per_refresh": side.canvas,
        "cut": len(side.cut) if predicts else None,
        "cut_and_wrong": sum(not each.right for each in side.cut.values()) if predicts else None,
        "documents_of_fixed": len(made.fixed.samples) if made.fixed else None,
        "shorter_than_fixed": made.shorter(side),
        "nfe": side.nfe,
        "refreshes": side.refreshes,
    }


def samples_csv(made: Sequence[Comparison], runs: Runs) -> str:
    """A line per document and setting: what the figure shows."""
    heads = ["task", "document", "setting", "right", "answer_length", "first_prediction", "last_prediction", "cut"]
    heads += ["fixed_length", "nfe"]
    rows = []
    for each in made:
        for side in (each.a, each.b) if each.task in runs else ():
            for document, sample in side.samples.items():
                fixed = each.fixed.samples.get(document) if each.fixed else None
                ends = (sample.predicted[0], sample.predicted[-1]) if sample.predicted else (None, None)
                values = [*document, side.setting, sample.right, sample.length, *ends, sample.cut]
                rows.append(dict(zip(heads, [*values, fixed and fixed.length, sample.nfe], strict=True)))
    return write_csv(heads, rows)
