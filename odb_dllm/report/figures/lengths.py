"""How long responses are: the distribution of effective lengths, and the length predicted at each block."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from odb_dllm.report.figures.drawing import light
from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import Plot, fade, lines, panels, stroke, table
from odb_dllm.statistics import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 32  # of a distribution


@dataclass(frozen=True)
class Effective:
    """A distribution of effective response lengths, in tokens."""

    edges: tuple[float, ...]  # of the bars
    counts: tuple[int, ...]  # samples in each
    low: float  # a tenth of the samples are at most so long
    median: float
    high: float  # nine tenths

    @property
    def samples(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Predicted:
    """Response lengths predicted at one block: quartiles over the samples that reach it, in tokens."""

    block: int  # from 1
    samples: int
    low: float
    median: float
    high: float


def effective(lengths: Sequence[int], gen_length: int) -> Effective:
    """The distribution of at least one length between 1 and ``gen_length``."""
    width = max(1, -(-gen_length // BARS))
    edges = np.arange(0, -(-gen_length // width) + 1) * width + 0.5  # a length of one width is in the first bar
    counts, _ = np.histogram(lengths, edges)
    low, median, high = np.percentile(lengths, [10, 50, 90]).tolist()
    return Effective(tuple(edges.tolist()), tuple(counts.tolist()), low, median, high)


def predicted(lengths: Iterable[Sequence[int]]) -> list[Predicted]:
    """By block, from what each sample predicted at the blocks that it visited."""
    blocks: list[list[int]] = []
    for sample in lengths:
        blocks += [[] for _ in range(len(sample) - len(blocks))]
        for block, length in zip(blocks, sample, strict=False):
            block.append(length)
    return [
        Predicted(index, len(block), *np.percentile(block, [25, 50, 75]).tolist())
        for index, block in enumerate(blocks, start=1)
    ]


def plot_effective(group: Group) -> Plot | None:
    """The distributions; None where no cell has a row."""

    def made_of(rows: Iterable[Row], gen_length: int) -> Effective | None:
        found = [row.decode_length for row in rows]
        return effective(found, gen_length) if found else None

    found = group.collect(lambda run: made_of(run.result.rows.values(), run.result.cell.gen_length))
    if not found:
        return None
    heads = ["task", "setting", "samples", "10 %", "median", "90 %"]
    rows = [
        [task, name, of.samples, of.low, of.median, of.high]
        for task, made in found.items()
        for name, of in made.items()
    ]
    return Plot(
        group.file("lengths"),
        group.title("Effective response lengths"),
        "Samples by effective length, which ends at the stop pattern where generation ended early and else is the "
        "whole canvas. Heights are relative to each setting's highest bar; the thick stroke is its median.",
        (),
        panels(found, lambda of: of.samples, partial(_paint_effective, colours=group.colours)),
        table(heads, rows),
        height=0.7 + 0.46 * max(map(len, found.values())),
    )


def plot_predicted(group: Group) -> Plot | None:
    """The predictions; None where no cell predicted any."""
    found = group.collect(
        lambda run: predicted(each.predicted_lengths for each in run.result.rows.values() if each.predicted_lengths)
    )
    if not found:
        return None
    heads = ["task", "setting", "block", "samples", "25 %", "median", "75 %"]
    rows = [
        [task, name, each.block, each.samples, each.low, each.median, each.high]
        for task, made in found.items()
        for name, of in made.items()
        for each in of
    ]
    return Plot(
        group.file("predicted"),
        group.title("Predicted response length by block"),
        "The response length (canvas without prompt) after each block's prediction: median and quartiles over the "
        "samples that reach the block. The larger the dot, the more of them do.",
        lines(group.colours, [name for made in found.values() for name in made]),
        panels(found, lambda of: of[0].samples, partial(_paint_predicted, colours=group.colours)),
        table(heads, rows),
    )


def _paint_effective(axes: "Axes", made: Mapping[str, Effective], colours: Mapping[str, str]) -> None:
    """A row of bars per setting, under its name."""
    for at, (name, of) in enumerate(made.items()):
        heights = np.array(of.counts) / max(of.counts)
        axes.stairs(at - 0.48 * heights, of.edges, baseline=at, fill=True, **light(colours[name]))
        axes.plot([of.median] * 2, [at, at - 0.54], color=colours[name], linewidth=2.5)
        axes.text(0, at - 0.76, f"{name}, median {of.median:g}", va="center")
    axes.set_ylim(len(made) - 0.92, -0.95)
    axes.set_yticks(range(len(made)), [""] * len(made))
    axes.tick_params(left=False)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens")
    axes.spines["left"].set_visible(False)


def _paint_predicted(axes: "Axes", made: Mapping[str, list[Predicted]], colours: Mapping[str, str]) -> None:
    """A line per setting, in a band from quartile to quartile."""
    from matplotlib.ticker import MaxNLocator

    for name, of in made.items():
        blocks, medians = [each.block for each in of], [each.median for each in of]
        quartiles = [each.low for each in of], [each.high for each in of]
        axes.fill_between(blocks, *quartiles, color=colours[name], alpha=0.12, linewidth=0)
        axes.plot(blocks, medians, color=colours[name], linestyle=stroke(name))
        axes.scatter(blocks, medians, fade([each.samples for each in of]), color=colours[name], zorder=3)
    axes.set(xlabel="block", ylabel="predicted length, tokens")
    axes.set_ylim(0, 1.06 * max(each.high for of in made.values() for each in of))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
