"""The engine answers ``Forward`` requests: it owns the weights and the KV caches, and knows nothing of settings.

Requests of different sequences are answered in one forward, padded to the longest. Keys are cached after rotation, in
the slots of their true positions. Tokens that are not stored go to the slots behind everything that is, so that
attention reads one stretch of the cache and nothing is concatenated.
"""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from odb_dllm.confidence import gumbel, rank_rows, score_rows, shape_rows
from odb_dllm.contract import Bools, Draw, Forward, Ints, Prediction, Score
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.prefixes import Prefixes

# Logits that exist at one time. On the CPU, larger blocks would come from and go back to the system at each use.
LOGITS_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}


class Pool:
    """Static keys and values for several sequences, [layers, rows, kv_heads, slots, head] each, finite throughout."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.prefixes = Prefixes()
        self._free = list(range(keys.shape[1]))[::-1]

    @property
    def slots(self) -> int:
        return self.keys.shape[3]

    def open(self) -> "KVCache":
        """Lend an empty row to a sequence."""
        return KVCache(self, self._free.pop())

    def close(self, cache: "KVCache") -> None:
        """Take a row back, and clear it: what a failed sequence left there may not be finite."""
        self.clear(cache.row)
        self._free.append(cache.row)

    def clear(self, row: int) -> None:
        """Zero a row."""
        for part in (self.keys, self.values):
            part[:, row].zero_()


@dataclass(eq=False)
class KVCache:
    """The keys and values of one sequence: a row of a pool."""

    pool: Pool
    row: int
    stored: int = 0  # one past the last slot that holds stored keys

    @property
    def slots(self) -> int:
        return self.pool.slots

    def close(self) -> None:
        self.pool.close(self)


Asked = tuple[KVCache | None, Forward]
Index = slice | Tensor


@dataclass
class CacheView:
    """A batch's way into a pool: the slots that it writes, and how far it reads."""

    pool: Pool
    rows: Index  # of the sequences, in the batch's order
    put: tuple[Index, Index]  # rows and slots that are written
    take: tuple[Index, Index]  # which rows and fed tokens of the batch those are
    read: int | None  # attend to slots [0, read); None: to the fed tokens themselves

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values [b, kv_heads, n, head]; return those to attend to."""
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        keys.transpose(1, 2)[self.put] = k.transpose(1, 2)[self.take]
        values.transpose(1, 2)[self.put] = v.transpose(1, 2)[self.take]
        return (k, v) if self.read is None else (keys[self.rows, :, : self.read], values[self.rows, :, : self.read])


class Engine:
    """Runs forwards of one model. Not thread-safe."""

    capture_seconds = 0.0  # spent so far on preparing kinds of forward when they were first asked for

    def __init__(self, model: DiffusionModel) -> None:
        self.model = model
        self._tempered = bool(getattr(model.network, "tempered", False))

    def pool(self, rows: int, slots: int) -> Pool:
        """Allocate caches for ``rows`` sequences that are answered together."""
        return Pool(*empty(self.model, rows, slots))

    def open(self, slots: int) -> KVCache | None:
        """Allocate a cache for one sequence alone; None for 0 slots."""
        return self.pool(1, slots).open() if slots else None

    def clock(self) -> float:
        """Seconds, as time that is charged to generations passes.

        It stands while a kind of forward is prepared, and while a prefix is computed that sequences share.
        """
        return time.perf_counter() - self.capture_seconds - self.model.spent.seconds

    @torch.inference_mode()
    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        """Answer requests of different sequences; one copy brings all predictions to the host."""
        requests = [(cache if uses_cache(forward) else None, forward) for cache, forward in requests]
        for cache, forward in requests:
            if cache is not None and forward.prefix is not None:
                self._begin(cache, forward.prefix)
        groups: dict[Hashable, list[int]] = {}
        for index, asked in enumerate(requests):
            groups.setdefault(self._kind(*asked), []).append(index)
        order = [index for group in groups.values() for index in group]
        packed = [self._batch([requests[index] for index in group]) for group in groups.values()]
        made = predictions(torch.cat(packed, dim=1).cpu().numpy(), [requests[index][1] for index in order])
        answers = dict(zip(order, made, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _begin(self, cache: KVCache, tokens: Ints) -> None:
        """Put a prefix into an empty cache: one that the pool remembers, or one that is computed now, by itself."""
        n = len(tokens)
        forward = Forward("refresh", tokens, np.arange(n), np.empty((0, 2), np.int64), n, store=(0, n))

        def compute() -> None:
            started, spent = time.perf_counter(), self.model.spent
            self._batch([(cache, forward)])
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)
            spent.forwards, spent.tokens = spent.forwards + 1, spent.tokens + n
            spent.seconds += time.perf_counter() - started

        slots = [part[:, cache.row, :, :n] for part in (cache.pool.keys, cache.pool.values)]
        cache.pool.prefixes.fill(tokens, slots, compute)
        cache.stored = n

    def _kind(self, cache: KVCache | None, forward: Forward) -> Hashable:
        """What requests must have in common to be answered in one forward."""
        assert cache is not None or not uses_cache(forward), "what is cached, or has branches, needs a cache"
        guidance = None if forward.guidance is None else forward.guidance.scale
        draw = forward.draw and (forward.draw.temperature > 0, forward.draw.top_p, forward.draw.top_k)
        return id(cache and cache.pool), reads_cache(forward), guidance, forward.labels is None, draw, forward.score

    def _batch(self, asked: Sequence[Asked]) -> Tensor:
        """Answer requests of one kind in one forward: what ``_score`` gives for all of their targets."""
        forwards = [forward for _, forward in asked]
        width = max(map(len, forwards))
        view, mask = self._attention(asked, width)
        rows = np.concatenate(
            [i * width + target_rows(forward, self.model.network.shift) for i, forward in enumerate(forwards)]
        )
        positions = self._padded([forward.positions for forward in forwards], width)
        tokens = self._padded([forward.tokens for forward in forwards], width)
        at = self._ints(rows)
        hidden = self.model.network(tokens, positions, view, mask).flatten(0, 1)[at]
        if forwards[0].guidance is not None:
            free = self._padded([forward.guidance.tokens for forward in forwards if forward.guidance], width)
            hidden = torch.stack([hidden, self.model.network(free, positions, None, mask).flatten(0, 1)[at]])
        return self._score(forwards, hidden)

    def _attention(self, asked: Sequence[Asked], width: int) -> tuple[CacheView | None, Tensor | None]:
        """Place the fed tokens in the caches, and say who sees whom where that is not everyone."""
        plans: list[Placement] = []
        for cache, forward in asked:
            if cache is not None:
                plans.append(place(forward, cache.stored, cache.slots))
                cache.stored = plans[-1].stored
        sizes = np.array([len(forward) for _, forward in asked])
        if not plans or plans[0].read is None:
            padded = None if (sizes == width).all() else np.arange(width) < sizes[:, None]
            visible = None if padded is None else padded[:, None, None]
        else:
            visible = _visible(plans, sizes, width)
        mask = None if visible is None else torch.from_numpy(visible).to(self.model.device)
        return self._view([cache for cache, _ in asked if cache is not None], plans), mask

    def _view(self, caches: list[KVCache], plans: list["Placement"]) -> CacheView | None:
        if not plans:
            return None
        read = None if plans[0].read is None else max(plan.read or 0 for plan in plans)
        rows = self._index(np.array([cache.row for cache in caches]))
        if len(plans) == 1:  # slices copy without an index
            put, take = self._index(plans[0].slots), self._index(plans[0].written)
            return CacheView(caches[0].pool, rows, (rows, put), (slice(0, 1), take), read)
        counts = [len(plan.slots) for plan in plans]
        put_rows = np.repeat([cache.row for cache in caches], counts)
        put_slots = np.concatenate([plan.slots for plan in plans])
        take_tokens = np.concatenate([plan.written for plan in plans])
        take_rows = np.repeat(np.arange(len(plans)), counts)
        put_, take_ = self._ints(np.stack([put_rows, put_slots])), self._ints(np.stack([take_rows, take_tokens]))
        return CacheView(caches[0].pool, rows, (put_[0], put_[1]), (take_[0], take_[1]), read)

    def _score(self, forwards: Sequence[Forward], hidden: Tensor) -> Tensor:
        """Token, log confidence and score (their bits) and finiteness of each target, int64 [4, t]."""
        model, first_forward = self.model, forwards[0]
        size = max(1, LOGITS_BYTES[model.device.type] // (model.vocab_size * hidden.element_size()))
        if first_forward.draw is not None:
            size = max(1, size // 4)  # noise, sorting and indices are several times the logits
        drawn, labels = [], None
        if first_forward.draw is not None:
            drawn = [(forward.draw, int(at)) for forward in forwards for at in forward.targets[:, 1] if forward.draw]
        if first_forward.labels is not None:
            labels = self._ints(np.concatenate([forward.labels for forward in forwards if forward.labels is not None]))
        parts = []
        for first in range(0, hidden.shape[-2], size):
            chunk = slice(first, first + size)
            if first_forward.guidance is None:
                logits = model.network.logits(hidden[chunk])
            else:
                given, free = (model.network.logits(part[chunk]) for part in hidden)
                logits = free + (first_forward.guidance.scale + 1) * (given - free)
            parts.append(
                self._judge(logits, first_forward.score, drawn[chunk], labels=None if labels is None else labels[chunk])
            )
        return torch.cat(parts, dim=1) if parts else self._ints(np.empty((4, 0), np.int64))

    def _judge(self, logits: Tensor, kind: Score, drawn: list[tuple[Draw, int]], labels: Tensor | None) -> Tensor:
        """Choose and score a token for each row of logits [r, columns], int64 [4, r] as in ``_score``."""
        model = self.model
        limits: dict[str, Any] = {"mask": model.ids.mask, "vocabulary": model.predictable}
        shaped, noise = logits, None
        if drawn and drawn[0][0].temperature > 0:
            noise = gumbel(drawn, model.vocab_size, model.device)
        if drawn:
            shaped = shape_rows(logits, [draw for draw, _ in drawn], tempered=self._tempered, **limits)
            if noise is not None and self._tempered:  # the logits have been divided by it already
                temperatures = [[draw.temperature] for draw, _ in drawn]
                noise /= torch.tensor(temperatures, device=model.device, dtype=noise.dtype)
        token, log_confidence, finite = score_rows(shaped, **limits, labels=labels, noise=noise)
        if shaped is not logits and not self._tempered:
            _, log_confidence, finite = score_rows(logits, **limits, labels=token)
            shaped = logits
        score = log_confidence if kind == "confidence" else rank_rows(shaped, kind)
        return torch.stack([token, log_confidence.view(torch.int64), score.view(torch.int64), finite.long()])

    def _padded(self, arrays: Sequence[Ints], width: int) -> Tensor:
        """Arrays of up to ``width`` numbers as rows, int64 [b, width], zeros behind them."""
        rows = np.zeros((len(arrays), width), np.int64)
        for row, array in zip(rows, arrays, strict=True):
            row[: len(array)] = array
        return self._ints(rows)

    def _ints(self, array: Ints) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(self.model.device)

    def _index(self, at: Ints) -> Index:
        """Ascending neighbours as a slice, which copies without an index."""
        if len(at) and at[-1] - at[0] + 1 == len(at) and (np.diff(at) == 1).all():
            return slice(int(at[0]), int(at[-1]) + 1)
        return self._ints(at)


def empty(model: DiffusionModel, rows: int, slots: int) -> tuple[Tensor, Tensor]:
    """Keys and values for a pool."""
    layers, heads, width = model.kv_shape
    # Zeros, not empty: a slot that is masked still takes part with weight 0, and 0 * NaN is NaN.
    keys = torch.zeros(layers, rows, heads, slots, width, device=model.device, dtype=model.dtype)
    return keys, torch.zeros_like(keys)


def predictions(packed: Ints, forwards: Sequence[Forward]) -> list[Prediction]:
    """What ``Engine._score`` gives, int64 [4, t], as a prediction for each of the forwards whose targets these are."""
    made, first = [], 0
    for forward in forwards:
        part = packed[:, first : first + len(forward.targets)]
        log_confidence, score = part[1:3].copy().view(np.float64)
        made.append(Prediction(part[0], log_confidence, part[3].astype(bool), score))
        first += len(forward.targets)
    return made


def reads_cache(forward: Forward) -> bool:
    """Whether attention goes through a cache; else the fed tokens see each other alone, all of them."""
    return bool(forward.sees) or forward.branch is not None


def uses_cache(forward: Forward) -> bool:
    """Whether a forward reads a cache or writes to it."""
    return reads_cache(forward) or forward.store is not None


def _visible(plans: Sequence["Placement"], sizes: Ints, width: int) -> Bools | None:
    """Which fed token of which sequence sees which slot, bool [b, 1, width, read]; None: everything."""
    read = max(plan.read or 0 for plan in plans)
    if (sizes == width).all() and all(plan.visible is None and plan.read == read for plan in plans):
        return None
    seen = np.zeros((len(plans), 1, width, read), bool)
    for rows, plan, size in zip(seen[:, 0], plans, sizes, strict=True):
        rows[:size, : plan.read] = True if plan.visible is None else plan.visible
        rows[size:, 0] = True  # padding sees something, since a softmax over nothing is NaN
    return seen


@dataclass(frozen=True)
class Placement:
    """Where a forward's keys go in the cache, and what its queries see."""

    slots: Ints  # [w]
    written: Ints  # [w], indices of fed tokens
    stored: int
    read: int | None
    visible: Bools | None  # [n, read], or [1, read] where it is the same for all; None: everything


def assign(forward: Forward, stored: int) -> tuple[Ints, Bools, int]:
    """Slots for the fed tokens of a forward over a cache in which everything below ``stored`` may be in use.

    Returns:
        Slots int64 [n]: the true positions of what is stored, and those behind everything stored for the rest; which
        tokens are stored, bool [n]; what ``stored`` is then.

    Raises:
        ValueError: several branches were to be stored.
    """
    first, last = forward.store or (0, 0)
    kept = (forward.positions >= first) & (forward.positions < last)
    stored = min(stored, forward.end)
    if kept.any():
        if forward.branch is not None:
            raise ValueError("only a forward of a single branch can be stored")
        stored = max(stored, int(forward.positions[kept].max()) + 1)
    at = forward.positions.copy()
    at[~kept] = stored + np.arange(len(forward) - kept.sum())
    return at, kept, stored


def place(forward: Forward, stored: int, slots: int) -> Placement:
    """Plan one forward over a cache in which everything below ``stored`` may be in use.

    Raises:
        ValueError: the cache has too few slots, or several branches were to be stored.
    """
    n = len(forward)
    at, kept, stored = assign(forward, stored)
    if not reads_cache(forward):  # it sees itself alone: no need to read the cache
        return Placement(at[kept], np.flatnonzero(kept), stored, None, None)

    read = int(max(at.max() + 1, max((last for _, last in forward.sees), default=0)))
    if read > slots:
        raise ValueError(f"a cache of {slots} slots cannot hold {read}")
    seen = np.zeros(read, bool)
    for first, last in forward.sees:
        seen[first:last] = True
    visible = seen[None] if forward.branch is None else np.repeat(seen[None], n, axis=0)
    visible[:, at] = True if forward.branch is None else sees_fed(forward)
    return Placement(at, np.arange(n), stored, read, None if visible.all() else visible)


def sees_fed(forward: Forward) -> Bools:
    """Which fed tokens see which, bool [n, n]."""
    assert forward.branch is not None
    same = forward.branch[:, None] == forward.branch[None, :]
    return same if forward.shared is None else same | forward.shared[None, :]


def target_rows(forward: Forward, shift: int) -> Ints:
    """Row of the fed tokens at which each target's prediction is read, int64 [t].

    Where predictions are shifted, the canvas's first position has no row before it and is read at its own.

    Raises:
        ValueError: a target that was not fed.
    """
    branch = np.zeros(len(forward), np.int64) if forward.branch is None else forward.branch
    width = int(forward.positions.max(initial=0)) + 1
    fed = branch * width + forward.positions
    wanted = forward.targets[:, 0] * width + np.maximum(forward.targets[:, 1] - shift, 0)
    order = np.argsort(fed, kind="stable")
    rows = order[np.minimum(np.searchsorted(fed, wanted, sorter=order), max(len(order) - 1, 0))]
    if not (fed[rows] == wanted).all():
        raise ValueError("a target's position was not fed")
    return rows
