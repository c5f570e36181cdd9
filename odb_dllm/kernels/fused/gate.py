"""SwiGLU's product: a program takes some columns of a row."""

# mypy: disable-error-code="import-not-found,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from odb_dllm.kernels.fused import tiles


@triton.jit
def _gated(gate_up, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = gate_up + row * (2 * WIDTH) + column
    gate = tl.load(at, mask=inside, other=0).to(tl.float32)
    up = tl.load(at + WIDTH, mask=inside, other=0).to(tl.float32)
    dtype = out.dtype.element_ty
    silu = (gate / (1 + tl.exp(-gate))).to(dtype).to(tl.float32)
    tl.store(out + row * WIDTH + column, (silu * up).to(dtype), mask=inside)


def gated(gate_up: Tensor, tile: tiles.Tile = tiles.GATE) -> Tensor:
    """As ``odb_dllm.kernels.gated``."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    if rows:
        with torch.cuda.device_of(out):
            _gated[(rows, triton.cdiv(width, tile.block))](gate_up, out, width, tile.block, num_warps=tile.warps)
    return out
