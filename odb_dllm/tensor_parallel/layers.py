"""Linear layers that hold a rank's share of a weight and complete their results with the other ranks.

Both are ``nn.Linear`` of local sizes. Who fuses weights may read theirs, but must call the module (or its ``peers``),
since its product alone is a part.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from odb_dllm.tensor_parallel.peers import Peers


class SummedLinear(nn.Linear):
    """Holds some input features of each output: the ranks' products are summed, the bias is added once."""

    def __init__(self, in_features: int, out_features: int, bias: bool, peers: Peers) -> None:
        super().__init__(in_features, out_features, bias)
        self.peers = peers

    def forward(self, x: Tensor) -> Tensor:
        """The share's input [..., in_features] -> the whole output [..., out_features], the same on all ranks."""
        y = self.peers.sum(F.linear(x, self.weight))
        return y if self.bias is None else y + self.bias


class GatheredLinear(nn.Linear):
    """Holds some output features: the ranks' products are joined to ``width`` columns."""

    def __init__(self, in_features: int, out_features: int, bias: bool, peers: Peers, width: int) -> None:
        super().__init__(in_features, out_features, bias)
        self.peers, self.width = peers, width

    def forward(self, x: Tensor) -> Tensor:
        """The input [..., in_features] -> the whole output [..., width], the same on all ranks."""
        return self.peers.gather(super().forward(x), self.width)
