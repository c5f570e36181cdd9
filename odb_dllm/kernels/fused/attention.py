"""Attention of a few queries to many keys: the keys that a sequence sees are shared out among programs.

A program takes a tile of the query rows of one sequence and kv head (tokens times the query heads that share the kv
head) and an equal share of the tiles of keys that the sequence sees: each cached range is cut into tiles of its own,
and behind them the fed tokens are. A second kernel puts the shares together. Scores are in units of log 2, since exp2
is what the hardware has.
"""

# mypy: disable-error-code="import-not-found,no-untyped-def"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from odb_dllm.kernels import plain
from odb_dllm.kernels.dispatch import interpreted
from odb_dllm.kernels.fused import tiles
from odb_dllm.kernels.view import View

FLOOR = tl.constexpr(-1e30)  # below all scores, and no infinity, whose difference with itself is NaN


@triton.jit
def _dot(a, b, INTERPRETED: tl.constexpr):
    if INTERPRETED:  # the interpreter multiplies the bits of bfloat16
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _update(score, v, peak, total, acc, scale, INTERPRETED: tl.constexpr):
    """One step of the running softmax: more scores (-inf: not seen) and their values."""
    higher = tl.maximum(peak, tl.max(score, axis=1) * scale)
    weight = tl.exp2(score * scale - higher[:, None])
    fade = tl.exp2(peak - higher)
    acc = acc * fade[:, None] + _dot(weight.to(v.dtype), v, INTERPRETED)
    return higher, total * fade + tl.sum(weight, axis=1), acc


@triton.jit
def _of_range(i, end0, end1, end2, own0, own1, own2, own3):
    """Of four numbers, one a range, that of the range in which tile i lies."""
    return tl.where(i < end1, tl.where(i < end0, own0, own1), tl.where(i < end2, own2, own3))


@triton.jit(
    do_not_specialize=["width", "splits"],
    do_not_specialize_on_alignment=["rows", "ranges", "fed", "branch", "shared"],
)
def _attend(
    q,
    keys,
    values,
    rows,
    ranges,
    fed,
    branch,
    shared,
    out,
    weights,
    scale,
    width,
    splits,
    row_stride,
    head_stride,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    ALONE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    kv_head, sequence, split = tl.program_id(1), tl.program_id(2) // splits, tl.program_id(2) % splits
    # What the sequence sees, in tiles of KEYS: those of each range of cached slots, then those of the fed tokens. Tile
    # i lies in range r where end(r - 1) <= i < end(r), and begins at slot offset(r) + i * KEYS.
    ranges += sequence * 8  # RANGES of them, two ends each
    offset0, last0 = tl.load(ranges), tl.load(ranges + 1)
    offset1, last1 = tl.load(ranges + 2), tl.load(ranges + 3)
    offset2, last2 = tl.load(ranges + 4), tl.load(ranges + 5)
    offset3, last3 = tl.load(ranges + 6), tl.load(ranges + 7)
    end0 = tl.cdiv(last0 - offset0, KEYS)
    end1 = end0 + tl.cdiv(last1 - offset1, KEYS)
    end2 = end1 + tl.cdiv(last2 - offset2, KEYS)
    cached = end2 + tl.cdiv(last3 - offset3, KEYS)
    offset1 -= end0 * KEYS
    offset2 -= end1 * KEYS
    offset3 -= end2 * KEYS
    count = cached + tl.cdiv(width, KEYS)
    first = tl.cdiv(split * count, splits)
    last = tl.cdiv((split + 1) * count, splits)

    fed += sequence * width
    branch += sequence * width
    shared += sequence * width
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    token = query // GROUP
    inside = token < width
    row = (sequence * width + token).to(tl.int64) * HEADS + kv_head * GROUP + query % GROUP
    dim = tl.arange(0, HEAD)[None, :]
    tile = tl.load(q + row[:, None] * HEAD + dim, mask=inside[:, None], other=0.0)
    own = tl.load(branch + token, mask=inside, other=0)

    base = tl.load(rows + sequence).to(tl.int64) * row_stride + kv_head * head_stride
    keys += base
    values += base
    peak = tl.full([QUERIES], FLOOR, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, HEAD], tl.float32)
    column = tl.arange(0, KEYS)
    for i in range(first, tl.minimum(last, cached)):  # what is cached, everyone sees
        slot = i * KEYS + _of_range(i, end0, end1, end2, offset0, offset1, offset2, offset3)
        real = column < _of_range(i, end0, end1, end2, last0, last1, last2, last3) - slot
        place = slot * HEAD + column[:, None] * HEAD + dim
        score = _dot(tile, tl.trans(tl.load(keys + place, mask=real[:, None], other=0.0)), INTERPRETED)
        score = tl.where(real[None, :], score, float("-inf"))
        v = tl.load(values + place, mask=real[:, None], other=0.0)
        peak, total, acc = _update(score, v, peak, total, acc, scale, INTERPRETED)
    for i in tl.range(tl.maximum(first, cached), last, num_stages=1):  # too few to fetch ahead
        at = (i - cached) * KEYS + column
        slot = tl.load(fed + at, mask=at < width, other=-1)
        place, real = slot[:, None] * HEAD + dim, slot[:, None] >= 0
        k = tl.load(keys + place, mask=real, other=0.0)
        v = tl.load(values + place, mask=real, other=0.0)
        theirs = tl.load(branch + at, mask=at < width, other=0)
        for_all = tl.load(shared + at, mask=at < width, other=0) != 0
        seen = ((own[:, None] == theirs[None, :]) | for_all[None, :]) & (slot >= 0)[None, :]
        score = tl.where(seen, _dot(tile, tl.trans(k), INTERPRETED), float("-inf"))
        peak, total, acc = _update(score, v, peak, total, acc, scale, INTERPRETED)

    # Shares are stored normalised, with the log of their weight; one that holds no key of a query weighs nothing.
    some = tl.where(total == 0, 1.0, total)
    acc = acc / some[:, None]
    if ALONE:
        acc = tl.where((tl.load(fed + token, mask=inside, other=-1) >= 0)[:, None], acc, 0.0)
    else:
        row += split.to(tl.int64) * (tl.num_programs(2) // splits * width) * HEADS
        tl.store(weights + row, tl.where(total > 0, peak + tl.log2(some), FLOOR), mask=inside)
    tl.store(out + row[:, None] * HEAD + dim, acc.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit(do_not_specialize=["tokens"], do_not_specialize_on_alignment=["fed"])
def _combine(
    parts, weights, fed, out, tokens, HEADS: tl.constexpr, HEAD: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    """Put the shares of some heads of a token together."""
    token = tl.program_id(0)
    head = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = head < HEADS
    row = token.to(tl.int64) * HEADS + head
    step = tokens.to(tl.int64) * HEADS
    peak = tl.full([BLOCK], FLOOR, tl.float32)
    for split in tl.static_range(SPLITS):
        peak = tl.maximum(peak, tl.load(weights + split * step + row, mask=inside, other=FLOOR))
    dim = tl.arange(0, HEAD)[None, :]
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, HEAD], tl.float32)
    for split in tl.static_range(SPLITS):
        weight = tl.exp2(tl.load(weights + split * step + row, mask=inside, other=FLOOR) - peak)
        part = tl.load(parts + (split * step + row)[:, None] * HEAD + dim, mask=inside[:, None], other=0.0)
        total += weight
        acc += weight[:, None] * part
    real = tl.load(fed + token) >= 0
    acc = tl.where(real, acc / total[:, None], 0.0)
    tl.store(out + row[:, None] * HEAD + dim, acc.to(out.dtype.element_ty), mask=inside[:, None])


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    view: View,
    tile: tiles.AttentionTile | None = None,
    combine: tiles.Tile = tiles.COMBINE,
) -> Tensor:
    """As ``odb_dllm.kernels.attend``."""
    tokens, heads, head = q.shape
    batch, width = view.fed.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    if head < 16 or head != tiles.power_of_two(head):
        return plain.attend(q, keys, values, view)
    out = q.new_empty(tokens, heads * head)
    if not tokens:
        return out
    if tile is None:
        processors = tiles.processors(q.device)
        tile = tiles.attention(width * group, view.max_cached + width, batch * kv_heads, q.dtype, processors)
    splits = tile.splits
    shape = splits, tokens, heads
    parts = out if splits == 1 else torch.empty(*shape, head, dtype=torch.float32, device=q.device)
    weights = parts if splits == 1 else torch.empty(shape, dtype=torch.float32, device=q.device)
    scale = math.log2(math.e) / math.sqrt(head)
    with torch.cuda.device_of(q):
        _attend[(triton.cdiv(width * group, tile.queries), kv_heads, batch * splits)](
            *(q, keys, values, view.rows, view.ranges, view.fed, view.branch, view.shared, parts, weights),
            *(scale, width, splits, keys.stride(0), keys.stride(1)),
            *(heads, group, head, tile.queries, tile.keys, splits == 1, interpreted()),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        if splits > 1:
            _combine[(tokens, triton.cdiv(heads, combine.block))](
                *(parts, weights, view.fed, out, tokens, heads, head, splits, combine.block), num_warps=combine.warps
            )
    return out
