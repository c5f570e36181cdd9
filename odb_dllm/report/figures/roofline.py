"""The roofline (ODB-dLLM, arXiv 2511.21759, Figure 1): operations per second against operations per byte.

Below a machine's ridge a forward is bound by memory, above it by compute. Operations and bytes are counted from the
model's shape (``odb_dllm.counting``), seconds are measured.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from odb_dllm.contract import Pass
from odb_dllm.counting import Shape, Work, pass_work
from odb_dllm.report.figures.drawing import Drawn, render, tick_logarithms
from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import INK, PAPER, Key, Panel, Plot, in_order, number, palette, panels, si, table
from odb_dllm.report.runs import Run
from odb_dllm.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["refresh", "step"]
MARKERS: dict[Kind, str] = {"refresh": "s", "step": "o"}
KINDS: dict[Kind, Key] = {"refresh": Key("refreshes", INK, "square"), "step": Key("steps", INK, "circle")}
HEADS = ("kind", "FLOP", "bytes", "seconds", "FLOP/byte", "FLOP/s", "byte/s")
ABOUT = (
    "Each point is all refreshes, or all steps, of a setting: counted operations over counted bytes, and over measured "
    "seconds (without a cache, every forward is a step over the whole canvas). Sizes differ so that points that "
    "coincide are seen."
)
# Bytes per second, and dense 16-bit operations per second, as the vendor states them; by the name that torch gives.
VENDOR = {
    "NVIDIA H200": (4.8e12, 989e12),
    "NVIDIA H100 80GB HBM3": (3.35e12, 989e12),
    "NVIDIA A100-SXM4-80GB": (2.04e12, 312e12),
    "NVIDIA GeForce RTX 4090": (1.01e12, 165e12),
    "NVIDIA L40S": (0.864e12, 362e12),
}


@dataclass(frozen=True)
class Point:
    """What some forwards of one kind came to."""

    label: str  # such as the setting
    kind: Kind
    work: Work
    seconds: float

    @property
    def flops_per_second(self) -> float:
        return self.work.flops / self.seconds


@dataclass(frozen=True)
class Roof:
    """What a machine can do at most."""

    name: str
    bytes_per_second: float
    flops_per_second: float
    source: str

    @property
    def ridge(self) -> float:
        """FLOP/byte at which a forward is bound by both."""
        return self.flops_per_second / self.bytes_per_second

    def at(self, intensity: float) -> float:
        """FLOP/s at so many FLOP/byte."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)


def points(label: str, traces: Iterable[Trace], shape: Shape, dtype: str, block_length: int) -> list[Point]:
    """Refreshes and steps of some samples, those kinds that there are."""
    alike: Counter[tuple[Pass, int]] = Counter()  # many samples take the same forwards
    seconds = dict.fromkeys(MARKERS, 0.0)
    for trace in traces:
        alike.update(zip(trace.passes, trace.batches, strict=True))
        for made, taken in zip(trace.passes, trace.seconds, strict=True):
            seconds[made.kind] += taken
    total = dict.fromkeys(MARKERS, Work(0.0, 0.0))
    for (made, sequences), count in alike.items():
        work = pass_work(shape, dtype, made, block_length, sequences)
        total[made.kind] += Work(count * work.flops, count * work.bytes)
    return [Point(label, kind, total[kind], seconds[kind]) for kind in MARKERS if seconds[kind]]


def roof(device: str, dtype: str, machine: Mapping[str, Any] | None = None) -> Roof | None:
    """The limits of a device in a dtype: as measured, where it is that machine; else the vendor's; else None.

    ``machine``: ``odb_dllm.bench.machine.Machine`` as a mapping.
    """
    if machine and (str(machine["device"]).lower(), machine["dtype"]) == (device.lower(), dtype):
        limits = machine["copy_bytes_per_second"], machine["flops_per_second"]
        return Roof(str(machine["device"]), *limits, "measured by odb-dllm bench")
    if dtype in ("bfloat16", "float16") and device in VENDOR:
        return Roof(device, *VENDOR[device], "the vendor's figures")
    return None


def plot(group: Group, machine: Mapping[str, Any] | None = None) -> Plot | None:
    """The figure of a report; None where no cell has traces and the model's shape."""
    found = group.collect(_placed)
    if not found:
        return None
    cell = group.runs[0].result.cell
    limit = roof(cell.device, cell.dtype, machine)
    all_points = [each for made in found.values() for placed in made.values() for each in placed.points]
    rows = [
        [task, *row] for task, made in found.items() for placed in made.values() for row in map(_row, placed.points)
    ]
    return Plot(
        group.file("roofline"),
        group.title("Roofline"),
        f"{ABOUT} {_about(limit, cell.device, cell.dtype)}",
        _legend(all_points, group.colours),
        panels(found, lambda placed: placed.samples, partial(_paint_placed, colours=group.colours, limit=limit)),
        table(["task", "setting", *HEADS], rows),
    )


def draw_roofline(
    made: Sequence[Point], limit: Roof | None, out: Path, *, name: str = "roofline", title: str = "Roofline"
) -> Drawn:
    """Draw points that come from elsewhere, such as a benchmark, in one panel; errors as of ``figures.draw``."""
    colours = palette(each.label for each in made)
    panel = Panel(limit.name if limit else title, partial(paint, made=made, colours=colours, limit=limit))
    about = _about(limit, "this device", "this dtype")
    rows = table(["forwards", *HEADS], map(_row, made))
    return render(Plot(name, title, f"{ABOUT} {about}", _legend(made, colours), (panel,), rows, height=3.4), out)


class Placed(NamedTuple):
    """The points of one cell."""

    samples: int
    points: list[Point]


def _placed(run: Run) -> Placed | None:
    result = run.result
    if run.shape is None or not result.traces:
        return None
    cell = result.cell
    return Placed(
        len(result.traces), points(cell.setting, result.traces.values(), run.shape, cell.dtype, cell.block_length)
    )


def _about(limit: Roof | None, device: str, dtype: str) -> str:
    if limit is None:
        return f"No roof is drawn: what {device} can do in {dtype} is not known."
    limits = f"{si(limit.bytes_per_second)}B/s and {si(limit.flops_per_second)}FLOP/s"
    return (
        f"Roof of {limit.name}, {limit.source}: {limits}. "
        f"Left of the ridge, at {number(limit.ridge)} FLOP/byte, a forward is bound by memory, right of it by compute."
    )


def _legend(made: Iterable[Point], colours: Mapping[str, str]) -> tuple[Key, ...]:
    labels, kinds = in_order(each.label for each in made), {each.kind for each in made}
    shown = [Key(label, colours[label], "bar") for label in labels]
    return (*shown, *(key for kind, key in KINDS.items() if kind in kinds))


def _row(point: Point) -> list[Any]:
    work, rate = point.work, point.work.bytes / point.seconds
    return [
        *(point.label, point.kind, work.flops, work.bytes, point.seconds),
        *(work.intensity, point.flops_per_second, rate),
    ]


def _paint_placed(axes: "Axes", made: Mapping[str, Placed], colours: Mapping[str, str], limit: Roof | None) -> None:
    paint(axes, [point for placed in made.values() for point in placed.points], colours, limit)


def paint(axes: "Axes", made: Sequence[Point], colours: Mapping[str, str], limit: Roof | None) -> None:
    """Points by colour and kind, below the roof where there is one."""
    across, up = [point.work.intensity for point in made], [point.flops_per_second for point in made]
    low, high = min(across) / 2.5, max(across) * 2.5
    top = max(up) * 2.5
    axes.set(xscale="log", yscale="log", xlabel="counted FLOP per byte", ylabel="FLOP/s")
    if limit:
        low, high, top = min(low, limit.ridge / 10), max(high, 3 * limit.ridge), max(top, 1.6 * limit.flops_per_second)
        xs = [low, limit.ridge, high]
        axes.plot(xs, [limit.at(x) for x in xs], color=INK, linewidth=1.2)
        axes.axvline(limit.ridge, color=INK, linewidth=0.8, linestyle=":")
        corner = limit.ridge, limit.flops_per_second
        axes.annotate(f"ridge {number(limit.ridge)}", corner, (-5, 0), textcoords="offset points", ha="right")
    labels = list(dict.fromkeys(point.label for point in made))
    for point in made:  # those that come later are smaller: where many coincide, each is seen
        size = 11 - 5.5 * labels.index(point.label) / max(1, len(labels) - 1)
        axes.plot(
            point.work.intensity, point.flops_per_second, MARKERS[point.kind], color=colours[point.label],
            markersize=size, markeredgecolor=PAPER, markeredgewidth=0.5,
        )  # fmt: skip
    axes.set(xlim=(low, high), ylim=(min(up) / 2.5, top))
    tick_logarithms(axes.xaxis)
    tick_logarithms(axes.yaxis)
