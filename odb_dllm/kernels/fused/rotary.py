"""Rotation of queries and keys, and storing of keys and values: a program takes some heads of a token."""

# mypy: disable-error-code="import-not-found,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from odb_dllm.kernels import plain
from odb_dllm.kernels.fused import tiles


@triton.jit(do_not_specialize_on_alignment=["positions", "rows", "slots"])
def _rotate_store(
    qkv,
    cos,
    sin,
    positions,
    rows,
    slots,
    keys,
    values,
    queries,
    row_stride,
    head_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
):
    token = tl.program_id(0)
    head = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    dim = tl.arange(0, WIDE)[None, :]
    inside = (head < HEADS + 2 * KV_HEADS) & (dim < HALF)
    at = qkv + token.to(tl.int64) * ((HEADS + 2 * KV_HEADS) * 2 * HALF) + head * (2 * HALF) + dim
    left, right = tl.load(at, mask=inside, other=0), tl.load(at + HALF, mask=inside, other=0)

    turn = tl.load(positions + token) * (2 * HALF) + dim
    wide_left, wide_right = left.to(tl.float32), right.to(tl.float32)
    first = wide_left * tl.load(cos + turn, mask=dim < HALF) - wide_right * tl.load(sin + turn, mask=dim < HALF)
    turn += HALF
    second = wide_right * tl.load(cos + turn, mask=dim < HALF) + wide_left * tl.load(sin + turn, mask=dim < HALF)
    first, second = first.to(left.dtype), second.to(left.dtype)

    is_query = inside & (head < HEADS)
    out = queries + (token.to(tl.int64) * HEADS + head) * (2 * HALF) + dim
    tl.store(out, first, mask=is_query)
    tl.store(out + HALF, second, mask=is_query)

    slot = tl.load(slots + token)
    if slot >= 0:
        base = tl.load(rows + token).to(tl.int64) * row_stride + slot * (2 * HALF) + dim
        is_key = inside & (head >= HEADS) & (head < HEADS + KV_HEADS)
        out = keys + base + (head - HEADS) * head_stride
        tl.store(out, first, mask=is_key)
        tl.store(out + HALF, second, mask=is_key)
        is_value = inside & (head >= HEADS + KV_HEADS)
        out = values + base + (head - HEADS - KV_HEADS) * head_stride
        tl.store(out, left, mask=is_value)
        tl.store(out + HALF, right, mask=is_value)


def rotate_store(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    rows: Tensor,
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    tile: tiles.Tile = tiles.ROTARY,
) -> Tensor:
    """As ``odb_dllm.kernels.rotate_store``."""
    if cos.dtype != torch.float32:  # rotations in a lower precision: a variant that no published checkpoint uses
        return plain.rotate_store(qkv, cos, sin, positions, rows, slots, keys, values)
    _, kv_heads, _, head = keys.shape
    tokens, heads = qkv.shape[0], qkv.shape[1] // head - 2 * kv_heads
    queries = qkv.new_empty(tokens, heads, head)
    if tokens:
        with torch.cuda.device_of(qkv):
            _rotate_store[(tokens, triton.cdiv(heads + 2 * kv_heads, tile.block))](
                *(qkv, cos, sin, positions, rows, slots, keys, values, queries, keys.stride(0), keys.stride(1)),
                *(heads, kv_heads, head // 2, tile.block, tiles.power_of_two(head // 2)),
                num_warps=tile.warps,
                enable_fp_fusion=False,  # products are rounded before they are added, as plain torch does
            )
    return queries
