"""The roofline of a benchmark: where each setting's refreshes and steps stand below this machine's limits."""

from collections.abc import Sequence
from pathlib import Path

from odb_dllm.bench.generations import Run
from odb_dllm.bench.machine import Machine
from odb_dllm.report import figures
from odb_dllm.report.figures import Point, Roof


def draw(runs: Sequence[Run], machine: Machine, out: Path) -> str:
    """Draw it beside the file of figures (ODB-dLLM, arXiv 2511.21759, Figure 1); what was written, as a sentence."""
    if not figures.available():
        return "the roofline was not drawn: it needs matplotlib (pip install matplotlib)"
    points = [
        point
        for each in runs
        for point in (
            Point(f"{each.setting}, {each.answer}", "refresh", each.refresh_work, each.refresh_seconds),
            Point(f"{each.setting}, {each.answer}", "step", each.step_work, each.step_seconds),
        )
        if point.seconds
    ]
    limit = Roof(machine.device, machine.copy_bytes_per_second, machine.flops_per_second, "measured in this run")
    drawn = figures.draw_roofline(points, limit, out.parent, name=f"{out.stem}_roofline")
    return f"roofline written to {drawn.png} and {drawn.pdf}"
