"""Attention of a few queries to many keys: the keys that a sequence sees are shared out among programs.

A program takes a tile of the query rows of one sequence and kv head (tokens times the query heads that share the kv
head) and an equal share of the keys that the sequence sees, in the order: cached ranges, fed tokens. A second kernel
puts the shares together. Scores are in units of log 2, since exp2 is what the hardware has.
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
    INTERPRETED: tl.constexpr,
):
    kv_head, sequence, split = tl.program_id(1), tl.program_id(2) // splits, tl.program_id(2) % splits
    # What the sequence sees in a row: first its cached slots, range behind range, then the fed tokens. Number i of
    # the cached ones is slot i + the offset of its range.
    ranges += sequence * 8  # RANGES of them, two ends each
    offset0 = tl.load(ranges)
    end0 = tl.load(ranges + 1) - offset0
    offset1 = tl.load(ranges + 2) - end0
    end1 = tl.load(ranges + 3) - offset1
    offset2 = tl.load(ranges + 4) - end1
    end2 = tl.load(ranges + 5) - offset2
    offset3 = tl.load(ranges + 6) - end2
    cached = tl.load(ranges + 7) - offset3
    share = tl.cdiv(cached + width, splits)
    first = split * share
    last = tl.minimum(first + share, cached + width)

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
    # Tiles of cached slots alone, which everyone sees; then those with fed tokens, or with less than a tile.
    whole = first + tl.maximum(tl.minimum(last, cached) - first, 0) // KEYS * KEYS
    for start in range(first, whole, KEYS):
        at = start + tl.arange(0, KEYS)
        offset = tl.where(at < end1, tl.where(at < end0, offset0, offset1), tl.where(at < end2, offset2, offset3))
        place = (at + offset)[:, None] * HEAD + dim
        score = _dot(tile, tl.trans(tl.load(keys + place)), INTERPRETED)
        peak, total, acc = _update(score, tl.load(values + place), peak, total, acc, scale, INTERPRETED)
    for start in range(whole, last, KEYS):
        at = start + tl.arange(0, KEYS)
        offset = tl.where(at < end1, tl.where(at < end0, offset0, offset1), tl.where(at < end2, offset2, offset3))
        is_fed = (at >= cached) & (at < last)
        slot = tl.where(at < cached, at + offset, tl.load(fed + at - cached, mask=is_fed, other=-1))
        slot = tl.where(at < last, slot, -1)
        theirs = tl.load(branch + at - cached, mask=is_fed, other=0)
        for_all = (at < cached) | (tl.load(shared + at - cached, mask=is_fed, other=0) != 0)
        seen = ((own[:, None] == theirs[None, :]) | for_all[None, :]) & (slot >= 0)[None, :]
        place, real = slot[:, None] * HEAD + dim, slot[:, None] >= 0
        score = _dot(tile, tl.trans(tl.load(keys + place, mask=real, other=0.0)), INTERPRETED)
        score = tl.where(seen, score, float("-inf"))
        v = tl.load(values + place, mask=real, other=0.0)
        peak, total, acc = _update(score, v, peak, total, acc, scale, INTERPRETED)

    # Shares are stored normalised, with the log of their weight; one that holds no key of a query weighs nothing.
    some = tl.where(total == 0, 1.0, total)
    acc = acc / some[:, None]
    if splits == 1:
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
            *(heads, group, head, tile.queries, tile.keys, interpreted()),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        if splits > 1:
            _combine[(tokens, triton.cdiv(heads, combine.block))](
                *(parts, weights, view.fed, out, tokens, heads, head, splits, combine.block), num_warps=combine.warps
            )
    return out
