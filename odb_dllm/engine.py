"""The engine answers ``Forward`` requests: it owns the weights and the KV caches, and knows nothing of settings.

Keys are cached after rotation, in the slots of their true positions. Tokens that are not stored go to the slots
behind everything that is, so that attention reads one stretch of the cache and nothing is concatenated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odb_dllm.confidence import gumbel, score_rows
from odb_dllm.contract import Bools, Forward, Ints, Prediction
from odb_dllm.models.loading import DiffusionModel

# Logits that exist at one time. On the CPU, larger blocks would come from and go back to the system at each use.
LOGITS_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}


class KVCache:
    """Static keys and values of one sequence, [layers, kv_heads, slots, head] each."""

    def __init__(self, model: DiffusionModel, slots: int) -> None:
        layers, heads, width = model.kv_shape
        # Zeros, not empty: a slot that is masked still takes part with weight 0, and 0 * NaN is NaN.
        self.keys = torch.zeros(layers, heads, slots, width, device=model.device, dtype=model.dtype)
        self.values = torch.zeros_like(self.keys)
        self.stored = 0  # one past the last slot that holds stored keys

    @property
    def slots(self) -> int:
        return self.keys.shape[2]


@dataclass
class CacheView:
    """One forward's way into a cache: the slots that it writes, and how far it reads."""

    cache: KVCache
    slots: slice | Tensor  # of the fed tokens that are written
    written: slice | Tensor  # which of the fed tokens those are
    read: int | None  # attend to slots [0, read); None: to the fed tokens themselves

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[:, self.slots] = k[:, self.written]
        values[:, self.slots] = v[:, self.written]
        return (k, v) if self.read is None else (keys[:, : self.read], values[:, : self.read])


class Engine:
    """Runs forwards of one model. Not thread-safe."""

    def __init__(self, model: DiffusionModel) -> None:
        self.model = model

    def open(self, slots: int) -> KVCache | None:
        """Allocate a cache for one sequence; None for 0 slots."""
        return KVCache(self.model, slots) if slots else None

    @torch.inference_mode()
    def answer(self, requests: Sequence[tuple[KVCache | None, Forward]]) -> list[Prediction]:
        """Answer requests of different sequences; one copy brings all predictions to the host."""
        packed = [self._score(forward, self._hidden(cache, forward)) for cache, forward in requests]
        host = torch.cat(packed, dim=1).cpu().numpy()
        ends = np.cumsum([len(forward.targets) for _, forward in requests])
        return [
            Prediction(part[0], part[1].copy().view(np.float64), part[2].astype(bool))
            for part in np.split(host, ends[:-1], axis=1)
        ]

    def _hidden(self, cache: KVCache | None, forward: Forward) -> Tensor:
        """Hidden states at the targets, [t, width], or [2, t, width] with and without guidance's condition."""
        view, mask = self._attention(cache, forward)
        rows = self._ints(target_rows(forward, self.model.network.shift))
        positions = self._ints(forward.positions)
        hidden = self.model.network(self._ints(forward.tokens), positions, view, mask)[rows]
        if forward.guidance is None:
            return hidden
        free = self.model.network(self._ints(forward.guidance.tokens), positions, None, mask)[rows]
        return torch.stack([hidden, free])

    def _attention(self, cache: KVCache | None, forward: Forward) -> tuple[CacheView | None, Tensor | None]:
        """Place the fed tokens in the cache, and say who sees whom where that is not everyone."""
        alone = not forward.sees and forward.branch is None
        if cache is None or (alone and forward.store is None):
            assert alone, "a forward that sees cached positions or has branches needs a cache"
            return None, None
        plan = place(forward, cache.stored, cache.slots)
        cache.stored = plan.stored
        view = CacheView(cache, self._index(plan.slots), self._index(plan.written), plan.read)
        mask = None if plan.visible is None else torch.from_numpy(plan.visible).to(self.model.device)
        return view, mask

    def _score(self, forward: Forward, hidden: Tensor) -> Tensor:
        """Token, log confidence (its bits) and finiteness of each target, int64 [3, t]."""
        model = self.model
        rows = max(1, LOGITS_BYTES[model.device.type] // (model.vocab_size * hidden.element_size()))
        labels = None if forward.labels is None else self._ints(forward.labels)
        parts = []
        for first in range(0, len(forward.targets), rows):
            chunk = slice(first, first + rows)
            noise = None
            if forward.draw is not None:
                where = forward.targets[chunk, 1].tolist()
                noise = gumbel(forward.draw, where, model.vocab_size, model.device)
            if forward.guidance is None:
                logits = model.network.logits(hidden[chunk])
            else:
                given, free = (model.network.logits(part[chunk]) for part in hidden)
                logits = free + (forward.guidance.scale + 1) * (given - free)
            token, log_confidence, finite = score_rows(
                logits,
                mask=model.ids.mask,
                vocabulary=model.predictable,
                labels=None if labels is None else labels[chunk],
                noise=noise,
            )
            parts.append(torch.stack([token, log_confidence.view(torch.int64), finite.long()]))
        return torch.cat(parts, dim=1) if parts else self._ints(np.empty((3, 0), np.int64))

    def _ints(self, array: Ints) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(self.model.device)

    def _index(self, at: Ints) -> slice | Tensor:
        """Ascending neighbours as a slice, which copies without an index."""
        if len(at) and at[-1] - at[0] + 1 == len(at) and (np.diff(at) == 1).all():
            return slice(int(at[0]), int(at[-1]) + 1)
        return self._ints(at)


@dataclass(frozen=True)
class Placement:
    """Where a forward's keys go in the cache, and what its queries see."""

    slots: Ints  # [w]
    written: Ints  # [w], indices of fed tokens
    stored: int
    read: int | None
    visible: Bools | None  # [n, read]; None: everything


def place(forward: Forward, stored: int, slots: int) -> Placement:
    """Plan one forward over a cache in which everything below ``stored`` may be in use.

    Raises:
        ValueError: the cache has too few slots, or several branches were to be stored.
    """
    n = len(forward)
    first, last = forward.store or (0, 0)
    kept = (forward.positions >= first) & (forward.positions < last)
    if kept.any() and forward.branch is not None:
        raise ValueError("only a forward of a single branch can be stored")
    stored = min(stored, forward.end)
    if kept.any():
        stored = max(stored, int(forward.positions[kept].max()) + 1)
    if not forward.sees and forward.branch is None:  # it sees itself alone: no need to read the cache
        return Placement(forward.positions[kept], np.flatnonzero(kept), stored, None, None)

    at = forward.positions.copy()
    at[~kept] = stored + np.arange(n - kept.sum())
    read = int(max(at.max() + 1, max((last for _, last in forward.sees), default=0)))
    if read > slots:
        raise ValueError(f"a cache of {slots} slots cannot hold {read}")
    seen = np.zeros(read, bool)
    for first, last in forward.sees:
        seen[first:last] = True
    visible: Bools | None = np.repeat(seen[None], n, axis=0)
    assert visible is not None
    visible[:, at] = True if forward.branch is None else sees_fed(forward)
    return Placement(at, np.arange(n), stored, read, None if visible.all() else visible)


def sees_fed(forward: Forward) -> Bools:
    """Which fed tokens see which, bool [n, n]."""
    assert forward.branch is not None
    same = forward.branch[:, None] == forward.branch[None, :]
    return same if forward.shared is None else same | forward.shared[None, :]


def target_rows(forward: Forward, shift: int) -> Ints:
    """Row of the fed tokens at which each target's prediction is read, int64 [t].

    Raises:
        ValueError: a target that was not fed.
    """
    branch = np.zeros(len(forward), np.int64) if forward.branch is None else forward.branch
    width = int(forward.positions.max(initial=0)) + 1
    fed = branch * width + forward.positions
    wanted = forward.targets[:, 0] * width + forward.targets[:, 1] - shift
    order = np.argsort(fed, kind="stable")
    rows = order[np.searchsorted(fed, wanted, sorter=order).clip(max=max(len(order) - 1, 0))]
    if not (fed[rows] == wanted).all():
        raise ValueError("a target's position was not fed")
    return rows
