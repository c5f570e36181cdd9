"""Unmasking rules: which of a block's masked positions become tokens after a forward.

A rule is a function of the confidences at the masked positions and of where the generation stands. It returns
True for each position to unmask. Fast-dLLM (arXiv 2505.22618) section 3.3 has threshold and factor,
Streaming-dLLM (2601.17917) section 3.3 the dynamic threshold; schedule and carry are those of Dream (2508.15487).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from odb_dllm.contract import Bools, Floats

if TYPE_CHECKING:
    from odb_dllm.settings import Setting


@dataclass(frozen=True)
class Moment:
    """Where a generation stands when a rule is asked."""

    setting: "Setting"
    step: int  # forwards of this block before this one
    block_masks: int  # masks of the block before its first forward
    refresh: bool  # this forward was a refresh
    masked_share: float  # masked tokens fed / tokens fed
    opened: int = 0  # masks that the block's first forward took without asking a rule


Rule = Callable[[Floats, Moment], Bools]  # (log confidences or other scores [m] by position, moment) -> [m]
SCHEDULE_END = 1e-3  # Dream's noise level at the last step, 1 being the first


def top(score: Floats, count: int) -> Bools:
    """True at the ``count`` highest of ``score`` [m]; of equal ones, the first."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score, kind="stable")[:count]] = True
    return chosen


def at_least(log_confidence: Floats, threshold: float) -> Bools:
    """True where the confidence reaches ``threshold``, and always at the most confident position."""
    return (np.exp(log_confidence) >= threshold) | top(log_confidence, 1)


def quota(score: Floats, moment: Moment) -> Bools:
    """Spread the block's masks evenly over its steps, the earlier ones taking one more where it does not divide."""
    steps = max(1, moment.setting.steps_per_block - moment.opened)
    share, rest = divmod(moment.block_masks - moment.opened, steps)
    return top(score, share + (moment.step - moment.opened < rest))


def threshold(log_confidence: Floats, moment: Moment) -> Bools:
    """Every position whose confidence reaches the threshold."""
    assert moment.setting.threshold is not None
    return at_least(log_confidence, moment.setting.threshold)


def factor(log_confidence: Floats, moment: Moment) -> Bools:
    """The longest confident prefix: the n-th most confident must reach 1 - factor / (n + 1)."""
    assert moment.setting.factor is not None
    m = len(log_confidence)
    limits = 1 - moment.setting.factor / (np.arange(1, m + 1) + 1)
    limits[0] = -1
    below = np.flatnonzero(np.sort(np.exp(log_confidence))[::-1] < limits)
    count = int(below[0]) if len(below) else m - 1
    # As published: the very last position is accepted even where it fails.
    return top(log_confidence, count + 1 if count in (0, m - 1) else count)


def dynamic(log_confidence: Floats, moment: Moment) -> Bools:
    """The threshold sinks as fewer of the fed tokens are masked; a refresh keeps it as it is."""
    setting = moment.setting
    assert setting.threshold is not None
    assert setting.confidence_alpha is not None
    scale = 1.0 if moment.refresh else 1 - setting.confidence_alpha * (1 - moment.masked_share)
    return at_least(log_confidence, setting.threshold * scale)


def schedule(score: Floats, moment: Moment) -> Bools:
    """Dream's schedule: of m masks, int(m * (1 - t' / t)) go, t falling evenly from 1 to 0.001; all at the last step.

    The only rule that may take nothing: rounding down leaves some steps without a position.
    """
    steps, m = moment.setting.steps_per_block, len(score)
    if moment.step >= steps - 1:
        return np.ones(m, bool)
    now, later = (1 - (1 - SCHEDULE_END) * step / steps for step in (moment.step, moment.step + 1))
    return top(score, int(m * (1 - later / now)))


def carry(log_confidence: Floats, moment: Moment) -> Bools:
    """A quota with a threshold: what a step refuses of its share is carried to the next, and all is open at last.

    Share and carry together are what the shares so far come to, less what was taken.
    """
    setting, m = moment.setting, len(log_confidence)
    assert setting.threshold is not None
    share = moment.block_masks // setting.steps_per_block
    taken = moment.block_masks - m
    last = moment.step >= setting.steps_per_block - 1
    allowed = m if last else min(m, max(1, share * (moment.step + 1) - taken))
    return top(log_confidence, allowed) & at_least(log_confidence, setting.threshold)


RULES: dict[str, Rule] = {
    "quota": quota,
    "threshold": threshold,
    "factor": factor,
    "dynamic": dynamic,
    "schedule": schedule,
    "carry": carry,
}
