"""The loop of the ranks that follow: they do what rank 0 does over their share of the weights, and drop the results."""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import torch

from odb_dllm.contract import Forward
from odb_dllm.engine import KVCache, Pool
from odb_dllm.errors import InputError
from odb_dllm.fast import make_engine
from odb_dllm.models.loading import DiffusionModel, blank_network
from odb_dllm.tensor_parallel.group import Start, out_of_memory
from odb_dllm.tensor_parallel.leader import release
from odb_dllm.tensor_parallel.peers import Lost, Peers

At = tuple[int, int, int]  # number of a pool, row, slots that are stored


def main(socket: int, parent: int) -> None:
    """Follow rank 0, the process ``parent``, at the other end of ``socket``. Never returns."""
    signal(SIGINT, SIG_IGN)
    logging.disable()  # rank 0 says it
    connection = Connection(socket)
    try:
        start: Start = connection.recv()
    except EOFError:
        os._exit(0)
    threading.Thread(target=_end_with, args=(parent, start.folder), daemon=True).start()
    failure = None
    try:
        Following(start, connection).run()
    except (EOFError, Lost):  # rank 0 is gone, or will say that another one is
        pass
    except InputError as error:
        failure = error
    except torch.OutOfMemoryError:
        failure = out_of_memory(start.model.device, start.ranks)
    except BaseException as error:
        failure = InputError(f"Rank {start.rank} of {start.ranks} failed: {error!r}.")
    with contextlib.suppress(OSError):
        connection.send(failure)
    _leave(start.folder, 0 if failure is None else 1)


def _end_with(parent: int, folder: Path) -> None:
    """End this process when its parent has, whatever it waits for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    _leave(folder, 1)


def _leave(folder: Path, code: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # what libraries would tidy up waits for ranks that may be gone


class Following:
    """A follower's share of a model, and its counterparts of rank 0's engines and pools, by number."""

    def __init__(self, start: Start, connection: "Connection[Any, Any]") -> None:
        self.connection = connection
        device = start.model.device
        torch.set_num_threads(start.threads)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.peers = Peers(start.rank, start.ranks, device, start.folder)
        self.model: DiffusionModel = replace(start.model, network=blank_network(start.model.config).eval())
        start.load(self.model, self.peers)
        connection.send(None)
        self.peers.connect()
        self.made: dict[int, Any] = {}

    def run(self) -> None:
        """Do what is told until rank 0 hangs up."""
        calls: dict[str, Callable[..., None]] = {
            "engine": self._engine,
            "pool": self._pool,
            "release": self._release,
            "answer": self._answer,
        }
        while True:
            dropped, verb, args = self.connection.recv()
            for number in dropped:
                self.made.pop(number, None)
            calls[verb](*args)

    def _engine(self, number: int, name: str) -> None:
        self.model.engine = name
        self.made[number] = make_engine(self.model)

    def _release(self, engine: int) -> None:
        release(self.made[engine])

    def _pool(self, engine: int, number: int, rows: int, slots: int) -> None:
        """Reply whether there was memory for it."""
        try:
            self.made[number] = self.made[engine].pool(rows, slots)
        except torch.OutOfMemoryError:
            self.connection.send(False)
        else:
            self.connection.send(True)

    def _answer(self, engine: int, requests: list[tuple[At | None, Forward]]) -> None:
        self.made[engine].answer([(at and self._cache(*at), forward) for at, forward in requests])

    def _cache(self, number: int, row: int, stored: int) -> KVCache:
        pool: Pool = self.made[number]
        if not stored:  # a new sequence: what a failed one left there may not be finite
            pool.clear(row)
        return KVCache(pool, row, stored)
