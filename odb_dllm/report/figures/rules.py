"""Two rules of length prediction: what each predicted first against the answer's length, cut answers marked."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from odb_dllm.report.figures.plot import INK, Key, Plot, palette, panels, table
from odb_dllm.report.lengths import ALL, Comparison, Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = (
    "A point per sample: the response length that the first block predicted against the answer's, up to its stop. A "
    "line leads to the last prediction where that is another one. On the dotted line the canvas holds the answer and "
    "nothing more. The first setting's points are rings around the second's, so that points that coincide are seen; "
    "how many answers each cut stands below on the right."
)
WHOLE, CUT = Key("ended by itself", INK, "circle"), Key("cut by the prediction", INK, "square")
AREAS = (48, 14)  # of the two settings' points, in square points


def plot(made: Sequence[Comparison]) -> Plot:
    """The figure, a panel per task; ``made``: at least one comparison of a task, that of all is left out."""
    tasks = [each for each in made if each.task != ALL]
    names = list(dict.fromkeys(side.setting for each in tasks for side in (each.a, each.b)))
    colours = palette(names)
    found = {each.task: {side.setting: side for side in (each.a, each.b)} for each in tasks}
    heads = ["task", "setting", "samples", "cut", "mean answer length", "mean first prediction"]
    rows = [
        [task, name, len(side.samples), len(side.cut), side.length, side.first]
        for task, sides in found.items()
        for name, side in sides.items()
    ]
    return Plot(
        "lengths",
        "Predicted length against the answer's",
        CAPTION,
        (*(Key(name, colours[name], "bar") for name in names), WHOLE, CUT),
        panels(found, lambda side: len(side.samples), partial(_paint, colours=colours)),
        table(heads, rows),
        height=3.0,
    )


def _paint(axes: "Axes", made: Mapping[str, Side], colours: Mapping[str, str]) -> None:
    """A cloud per setting, rings and dots; edged squares are answers that were cut."""
    across = up = 1
    for area, line, (name, side) in zip(AREAS, (0.1, 0.02), made.items(), strict=True):
        colour = colours[name]
        axes.text(0.99, line, f"{len(side.cut)} cut", transform=axes.transAxes, ha="right", color=colour)
        looks: dict[bool, dict[str, Any]] = {
            False: {"marker": "o", "facecolor": "none" if area == AREAS[0] else colour, "edgecolor": colour},
            True: {"marker": "s", "facecolor": colour, "edgecolor": INK, "zorder": 4},
        }
        for cut, look in looks.items():
            of = [each for each in side.samples.values() if each.predicted and each.cut == cut]
            if not of:
                continue
            lengths, firsts, lasts = zip(*((s.length, s.predicted[0], s.predicted[-1]) for s in of), strict=True)
            across, up = max(across, *lengths), max(up, *firsts, *lasts)
            axes.vlines(lengths, lasts, firsts, color=colour, alpha=0.5, linewidth=0.8)
            axes.scatter(lengths, firsts, area * (1.5 if cut else 1), linewidth=1.0, alpha=0.8, **look)
    axes.set(xlabel="answer length, tokens", ylabel="predicted length, tokens")
    axes.set_xlim(0, 1.06 * across)
    axes.set_ylim(0, 1.08 * up)
    axes.plot([0, 1.06 * across], [0, 1.06 * across], color=INK, linewidth=0.8, linestyle=":", zorder=1)
