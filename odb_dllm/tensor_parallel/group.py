"""Rank 0's side of a model that several processes share: it starts the followers, tells them what to do, ends them.

Followers are fresh interpreters, each at the other end of a private pair of sockets. They end when their connection is
closed or when their parent is gone, however it went.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals, getsignal, signal
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from odb_dllm.errors import InputError
from odb_dllm.tensor_parallel.peers import Lost, Peers

if TYPE_CHECKING:
    from odb_dllm.models.loading import DiffusionModel

Load = Callable[["DiffusionModel", Peers], None]  # gives a blank network the weights of a rank
DYING_SECONDS = 5.0  # within which a follower whose connection broke has ended
RUN = "import sys; sys.path[:] = {path}; from odb_dllm.tensor_parallel.follower import main; main({socket}, {parent})"


@dataclass(frozen=True)
class Start:
    """What a follower is told first."""

    model: "DiffusionModel"  # without network and tokenizer
    load: Load
    rank: int
    ranks: int
    folder: Path  # where the ranks find each other
    threads: int  # on the CPU


@dataclass(frozen=True)
class Follower:
    """A follower as rank 0 sees it."""

    rank: int
    process: "subprocess.Popen[bytes]"
    connection: "Connection[Any, Any]"
    watch: threading.Thread  # ends after it


def check_machine(ranks: object, device: torch.device) -> None:
    """Raise ``InputError`` for a number of ranks that is none, or that this machine cannot run from ``device`` on."""
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise InputError(f"tensor_parallel must be a whole number of at least 1, not {ranks!r}.")
    if ranks == 1:
        return
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            f"tensor_parallel={ranks} starts its processes itself, and WORLD_SIZE={os.environ['WORLD_SIZE']} says that "
            "a launcher has started several: use one of the two."
        )
    cuda = device.type == "cuda"
    if not (dist.is_available() and (dist.is_nccl_available() if cuda else dist.is_gloo_available())):
        raise InputError(f"tensor_parallel needs a torch with {'NCCL' if cuda else 'gloo'}, which this one lacks.")
    if cuda and (last := _device(device, ranks - 1).index) >= torch.cuda.device_count():
        raise InputError(
            f"tensor_parallel={ranks} needs the GPUs {_device(device, 0)} to cuda:{last}, and "
            f"{torch.cuda.device_count()} are usable."
        )


def _device(first: torch.device, rank: int) -> torch.device:
    """Where a rank's share is, ``first`` being where rank 0 was asked for."""
    if first.type == "cpu":
        return first
    return torch.device("cuda", (torch.cuda.current_device() if first.index is None else first.index) + rank)


class Group:
    """The followers of a model. Not thread-safe.

    Args:
        name: of the model.
        peers: rank 0's place.
    """

    def __init__(self, name: str, peers: Peers) -> None:
        self.name, self.peers = name, peers
        self.followers: list[Follower] = []
        self._died = threading.Event()  # a follower, whether it was to or not
        self._numbers = count(1)
        self._kept: dict[int, object] = {}
        self._dropped: list[int] = []
        self._local: list[DiffusionModel] = []
        self._end = weakref.finalize(self, _end, os.getpid(), self.followers, peers, self._local)

    @property
    def local(self) -> "DiffusionModel":
        """Rank 0's share of the model, as if it were alone."""
        return self._local[0]

    @classmethod
    def start(cls, model: "DiffusionModel", ranks: int, load: Load) -> "Group":
        """Start followers, and load a model on all ranks at the same time.

        Args:
            model: with a blank network, which gets the weights of rank 0.
            ranks: processes, this one included.
            load: as it stands in a module, or a partial of that.

        Raises:
            InputError: a follower that failed or ended.
        """
        group = cls(model.name, Peers(0, ranks, model.device, Path(tempfile.mkdtemp(prefix="odb_dllm_"))))
        try:
            for rank in range(1, ranks):
                group._launch(rank, model, load)
            load(model, group.peers)
            group.replies()
            group.peers.connect()
        except Lost:
            raise group._failure() from None
        except BaseException:
            group.close()
            raise
        group.peers.awaited = False
        group._local.append(replace(model))
        return group

    def _launch(self, rank: int, model: "DiffusionModel", load: Load) -> None:
        ours, theirs = Pipe()
        with theirs:
            command = RUN.format(path=sys.path, socket=theirs.fileno(), parent=os.getpid())
            process = subprocess.Popen(
                [sys.executable, "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for rank 0
            )
        watch = threading.Thread(target=_watch, args=(process, self._died, self.peers), daemon=True)
        watch.start()
        self.followers.append(Follower(rank, process, ours, watch))
        blank = replace(model, network=None, tokenizer=None, device=_device(model.device, rank))
        threads = max(1, torch.get_num_threads() // self.peers.count)
        self._send(Start(blank, load, rank, self.peers.count, self.peers.folder, threads), [self.followers[-1]])

    # Telling --------------------------------------------------------------------------------------

    def tell(self, verb: str, *args: Any) -> None:
        """Send a call to the followers, and the numbers of what is not used any more."""
        dropped = [self._dropped.pop() for _ in range(len(self._dropped))]
        for number in dropped:
            self._kept.pop(number, None)
        self._send((dropped, verb, args), self.followers)

    def _send(self, message: object, followers: list[Follower]) -> None:
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        for follower in followers:
            try:
                follower.connection.send_bytes(content)
            except OSError:
                raise Lost(f"rank {follower.rank} does not listen.") from None

    def replies(self) -> list[Any]:
        """What each follower replies to a call that asks for it."""
        try:
            replies = [follower.connection.recv() for follower in self.followers]
        except (EOFError, OSError):
            raise Lost("a rank does not answer.") from None
        for reply in replies:
            if isinstance(reply, InputError):
                raise reply
        return replies

    def number(self) -> int:
        """A new number, by which the ranks know what each of them makes for a call."""
        return next(self._numbers)

    def keep(self, number: int, handle: object, made: object = None) -> None:
        """Have all ranks drop what they made, with the first call after ``handle`` is gone.

        What this rank has ``made`` is kept until then, so that all ranks do what they do then at the same point.
        """
        self._kept[number] = made
        weakref.finalize(handle, self._dropped.append, number).atexit = False

    def drop(self, number: int) -> None:
        """Have all ranks drop what they have made, with the next call."""
        self._dropped.append(number)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What all ranks do: a call is told, and this rank does the same. Signals wait, for half a forward would let
        the ranks drift apart; and so the group ends with any exception.

        Raises:
            InputError: the group was closed, a follower failed or ended, or memory ran out in the middle.
        """
        if not self._end.alive:
            raise InputError(f"{self.name} was closed, or a rank of it has failed: load the model again.")
        with _held_signals():
            self.peers.awaited = True
            try:
                yield
            except torch.OutOfMemoryError:
                self.close()
                raise out_of_memory(self.peers.device, self.peers.count) from None
            except BaseException as error:
                if isinstance(error, Lost) or (self._died.is_set() and not isinstance(error, InputError)):
                    raise self._failure() from None
                self.close()
                raise
            finally:
                self.peers.awaited = False
            if self._died.is_set():  # the sums were let go, and hold nonsense
                raise self._failure()

    # Ending ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the followers."""
        self._end()

    def _failure(self) -> InputError:
        """End the group, and say which follower failed and why, as far as it is known."""
        self._died.wait(DYING_SECONDS)
        said = [reason for follower in self.followers if (reason := _last_words(follower))]
        ended = [
            f"Rank {follower.rank} of {self.peers.count} that share {self.name} {_how(code)}: load the model again."
            for follower in self.followers
            if (code := follower.process.poll())  # 0: it has noticed that another one is gone
        ]
        self.close()
        lost = f"The {self.peers.count} ranks that share {self.name} have lost each other: load the model again."
        return InputError([*said, *ended, lost][0])


def out_of_memory(device: torch.device, ranks: int) -> InputError:
    """Memory ran out on a rank where the others cannot be told to do without."""
    return InputError(
        f"Memory on {device} does not suffice for its part of a model that {ranks} ranks share: use a smaller "
        "batch_size, a shorter prompt or gen_length."
    )


def _watch(process: "subprocess.Popen[bytes]", died: threading.Event, peers: Peers) -> None:
    """Wait for a follower's end, and let go of sums that it would have taken part in: NCCL would wait for ever."""
    process.wait()
    died.set()
    peers.leave()


def _end(owner: int, followers: list[Follower], peers: Peers, local: "list[DiffusionModel]") -> None:
    if os.getpid() != owner:  # a fork of rank 0 ends
        return
    for model in local:
        if model.fast_engine is not None:
            model.fast_engine.release()  # NCCL is not left before the last graph is gone that holds a sum of it
    for follower in followers:
        follower.connection.close()
        follower.process.kill()  # it holds nothing that anyone will miss
    for follower in followers:
        if follower.watch is not threading.current_thread():  # it must not be cut off by the interpreter's end
            follower.watch.join()
    shutil.rmtree(peers.folder, ignore_errors=True)


def _last_words(follower: Follower) -> str | None:
    """The reason that a failed follower gave; None: it gave none."""
    reason = None
    try:
        while follower.connection.poll():
            reply = follower.connection.recv()
            reason = str(reply) if isinstance(reply, InputError) else reason
    except (EOFError, OSError):
        pass
    return reason


def _how(code: int) -> str:
    return f"was ended by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextmanager
def _held_signals() -> Iterator[None]:
    """Hand SIGINT and SIGTERM on at the end, or at once where they come a second time."""
    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    came: dict[int, FrameType | None] = {}
    handlers: dict[int, Any] = {number: getsignal(number) for number in (SIGINT, SIGTERM)}

    def hold(number: int, frame: FrameType | None) -> None:
        if number in came:
            handlers[number](number, frame)
        came[number] = frame

    held = [number for number, handler in handlers.items() if callable(handler)]
    try:
        for number in held:
            signal(number, hold)
        yield
    finally:
        for number in held:
            signal(number, handlers[number])
        for number, frame in came.items():
            handlers[number](number, frame)
