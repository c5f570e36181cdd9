"""The kernels in plain torch: what they compute, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor

from odb_dllm.confidence import score_rows
from odb_dllm.kernels.view import View
from odb_dllm.models.layers import rotate


def add_rms_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """As ``odb_dllm.kernels.add_rms_norm``."""
    x = x if delta is None else x + delta
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return x, weight * wide.to(x.dtype)


def rotate_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, rows: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """As ``odb_dllm.kernels.rotate_store``."""
    _, kv_heads, _, head = keys.shape
    q, k, v = qkv.unflatten(-1, (-1, head)).split((qkv.shape[-1] // head - 2 * kv_heads, kv_heads, kv_heads), dim=1)
    table = cos[positions, None], sin[positions, None]
    kept = slots >= 0
    at = rows[kept], slots[kept]
    keys.transpose(1, 2)[at] = rotate(k, *table)[kept]
    values.transpose(1, 2)[at] = v[kept]
    return rotate(q, *table)


def gated(gate_up: Tensor) -> Tensor:
    """As ``odb_dllm.kernels.gated``."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def attend(q: Tensor, keys: Tensor, values: Tensor, view: View) -> Tensor:
    """As ``odb_dllm.kernels.attend``."""
    batch, width = view.fed.shape
    padding = view.fed < 0
    visible = visibility(view, keys.shape[2]) | padding[:, :, None]  # a softmax over nothing is NaN
    seen_keys, seen_values = keys[view.rows], values[view.rows]
    out = F.scaled_dot_product_attention(
        q.unflatten(0, (batch, width)).transpose(1, 2),
        seen_keys,
        seen_values,
        attn_mask=visible[:, None],
        enable_gqa=q.shape[1] != keys.shape[1],
    )
    return out.transpose(1, 2).flatten(2).masked_fill(padding[:, :, None], 0).flatten(0, 1)


def visibility(view: View, slots: int) -> Tensor:
    """Which fed token sees which slot of its row, bool [b, w, slots]."""
    batch, width = view.fed.shape
    slot = torch.arange(slots, device=view.fed.device)
    first, last = view.ranges[:, :, None].unbind(-1)  # [b, RANGES, 1]
    cached = ((slot >= first) & (slot < last)).any(dim=1)
    visible = F.pad(cached, (0, 1))[:, None].repeat(1, width, 1)  # one column more, for padding's keys
    each_other = (view.branch[:, :, None] == view.branch[:, None]) | (view.shared != 0)[:, None]
    at = torch.where(view.fed < 0, slots, view.fed).long()
    return visible.scatter_(2, at[:, None].expand(batch, width, width), each_other)[:, :, :slots]


def judge(logits: Tensor, mask: int, vocabulary: int) -> Tensor:
    """As ``odb_dllm.kernels.judge``."""
    token, log_confidence, finite = score_rows(logits, mask=mask, vocabulary=vocabulary)
    bits = log_confidence.view(torch.int64)
    return torch.stack([token, bits, bits, finite.long()])
