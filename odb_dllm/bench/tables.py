"""What was measured, as lines of text."""

from collections.abc import Sequence

from odb_dllm.bench.batches import Batch
from odb_dllm.bench.forwards import STEPS, Timing
from odb_dllm.bench.generations import Run
from odb_dllm.bench.machine import Machine
from odb_dllm.statistics import markdown


def forwards(timings: Sequence[Timing]) -> str:
    """Each forward beside its floor."""
    lines = [["forward", "tokens", "cache", "ms", "floor, ms", "ratio"]]
    for t in timings:
        kind = t.kind if t.kind == "refresh" else f"{t.kind} ({STEPS[t.tokens]})"
        times = [f"{1e3 * t.seconds:.2f}", f"{1e3 * t.floor:.2f}", f"{t.ratio:.2f}"]
        lines.append([kind, str(t.tokens), str(t.cache), *times])
    return markdown(lines)


def generations(runs: Sequence[Run], machine: Machine) -> str:
    """Whole generations; refreshes by the share of the FLOP/s, steps by that of the bandwidth, that they reach."""
    lines = [["setting", "answer", "s", "tokens/s", "NFE", "refreshes", "refresh, s", "of FLOP/s", "step, s"]]
    lines[0] += ["of bytes/s", "host", "peak, GiB"]
    for made in runs:
        flops = made.refresh_work.flops / machine.flops_per_second
        moved = made.step_work.bytes / machine.copy_bytes_per_second
        lines.append(
            [
                *(made.setting, made.answer, f"{made.seconds:.2f}", f"{made.tokens / made.seconds:.1f}"),
                *(str(made.nfe), str(made.refreshes)),
                *(f"{made.refresh_seconds:.2f}", _share(flops, made.refresh_seconds)),
                *(f"{made.step_seconds:.2f}", _share(moved, made.step_seconds)),
                f"{made.host / made.seconds:.1%}",
                "-" if made.peak_bytes is None else f"{made.peak_bytes / 2**30:.2f}",
            ]
        )
    return markdown(lines)


def batches(measured: Sequence[Batch]) -> str:
    """What batches gain over generations one by one."""
    lines = [["setting", "batch", "s", "samples/s", "gain", "tokens/s", "steps/s", "gain", "refresh, s", "step, s"]]
    alone: dict[str, Batch] = {}
    for each in measured:
        first = alone.setdefault(each.setting, each)
        lines.append(
            [
                *(each.setting, str(each.size), f"{each.seconds:.2f}", f"{each.samples_per_second:.3f}"),
                _times(each.samples_per_second, first.samples_per_second),
                *(f"{each.tokens_per_second:.1f}", f"{each.steps_per_second:.1f}"),
                _times(each.steps_per_second, first.steps_per_second),
                *(f"{each.refresh_seconds:.2f}", f"{each.step_seconds:.2f}"),
            ]
        )
    return markdown(lines)


def _share(least: float, taken: float) -> str:
    return f"{least / taken:.0%}" if taken else "-"


def _times(value: float, first: float) -> str:
    return f"{value / first:.2f}" if first else "-"
