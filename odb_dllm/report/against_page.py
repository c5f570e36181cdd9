"""The page of settings beside one of them, as sections and as CSV."""

from collections.abc import Sequence
from typing import Any

from odb_dllm.report.against import Line, Model, Pair
from odb_dllm.report.against_costs import AS_RECORDED, Lengths
from odb_dllm.report.html import Section, Table
from odb_dllm.report.table import NONE, interval, text, write_csv

HEADS = ("task", "setting", "documents", "right / reference", "gained", "lost", "difference", "95 % interval")
FORWARDS = ("McNemar p", "NFE / reference", "refreshes / reference")
TIMES = ("ms / reference", "speed-up")
ABOUT = (
    "Each setting on the documents that it and the reference both answered: difference in percentage points with "
    "Agresti and Min's 95 % interval, and the exact p of McNemar's test. NFE and refreshes are means per sample."
)


def sections(made: Sequence[Model], costs: str | None = None, lengths: Lengths = AS_RECORDED) -> list[Section]:
    """A section per model; ``costs``: the file that times are of."""
    said = [ABOUT, *([] if costs is None else [_estimated(costs, lengths)])]
    return [
        Section(
            f"{model.name}: against {model.reference}",
            [*said, *model.notes],
            [Table(rows(model, costs), grouped=True)] if model.lines else [],
        )
        for model in made
    ]


def _estimated(costs: str, lengths: Lengths) -> str:
    behind = "the prompts as recorded" if lengths.prompt is None else f"a prompt of {lengths.prompt} tokens"
    on = "the canvas as recorded" if lengths.canvas is None else f"a canvas of {lengths.canvas}"
    return (
        f"Milliseconds are an estimate per sample: every recorded forward takes the time of its tokens in {costs}, one "
        f"sequence at a time, behind {behind} and on {on}. Speed-ups are the reference's over the setting's."
    )


def rows(model: Model, costs: str | None) -> list[list[str]]:
    """The table as text, its head first."""
    several = len({line.place for line in model.lines}) > 1
    heads = [*HEADS, *FORWARDS, *(() if costs is None else TIMES)]
    return [heads, *(_row(line, several, costs) for line in model.lines)]


def _row(line: Line, places: bool, costs: str | None) -> list[str]:
    paired = line.accuracy
    ratio = f"{line.speedup:.2f}x" if line.speedup else NONE
    return [
        line.task,
        f"{line.setting} on {line.place}" if places else line.setting,
        str(paired.items),
        _both(line.right, ".1%"),
        *map(str, (paired.gained, paired.lost)),
        text(100 * paired.value, "+.1f"),
        interval(100 * paired.low, 100 * paired.high, "+.1f"),
        text(paired.p, ".3g"),
        _both(line.nfe, ".2f"),
        _both(line.refreshes, ".2f"),
        *(() if costs is None else (_both(line.milliseconds, ".1f"), ratio)),
    ]


def _both(pair: Pair | None, form: str) -> str:
    return f"{pair.setting:{form}} / {pair.reference:{form}}" if pair else NONE


def to_csv(made: Sequence[Model]) -> str:
    """A line per line of the tables, in full precision; empty where there is no such figure."""
    lines = [_flat(model, line) for model in made for line in model.lines]
    return write_csv(list(lines[0]), lines)


def _flat(model: Model, line: Line) -> dict[str, Any]:
    paired = line.accuracy
    return {
        "model": model.name,
        "task": line.task,
        "setting": line.setting,
        "reference": model.reference,
        "place": str(line.place),
        "documents": paired.items,
        **_named("accuracy", line.right),
        "gained": paired.gained,
        "lost": paired.lost,
        "difference": paired.value,
        "difference_low": paired.low,
        "difference_high": paired.high,
        "mcnemar_p": paired.p,
        **_named("nfe", line.nfe),
        **_named("refreshes", line.refreshes),
        **_named("milliseconds", line.milliseconds),
        "speedup": line.speedup,
    }


def _named(name: str, pair: Pair | None) -> dict[str, float | None]:
    ours, theirs = (pair.setting, pair.reference) if pair else (None, None)
    return {name: ours, f"{name}_reference": theirs}
