"""The trade-off as a picture: length saved against answers cut, a point per θ."""

from collections.abc import Sequence
from pathlib import Path

from odb_dllm.calibrate.choice import Point
from odb_dllm.errors import InputError


def available() -> bool:
    """Whether matplotlib (the extra ``plot``) is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def draw(path: Path, title: str, points: Sequence[Point], chosen: float | None, limit: float) -> None:
    """Write the plot; its format follows from the file's suffix."""
    from matplotlib.figure import Figure  # not pyplot: no display is asked for

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    saved, cut = [100 * p.saved for p in points], [100 * p.share for p in points]
    axes.plot(saved, cut, "o-", color="tab:blue", label="answers cut")
    axes.axhline(100 * limit, color="tab:red", linestyle="--", label=f"limit {limit:.1%}")
    last = None
    for x, y, point in zip(saved, cut, points, strict=True):
        if last != (x, y):  # several θ often do the same
            axes.annotate(f"{point.theta:g}", (x, y), textcoords="offset points", xytext=(4, 5), fontsize=8)
        last = (x, y)
        if point.theta == chosen:
            axes.plot(x, y, "o", color="tab:green", markersize=11, zorder=0, label=f"theta {chosen:g}")
    axes.set(title=title, xlabel="canvas length saved, %", ylabel="answers cut short, %")
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # a suffix that matplotlib does not know is a ValueError
        raise InputError(f"The plot cannot be written to {path}: {error}.") from error
