"""Draws plots with matplotlib (the extra ``plot``): PNG and PDF on white, and SVG that takes a page's own colours."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odb_dllm.errors import InputError
from odb_dllm.report.figures.plot import INK, PAPER, Key, Panel, Plot, si

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 3.6  # of a panel, in inches
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.6,
    "legend.columnspacing": 1.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "odb-dllm",  # the same drawing is the same file
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Drawn:
    """A figure as it goes into a page, and its files."""

    name: str
    title: str
    caption: str
    legend: tuple[Key, ...]  # for the page; the files have theirs within
    panels: tuple[str, ...]  # SVG, for a page's own text
    rows: tuple[tuple[str, ...], ...]  # the numbers as text: a head, then a row each
    png: Path
    pdf: Path

    @property
    def svg(self) -> str:
        """All panels, one after the other."""
        return "\n".join(self.panels)


def available() -> bool:
    """Whether matplotlib (the extra ``plot``) is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def render(plot: Plot, out: Path) -> Drawn:
    """Draw a plot and write ``<name>.png`` and ``<name>.pdf`` into a folder, which is made if absent.

    Raises ``InputError`` without matplotlib, and where a file cannot be written.
    """
    if not available():
        raise InputError("Figures need matplotlib: pip install matplotlib.")
    from matplotlib import rc_context

    png, pdf = (Path(out) / f"{plot.name}.{suffix}" for suffix in ("png", "pdf"))
    with rc_context(STYLE):
        panels = tuple(_svg(plot, index) for index in range(len(plot.panels)))
        whole = _whole(plot)
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
            whole.savefig(png, dpi=200)
            whole.savefig(pdf, metadata={"CreationDate": None})
        except OSError as error:
            raise InputError(f"The figure {plot.name} cannot be written to {out}: {error.strerror}.") from error
    return Drawn(plot.name, plot.title, plot.caption, plot.legend, panels, plot.rows, png, pdf)


def _figure(plot: Plot, columns: int = 1, rows: int = 1, more: float = 0.0) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: no display is asked for

    return Figure(figsize=(WIDTH * columns, plot.height * rows + more), layout="constrained")


def _whole(plot: Plot) -> "Figure":
    """All panels on white, in up to three columns, below their legend."""
    count = len(plot.panels)
    columns = 2 if count == 4 else min(3, count)
    across = _columns(plot.legend, WIDTH * columns)
    figure = _figure(plot, columns, -(-count // columns), more=0.18 * -(-len(plot.legend) // across) + 0.15)
    for index, panel in enumerate(plot.panels, start=1):
        _paint(figure.add_subplot(-(-count // columns), columns, index), panel)
    if plot.legend:
        figure.legend(handles=[_handle(key) for key in plot.legend], loc="outside upper left", ncols=across)
    return figure


def _columns(legend: Sequence[Key], width: float) -> int:
    """How many of the widest entry are side by side in so many inches."""
    widest = max((0.38 + 0.075 * len(key.label) for key in legend), default=width)
    return max(1, min(len(legend), int(width / widest)))


def _paint(axes: Any, panel: Panel) -> None:
    axes.tick_params(length=2.5, width=0.7)
    panel.paint(axes)
    axes.set_title(panel.title)


def _handle(key: Key) -> Any:
    """An entry of a legend as matplotlib draws it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if key.shape == "line":
        return Line2D([], [], color=key.colour, label=key.label, linestyle=(0, key.dash) if key.dash else "-")
    if key.shape in ("bar", "light"):
        return Patch(label=key.label, **(solid(key.colour) if key.shape == "bar" else light(key.colour)))
    return Line2D([], [], color=key.colour, label=key.label, linestyle="", marker=key.shape[0].replace("c", "o"))


def solid(colour: str) -> dict[str, Any]:
    """How a bar is filled."""
    return {"facecolor": colour, "edgecolor": colour, "linewidth": 0.8}


def light(colour: str) -> dict[str, Any]:
    """How the other bar of a pair is filled."""
    from matplotlib.colors import to_rgba

    return {"facecolor": to_rgba(colour, 0.3), "edgecolor": colour, "linewidth": 0.8}


def tick_logarithms(axis: "Axis") -> None:
    """Plain numbers with their prefix along a logarithmic axis: of each decade the more, the fewer there are."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    between = (1, 2, 5) if high < 60 * low else (1, 3) if high < 3000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e4 else si(value).replace(" ", ""))
    axis.set_minor_formatter(NullFormatter())


# SVG -------------------------------------------------------------------------------------------------------


def _svg(plot: Plot, index: int) -> str:
    """One panel for a page."""
    figure, panel = _figure(plot), plot.panels[index]
    _paint(figure.add_subplot(), panel)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return to_page(text.getvalue(), f"{plot.name}-{index}-", f"{plot.title}, {panel.title}")


def to_page(svg: str, prefix: str, label: str) -> str:
    """A drawing as part of a page: its ids made the page's own, its text and axes in the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)\)?\"", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\1#{prefix}", svg)
    svg = re.sub(r" ?font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "var(--paper, white)")
    viewbox = re.search(r'viewBox="[^"]*"', svg)
    assert viewbox is not None
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {viewbox[0]}'
    head += f' role="img" aria-label="{escape(label)}">'
    return re.sub(r"<svg.*?>", lambda _: head, svg, count=1, flags=re.DOTALL)
