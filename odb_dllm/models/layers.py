"""Parts that every model family shares: RMSNorm, rotary positions, attention over a KV cache, SwiGLU."""

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# How linear layers are cut for tensor parallelism: {end of a layer's name: (dimension of its weight, by what)}, with 0
# for outputs and 1 for inputs. What is not named is whole on every rank.
Axis = Literal["heads", "kv_heads", "units", "vocabulary"]
Shards = Mapping[str, tuple[Literal[0, 1], Axis]]


class LayerCache(Protocol):
    """Where attention layers put new keys and values, and get back all those that they attend to."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take rotated keys and values [..., kv_heads, n, head]; return those to attend to [..., kv_heads, m, head]."""
        ...


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 whatever the model's dtype: cast, normalise, cast back, scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotary_table(positions: Tensor, head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin, float32 [..., 1, n, head], of half-split rotary embedding at ``positions`` [..., n]."""
    steps = torch.arange(0, head, 2, device=positions.device, dtype=torch.float32)
    frequency = 1.0 / (theta ** (steps / head))
    angle = positions.float()[..., None] * frequency  # [..., n, head/2]
    angle = torch.cat((angle, angle), dim=-1).unsqueeze(-3)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys [..., heads, n, head]; computed in the dtype of ``cos``, returned in ``x``'s."""
    wide = x.to(cos.dtype)
    left, right = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-right, left), dim=-1) * sin).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, grouped: bool) -> Tensor:
    """Attention of queries [..., heads, n, head] to keys and values [..., kv_heads, m, head]; mask True = attends."""
    if q.dim() == 4:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
    # Without a batch dimension, torch takes none of its fast kernels.
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=grouped)[0]


def attention(
    qkv: tuple[Tensor, Tensor, Tensor],
    head: int,
    rotary: tuple[Tensor, Tensor],
    kv: LayerCache | None,
    layer: int,
    mask: Tensor | None,
) -> Tensor:
    """Multi-head attention of projected queries, keys and values [..., n, their width], before the output projection.

    Args:
        head: width of one head; keys and values may have fewer heads than queries.
        rotary: cos and sin of the positions, from ``rotary_table``.
        kv: takes this layer's new keys and values and answers with those to attend to; None: the input's own.
        mask: bool, broadcastable to [..., heads, n, m]; True where a query attends to a key. None = all.

    Returns:
        [..., n, heads * head].
    """
    q, k, v = (x.unflatten(-1, (-1, head)).transpose(-3, -2) for x in qkv)  # [..., heads, n, head]
    q, k = rotate(q, *rotary), rotate(k, *rotary)
    grouped = q.shape[-3] != k.shape[-3]
    if kv is not None:
        k, v = kv.update(layer, k, v)
    return attend(q, k, v, mask, grouped).transpose(-3, -2).flatten(-2)


def swiglu(x: Tensor, gate: nn.Module, up: nn.Module, down: nn.Module) -> Tensor:
    """The gated MLP [..., width] -> [..., width]."""
    return down(F.silu(gate(x)) * up(x))
