"""Stop patterns: where an answer ends, as predicted by the model (adaptive length) and as written (early exit).

Adaptive length prediction is section 3.2 of ODB-dLLM (arXiv 2511.21759).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from odb_dllm.contract import Bools, Floats, Ints

EOS_GUARD = 128  # positions in which length prediction overlooks an EOS, where the guard is on


@dataclass(frozen=True)
class StopRule:
    """What ends an answer: token patterns (EOS among them) and how surely they must be predicted."""

    patterns: tuple[tuple[int, ...], ...]
    eos: tuple[int, ...]  # the ids that count as EOS; the first is the one that fills
    theta: float = 0.9
    eos_guard: bool = False


def match_starts(tokens: Ints, pattern: Sequence[int], allowed: Bools | None = None) -> Ints:
    """Offsets in ``tokens`` [n] where ``pattern`` begins, with every one of its tokens at an allowed offset."""
    starts = len(tokens) - len(pattern) + 1
    if starts < 1:
        return np.empty(0, np.int64)
    hit = np.ones(starts, bool)
    for i, token in enumerate(pattern):
        hit &= tokens[i : i + starts] == token
        if allowed is not None:
            hit &= allowed[i : i + starts]
    return np.flatnonzero(hit)


def first_match(tokens: Sequence[int] | Ints, patterns: Sequence[Sequence[int]]) -> int | None:
    """Offset at which the first whole stop pattern begins in ``tokens``; None where there is none."""
    array = np.asarray(tokens, np.int64)
    firsts = [int(starts[0]) for pattern in patterns if len(starts := match_starts(array, pattern))]
    return min(firsts, default=None)


def first_predicted(tokens: Ints, confidence: Floats, rule: StopRule, horizon: int) -> int | None:
    """Offset of the first stop pattern among predictions [n], all of its tokens with confidence >= theta.

    ``horizon`` is R: the canvas length that was last found, which limits the EOS guard.
    """
    allowed = confidence >= rule.theta
    if rule.eos_guard:
        guarded = min(EOS_GUARD, horizon)
        allowed[:guarded] &= ~np.isin(tokens[:guarded], rule.eos)
    firsts = [int(starts[0]) for p in rule.patterns if len(starts := match_starts(tokens, p, allowed))]
    return min(firsts, default=None)


def first_mass(tokens: Ints, confidence: Floats, rule: StopRule) -> int | None:
    """Offset of the first EOS predicted from which on EOS holds a mean probability >= theta, whatever the task.

    Predictions [n] that are no EOS count as having given it nothing.
    """
    is_eos = np.isin(tokens, rule.eos)
    mass = np.cumsum((is_eos * confidence)[::-1])[::-1] / np.arange(len(tokens), 0, -1)
    starts = np.flatnonzero(is_eos & (mass >= rule.theta))
    return int(starts[0]) if len(starts) else None
