"""Several processes for one evaluation: who they are, and what they tell each other.

torchrun and accelerate start the processes and number them in the environment. Sharing out documents needs no
collectives and no lockstep: the key-value store that comes with every such launch (torch's TCPStore) holds a few
counters while texts are generated, and in the end what each process found. Nobody waits for a process that died.
"""

import atexit
import contextlib
import functools
import io
import logging
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from odb_dllm.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT, SILENCE = 5.0, 180.0  # seconds between two signs of life; and without any, after which a process is lost
COMING = 600.0  # seconds that processes may start after one another
CHUNK = 4 * 2**20  # bytes; the store takes 8 MiB at a time


class Lost(InputError):
    """A process of this evaluation is gone, and what it had to tell with it."""


class Processes:
    """The processes of one evaluation, seen from one of them: number ``rank`` of ``size``.

    ``local_rank`` and ``local_size`` are the same on this machine alone. What one of them sends is unpickled by
    another, as in all of torch.distributed: whoever reaches the store must be trusted.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        store: "Store | None" = None,
        *,
        local_rank: int = 0,
        local_size: int = 1,
        silence: float = SILENCE,
    ) -> None:
        self.rank, self.size = rank, size
        self.local_rank, self.local_size = local_rank, local_size
        self.exchanges = 0  # so far; the same number in every process
        self._store = store
        self._silence = silence
        self._heard: dict[int, tuple[int, float]] = {}  # rank: signs of life, and when the last one was noticed
        self._left = threading.Event()

    def add(self, counter: str, amount: int) -> int:
        """Add to a counter that all processes share, and return what it has come to."""
        assert self._store is not None, "a process alone shares nothing"
        with _reached():
            return int(self._store.add(counter, amount))

    def gather(self, value: Any, meanwhile: Callable[[], object] | None = None) -> list[Any] | None:
        """Every process's value by rank, in the first process; None, at once, in the others.

        Args:
            value: anything that can be pickled.
            meanwhile: called now and then while this process waits.

        Raises:
            Lost: a process gave no sign of life.
        """
        if self.size == 1:
            return [value]
        key = self._next()
        if self.rank:
            self._send(f"{key}/{self.rank}", value)
            return None
        return [value, *(self._receive(f"{key}/{rank}", meanwhile) for rank in range(1, self.size))]

    def broadcast(self, value: Any = None) -> Any:
        """The first process's value, in every process. Raises ``Lost``."""
        if self.size == 1:
            return value
        key = self._next()
        if self.rank:
            return self._receive(key)
        self._send(key, value)
        return value

    def agree(self, code: int) -> int:
        """The largest exit code of all; the first process, in which the store may live, returns last."""
        worst = self.broadcast(max(self.gather(code) or [0]))
        self.gather(None)
        return int(worst)

    def join(self, coming: float = COMING) -> None:
        """Give signs of life from now on, and wait until all processes do. Raises ``Lost``."""
        threading.Thread(target=self._live, name="signs of life", daemon=True).start()
        atexit.register(self._left.set)
        deadline = time.monotonic() + coming
        here = self.add("here", 1)
        while here < self.size:
            if time.monotonic() > deadline:
                raise Lost(f"Only {here} of {self.size} processes have started within {coming / 60:g} minutes.")
            time.sleep(0.05)
            here = self.add("here", 0)

    def _live(self) -> None:
        with contextlib.suppress(Lost):  # which the main thread notices by itself
            while not self._left.wait(BEAT):
                self.add(f"alive/{self.rank}", 1)

    def _next(self) -> str:
        self.exchanges += 1
        return f"exchange/{self.exchanges}"

    def _send(self, key: str, value: Any) -> None:
        assert self._store is not None
        data = pickle.dumps(value)
        parts = range(0, len(data), CHUNK)
        with _reached():
            for part, first in enumerate(parts):
                self._store.set(f"{key}/{part}", data[first : first + CHUNK])  # type: ignore[arg-type]
            self._store.set(key, str(len(parts)))

    def _receive(self, key: str, meanwhile: Callable[[], object] | None = None) -> Any:
        assert self._store is not None
        pause = looked = 0.01
        with _reached():
            while not self._store.check([key]):
                if meanwhile:
                    meanwhile()
                if (looked := looked + pause) > min(BEAT, self._silence):
                    self._look_around()
                    looked = 0.0
                time.sleep(pause := min(2 * pause, 0.5))
            parts = int(self._store.get(key))
            return pickle.loads(b"".join(self._store.get(f"{key}/{part}") for part in range(parts)))

    def _look_around(self) -> None:
        """Raise ``Lost`` where a process has given no sign of life for long."""
        for rank in set(range(self.size)) - {self.rank}:
            signs, now = self.add(f"alive/{rank}", 0), time.monotonic()
            before, when = self._heard.get(rank, (-1, now))
            if signs != before:
                self._heard[rank] = signs, now
            elif now - when > self._silence:
                raise Lost(
                    f"Process {rank} of {self.size} has given no sign of life for {self._silence / 60:g} minutes: "
                    "the evaluation cannot be completed."
                )


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """Say in a sentence that the store cannot be reached."""
    from torch.distributed import DistError

    try:
        yield
    except DistError as error:
        raise Lost("The process that keeps the others in touch is gone: the evaluation cannot be completed.") from error


_joined = Processes()


def join() -> Processes:
    """The processes of this launch, all of them started; one alone where neither torchrun nor accelerate started it.

    Raises:
        InputError: they do not find each other.
    """
    global _joined
    size = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if size == 1 or _joined.size == size:
        return _joined
    import torch.distributed as dist

    try:
        store, rank, _ = next(dist.rendezvous("env://"))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"The {size} processes of this launch do not find each other: {error}.") from error
    local = {"local_rank": int(os.environ["LOCAL_RANK"]), "local_size": int(os.environ.get("LOCAL_WORLD_SIZE", size))}
    found = Processes(rank, size, dist.PrefixStore("odb_dllm", store), **local)
    found.join()
    _joined = found
    return found


def has_last_word() -> bool:
    """Whether this process is the first that ends early, and so the one to say why; asked once by each."""
    if _joined.size == 1:
        return True
    try:
        return _joined.add("last word", 1) == 1
    except Lost:
        return True  # better said twice than never


@contextlib.contextmanager
def printed_once() -> Iterator[None]:
    """Where several processes are about to print the same and end, let one of them do so."""
    if _joined.size == 1:
        yield
        return
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        if (out.getvalue() or err.getvalue()) and has_last_word():
            sys.stdout.write(out.getvalue())
            sys.stderr.write(err.getvalue())


@functools.cache
def hush() -> None:
    """Log errors alone and draw no bars from now on: the first process says what all would say."""
    from tqdm import tqdm

    logging.disable(logging.WARNING)
    drawing = tqdm.__init__

    @functools.wraps(drawing)
    def silent(self: Any, *args: Any, **kwargs: Any) -> None:
        drawing(self, *args, **{**kwargs, "disable": True})

    tqdm.__init__ = silent  # type: ignore[method-assign]


def own_device(device: str | None, processes: Processes, gpus: int) -> str | None:
    """The device of one process: where there are several, ``cuda`` (or None) is the GPU that its local rank numbers.

    Args:
        device: cpu, cuda, cuda:N or None, which takes a GPU where there is one.
        gpus: how many GPUs this process sees.

    Raises:
        InputError: one GPU for several processes.
    """
    if processes.size == 1 or device == "cpu" or not gpus:
        return device
    if device and re.fullmatch(r"cuda:\d+", device):
        if processes.local_size > 1:
            raise InputError(
                f"device {device} is one GPU for {processes.local_size} processes: give cuda, and each takes its own."
            )
        return device
    if processes.local_rank >= gpus:
        raise InputError(
            f"{processes.local_size} processes run on this machine, and {gpus} of its GPUs can be seen: start one "
            "process per GPU."
        )
    return f"cuda:{processes.local_rank}"
