"""The page of a comparison: figures of each pair of cells, and the samples that changed; as sections and as CSV."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from odb_dllm.report.compare import Comparison
from odb_dllm.report.html import Section, Table
from odb_dllm.report.paired import GeometricMean
from odb_dllm.report.table import NONE, interval, text, write_csv

SHOWN = 60  # characters of a question's beginning and of an answer's end
ABOUT = (
    "Accuracy is that of B less that of A on the documents that both answered, with Agresti and Min's 95 % interval "
    "and the exact p of McNemar's test.",
    "Times and NFE are those of A over those of B, document by document: above 1, B takes less. The mean is "
    "geometric, its 95 % interval Student's t on the logarithms. Times are those of the forwards.",
)


def sections(made: Sequence[Comparison], remarks: Sequence[str] = (), changes: int | None = None) -> list[Section]:
    """The page; ``changes``: so many changed samples of each pair at most."""
    first = Section("Figures of each pair", [*remarks, *ABOUT], [Table(figure_rows(made), grouped=True)])
    return [first, *(_changed(each, changes) for each in made)]


def name_of(made: Comparison) -> str:
    """The task, and the setting, or both where they are two."""
    a, b = (run.result.cell for run in (made.a, made.b))
    return f"{a.task} {a.setting}" if a.setting == b.setting else f"{a.task}: {a.setting} (A), {b.setting} (B)"


def figure_rows(made: Sequence[Comparison]) -> list[list[str]]:
    heads = ["task", "A", "B", "documents", "accuracy A", "accuracy B", "difference", "95 % interval", "McNemar p"]
    heads += ["gained", "lost", "same text", "time A / B", "95 % interval", "NFE A / B", "95 % interval"]
    several = len({each.a.result.cell.model for each in made}) > 1
    return [heads, *(_row(each, several) for each in made)]


def _row(made: Comparison, models: bool) -> list[str]:
    paired, cells = made.accuracy, [run.result.cell for run in (made.a, made.b)]
    return [
        cells[0].task,
        *(f"{cell.setting} of {cell.model}" if models else cell.setting for cell in cells),
        str(made.documents),
        *(text(share, ".1%") for share in shares(made)),
        text(paired.value if paired else None, "+.1%"),
        interval(paired.low, paired.high, "+.1%") if paired else NONE,
        text(paired.p if paired else None, ".3g"),
        text(paired.gained if paired else None, "d"),
        text(paired.lost if paired else None, "d"),
        str(made.same),
        *_mean(made.seconds),
        *_mean(made.nfe),
    ]


def shares(made: Comparison) -> list[float | None]:
    """The accuracies of A and B on the documents that both were scored on."""
    ours, theirs = made.a.result.correct, made.b.result.correct
    common = ours.keys() & theirs.keys()
    return [sum(of[each] for each in common) / len(common) if common else None for of in (ours, theirs)]


def _mean(made: GeometricMean | None) -> tuple[str, str]:
    return (f"{made.value:.3f}x", interval(made.low, made.high, ".3f")) if made else (NONE, NONE)


def _changed(made: Comparison, most: int | None) -> Section:
    """The samples of one pair that changed."""
    kinds = Counter(each.kind for each in made.changed)
    counted = (
        f"{len(made.changed)} of {made.documents} samples changed: {kinds['gained']} gained, {kinds['lost']} lost, "
    )
    said = [f"A: {made.a.folder}", f"B: {made.b.folder}", f"{counted}{kinds['text']} in their words alone."]
    if made.differing:
        said.append(f"What else differs: {'; '.join(made.differing)}.")
    rows = [
        [f"{each.task} {each.index}", *map(verdict, each.right), begun(each.question), *map(ended, each.answers)]
        for each in made.changed[:most]
    ]
    heads = ["document", "A", "B", "question", "A's end", "B's end"]
    if left := len(made.changed) - len(rows):
        said.append(f"The first {len(rows)} of them; {left} more are in the files.")
    return Section(name_of(made), said, [Table([heads, *rows])] if rows else [])


def verdict(right: bool | None) -> str:
    return NONE if right is None else ("right" if right else "wrong")


def begun(words: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(words.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def ended(words: str) -> str:
    """The end of a text, in one line."""
    line = " ".join(words.split())
    return line if len(line) <= SHOWN else "…" + line[1 - SHOWN :]


# CSV -------------------------------------------------------------------------------------------------------


def figures_csv(made: Sequence[Comparison]) -> str:
    """A line per pair, in full precision; empty where there is none."""
    rows = [_flat(each) for each in made]
    return write_csv(list(rows[0]), rows)


def _flat(made: Comparison) -> dict[str, Any]:
    paired, (ours, theirs) = made.accuracy, shares(made)
    return {
        "task": made.a.result.cell.task,
        "setting_a": made.a.result.cell.setting,
        "setting_b": made.b.result.cell.setting,
        "model_a": made.a.result.cell.model,
        "model_b": made.b.result.cell.model,
        "folder_a": made.a.folder,
        "folder_b": made.b.folder,
        "documents": made.documents,
        "accuracy_a": ours,
        "accuracy_b": theirs,
        "difference": paired and paired.value,
        "difference_low": paired and paired.low,
        "difference_high": paired and paired.high,
        "mcnemar_p": paired and paired.p,
        "gained": paired and paired.gained,
        "lost": paired and paired.lost,
        "same_text": made.same,
        "changed": len(made.changed),
        **_bounds("time_ratio", made.seconds),
        **_bounds("nfe_ratio", made.nfe),
    }


def _bounds(name: str, made: GeometricMean | None) -> dict[str, float | None]:
    values = (made.value, made.low, made.high) if made else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def changes_csv(made: Sequence[Comparison]) -> str:
    """A line per sample that changed, with its whole texts."""
    heads = ["task", "setting_a", "setting_b", "document", "kind", "right_a", "right_b", "question"]
    heads += ["answer_a", "answer_b"]
    rows = []
    for pair in made:
        settings = [run.result.cell.setting for run in (pair.a, pair.b)]
        for each in pair.changed:
            values = [each.task, *settings, each.index, each.kind, *each.right, each.question, *each.answers]
            rows.append(dict(zip(heads, values, strict=True)))
    return write_csv(heads, rows)
