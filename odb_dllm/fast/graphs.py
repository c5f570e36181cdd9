"""Functions of static buffers, captured as CUDA graphs where that can be; called as they are elsewhere."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import torch

from odb_dllm.tensor_parallel.peers import Lost

logger = logging.getLogger(__name__)
Kept = TypeVar("Kept")
SPARE = 4 * 2**30  # bytes of GPU memory: with less, what torch keeps for later is given back before a capture


class Graphs:
    """Captures functions; their graphs share one piece of memory, since they never run at the same time."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.seconds = 0.0  # of warming up and capturing
        self._device = device
        self._enabled = enabled and device.type == "cuda"
        self._works = True
        self._side = torch.cuda.Stream(device) if self._enabled else None
        self._memory: Any = None  # torch's handle of what the graphs share
        self._alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def prepare(self, function: Callable[[], object]) -> Callable[[], object] | None:
        """What does the work of a function of static buffers: a graph; None where the function is to be called.

        On a GPU it runs once before that in either case, so that ranks that share a model take part in the same sums
        even where only some of them can capture.
        """
        if self._side is None:
            return None
        started = time.perf_counter()
        try:
            return self._prepared(function, self._side)
        finally:
            self.seconds += time.perf_counter() - started

    def reset(self) -> None:
        """Give up all graphs, whoever still holds one: none can be replayed any more."""
        for graph in list(self._alive):
            graph.reset()
        self._alive.clear()

    def _prepared(self, function: Callable[[], object], side: torch.cuda.Stream) -> Callable[[], object] | None:
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(
            side
        ):  # kernels are compiled, and libraries take this stream's memory, outside a capture
            function()
        side.synchronize()
        if not self._works:
            return None
        if torch.cuda.mem_get_info(self._device)[0] < SPARE:
            torch.cuda.empty_cache()  # which an allocation that fails within a capture cannot do
        if not self._alive:  # torch takes no more graphs into memory whose last one is gone
            self._memory = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:  # other threads may go on using the device while this one captures
            with torch.cuda.stream(side):
                graph.capture_begin(self._memory, capture_error_mode="thread_local")
                try:
                    function()
                finally:
                    graph.capture_end()
        except (torch.OutOfMemoryError, Lost):
            raise
        except RuntimeError as error:  # a family of another package may do what no graph can hold
            logger.warning("Running without CUDA graphs, which this model cannot be captured in: %s", error)
            self._works = False
            return None
        self._alive.add(graph)
        return graph.replay


class Recent(Generic[Kept]):
    """Things by key, so many at most: the one that was not used for longest makes room."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The thing of this key, made where there is none."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while len(self._kept) >= self.limit:
            self._kept.popitem(last=False)
        made = make()
        self._kept[key] = made
        return made

    def drop(self, unwanted: Callable[[Hashable], bool] = lambda key: True) -> None:
        """Forget the things whose keys are unwanted, all by default."""
        for key in [key for key in self._kept if unwanted(key)]:
            del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)
