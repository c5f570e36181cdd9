"""The engine on rank 0 of a model that several processes share, and the choice between it and the plain one."""

from collections.abc import Sequence

import torch

from odb_dllm.contract import Prediction
from odb_dllm.engine import Asked, Engine, KVCache, Pool
from odb_dllm.fast import FastEngine, make_engine
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.tensor_parallel.group import Group


def engine_of(model: DiffusionModel) -> Engine:
    """The engine for a model, the one of ``fast.make_engine``; where several ranks share it, all of them take part."""
    if model.group is None:
        return make_engine(model)
    model.group.local.engine = model.engine
    return Leader(make_engine(model.group.local), model.group)


class SharedPool(Pool):
    """A pool that has its counterparts on the other ranks."""

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(pool.keys, pool.values)
        self.number = number


class Leader(Engine):
    """Does what another engine does, and has the followers do the same with theirs.

    Followers need no word of caches that are opened and closed: each request says where its sequence is.
    """

    def __init__(self, engine: Engine, group: Group) -> None:
        super().__init__(engine.model)
        self._engine, self._group, self._number = engine, group, group.number()
        with group.together():
            group.tell("engine", self._number, engine.model.engine)
        group.keep(self._number, self)

    def pool(self, rows: int, slots: int) -> Pool:
        """Allocate caches on all ranks; ``torch.OutOfMemoryError`` where one of them has too little memory."""
        group, number = self._group, self._group.number()
        with group.together():
            group.tell("pool", self._number, number, rows, slots)
            try:
                pool = self._engine.pool(rows, slots)
            except torch.OutOfMemoryError:
                pool = None
            enough = all(group.replies())
        if pool is None or not enough:
            with group.together():  # what prepared forwards hold is given up by all ranks, or by none
                group.tell("release", self._number)
                release(self._engine)
            group.drop(number)
            pool = None  # the error's traceback holds this frame, which is not to hold the memory
            raise torch.OutOfMemoryError(f"A rank has too little memory for caches of {rows} times {slots} slots.")
        shared = SharedPool(pool, number)
        group.keep(number, shared, pool)
        return shared

    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        """As ``Engine.answer``; ``InputError`` where a follower fails."""
        with self._group.together():
            self._group.tell("answer", self._number, [(_where(cache), forward) for cache, forward in requests])
            return self._engine.answer(requests)

    def clock(self) -> float:
        """As ``Engine.clock``."""
        return self._engine.clock()


def release(engine: Engine) -> None:
    """Have an engine give up what it keeps from one generation to the next, if it does."""
    if isinstance(engine, FastEngine):
        engine.release()


def _where(cache: KVCache | None) -> tuple[int, int, int] | None:
    """A cache as followers know it: the number of its pool, its row, and the slots that are stored."""
    if cache is None:
        return None
    assert isinstance(cache.pool, SharedPool)
    return cache.pool.number, cache.row, cache.stored
