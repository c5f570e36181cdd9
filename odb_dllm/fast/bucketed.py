"""Forwards of few tokens over a cache, in buckets: static buffers of fixed sizes, and one graph for each."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from odb_dllm.contract import Forward
from odb_dllm.engine import KVCache, assign, reads_cache, target_rows
from odb_dllm.fast.graphs import Graphs
from odb_dllm.fast.network import FastNetwork, Fed
from odb_dllm.kernels import RANGES, View, attend

WIDEST = 384  # tokens of one sequence: longer forwards are bound by arithmetic, and exact sizes are better
MOST = 1024  # tokens of a batch: beyond, launches cost little beside the arithmetic and nothing is captured
CACHED = 512  # slots: attention shares out the keys of this many, or of any more, in the same way
ALIGNED = 32  # numbers: parts of the packed buffer begin at multiples of 128 bytes
Asked = tuple[KVCache, Forward]


class Shape(NamedTuple):
    """Static sizes of a bucket."""

    batch: int  # sequences
    width: int  # fed tokens of each
    read: int  # predictions of all sequences

    @property
    def tokens(self) -> int:
        return self.batch * self.width


class Grid(NamedTuple):
    """Grains of the buckets: coarse where arithmetic is free and captures cost, fine where it is not (the CPU)."""

    width: int
    free: int  # tokens of a batch up to which reading fewer rows of the vocabulary head saves no time
    read: int  # predictions, beyond that

    def shape(self, asked: Sequence[Asked]) -> Shape:
        """The bucket of requests that are answered together."""
        batch, width = _up_batch(len(asked)), _up(max(len(forward) for _, forward in asked), self.width)
        read, most = sum(len(forward.targets) for _, forward in asked), batch * width
        return Shape(batch, width, most if read <= most <= self.free else _up(read, self.read))


GRIDS = {"cuda": Grid(32, 256, 256), "cpu": Grid(8, 0, 8)}


def _up(count: int, grain: int) -> int:
    return max(1, -(-count // grain)) * grain


def _up_batch(count: int) -> int:
    """1 to 4 as they are, then two sizes between powers of two: 6, 8, 12, 16, 24, ..."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power


def fits(forward: Forward) -> bool:
    """Whether a forward belongs here: few tokens that see a cache, or each other by branches."""
    return reads_cache(forward) and len(forward) <= WIDEST and len(forward.sees) <= RANGES


class Bucket:
    """The buffers of one bucket over one pool, and the forward that reads and writes them.

    Args:
        score: what becomes of the hidden states [read, d] on the device; None leaves them in ``hidden``.
    """

    def __init__(
        self,
        network: FastNetwork,
        graphs: Graphs,
        shape: Shape,
        keys: Tensor,
        values: Tensor,
        score: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.shape, self._network, self._graphs, self._score = shape, network, graphs, score
        self._keys, self._values = keys, values
        self._rotary = network.rotary(keys.shape[3])
        device, (b, w), n = keys.device, shape[:2], shape.tokens
        sizes: dict[str, tuple[int, ...]] = dict.fromkeys(("tokens", "positions", "token_rows"), (n,))
        sizes |= {"slots": (b, w), "branch": (b, w), "shared": (b, w)}
        sizes |= {"ranges": (b, RANGES, 2), "rows": (b,), "read": (shape.read,)}
        places, total = _places(sizes)
        self._packed = torch.zeros(total, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device_packed = torch.zeros(total, dtype=torch.int32, device=device)
        self._numbers = self._packed.numpy()
        self._host = {name: self._numbers[at].reshape(sizes[name]) for name, at in places.items()}
        on_device = {name: self._device_packed[at].reshape(sizes[name]) for name, at in places.items()}
        self._host["slots"].fill(-1)
        self._blank = self._numbers.copy()
        self._fed = Fed(
            tokens=on_device["tokens"],
            positions=on_device["positions"],
            rows=on_device["token_rows"],
            slots=on_device["slots"].flatten(),
            read=on_device["read"],
        )
        self._view = View(
            rows=on_device["rows"],
            ranges=on_device["ranges"],
            fed=on_device["slots"],
            branch=on_device["branch"],
            shared=on_device["shared"],
            max_cached=CACHED,
        )
        if score is None:
            width = network.norm.weight.shape[0]
            self.hidden = torch.zeros(shape.read, width, device=device, dtype=keys.dtype)
        self._answer = torch.zeros(4, shape.read, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._prepared = False
        self._replay: Callable[[], object] | None = None

    def pack(self, asked: Sequence[Asked], shift: int) -> None:
        """Write requests into the host's buffer, and move each cache on to what it will hold."""
        host, width, done = self._host, self.shape.width, 0
        self._numbers[:] = self._blank
        for i, (cache, forward) in enumerate(asked):
            n, first = len(forward), i * width
            slots, _, cache.stored = assign(forward, cache.stored)
            if slots.max() >= cache.slots:
                raise ValueError(f"a cache of {cache.slots} slots cannot hold {slots.max() + 1}")
            host["tokens"][first : first + n] = forward.tokens
            host["positions"][first : first + n] = forward.positions
            host["token_rows"][first : first + width] = host["rows"][i] = cache.row
            host["slots"][i, :n] = slots
            if forward.branch is not None:
                host["branch"][i, :n] = forward.branch
            if forward.shared is not None:
                host["shared"][i, :n] = forward.shared
            host["ranges"][i, : len(forward.sees)] = forward.sees or 0
            rows = target_rows(forward, shift)
            host["read"][done : done + len(rows)] = rows + first
            done += len(rows)

    def run(self) -> None:
        """Run the forward over what is packed."""
        if not self._prepared:
            self._prepared = True
            self._replay = self._graphs.prepare(self._forward) if self.shape.tokens <= MOST else None
        (self._replay or self._forward)()

    def answer(self, count: int) -> Tensor:
        """The first ``count`` predictions, packed int64 [4, count], once the device is done; on the host."""
        if self._keys.is_cuda:
            torch.cuda.current_stream(self._keys.device).synchronize()
        return self._answer[:, :count].clone()

    def _forward(self) -> None:
        self._device_packed.copy_(self._packed, non_blocking=True)
        hidden = self._network.hidden(self._fed, self._rotary, self._keys, self._values, self._attend)
        if self._score is None:
            self.hidden.copy_(hidden)
        else:
            self._answer.copy_(self._score(hidden), non_blocking=True)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return attend(q, keys, values, self._view)


def _places(sizes: dict[str, tuple[int, ...]]) -> tuple[dict[str, slice], int]:
    """Where arrays of these sizes lie in one, and how long that is."""
    places, first = {}, 0
    for name, size in sizes.items():
        count = math.prod(size)
        places[name] = slice(first, first + count)
        first += _up(count, ALIGNED)
    return places, first
