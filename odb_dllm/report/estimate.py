"""How long cells will take: a refresh and a step timed on this machine, times the forwards that are to be expected."""

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from odb_dllm.presets import preset_of
from odb_dllm.report.cells import CODE, MINI, Cell, benchmark

if TYPE_CHECKING:
    from odb_dllm.models.loading import DiffusionModel

STARTED = 0.5  # seconds that a cell costs besides its forwards
SANDBOXED = 0.15  # seconds for the program of one sample
STEPS_TIMED = 3

# Refreshes and steps of one generation, under these settings in turn. For LLaDA-8B, with 1024 tokens to generate, what
# the published speed-ups come to, rounded.
COUNTED = ("fast_dllm_baseline", "alp", "accept-jump", "jump-share")
LLADA = {
    "gsm8k": ((32, 50), (6, 36), (6, 28), (6, 24)),
    "minerva_math": ((32, 106), (10, 72), (10, 56), (10, 48)),
    "bbh": ((32, 44), (6, 51), (6, 40), (6, 34)),
    "humaneval": ((32, 120), (4, 46), (4, 36), (4, 31)),
    "mbpp": ((32, 32), (3, 20), (3, 15), (3, 13)),
}
# For the embedded model, with 256 tokens to generate, the means of each benchmark's 1,000 problems.
TINY = {
    "gsm8k": ((8, 3.9), (2.4, 4.0), (2.4, 3.2), (2.4, 3.2)),
    "minerva_math": ((8, 5.6), (3.2, 5.4), (3.2, 4.4), (3.2, 4.3)),
    "bbh": ((8, 4.6), (3.5, 4.7), (3.5, 4.1), (3.5, 4.0)),
    "humaneval": ((8, 2.8), (1.9, 2.8), (1.9, 2.4), (1.9, 2.4)),
    "mbpp": ((8, 2.7), (2.1, 2.7), (2.1, 2.3), (2.1, 2.3)),
}
BRANCHES = {"accept-jump": 4, "jump-share": 3.3}  # blocks' worth of tokens fed to a step, about
EVERY_FORWARD_FULL = ("llada_baseline", "dream_baseline", "parallel")
TOKEN_BY_TOKEN = ("llada_baseline", "dream_baseline", "prefix-cache", "dual-cache")  # a forward for each


@dataclass(frozen=True)
class Cost:
    """Seconds of one forward."""

    full: float  # over prompt and canvas
    step: float  # over one block
    wide: float  # over ``widths`` blocks
    widths: int

    def stepping(self, blocks: float) -> float:
        """A step over so many blocks, on the line through the two that were timed."""
        if self.widths == 1:
            return self.step
        return self.step + max(0.0, self.wide - self.step) * (blocks - 1) / (self.widths - 1)


NOMINAL, NOMINAL_BYTES = Cost(full=0.045, step=0.004, wide=0.005, widths=4), 16e9  # LLaDA-8B on an H200, about


def nominal(cell: Cell, weight_bytes: int) -> float:
    """What a cell costs beside others, nothing being timed: in seconds of an H200, about."""
    return seconds(cell, cell.size, NOMINAL) * weight_bytes / NOMINAL_BYTES


def counted_as(setting: str) -> str:
    """The one of ``COUNTED`` that a setting's preset decodes most like."""
    preset = preset_of(setting)
    if preset.length == "fixed":
        return "fast_dllm_baseline"
    return {"none": "alp", "accept-jump": "accept-jump"}.get(preset.speculation, "jump-share")


def forwards(cell: Cell) -> tuple[float, float]:
    """Forwards over the whole canvas, and steps, that one generation of a cell is expected to take."""
    setting, alike = preset_of(cell.setting).name, counted_as(cell.setting)
    if setting in TOKEN_BY_TOKEN:
        refreshes = cell.gen_length if setting in EVERY_FORWARD_FULL else cell.gen_length / cell.block_length
        return refreshes, cell.gen_length - refreshes
    known, length = (TINY, 256) if cell.task.endswith(MINI) else (LLADA, 1024)
    full, steps = known[benchmark(cell.task)][COUNTED.index(alike)]
    if alike != "fast_dllm_baseline":  # as long as the answer, however long the canvas
        return min(full, cell.gen_length / cell.block_length), steps
    full, steps = full * cell.gen_length / length, steps * cell.gen_length / length
    return (full + steps, 0) if setting in EVERY_FORWARD_FULL else (full, steps)


def seconds(cell: Cell, left: int, cost: Cost) -> float:
    """What ``left`` documents of a cell will take."""
    full, steps = forwards(cell)
    each = full * cost.full + steps * cost.stepping(BRANCHES.get(counted_as(cell.setting), 1))
    scoring = SANDBOXED * cell.size if benchmark(cell.task) in CODE else 0.0
    return STARTED + left * each + scoring


class _Enough(Exception):
    """Ends a generation whose forwards have been timed."""


def measure(model: "DiffusionModel", prompt: list[int], gen_length: int, block_length: int) -> Cost:
    """Time forwards behind a prompt: a refresh, and steps over one block and over up to four."""
    full, step = _timed(model, prompt, gen_length, block_length)
    widths = next(width for width in (4, 2, 1) if gen_length % (width * block_length) == 0)
    wide = _timed(model, prompt, gen_length, widths * block_length)[1] if widths > 1 else step
    return Cost(full, step, wide, widths)


def _timed(model: "DiffusionModel", prompt: list[int], gen_length: int, block_length: int) -> tuple[float, float]:
    """Seconds of a refresh and of a step; one token is decided by each, so that there are steps."""
    from odb_dllm.api import generate
    from odb_dllm.generation import NonFiniteLogits

    times: list[float] = []

    def watch(_: object) -> None:
        times.append(time.perf_counter())
        if len(times) > STEPS_TIMED + 1:
            raise _Enough

    for _ in range(2):  # the first warms up
        times[:] = [time.perf_counter()]
        with suppress(_Enough, NonFiniteLogits):  # the latter is told where it counts
            generate(
                model, prompt, setting="dual-cache", gen_length=gen_length, block_length=block_length, on_event=watch
            )
    gaps = [after - before for before, after in pairwise(times)] or [0.0]
    return gaps[0], min(gaps[1:], default=gaps[0])


def spoken(duration: float) -> str:
    """A duration for people."""
    if duration < 90:
        return f"{max(1, round(duration))} second{'s' if round(duration) > 1 else ''}"
    if duration < 90 * 60:
        return f"{round(duration / 60)} minutes"
    return f"{duration / 3600:.1f} hours"
