"""What a device can do: seconds of a call, bandwidth of a copy, rate of a matrix product."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_IMPORTED = time.perf_counter()


@dataclass(frozen=True)
class Machine:
    """A device and its measured limits."""

    device: str  # as people know it
    dtype: str
    copy_bytes_per_second: float  # bytes read and written
    flops_per_second: float

    @property
    def ridge(self) -> float:
        """FLOPs per byte at which a kernel is bound by both."""
        return self.flops_per_second / self.copy_bytes_per_second


def process_seconds() -> float:
    """Seconds since this process was started; since this module was imported where the system does not say."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # in ticks since the boot
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.perf_counter() - _IMPORTED


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, *, repeats: int = 20, warm_up: int = 3) -> float:
    """Median time of a call, synchronised with the device before and after each."""
    for _ in range(warm_up):
        call()
    taken = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def graphed(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The call as a CUDA graph, so that launches cost nothing; the call itself on the CPU."""
    if device.type != "cuda":
        return call
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=side):
        call()
    return graph.replay


def measure_machine(device: torch.device, dtype: torch.dtype, *, small: bool = False) -> Machine:
    """Measure copy bandwidth and matrix products on large operands (``small``: on ones that a CPU can bear)."""
    count, side = (2**24, 1024) if small else (2**30, 8192)
    source = torch.ones(count, device=device, dtype=dtype)
    target = torch.empty_like(source)
    copying = seconds(lambda: target.copy_(source), device, repeats=10)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    multiplying = seconds(lambda: a @ b, device, repeats=10)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    moved = 2 * source.numel() * source.element_size()
    return Machine(name, str(dtype).removeprefix("torch."), moved / copying, 2 * side**3 / multiplying)
