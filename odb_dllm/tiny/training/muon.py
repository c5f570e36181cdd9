"""Muon: momentum whose updates are made orthogonal (Jordan et al., 2024), for the matrices of the blocks."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Of the odd polynomial that drives all singular values towards 1, fast rather than exactly.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices of about orthonormal rows or columns with the same singular vectors, bfloat16 [count, rows, columns]."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Matrices of one shape are updated together, in a few kernels; ``lr`` may be a tensor, for CUDA graphs."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float | Tensor, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for param in params:
            shapes.setdefault(param.shape, []).append(param)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": same} for same in shapes.values()], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all matrices by their gradients."""
        assert closure is None
        for group in self.param_groups:
            params: list[Tensor] = group["params"]
            gradients = torch.stack([param.grad for param in params if param.grad is not None])
            state = self.state[params[0]]
            if not state:
                state["momentum"] = torch.zeros_like(gradients)
            average = state["momentum"].lerp_(gradients, 1 - group["momentum"])
            update = orthogonalise(gradients.lerp(average, group["momentum"])).float()  # Nesterov's
            rows, columns = update.shape[-2:]
            update = update * (max(1.0, rows / columns) ** 0.5) + torch.stack(params) * group["weight_decay"]
            torch._foreach_sub_(params, list((update * group["lr"]).unbind()))
