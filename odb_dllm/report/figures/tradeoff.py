"""Accuracy against speed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from odb_dllm.report.figures.drawing import tick_logarithms
from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import PAPER, Key, Plot, in_order, panels, table
from odb_dllm.report.paired import wilson
from odb_dllm.report.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Outcome:
    """How right and how fast one cell is."""

    samples: int
    accuracy: float
    low: float  # of the 95 % interval (Wilson)
    high: float
    tokens_per_second: float  # all tokens over all wall time


def outcome(right: int, samples: int, tokens: int, seconds: float) -> Outcome:
    """Of at least one sample, in more than no time."""
    return Outcome(samples, right / samples, *wilson(right, samples), tokens / seconds)


def _outcome_of(run: Run) -> Outcome | None:
    correct, rows = run.result.correct, run.result.rows.values()
    tokens, seconds = sum(row.tokens for row in rows), sum(row.wall_seconds for row in rows)
    return outcome(sum(correct.values()), len(correct), tokens, seconds) if correct and tokens and seconds else None


def plot(group: Group) -> Plot | None:
    """The figure; None where no cell has answers and their time."""
    found = group.collect(_outcome_of)
    if not found:
        return None
    heads = ["task", "setting", "samples", "accuracy", "95 % interval", "tokens/s"]
    rows = [
        [task, name, of.samples, f"{of.accuracy:.1%}", f"{of.low:.1%} – {of.high:.1%}", of.tokens_per_second]
        for task, made in found.items()
        for name, of in made.items()
    ]
    names = in_order(name for made in found.values() for name in made)
    return Plot(
        group.file("tradeoff"),
        group.title("Accuracy against speed"),
        "Accuracy with its 95 % interval (Wilson), against generated tokens per second of wall time, on a logarithmic "
        "axis: up and to the right is better.",
        tuple(Key(name, group.colours[name], "circle") for name in names),
        panels(found, lambda of: of.samples, partial(paint, colours=group.colours)),
        table(heads, rows),
    )


def paint(axes: "Axes", made: Mapping[str, Outcome], colours: Mapping[str, str]) -> None:
    """A point with its interval per setting."""
    for name, of in made.items():
        y = 100 * of.accuracy
        reach = [[max(0.0, y - 100 * of.low)], [max(0.0, 100 * of.high - y)]]
        axes.errorbar(
            of.tokens_per_second, y, yerr=reach, color=colours[name], marker="o", markersize=8, capsize=3,
            elinewidth=1.2, markeredgecolor=PAPER, markeredgewidth=0.8,
        )  # fmt: skip
    speeds = [of.tokens_per_second for of in made.values()]
    axes.set(xscale="log", xlabel="tokens per second", ylabel="accuracy, %")
    axes.set_xlim(min(speeds) / 1.6, max(speeds) * 1.6)
    tick_logarithms(axes.xaxis)
