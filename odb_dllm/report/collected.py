"""The table of one model from any number of runs: accuracy, speed and counted work, published figures beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from odb_dllm.expressions import start
from odb_dllm.presets import PRESETS
from odb_dllm.protocols import ODB_DLLM, all_protocols
from odb_dllm.report import table
from odb_dllm.report.cells import BENCHMARKS, SETTINGS, Key, benchmark
from odb_dllm.report.html import Table
from odb_dllm.report.papers import as_asked
from odb_dllm.report.published import published
from odb_dllm.report.ratios import BASES, COUNTED, MEASURES, base, documents, measures, over
from odb_dllm.report.runs import Run
from odb_dllm.report.table import Line, Ratio, flag, interval, outside, ratios, size, text, whole, write_csv

Over = Mapping[str, Ratio]  # by measure


@dataclass(frozen=True)
class Entry:
    """A line of the table, and what more is known of its run; means are per sample, in seconds, operations, bytes."""

    line: Line
    place: str | None = None
    samples_per_second: float | None = None
    latency: float | None = None
    flops: float | None = None
    bytes: float | None = None
    over: Mapping[str, Over] = field(default_factory=dict)  # by base

    @property
    def intensity(self) -> float | None:
        """Counted operations per byte."""
        return self.flops / self.bytes if self.flops is not None and self.bytes else None


def entries(runs: Sequence[Run], family: str | None) -> list[Entry]:
    """A line per run, in the papers' order; and for each task, those that the paper has and no run.

    Args:
        runs: of one model, no two of the same task and setting from the same place.
        family: whose published figures stand beside; None for none.
    """
    runs = sorted(runs, key=lambda run: (*place_of(run.result.cell.key), run.place))
    lengths = {run.result.cell.gen_length for run in runs}
    found = {
        run.result.cell.key: [each for each in runs if each.result.cell.key == run.result.cell.key] for run in runs
    }
    tasks = dict.fromkeys(task for task, _ in found)
    absent = [
        (task, setting)
        for task in tasks
        for setting in SETTINGS
        if (task, setting) not in found and any(published(family, task, setting, length) for length in lengths)
    ]
    made: list[Entry] = []
    for key in sorted([*found, *absent], key=place_of):
        made += [entry(run, runs, family) for run in found.get(key, ())]
        if key in absent:
            made.append(Entry(table.table([key], {}, family, max(lengths))[0]))
    return made


def place_of(key: Key) -> tuple[int, str, int, str]:
    """Where a task and setting stand in a table: the papers' order, others behind."""
    task, setting = key
    name, preset = benchmark(task), start(setting)
    tasks, settings = list(BENCHMARKS), list(PRESETS)
    first = tasks.index(name) if name in tasks else len(tasks)
    return first, task, settings.index(preset) if preset in settings else len(settings), setting


def as_published(run: Run, family: str | None) -> bool:
    """Whether a run was asked as the figures beside it were: with their shots, chat template and block length."""
    return any(
        each.paper == ODB_DLLM and each.model == family and as_asked(run, each) for each in all_protocols().values()
    )


def entry(run: Run, runs: Sequence[Run], family: str | None) -> Entry:
    """The line of one run among others."""
    cell = run.result.cell
    slow = {name: found for name, settings in BASES.items() if (found := base(run, runs, settings))}
    near = {(cell.task, BASES[name][0]): each.result for name, each in slow.items() if each.place == run.place}
    asked = family if as_published(run, family) else None
    line = table.table([cell.key], {**near, cell.key: run.result}, asked, cell.gen_length)[0]
    side = run.longest  # processes run side by side until the longest has ended
    speed = line.tokens_per_second and line.tokens_per_second / side
    line = replace(line, seconds=line.seconds and line.seconds * side, tokens_per_second=speed)
    took = measures(run)
    latency = {document: row.latency for document, row in run.result.rows.items()}

    def mean(values: Mapping[Any, float]) -> float | None:
        return whole(cell, values) / size(cell, values) if values else None

    seconds = mean(took["wall"])
    return Entry(
        line,
        place=str(run.place),
        samples_per_second=1 / (seconds * side) if seconds else None,
        latency=mean(latency),
        flops=mean(took["flops"]),
        bytes=mean(took["bytes"]),
        over={name: over(run, each) for name, each in slow.items()},
    )


# Writing ---------------------------------------------------------------------------------------------------


def to_tables(made: Sequence[Entry]) -> list[Table]:
    """What is read first: accuracy, then speed, then where it comes from."""
    return [
        Table(accuracy_rows(made), "Accuracy", grouped=True),
        Table(speed_rows(made), "Speed: over llada_baseline / over fast_dllm_baseline", grouped=True),
        Table(work_rows(made), "Forwards, lengths and counted work, per sample", grouped=True),
    ]


def accuracy_rows(made: Sequence[Entry]) -> list[list[str]]:
    heads = ["task", "setting", "GPU", "n", "accuracy", "95 % interval", "published", "interval excludes it"]
    rows = []
    for each in made:
        line = each.line
        rows.append(
            [
                line.task,
                line.setting,
                each.place or table.NONE,
                text(line.n, "d"),
                text(line.accuracy, ".1%"),
                interval(line.accuracy_low, line.accuracy_high),
                text(line.published_accuracy, ".2%"),
                flag(outside(line)),
            ]
        )
    return [heads, *rows]


def speed_rows(made: Sequence[Entry]) -> list[list[str]]:
    heads = ["task", "setting", "GPU", "samples/s", "latency, s", "speed-up", "published", "in NFE", "in FLOPs"]
    heads += ["in bytes", "documents compared", "tokens/s"]
    rows = []
    for each in made:
        line, about = each.line, "~" if each.line.seconds_estimated else ""
        rows.append(
            [
                line.task,
                line.setting,
                each.place or table.NONE,
                about + text(each.samples_per_second, ".3g"),
                about + text(each.latency, ".3g"),
                _over(each, "wall"),
                ratios(line.published_speedup_over_vanilla, line.published_speedup_over_fast_dllm),
                *(_over(each, name) for name in COUNTED),
                " / ".join(documents(each.over.get(name, {})) for name in BASES),
                text(line.tokens_per_second, ".1f"),
            ]
        )
    return [heads, *rows]


def work_rows(made: Sequence[Entry]) -> list[list[str]]:
    heads = ["task", "setting", "NFE", "refreshes", "steps", "tokens/forward", "predicted length", "effective length"]
    heads += ["TFLOP", "GB", "FLOP/byte"]
    return [
        heads,
        *(
            [
                each.line.task,
                each.line.setting,
                *(
                    text(getattr(each.line, name), ".2f")
                    for name in ("nfe", "refreshes", "steps", "tokens_per_forward")
                ),
                *(text(getattr(each.line, name), ".1f") for name in ("predicted_length", "effective_length")),
                text(each.flops and each.flops / 1e12, ".3g"),
                text(each.bytes and each.bytes / 1e9, ".3g"),
                text(each.intensity, ".3g"),
            ]
            for each in made
            if each.place is not None
        ),
    ]


def _over(entry: Entry, measure: str) -> str:
    """A ratio over each base; ~ where one of the two is a subset that stands for all documents."""
    found = [entry.over.get(name, {}).get(measure) for name in BASES]
    about = "~" if any(each and each.estimated for each in found) else ""
    return about + ratios(*(each.value if each else None for each in found))


def to_csv(made: Sequence[Entry]) -> str:
    """Every figure, in full precision; empty where there is none."""
    rows = [_flat(entry) for entry in made]
    names = [f.name for f in fields(Line)]
    return write_csv([*names, *(name for name in _flat(Entry(Line("", ""))) if name not in names)], rows)


def _flat(entry: Entry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in ("place", "samples_per_second", "latency", "flops", "bytes")}
    values |= {"intensity": entry.intensity, "interval_excludes_published": outside(entry.line)}
    for name in BASES:
        made = entry.over.get(name, {})
        values |= {f"{each}_ratio_over_{name}": made[each].value if each in made else None for each in COUNTED}
        values |= {f"{each}_documents_over_{name}": made[each].items if each in made else None for each in MEASURES}
    return {**asdict(entry.line), **values}
