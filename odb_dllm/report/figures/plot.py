"""A figure before it is drawn: numbers, words, and how each panel is painted. No plotting library is needed here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from odb_dllm.expressions import start
from odb_dllm.presets import PRESETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Made = TypeVar("Made")
INK = "#0f1419"  # of text and axes: in a page, the page's own
PAPER = "#fffffe"  # what lies behind: in a page, the page's own
NONE = "–"
Dash = tuple[float, ...]  # lengths of strokes and gaps in points; empty for a solid line

# The mission's five keep apart under every kind of colour blindness (OKLab distance at least 0.1, simulated as by
# Machado et al. 2009), and all colours have a contrast of 3 or more with white and with the page's dark paper.
COLOURS = {
    "llada_baseline": "#6b6b6f",
    "dream_baseline": "#6b6b6f",
    "fast_dllm_baseline": "#3360f5",
    "alp": "#00a58e",
    "accept-jump": "#e8650e",
    "jump-share": "#b515ae",
    "streaming": "#8a7400",
    "prefix-cache": "#7a4fd0",
    "prefix-cache-parallel": "#c2416b",
    "dual-cache": "#2b8cc4",
    "parallel": "#9a5b3c",
}
OTHERS = ("#2f8f3a", "#8d6bd6", "#c2416b", "#2b8cc4", "#8a7400", "#9a5b3c")
DASHES: dict[str, Dash] = {"accept-jump": (5, 2), "jump-share": (1.5, 1.5)}  # often lie upon each other


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    label: str
    colour: str
    shape: Literal["bar", "light", "line", "square", "circle"]
    dash: Dash = ()

    @property
    def css(self) -> str:
        """The colour in a page."""
        return "currentColor" if self.colour == INK else self.colour


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    paint: Callable[["Axes"], None]


@dataclass(frozen=True)
class Plot:
    """A figure: panels under one legend, and the numbers that they show."""

    name: str  # of its files
    title: str
    caption: str  # what is to be seen, and how it was counted
    legend: tuple[Key, ...]
    panels: tuple[Panel, ...]
    rows: tuple[tuple[str, ...], ...]  # the numbers as text, the first row being the head
    height: float = 2.6  # of a panel, in inches


def palette(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: a setting's own, or the next that none of the others has."""
    wanted = list(dict.fromkeys(names))
    found = {name: COLOURS[name] for name in wanted if name in COLOURS}
    free = [colour for colour in OTHERS if colour not in found.values()] or list(OTHERS)
    unknown = [name for name in wanted if name not in found]
    return found | {name: free[i % len(free)] for i, name in enumerate(unknown)}


def in_order(names: Iterable[str]) -> list[str]:
    """Settings in the order of the presets, one with changes ("alp theta=0.8") behind its own, others at the end."""
    places = {name: place for place, name in enumerate(PRESETS)}
    return sorted(dict.fromkeys(names), key=lambda name: places.get(start(name), len(places)))


def lines(colours: dict[str, str], names: Iterable[str]) -> tuple[Key, ...]:
    """A legend of lines, one per setting."""
    return tuple(Key(name, colours[name], "line", DASHES.get(name, ())) for name in in_order(names))


def stroke(name: str) -> Any:
    """A setting's line style, as matplotlib takes it."""
    return (0, DASHES[name]) if name in DASHES else "-"


def counted(numbers: Iterable[int], form: str = "n = {}") -> str:
    """Sample sizes in a panel's title: "n = 40", or "n = 8–40" where they differ."""
    low, *_, high = sorted(numbers) * 2
    return form.format(low if low == high else f"{low}–{high}")


def panels(
    found: Mapping[str, dict[str, Made]],
    count: Callable[[Made], int],
    paint: Callable[..., None],
    form: str = "n = {}",
) -> tuple[Panel, ...]:
    """A panel per task.

    ``found``: what was made of each task and setting; ``count`` says of how many samples, and ``paint`` takes axes and
    ``made``, that of one task by setting.
    """
    return tuple(
        Panel(f"{task} ({counted(map(count, made.values()), form)})", partial(paint, made=made))
        for task, made in found.items()
    )


def number(value: float | None, form: str = ".3g") -> str:
    """A figure as text."""
    return NONE if value is None else format(value, form)


def si(value: float) -> str:
    """A positive figure with its prefix, such as "4.8 T"."""
    rounded = float(f"{value:.3g}")  # 999.9 T is 1 P
    power = min(5, max(0, int(math.log10(rounded) // 3)))
    return f"{value / 1000**power:.3g} {' kMGTP'[power].strip()}"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> tuple[tuple[str, ...], ...]:
    """The numbers of a plot: a head and rows of text, whole numbers and floats."""
    return (tuple(heads), *(tuple(number(x) if isinstance(x, float) else str(x) for x in row) for row in rows))


def fade(samples: Sequence[int]) -> list[float]:
    """Areas of dots, in square points, by how many of the samples come so far."""
    return [3 + 22 * count / max(samples) for count in samples]
