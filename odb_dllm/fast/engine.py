"""The fast engine: the plain one's answers, from joined weights, fused kernels and CUDA graphs."""

from collections.abc import Hashable, Sequence
from functools import partial

import torch
from torch import Tensor

from odb_dllm.contract import Forward, Prediction
from odb_dllm.engine import LOGITS_BYTES, Asked, Engine, KVCache, Pool
from odb_dllm.fast import bucketed, exact
from odb_dllm.fast.graphs import Graphs, Recent
from odb_dllm.fast.network import FastNetwork
from odb_dllm.fast.pools import Pools
from odb_dllm.kernels import available, judge
from odb_dllm.kernels.dispatch import FAST_DTYPES
from odb_dllm.models.loading import DiffusionModel

MOST_BUCKETS = 256  # a graph takes a few megabytes


class FastEngine(Engine):
    """Answers requests like ``Engine``, up to rounding; what it does not cover it leaves to ``Engine``'s own way.

    It keeps pools and graphs from one generation to the next, so make one per model (``make_engine`` does) and let it
    live as long. Not thread-safe.

    Raises:
        ValueError: a network that it cannot run.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__(model)
        self._network = FastNetwork(model.network)
        self._graphs = Graphs(model.device, enabled=available()[0] and model.dtype in FAST_DTYPES)
        self._grid = bucketed.GRIDS[model.device.type]
        self._buckets = Recent[bucketed.Bucket](MOST_BUCKETS)
        # Nothing that is kept holds the engine: without a cycle, a model's memory is free as soon as it is dropped.
        self._pools = Pools(model, partial(_drop, self._buckets))

    @property
    def capture_seconds(self) -> float:  # type: ignore[override]
        return self._graphs.seconds

    def pool(self, rows: int, slots: int) -> Pool:
        """Caches for ``rows`` sequences, of a pool that comes back when it and its caches are gone."""
        try:
            return self._pools.lend(rows, slots)
        except torch.OutOfMemoryError:
            self.release()
            raise

    def release(self) -> None:
        """Give up all pools and graphs; the next requests make their own."""
        self._buckets.drop()
        self._graphs.reset()
        self._pools.forget()

    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        """Answer requests of different sequences, those of one kind in one forward."""
        try:
            return super().answer(requests)
        except torch.OutOfMemoryError:
            self.release()
            raise

    def _kind(self, cache: KVCache | None, forward: Forward) -> Hashable:
        return _way(cache, forward), super()._kind(cache, forward)

    def _batch(self, asked: Sequence[Asked]) -> Tensor:
        """Answer requests of one kind in one forward: what ``_score`` gives, on the host."""
        forwards, way = [forward for _, forward in asked], _way(*asked[0])
        if way == "plain":
            return super()._batch(asked).cpu()
        judged = forwards[0].draw is None and forwards[0].score == "confidence"
        if way == "exact":
            hidden = exact.hidden_states(self.model, self._network, asked)
        else:
            bucket = self._bucket([(cache, forward) for cache, forward in asked if cache is not None], judged)
            if judged:
                return bucket.answer(sum(len(forward.targets) for forward in forwards))
            hidden = bucket.hidden[: sum(len(forward.targets) for forward in forwards)]
        return (_judged(self.model, hidden) if judged else self._score(forwards, hidden)).cpu()

    def _bucket(self, asked: Sequence[tuple[KVCache, Forward]], judged: bool) -> bucketed.Bucket:
        """Run a forward in its bucket, which is made where there is none."""
        pool, shape = asked[0][0].pool, self._grid.shape(asked)
        make = partial(
            bucketed.Bucket,
            self._network,
            self._graphs,
            shape,
            pool.keys,
            pool.values,
            partial(_judged, self.model) if judged else None,
        )
        bucket = self._buckets.get((id(pool.keys), shape, judged), make)
        bucket.pack(asked, self.model.network.shift)
        bucket.run()
        return bucket


def _judged(model: DiffusionModel, hidden: Tensor) -> Tensor:
    """Token, log confidence (its bits, twice) and finiteness for hidden states [t, d], int64 [4, t]."""
    rows = max(1, LOGITS_BYTES[model.device.type] // (model.vocab_size * hidden.element_size()))
    logits = (model.network.logits(part) for part in hidden.split(rows))
    return torch.cat([judge(each, model.ids.mask, model.predictable) for each in logits], dim=1)


def _drop(buckets: Recent[bucketed.Bucket], keys: Tensor) -> None:
    """Forget the buckets over a pool that is given up."""
    buckets.drop(lambda key: isinstance(key, tuple) and key[0] == id(keys))


def _way(cache: KVCache | None, forward: Forward) -> str:
    """How a request is answered: in a bucket, at its exact size, or as the plain engine does."""
    if forward.guidance is not None or forward.labels is not None:
        return "plain"
    if bucketed.fits(forward):
        return "bucketed"
    return "exact" if exact.fits(cache, forward) else "plain"
