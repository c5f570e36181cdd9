"""The figures of a report: drawn from what runs recorded, each beside the numbers that it shows.

::

    if figures.available():
        drawn = figures.draw(runs, out / "figures", machine)   # writes <name>.png and <name>.pdf
    page = html.page("Report", [html.Section("Results", tables=[html.Table(rows)])], drawn)

Every figure is a module: a function that takes plain records and gives plain numbers, and another that lays those out
as a ``Plot``, which ``drawing`` draws with matplotlib (the extra ``plot``).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from odb_dllm.report.figures import acceptance, course, lengths, phases, roofline, tradeoff
from odb_dllm.report.figures.drawing import Drawn, available, render
from odb_dllm.report.figures.groups import Group, group
from odb_dllm.report.figures.plot import Key, Plot
from odb_dllm.report.figures.roofline import Point, Roof, draw_roofline
from odb_dllm.report.runs import Run

__all__ = ["Drawn", "Key", "Point", "Roof", "available", "draw", "draw_roofline"]


def draw(runs: Sequence[Run], out: Path, machine: Mapping[str, Any] | None = None) -> list[Drawn]:
    """Draw every figure that the runs have the records for; one of each kind per model, a panel per task.

    Args:
        runs: finished cells; those without traces take part in the figures that need none.
        out: the folder for ``<name>.png`` and ``<name>.pdf``, made if absent.
        machine: ``machine`` of what ``odb-dllm bench --out`` wrote: its limits are the roof of runs on that device in
            that dtype. For others, and without it, the vendor's figures where they are known, else no roof.

    Raises:
        InputError: matplotlib is not installed, or a file cannot be written.
    """
    kinds: tuple[Callable[[Group], Plot | None], ...] = (
        tradeoff.plot,
        phases.plot,
        partial(roofline.plot, machine=machine),
        course.plot,
        lengths.plot_effective,
        lengths.plot_predicted,
        acceptance.plot_drafts,
        acceptance.plot_branches,
    )
    wanted = [(kind, each) for each in group(runs) for kind in kinds]
    made = (kind(each) for kind, each in tqdm(wanted, desc="figures", unit="figure", disable=None))
    return [render(plot, out) for plot in made if plot is not None]
