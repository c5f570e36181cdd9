"""A transformer over flat batches: joined weights and the fused kernels between its matrix products."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from odb_dllm.fast.weights import join_layers, paths_of
from odb_dllm.kernels import add_rms_norm, gated, rotate_store
from odb_dllm.models.layers import rotary_table

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries [n, H, h], a layer's keys and values -> [n, H * h]
LEAST_POSITIONS = 4096  # of the rotary tables


@dataclass(frozen=True)
class Fed:
    """The fed tokens of a batch, flat: int32 [n] each, and what is read of them."""

    tokens: Tensor
    positions: Tensor
    rows: Tensor  # of the pool, where each token's key and value go
    slots: Tensor  # in that row; -1: nowhere
    read: Tensor  # [t], tokens at which predictions are read


class FastNetwork:
    """The function of ``network``, over the same memory.

    Raises:
        ValueError: a network whose parts are not known (``refusal`` says so beforehand).
    """

    def __init__(self, network: Any) -> None:
        paths = paths_of(network)
        if paths is None or refusal(network) is not None:
            raise ValueError(refusal(network))
        self.config = network.config
        self.embedding = network.get_submodule(paths.embedding)
        self.norm = network.get_submodule(paths.norm)
        self.layers = join_layers(network, paths)
        self._tables: tuple[Tensor, Tensor] | None = None

    def rotary(self, length: int) -> tuple[Tensor, Tensor]:
        """Cos and sin of at least the first ``length`` positions, float32 [positions, head]."""
        if self._tables is None or len(self._tables[0]) < length:
            count = max(LEAST_POSITIONS, 1 << (length - 1).bit_length())
            positions = torch.arange(count, device=self.embedding.weight.device)
            cos, sin = rotary_table(positions, self.config.head, self.config.rope_theta)
            self._tables = cos[0], sin[0]
        return self._tables

    def hidden(self, fed: Fed, rotary: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, attend: Attend) -> Tensor:
        """Hidden states after the final norm at the tokens that are read, [t, d].

        Args:
            rotary: from ``rotary``, as long as the positions need.
            keys, values: [layers, R, K, S, h], a pool that gets the fed tokens' own before ``attend`` is asked.
        """
        x: Tensor = self.embedding(fed.tokens)
        delta: Tensor | None = None
        for layer, layer_keys, layer_values in zip(self.layers, keys, values, strict=True):
            x, y = add_rms_norm(x, delta, layer.attention_norm.weight, layer.attention_norm.eps)
            qkv = F.linear(y, layer.qkv, layer.qkv_bias)
            q = rotate_store(qkv, *rotary, fed.positions, fed.rows, fed.slots, layer_keys, layer_values)
            delta = layer.attention_out(attend(q, layer_keys, layer_values))
            x, y = add_rms_norm(x, delta, layer.mlp_norm.weight, layer.mlp_norm.eps)
            delta = layer.mlp_out(gated(F.linear(y, layer.gate_up)))
        assert delta is not None
        x, delta = x.index_select(0, fed.read), delta.index_select(0, fed.read)
        return add_rms_norm(x, delta, self.norm.weight, self.norm.eps)[1]


def refusal(network: Any) -> str | None:
    """Why ``FastNetwork`` cannot run a network; None where it can."""
    if paths_of(network) is None:
        return f"{type(network).__name__} does not say which of its parts is which"
    if not getattr(network.config, "rope_full_precision", True):
        return "its rotary embedding is computed in less than float32"
    return None
