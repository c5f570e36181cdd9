"""What ranks do together: sums and gatherings, over NCCL on GPUs and over gloo on the CPU.

The ranks' group is their own and not torch.distributed's default one, so that a process may hold several models and
take part in other groups. Ranks find each other through a file and talk over the loopback interface alone.
"""

import os
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.distributed_c10d import AllgatherOptions

PATIENCE = timedelta(minutes=30)  # with a rank that is stopped; one that is dead is noticed at once


class Lost(RuntimeError):
    """Another rank is gone, or this one has left."""


class Peers:
    """A rank's place among the others.

    Args:
        rank, count: this rank, and how many there are.
        device: of the tensors; decides between NCCL and gloo.
        folder: a private folder for the file through which the ranks find each other.
    """

    def __init__(self, rank: int, count: int, device: torch.device, folder: Path) -> None:
        self.rank, self.count, self.device, self.folder = rank, count, device, folder
        self.awaited = True  # False on rank 0 while the others wait for its next call, and not for a sum
        self._backend: Any = None
        self._leaving = Lock()

    def connect(self) -> None:
        """Wait until the other ranks do the same; they can all be reached then."""
        store = dist.FileStore(str(self.folder / "ranks"), self.count)
        self._backend = (_nccl if self.device.type == "cuda" else _gloo)(store, self.rank, self.count)
        if self.sum(torch.ones(1, device=self.device)).item() != self.count:  # on NCCL, the first sum connects
            raise Lost("not all ranks have added to a sum.")

    def leave(self) -> None:
        """Leave the others; a sum that is under way here ends with an exception or with nonsense. From any thread."""
        with self._leaving:
            backend, self._backend = self._backend, None
        end = getattr(backend, "abort", None) or getattr(backend, "_shutdown", None)  # before torch 2.6
        if end is not None:
            end()

    def sum(self, x: Tensor) -> Tensor:
        """Add up the ranks' tensors, in place; the result is the same on all ranks."""
        self._complete("allreduce", [x], options=dist.AllreduceOptions())
        return x

    def gather(self, x: Tensor, width: int) -> Tensor:
        """Join the ranks' columns.

        Args:
            x: [..., columns], as many as ``columns`` gives this rank.
            width: columns of all ranks together.

        Returns:
            [..., width], the same on all ranks.
        """
        most = -(-width // self.count)
        rows = F.pad(x, (0, most - x.shape[-1])).flatten(0, -2).contiguous()
        joined = rows.new_empty(self.count * len(rows), most)
        self._complete("_allgather_base", joined, rows, options=AllgatherOptions())
        joined = joined.unflatten(0, (self.count, len(rows))).transpose(0, 1).flatten(1)[:, :width]
        return joined.unflatten(0, x.shape[:-1])

    def _complete(self, name: str, *args: Any, options: Any) -> None:
        if not self.awaited:
            raise RuntimeError("the other ranks take part in what engine_of(model) answers, not in single calls.")
        if hasattr(options, "asyncOp"):  # before torch 2.8, NCCL always took a stream of its own
            options.asyncOp = False
        try:
            work = getattr(self._backend, name)(*args, options)
            if work is not None:
                work.wait()
        except Exception as error:  # whatever the backend raises, or that there is none any more
            raise Lost(str(error)) from error


def columns(rank: int, count: int, width: int) -> tuple[int, int]:
    """The columns of a rank in what ``Peers.gather`` joins."""
    most = -(-width // count)
    return min(rank * most, width), min((rank + 1) * most, width)


def _nccl(store: dist.Store, rank: int, count: int) -> Any:
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")  # which has all ranks meet while one captures a graph
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = PATIENCE
    return dist.ProcessGroupNCCL(store, rank, count, options)


def _gloo(store: dist.Store, rank: int, count: int) -> Any:
    group: Any = dist.ProcessGroupGloo
    options = group._Options()
    options._devices = [group.create_device(hostname="127.0.0.1")]
    options._timeout = PATIENCE
    return group(store, rank, count, options)
