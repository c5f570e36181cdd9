"""Pools of keys and values that outlive the generations that use them, as the graphs that know their addresses do."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from odb_dllm.engine import Pool, empty
from odb_dllm.models.loading import DiffusionModel

GRAIN = 512  # slots of a pool of one row come in multiples of it, so that slightly longer canvases fit


class Pools:
    """Lends buffers for pools, and has them back when the pool and its caches are gone."""

    def __init__(self, model: DiffusionModel, dropped: Callable[[Tensor], None]) -> None:
        """``dropped`` is called with the keys of buffers that are given up."""
        self._model, self._dropped = model, dropped
        self._idle: list[tuple[Tensor, Tensor]] = []
        self._lent: set[int] = set()  # ids of keys that may come back

    def lend(self, rows: int, slots: int) -> Pool:
        """A pool of at least so many rows and slots, of idle buffers where some are large enough."""
        with torch.inference_mode(False):  # what is made in that mode could not be cleared outside of it
            keys, values = self._idle_ones(rows, slots) or self._new(rows, slots)
        pool = Pool(keys, values)
        self._lent.add(id(keys))
        weakref.finalize(pool, self._take_back, keys, values).atexit = False
        return pool

    def forget(self) -> None:
        """Give up all buffers: the idle ones now, those that are lent when they come back."""
        self._lent.clear()
        while self._idle:
            self._dropped(self._idle.pop()[0])

    def _idle_ones(self, rows: int, slots: int) -> tuple[Tensor, Tensor] | None:
        """The smallest idle buffers that are large enough, cleared: rows that were given up may not be finite."""
        sizes = [(keys.numel(), i) for i, (keys, _) in enumerate(self._idle) if _holds(keys, rows, slots)]
        if not sizes:
            return None
        keys, values = self._idle.pop(min(sizes)[1])
        return keys.zero_(), values.zero_()

    def _new(self, rows: int, slots: int) -> tuple[Tensor, Tensor]:
        while self._idle:  # too small, all of them: the larger ones take their place
            self._dropped(self._idle.pop()[0])
        grain = max(64, GRAIN // rows)
        return empty(self._model, rows, -(-slots // grain) * grain)

    def _take_back(self, keys: Tensor, values: Tensor) -> None:
        if id(keys) not in self._lent:
            self._dropped(keys)
            return
        self._lent.remove(id(keys))
        self._idle.append((keys, values))


def _holds(keys: Tensor, rows: int, slots: int) -> bool:
    return keys.shape[1] >= rows and keys.shape[3] >= slots
