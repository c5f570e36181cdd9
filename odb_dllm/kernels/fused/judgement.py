"""Choice of tokens: a program takes some columns of a row of logits, a second kernel puts a row's parts together."""

# mypy: disable-error-code="import-not-found,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from odb_dllm.kernels.fused import tiles

NONE = tl.constexpr(2**31 - 1)  # the id of no token: above all others
LOWEST = tl.constexpr(float("-inf"))


@triton.jit
def _judge_part(logits, parts, ids, columns, mask, vocabulary, BLOCK: tl.constexpr):
    """Highest logit, highest that may be chosen, its id, and the sum of exp(others - highest), of one part."""
    row, part = tl.program_id(0), tl.program_id(1)
    column = part * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    logit = tl.load(logits + row.to(tl.int64) * columns + column, mask=inside, other=LOWEST).to(tl.float32)
    peak = tl.max(logit, axis=0)
    may = (column < vocabulary) & (column != mask)
    best = tl.max(tl.where(may, logit, LOWEST), axis=0)
    token = tl.min(tl.where(may & (logit == best), column, NONE), axis=0)
    base = tl.where(peak == LOWEST, 0.0, peak)  # -inf minus itself is NaN
    others = tl.sum(tl.where(inside & (column != token), tl.exp(logit - base), 0.0), axis=0)
    at = row * tl.num_programs(1) + part
    count = tl.num_programs(0) * tl.num_programs(1)
    tl.store(parts + at, peak)
    tl.store(parts + count + at, best)
    tl.store(parts + 2 * count + at, others)
    tl.store(ids + at, token)


@triton.jit
def _log1p(x):
    """log(1 + x) in float64, also where x is far below 1 (W. Kahan's correction)."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def _expm1(x):
    """exp(x) - 1 in float64 for x <= 0 (W. Kahan's correction)."""
    u = tl.exp(x)
    middle = (u != 1.0) & (u > 0.0)
    exact = (u - 1.0) * (x / tl.log(tl.where(middle, u, 2.0)))
    return tl.where(u == 1.0, x, tl.where(middle, exact, -1.0))


@triton.jit
def _judge_row(parts, ids, out, count, vocabulary, BLOCK: tl.constexpr):
    row, rows = tl.program_id(0), tl.num_programs(0)
    part = tl.arange(0, BLOCK)
    inside = part < count
    at = row * count + part
    peaks = tl.load(parts + at, mask=inside, other=LOWEST)
    bests = tl.load(parts + rows * count + at, mask=inside, other=LOWEST)
    sums = tl.load(parts + 2 * rows * count + at, mask=inside, other=0.0)
    tokens = tl.load(ids + at, mask=inside, other=NONE)
    peak, best = tl.max(peaks, axis=0), tl.max(bests, axis=0)
    token = tl.min(tl.where(bests == best, tokens, NONE), axis=0)
    runner_up = (tokens != token) & (tokens != NONE)
    others = tl.sum(sums * tl.exp(peaks - peak) + tl.where(runner_up, tl.exp(bests - peak), 0.0), axis=0)
    finite = (tl.abs(peak) < float("inf")) & (others < float("inf"))

    # log p = -log(sum of exp(l_j - l_token)), as confidence.score_rows.
    behind = (peak - best).to(tl.float64)
    log_confidence = -(behind + _log1p(_expm1(-behind) + others.to(tl.float64)))
    bits = log_confidence.to(tl.int64, bitcast=True)
    tl.store(out + row, tl.minimum(token, vocabulary - 1).to(tl.int64))
    tl.store(out + rows + row, bits)
    tl.store(out + 2 * rows + row, bits)
    tl.store(out + 3 * rows + row, finite.to(tl.int64))


def judge(logits: Tensor, mask: int, vocabulary: int, tile: tiles.Tile = tiles.JUDGE) -> Tensor:
    """As ``odb_dllm.kernels.judge``."""
    logits = logits.contiguous()  # as they are, unless ranks joined columns of unequal numbers
    rows, columns = logits.shape
    out = torch.empty(4, rows, dtype=torch.int64, device=logits.device)
    if rows:
        count = triton.cdiv(columns, tile.block)
        parts = torch.empty(3, rows, count, dtype=torch.float32, device=logits.device)
        ids = torch.empty(rows, count, dtype=torch.int32, device=logits.device)
        with torch.cuda.device_of(logits):
            # Rows first: a grid's other dimensions end at 65535.
            _judge_part[(rows, count)](logits, parts, ids, columns, mask, vocabulary, tile.block, num_warps=tile.warps)
            _judge_row[(rows,)](parts, ids, out, count, vocabulary, tiles.power_of_two(count), num_warps=1)
    return out
