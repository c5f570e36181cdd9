"""What the queries of a batch see in a pool of keys and values."""

from dataclasses import dataclass

from torch import Tensor

RANGES = 4  # of cached slots, at most, that a sequence sees


@dataclass(frozen=True)
class View:
    """A batch of b sequences, each padded to w fed tokens, over the rows of a pool; int32 tensors on its device.

    The numbers may change between two replays of a CUDA graph; the shapes and ``max_cached`` may not. The ranges of a
    sequence lie apart from each other and from its fed slots. A token sees every slot in its sequence's ranges, and
    fed token j where both are of one branch or j is shared.
    """

    rows: Tensor  # [b], row of the pool of each sequence
    ranges: Tensor  # [b, RANGES, 2], cached slots [first, one past the last) that all its tokens see; empty: 0, 0
    fed: Tensor  # [b, w], slots of the fed tokens' own keys; -1: padding
    branch: Tensor  # [b, w], branch of each fed token
    shared: Tensor  # [b, w], not 0: seen by the tokens of all branches
    max_cached: int  # about how many cached slots a sequence sees at most; the speed depends on it, the result does not
