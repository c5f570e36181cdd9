"""Residual addition and RMSNorm in one pass: a program takes a row."""

# mypy: disable-error-code="import-not-found,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from odb_dllm.kernels.fused import tiles


@triton.jit
def _add_rms_norm(x, delta, weight, summed, normed, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ADDS: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = tl.program_id(0).to(tl.int64) * WIDTH + column
    scale = tl.load(weight + column, mask=inside, other=0).to(tl.float32)
    wide = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    dtype = normed.dtype.element_ty
    if ADDS:
        rounded = (wide + tl.load(delta + at, mask=inside, other=0).to(tl.float32)).to(dtype)
        tl.store(summed + at, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    wide *= tl.rsqrt(tl.sum(wide * wide, axis=0) / WIDTH + eps)
    tl.store(normed + at, (scale * wide.to(dtype).to(tl.float32)).to(dtype), mask=inside)


def add_rms_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, warps: int = tiles.NORM_WARPS
) -> tuple[Tensor, Tensor]:
    """As ``odb_dllm.kernels.add_rms_norm``."""
    rows, width = x.shape
    summed, normed = x if delta is None else torch.empty_like(x), torch.empty_like(x)
    if rows:
        block = tiles.power_of_two(width)
        with torch.cuda.device_of(x):
            _add_rms_norm[(rows,)](
                x, delta, weight, summed, normed, eps, width, block, delta is not None, num_warps=warps
            )
    return summed, normed
