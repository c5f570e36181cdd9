"""How the kernels cut their work, by shape; made for Hopper GPUs and the sizes of LLaDA-8B and Dream-7B.

``python -m odb_dllm.kernels.measure --sweep`` measures other ways.
"""

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Tile:
    """Elements that a program takes at a time (of what, the kernel says), and its warps."""

    block: int
    warps: int


@dataclass(frozen=True)
class AttentionTile:
    """Queries times keys that a program takes at a time, and how many programs share a query's keys."""

    queries: int
    keys: int
    splits: int  # a power of two
    warps: int
    stages: int  # tiles of keys and values on their way at a time


def power_of_two(number: int) -> int:
    """The lowest power of two that is not below ``number``."""
    return 1 << max(number - 1, 0).bit_length()


NORM_WARPS = 8  # a program takes a row
GATE = Tile(block=1024, warps=4)  # columns of a row
ROTARY = Tile(block=8, warps=4)  # heads of a token
COMBINE = Tile(block=4, warps=4)  # heads of a token
JUDGE = Tile(block=8192, warps=8)  # columns of a row
FEW = 4  # splits: what more of them save, putting them together costs again


def attention(queries: int, keys: int, groups: int, dtype: torch.dtype, processors: int) -> AttentionTile:
    """The tile for ``queries`` rows (tokens times query heads of a kv head), ``keys`` that each sees at most, and
    ``groups`` = sequences times kv heads."""
    wide = dtype == torch.float32  # exact products, without tensor cores
    block = min(max(power_of_two(queries), 16), 32) if wide else 64  # Hopper's tensor cores take 64 rows, full or not
    programs = groups * -(-queries // block)
    splits = 2 * processors // programs  # two programs run on each multiprocessor at a time
    if not wide:  # more than a few splits only where else some multiprocessors would have none
        splits = min(splits, max(FEW, processors // programs))
    splits = min(power_of_two(splits // 2 + 1), power_of_two(-(-keys // 64)), 16)
    if wide:
        return AttentionTile(block, 32, splits, warps=16, stages=1)
    return AttentionTile(block, 64, splits, warps=4, stages=3)


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device; few where Triton interprets, since there every program takes its time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
