"""Tokens per forward over the course of a response."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import Plot, fade, lines, panels, stroke, table
from odb_dllm.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Stretch:
    """The forwards that began when so many tokens of their response were decided."""

    first: int  # tokens decided, from here on for the length of a block
    samples: int  # that took any forward there
    forwards: int
    tokens: int  # that they decided

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / self.forwards


def course(traces: Iterable[Trace], width: int) -> list[Stretch]:
    """Forwards by the tokens decided before them, in stretches of ``width``; where blocks are so long, by block."""
    samples: dict[int, int] = {}
    forwards: dict[int, int] = {}
    tokens: dict[int, int] = {}
    for trace in traces:
        decided, visited = 0, set()
        for made in trace.passes:
            at = decided // width
            visited.add(at)
            forwards[at] = forwards.get(at, 0) + 1
            tokens[at] = tokens.get(at, 0) + made.accepted
            decided += made.accepted
        for at in visited:
            samples[at] = samples.get(at, 0) + 1
    return [Stretch(at * width, samples[at], forwards[at], tokens[at]) for at in sorted(forwards)]


def plot(group: Group) -> Plot | None:
    """The figure; None where no cell has traces."""
    found = group.collect(lambda run: course(run.result.traces.values(), run.result.cell.block_length))
    if not found:
        return None
    width = group.runs[0].result.cell.block_length
    heads = ["task", "setting", "tokens decided before", "samples", "forwards", "tokens decided", "tokens/forward"]
    rows = [
        [task, name, each.first, each.samples, each.forwards, each.tokens, each.tokens_per_forward]
        for task, made in found.items()
        for name, of in made.items()
        for each in of
    ]
    return Plot(
        group.file("course"),
        group.title("Tokens per forward over the course of a response"),
        f"Tokens unmasked per forward, refreshes included, by how many of the response were decided before it, in "
        f"stretches of {width} (the block). The larger the dot, the more of the samples come so far.",
        lines(group.colours, [name for made in found.values() for name in made]),
        panels(found, lambda of: max(each.samples for each in of), partial(paint, colours=group.colours, width=width)),
        table(heads, rows),
    )


def paint(axes: "Axes", made: Mapping[str, list[Stretch]], colours: Mapping[str, str], width: int) -> None:
    """A line per setting."""
    for name, of in made.items():
        xs, ys = [each.first + width / 2 for each in of], [each.tokens_per_forward for each in of]
        axes.plot(xs, ys, color=colours[name], linestyle=stroke(name))
        axes.scatter(xs, ys, fade([each.samples for each in of]), color=colours[name], zorder=3)
    axes.set(xlabel="tokens of the response decided before", ylabel="tokens per forward")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
