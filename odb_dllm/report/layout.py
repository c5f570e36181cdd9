"""The layout of Fast-dLLM's and Streaming-dLLM's tables: a column per method; accuracy, tokens/s, speed-up per length.

Four counts of tokens stand beside each other, since the papers do not say which they use: see ``docs/protocols.md``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from odb_dllm.protocols import Column, Protocol, ProtocolTask
from odb_dllm.report.cells import CellResult
from odb_dllm.report.paired import wilson
from odb_dllm.report.published import published as record_of
from odb_dllm.report.table import (
    NONE,
    VANILLAS,
    Results,
    flag,
    interval,
    outside,
    seconds,
    size,
    speedup,
    text,
    wall,
    write_csv,
)
from odb_dllm.statistics import markdown

COUNTS = ("text_tokens", "tokens", "non_eos_tokens", "canvas_tokens")


@dataclass(frozen=True)
class Figures:
    """One cell of a paper's table; None where there is no such figure. Shares are between 0 and 1."""

    task: str  # as published
    gen_length: int
    column: str
    setting: str | None
    n: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None  # of the 95 % interval (Wilson)
    accuracy_high: float | None = None
    second_accuracy: float | None = None  # by the task's second metric
    text_tokens_per_second: float | None = None
    text_tokens_speedup: float | None = None  # ratio of these rates to vanilla's
    tokens_per_second: float | None = None
    tokens_speedup: float | None = None
    non_eos_tokens_per_second: float | None = None
    non_eos_tokens_speedup: float | None = None
    canvas_tokens_per_second: float | None = None
    canvas_tokens_speedup: float | None = None
    latency_s: float | None = None  # wall seconds per sample
    speedup: float | None = None  # ratio of total wall times
    nfe: float | None = None  # per sample
    failures: int | None = None
    published_accuracy: float | None = None
    published_tokens_per_second: float | None = None
    published_speedup: float | None = None  # ratio of the published tokens/s to vanilla's
    published_latency_s: float | None = None


def figures(protocol: Protocol, results: Mapping[int, Results], *, published: bool) -> list[Figures]:
    """The figures of every cell, by task, length and column; ``results`` by length."""
    return [
        _figures(protocol, task, length, column, results.get(length, {}), published)
        for task in protocol.tasks
        for length in protocol.lengths
        for column in protocol.columns
    ]


def _figures(
    protocol: Protocol, task: ProtocolTask, length: int, column: Column, results: Results, published: bool
) -> Figures:
    said = _published(protocol, task, length, column) if published else {}
    result = results.get((task.task, column.setting)) if column.setting else None
    if result is None:
        return Figures(task.name, length, column.label, column.setting, **said)
    vanilla = next((found for name in VANILLAS if (found := results.get((task.task, name)))), None)
    right, count = sum(result.correct.values()), len(result.correct)
    low, high = wilson(right, count)
    rates = {count: rate(result, count) for count in COUNTS}
    slow = {count: rate(vanilla, count) if vanilla else None for count in COUNTS}
    return Figures(
        task.name,
        length,
        column.label,
        column.setting,
        n=count,
        accuracy=_ratio(right, count),
        accuracy_low=low,
        accuracy_high=high,
        second_accuracy=_ratio(sum(result.second.values()), len(result.second)),
        **{f"{count}_per_second": value for count, value in rates.items()},
        **{f"{count}_speedup": _ratio(value, slow[count]) for count, value in rates.items()},
        latency_s=_ratio(seconds(result), size(result.cell, wall(result))),
        speedup=speedup(vanilla, result),
        nfe=_ratio(sum(row.nfe for row in result.rows.values()), len(result.rows)),
        failures=len(result.failures),
        **said,
    )


def rate(result: CellResult, count: str) -> float | None:
    """Tokens by one of the ``COUNTS`` per second of wall time."""
    rows = result.rows.values()
    return _ratio(sum(getattr(row, count) for row in rows), sum(row.wall_seconds for row in rows))


def _published(protocol: Protocol, task: ProtocolTask, length: int, column: Column) -> dict[str, Any]:
    def record(name: str | None) -> Mapping[str, Any]:
        return (name and record_of(protocol.model, task.name, name, length, paper=protocol.arxiv)) or {}

    found, slow = record(column.published), record("vanilla")
    return {
        "published_accuracy": _ratio(found.get("accuracy"), 100),
        "published_tokens_per_second": found.get("tokens_per_second"),
        "published_speedup": _ratio(found.get("tokens_per_second"), slow.get("tokens_per_second")),
        "published_latency_s": found.get("latency_s"),
    }


# Writing ---------------------------------------------------------------------------------------------------


def to_csv(made: Sequence[Figures]) -> str:
    """Every figure, in full precision; empty where there is none."""
    return write_csv([f.name for f in fields(Figures)], (asdict(each) for each in made))


def to_markdown(protocol: Protocol, made: Sequence[Figures]) -> str:
    return markdown(to_rows(protocol, made))


def to_rows(protocol: Protocol, made: Sequence[Figures]) -> list[list[str]]:
    """A line per task, length and kind of figure, below their head; ours first, the published one below."""
    lines = [["task", "length", "figure", *(column.label for column in protocol.columns)]]
    for task in protocol.tasks:
        for length in protocol.lengths:
            row = [each for each in made if (each.task, each.gen_length) == (task.name, length)]
            for name, write in _kinds(task):
                cells = [write(each) for each in row]
                if any(cell != NONE for cell in cells):
                    lines.append([task.name, str(length), name, *cells])
    return lines


def _kinds(task: ProtocolTask) -> list[tuple[str, Callable[[Figures], str]]]:
    """The kinds of figures of a task, each with how it is written."""
    first, *second = (metric.removesuffix(",none") for metric in task.metrics)
    return [
        (first, lambda each: _percent(each.accuracy)),
        ("95 % interval", lambda each: interval(each.accuracy_low, each.accuracy_high)),
        *((name, lambda each: _percent(each.second_accuracy)) for name in second),
        ("accuracy, published", lambda each: _percent(each.published_accuracy)),
        ("outside the interval", lambda each: flag(outside(each))),
        ("text_tokens/s", lambda each: _speed(each.text_tokens_per_second, each.text_tokens_speedup)),
        ("tokens/s", lambda each: _speed(each.tokens_per_second, each.tokens_speedup)),
        ("non_eos_tokens/s", lambda each: _speed(each.non_eos_tokens_per_second, each.non_eos_tokens_speedup)),
        ("canvas_tokens/s", lambda each: _speed(each.canvas_tokens_per_second, each.canvas_tokens_speedup)),
        ("tokens/s, published", lambda each: _speed(each.published_tokens_per_second, each.published_speedup)),
        ("seconds per sample", lambda each: _speed(each.latency_s, each.speedup, 2)),
        ("seconds, published", lambda each: _speed(each.published_latency_s, None)),
    ]


def _percent(value: float | None) -> str:
    return text(value, ".1%")


def _speed(value: float | None, over: float | None, digits: int = 1) -> str:
    """A figure and, in brackets, the speed-up over vanilla."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}" + ("" if over is None else f" ({over:.1f}x)")


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
