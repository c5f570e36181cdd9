"""Unmasking rules: which of a block's masked positions become tokens after a forward.

A rule is a function of the confidences at the masked positions and of where the generation stands. It returns
True for each position to unmask. Fast-dLLM (arXiv 2505.22618) section 3.3 has threshold and factor,
Streaming-dLLM (2601.17917) section 3.3 the dynamic threshold.
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


Rule = Callable[[Floats, Moment], Bools]  # (log confidences [m] by position, moment) -> [m]


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
    share, rest = divmod(moment.block_masks, moment.setting.steps_per_block)
    return top(score, share + (moment.step < rest))


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


RULES: dict[str, Rule] = {"quota": quota, "threshold": threshold, "factor": factor, "dynamic": dynamic}
