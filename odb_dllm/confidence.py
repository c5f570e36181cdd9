"""From logits to tokens and confidences, without ever leaving the device or making a float64 softmax."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from odb_dllm.contract import Draw


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
