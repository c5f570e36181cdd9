"""Forwards of many tokens at their exact sizes: sequences one behind the other, without padding, mostly without masks.

From about a thousand tokens on they are bound by arithmetic, and launches hide behind it. Whole canvases that are
shorter wait for launches, but come in too many lengths for graphs.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from odb_dllm.contract import Bools, Forward, Ints
from odb_dllm.engine import KVCache, assign, place, reads_cache, target_rows
from odb_dllm.fast.network import FastNetwork, Fed
from odb_dllm.models.loading import DiffusionModel

Asked = tuple[KVCache | None, Forward]


@dataclass(frozen=True)
class Part:
    """One sequence of the batch: where its keys are, and what its queries see of them."""

    row: int  # of the pool
    slots: Ints  # [n]
    stored: int
    first: int  # queries see slots [first, last) ...
    last: int
    mask: Bools | None  # ... bool [n or 1, last - first], where they do not see them all


def fits(cache: KVCache | None, forward: Forward) -> bool:
    """Whether a forward belongs here: not where tokens that see themselves alone find no room behind what is stored."""
    return cache is None or reads_cache(forward) or assign(forward, cache.stored)[0].max(initial=0) < cache.slots


def plan(cache: KVCache | None, forward: Forward, row: int) -> Part:
    """Plan one sequence; without a cache, its keys go to row ``row`` of a pool that lasts for this forward alone.

    Raises:
        ValueError: the cache has too few slots.
    """
    n = len(forward)
    if cache is None:
        return Part(row, np.arange(n), 0, 0, n, None)
    if reads_cache(forward):
        placed = place(forward, cache.stored, cache.slots)
        assert placed.read is not None
        return Part(cache.row, placed.slots, placed.stored, 0, placed.read, placed.visible)
    slots, _, stored = assign(forward, cache.stored)
    first, last = int(slots.min()), int(slots.max()) + 1
    mask = None
    if last - first != n:  # a pruned canvas leaves a gap
        mask = np.zeros((1, last - first), bool)
        mask[0, slots - first] = True
    return Part(cache.row, slots, stored, first, last, mask)


def hidden_states(model: DiffusionModel, network: FastNetwork, asked: Sequence[Asked]) -> Tensor:
    """Hidden states at all targets, in the order of the requests, [t, d].

    Args:
        asked: requests of one pool, or without any.
    """
    parts = [plan(cache, forward, row) for row, (cache, forward) in enumerate(asked)]
    for (cache, _), part in zip(asked, parts, strict=True):
        if cache is not None:
            cache.stored = part.stored
    forwards = [forward for _, forward in asked]
    ends = np.cumsum([len(forward) for forward in forwards])
    starts = ends - [len(forward) for forward in forwards]
    rows = np.repeat([part.row for part in parts], ends - starts)
    read = [target_rows(forward, model.network.shift) + start for forward, start in zip(forwards, starts, strict=True)]
    fed = _fed(
        [forward.tokens for forward in forwards],
        [forward.positions for forward in forwards],
        [rows],
        [part.slots for part in parts],
        read,
        device=model.device,
    )
    length = max(int(forward.positions.max(initial=0)) for forward in forwards) + 1
    keys, values = _pool(model, asked)
    attend = _Attention(parts, list(zip(starts.tolist(), ends.tolist(), strict=True)), model.device)
    return network.hidden(fed, network.rotary(length), keys, values, attend)


def _fed(*fields: Sequence[Ints], device: torch.device) -> Fed:
    """The fields in one copy to the device."""
    joined = [np.concatenate(field) for field in fields]
    packed = torch.from_numpy(np.concatenate(joined).astype(np.int32)).to(device)
    return Fed(*packed.split([len(field) for field in joined]))


def _pool(model: DiffusionModel, asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
    """The keys and values of the requests' pool; without any, one layer that all layers use in turn."""
    cache = asked[0][0]
    if cache is not None:
        return cache.pool.keys, cache.pool.values
    layers, heads, head = model.kv_shape
    width = max(len(forward) for _, forward in asked)
    one = torch.empty(2, 1, len(asked), heads, width, head, device=model.device, dtype=model.dtype)
    keys, values = one.expand(2, layers, -1, -1, -1, -1)
    return keys, values


class _Attention:
    """Each sequence by itself, over its own stretch of the pool."""

    def __init__(self, parts: Sequence[Part], spans: Sequence[tuple[int, int]], device: torch.device) -> None:
        self._parts = [
            (part, span, None if part.mask is None else torch.from_numpy(part.mask).to(device))
            for part, span in zip(parts, spans, strict=True)
        ]

    def __call__(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        made = []
        for part, (start, end), mask in self._parts:
            k, v = (each[part.row : part.row + 1, :, part.first : part.last] for each in (keys, values))
            with _kernels(mask):
                out = F.scaled_dot_product_attention(
                    q[start:end].transpose(0, 1)[None], k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
                )
            made.append(out[0].transpose(0, 1).flatten(1))  # [n, H * h]
        return made[0] if len(made) == 1 else torch.cat(made)


def _kernels(mask: Tensor | None) -> AbstractContextManager[None]:
    """Attention without cuDNN, which plans anew for every length that it meets, where others do as well."""
    if mask is not None:
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
