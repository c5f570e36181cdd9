"""How much of the forwards, and of their time, goes into refreshes and how much into steps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from odb_dllm.report.figures.drawing import light, solid
from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import INK, Key, Plot, number, panels, table
from odb_dllm.statistics import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABOUT = (
    "Upper bar: share of the forwards; lower bar: share of their time. Refreshes feed the whole canvas, steps a block "
    "(without a cache, every forward is a step over the whole canvas). Beside the bars: means per sample."
)


@dataclass(frozen=True)
class Phases:
    """Means per sample; time in seconds."""

    samples: int
    refreshes: float
    steps: float
    refresh_seconds: float
    step_seconds: float

    @property
    def counts(self) -> tuple[float, float]:
        return self.refreshes, self.steps

    @property
    def seconds(self) -> tuple[float, float]:
        return self.refresh_seconds, self.step_seconds


def phases(rows: Iterable[Row]) -> Phases:
    """Means of what the rows counted and timed, of at least one row."""
    made = list(rows)
    names = ("refreshes", "steps", "refresh_seconds", "step_seconds")
    return Phases(len(made), *(sum(getattr(row, name) for row in made) / len(made) for name in names))


def share(parts: tuple[float, float]) -> float:
    """The first part's share of both."""
    return parts[0] / sum(parts) if sum(parts) else 0.0


def plot(group: Group) -> Plot | None:
    """The figure; None where no cell has a row."""
    found = group.collect(lambda run: phases(run.result.rows.values()) if run.result.rows else None)
    if not found:
        return None
    heads = ["task", "setting", "samples", "refreshes", "steps", "refreshes, s", "steps, s"]
    heads += ["refreshes, share of forwards", "refreshes, share of time"]
    rows = [
        [task, name, p.samples, *p.counts, *p.seconds, f"{share(p.counts):.1%}", f"{share(p.seconds):.1%}"]
        for task, made in found.items()
        for name, p in made.items()
    ]
    return Plot(
        group.file("phases"),
        group.title("Refreshes and steps"),
        ABOUT,
        (Key("refreshes", INK, "bar"), Key("steps", INK, "light")),
        panels(found, lambda each: each.samples, partial(paint, colours=group.colours)),
        table(heads, rows),
        height=0.7 + 0.5 * max(map(len, found.values())),
    )


def paint(axes: "Axes", made: dict[str, Phases], colours: Mapping[str, str]) -> None:
    """A row per setting: its name, the bar of counts and the bar of time."""
    for at, (name, each) in enumerate(made.items()):
        axes.text(0, at - 0.38, name, va="center")
        words = f"{number(sum(each.counts))} forwards", f"{number(sum(each.seconds))} s"
        for offset, parts, text in zip((-0.07, 0.2), (each.counts, each.seconds), words, strict=True):
            first = share(parts)
            axes.barh(at + offset, first, 0.23, **solid(colours[name]))
            axes.barh(at + offset, 1 - first, 0.23, left=first, **light(colours[name]))
            axes.text(1.02, at + offset, text, va="center", fontsize=8.5)
    axes.set_ylim(len(made) - 0.6, -0.62)
    axes.set_yticks([])
    axes.set_xlim(0, 1.36)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    axes.set_xlabel("share, %", loc="left")
    axes.spines[["left", "bottom"]].set_visible(False)
