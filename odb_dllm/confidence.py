"""From logits to tokens and confidences, without ever leaving the device or making a float64 softmax."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from odb_dllm.contract import Draw, Score


def score_rows(
    logits: Tensor, *, mask: int, vocabulary: int, labels: Tensor | None = None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose a token per row and give the log of its softmax probability.

    Args:
        logits: [r, columns] in the model's dtype; changed in place.
        mask: id of the mask token, which is never chosen, nor is any id from ``vocabulary`` on. Both stay in the
            softmax's denominator.
        labels: int64 [r], score these tokens instead of choosing any.
        noise: float64 [r, columns], added to the logits before choosing (not to those that are scored).

    Returns:
        token int64 [r] (of equal logits the lowest id); log confidence float64 [r]; finite bool [r].
    """
    work = logits if logits.dtype == torch.float64 else logits.float()
    peak = work.max(dim=-1, keepdim=True).values
    if labels is None:
        choice = logits if noise is None else logits.double() + noise
        kept = choice[:, mask].clone()
        choice[:, mask] = float("-inf")
        token = choice[:, :vocabulary].argmax(dim=-1, keepdim=True)
        choice[:, mask] = kept
    else:
        token = labels[:, None]
    behind = (peak - work.gather(1, token)).double()
    # log p = -log(sum of exp(l_j - l_token)); leaving the token's own 1 out of the sum keeps p near 1 in order.
    others = (work - peak).exp_().scatter_(1, token, 0.0).sum(dim=-1, keepdim=True).double()
    log_confidence = -(behind + torch.log1p(torch.expm1(-behind) + others))
    finite = torch.isfinite(peak) & torch.isfinite(others)
    return token[:, 0], log_confidence[:, 0], finite[:, 0]


def rank_rows(logits: Tensor, kind: Score) -> Tensor:
    """Margin or negative entropy of each row's softmax, as a score that keeps its order where p rounds to 1.

    Args:
        logits: [r, columns]; -inf for tokens that are left out.
        kind: ``margin``: p1 - p2 - 1, of the two most probable tokens; ``entropy``: sum of p log(p + 1e-10).

    Returns:
        float64 [r].
    """
    work = logits if logits.dtype == torch.float64 else logits.float()
    highest = work.topk(2, dim=-1)
    weights = (work - highest.values[:, :1]).exp_().scatter_(1, highest.indices[:, :1], 0.0)  # the peak's is 1
    others = weights.sum(dim=-1, keepdim=True)
    total = 1 + others.double()
    if kind == "margin":
        second = weights.gather(1, highest.indices[:, 1:])
        return (-(others.double() + second.double()) / total)[:, 0]
    p = weights.div_(total.to(work.dtype))
    rest = (p * torch.log(p + 1e-10)).sum(dim=-1, keepdim=True).double()
    return (rest + torch.log1p(1e-10 - others.double() / total) / total)[:, 0]


def shape_rows(logits: Tensor, draws: Sequence[Draw], *, tempered: bool, mask: int, vocabulary: int) -> Tensor:
    """The logits of the distribution that tokens are drawn from; ``logits`` itself where nothing is to be done.

    Args:
        logits: [r, columns] in the model's dtype.
        draws: of each row; ``top_p`` and ``top_k`` are the same in all.
        tempered: divide by the temperature, where it is above 0. Without it, noise times the temperature draws
            from the same distribution, and filters see that, but the logits stay as they are.
        mask, vocabulary: the mask and ids from ``vocabulary`` on, which a filter leaves out first.

    Returns:
        [r, columns], float32 at least where something is done; -inf for tokens that are left out.
    """
    top_p, top_k = draws[0].top_p, draws[0].top_k
    filters = top_p is not None or top_k is not None
    warm = draws[0].temperature > 0
    if not filters and not (tempered and warm):
        return logits
    work = logits if logits.dtype == torch.float64 else logits.float()
    scaled = work
    if warm:
        scaled = work / torch.tensor([[draw.temperature] for draw in draws], dtype=work.dtype, device=work.device)
    kept = scaled if tempered else work
    if not filters:
        return kept
    scaled = scaled.clone()
    scaled[:, mask] = scaled[:, vocabulary:] = float("-inf")
    return kept.masked_fill(~_filtered(scaled, top_p, top_k), float("-inf"))


def _filtered(logits: Tensor, top_p: float | None, top_k: int | None) -> Tensor:
    """Tokens in the smallest set of mass above ``top_p`` and among the ``top_k`` highest, bool [r, columns]."""
    highest, order = logits.sort(dim=-1, descending=True, stable=True)
    kept = highest > float("-inf")
    if top_p is not None and top_p < 1:
        p = highest.softmax(dim=-1)
        kept &= p.cumsum(dim=-1) - p <= top_p
    if top_k:
        kept[:, top_k:] = False
    kept[:, 0] = True  # also where rounding, or a logit that is no number, would leave none
    return torch.zeros_like(kept).scatter_(1, order, kept)


def gumbel(rows: Sequence[tuple[Draw, int]], columns: int, device: torch.device) -> Tensor:
    """Noise for drawing at a temperature, float64 [rows, columns]; a row is a draw and the position that it is for.

    ``argmax(logits - temperature * log(-log u))`` is the argmax of exp(logits) / (-log u) ** temperature. The
    noise is a function of the numbers in ``draw``, the position and the column, whatever else is in the batch.
    """
    keys = torch.tensor([_key(draw, position) for draw, position in rows], device=device)
    temperature = torch.tensor([draw.temperature for draw, _ in rows], dtype=torch.float64, device=device)
    uniform = _uniform(keys, torch.arange(columns, device=device))
    return -temperature[:, None] * torch.log(-torch.log(uniform))


def _key(draw: Draw, position: int) -> int:
    text = f"{draw.seed},{draw.sequence},{draw.forward},{position}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _uniform(keys: Tensor, counters: Tensor) -> Tensor:
    """Uniform numbers in (0, 1), float64 [keys, counters]: SplitMix64's output function of key + counter * gamma."""

    def shifted(z: Tensor, bits: int) -> Tensor:  # logical shift of a signed integer
        return (z >> bits) & ((1 << (64 - bits)) - 1)

    z = keys[:, None] + (counters + 1)[None] * -7046029254386353131  # 0x9E3779B97F4A7C15
    z = (z ^ shifted(z, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    z = (z ^ shifted(z, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    z = z ^ shifted(z, 31)
    return (shifted(z, 12).double() + 0.5) * 2.0**-52
