"""Functions of static buffers, captured as CUDA graphs where that can be; called as they are elsewhere."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

logger = logging.getLogger(__name__)
Kept = TypeVar("Kept")


class Graphs:
    """Captures functions; their graphs share one piece of memory, since they never run at the same time."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.seconds = 0.0  # of warming up and capturing
        self._device = device
        self._enabled = enabled and device.type == "cuda"
        self._memory = torch.cuda.graph_pool_handle() if self._enabled else None

    def run(self, function: Callable[[], object]) -> Callable[[], object] | None:
        """Run a function of static buffers alone; return what does the same again, None where it is to be called."""
        if not self._enabled:
            function()
            return None
        started = time.perf_counter()
        try:
            return self._captured(function)
        finally:
            self.seconds += time.perf_counter() - started

    def _captured(self, function: Callable[[], object]) -> Callable[[], object] | None:
        function()  # kernels are compiled and libraries make ready, which a capture cannot bear
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        try:  # other threads may go on using the device while this one captures
            with torch.cuda.device(self._device), torch.cuda.graph(graph, self._memory, None, "thread_local"):
                function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a family of another package may do what no graph can hold
            logger.warning("Running without CUDA graphs, which this model cannot be captured in: %s", error)
            self._enabled = False
            return None
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
