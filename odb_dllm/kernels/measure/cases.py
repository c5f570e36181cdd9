"""What is measured: a kernel at a shape of LLaDA-8B or Dream-7B, the bytes it moves, and other ways to get the same."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from odb_dllm.kernels import RANGES, View, fused, plain
from odb_dllm.kernels.fused.tiles import AttentionTile, Tile
from odb_dllm.kernels.measure.timing import COPIES
from odb_dllm.models.layers import rotary_table, rotate


@dataclass(frozen=True)
class Model:
    """Sizes of a model, and the dtype of its numbers."""

    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    head: int = 128
    dtype: torch.dtype = torch.bfloat16

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda").to(self.dtype)


def in_float32(model: Model) -> Model:
    return replace(model, dtype=torch.float32)


MODELS = {"llada": Model(4096, 32, 32, 12288, 126464), "dream": Model(3584, 28, 4, 18944, 152064)}


@dataclass(frozen=True)
class Case:
    """A kernel at one shape; ``fused`` and ``eager`` answer from the buffers of copy i."""

    bytes: int  # that a call has to move
    fused: Callable[..., Any]  # (i, **how), the kernel
    eager: Callable[[int], Any]  # the models' own code
    truth: Callable[[], Tensor]  # float64, of copy 0
    found: Callable[[Any], Tensor] = lambda out: out  # the part of an answer that the truth is about
    ways: list[dict[str, Any]] = field(default_factory=list)  # keyword arguments of the kernel, to choose from


def _copies(n: int) -> int:
    """Enough of them to fill the GPU's cache."""
    return COPIES if n < 1000 else 4


def _ints(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device="cuda")


def add_rms_norm(model: Model, n: int) -> Case:
    weight = model.random(model.width)
    x, delta = model.random(COPIES, n, model.width), model.random(COPIES, n, model.width)

    def truth() -> Tensor:
        wide = (x[0] + delta[0]).double()
        return wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double()

    return Case(
        4 * x[0].nbytes,
        lambda i, **how: fused.add_rms_norm(x[i], delta[i], weight, 1e-5, **how),
        lambda i: plain.add_rms_norm(x[i], delta[i], weight, 1e-5),
        truth,
        lambda out: out[1],
        [{"warps": warps} for warps in (4, 8, 16)],
    )


def rotate_store(model: Model, n: int) -> Case:
    heads, kv_heads, head, copies = model.heads, model.kv_heads, model.head, _copies(n)
    cos, sin = (table[0] for table in rotary_table(torch.arange(4096, device="cuda"), head, 500000.0))
    qkv = model.random(copies, n, (heads + 2 * kv_heads) * head)
    keys, values = (model.random(copies, 1, kv_heads, n + 300, head) for _ in range(2))
    positions, rows = _ints(range(n)), _ints([0] * n)
    slots = positions + 300

    def quick(i: int, **how: Any) -> Tensor:
        i %= copies
        return fused.rotate_store(qkv[i], cos, sin, positions, rows, slots, keys[i], values[i], **how)

    def eager(i: int) -> Tensor:
        i %= copies
        q, k, v = qkv[i].unflatten(-1, (-1, head)).split((heads, kv_heads, kv_heads), dim=1)
        keys[i, 0, :, 300:] = rotate(k, cos[:n, None], sin[:n, None]).transpose(0, 1)
        values[i, 0, :, 300:] = v.transpose(0, 1)
        return rotate(q, cos[:n, None], sin[:n, None])

    def truth() -> Tensor:
        q = qkv[0].unflatten(-1, (-1, head))[:, :heads]
        return rotate(q.double(), cos[:n, None].double(), sin[:n, None].double())

    ways = [{"tile": Tile(*each)} for each in product((2, 4, 8, 16, 32), (1, 2, 4))]
    return Case(2 * qkv[0].nbytes + 8 * n * head, quick, eager, truth, ways=ways)


def gated(model: Model, n: int) -> Case:
    copies = _copies(n)
    rows = model.random(copies, n, 2 * model.hidden)

    def truth() -> Tensor:
        gate, up = rows[0].double().chunk(2, dim=-1)
        return gate * gate.sigmoid() * up

    return Case(
        rows[0].nbytes * 3 // 2,
        lambda i, **how: fused.gated(rows[i % copies], **how),
        lambda i: plain.gated(rows[i % copies]),
        truth,
        ways=[{"tile": Tile(*each)} for each in product((512, 1024, 2048, 4096), (2, 4, 8))],
    )


def _view(n: int, cached: int, batch: int) -> View:
    """Tokens that are fed over so many cached slots: a block between them, or branches behind them."""
    at, branch, shared, padding = cached, [0] * n, [0] * n, 0
    if n == 128:  # four branches of a block
        branch = [i // 32 for i in range(n)]
    elif n in (151, 160):  # jump-share: a block, 15 tokens of which are decided, and 7 branches of the others
        padding = n - 151
        branch = [0] * 32 + [1 + i // 17 for i in range(119)] + [0] * padding
        shared = [1] * 15 + [0] * (n - 15)
    else:
        at = cached // 2
    ranges = [(0, at), (at + n, cached + n), *[(0, 0)] * (RANGES - 2)]
    fed = [*range(at, at + n - padding), *[-1] * padding]
    rows, ranges_, fed_, branch_, shared_ = map(
        _ints, (range(batch), *([each] * batch for each in (ranges, fed, branch, shared)))
    )
    return View(rows, ranges_, fed_, branch_, shared_, max_cached=cached)


def attend(model: Model, n: int, cached: int, batch: int = 1) -> Case:
    heads, kv_heads, head = model.heads, model.kv_heads, model.head
    q = model.random(COPIES, batch * n, heads, head)
    keys, values = (model.random(COPIES, batch, kv_heads, cached + n, head) for _ in range(2))
    view = _view(n, cached, batch)
    visible = plain.visibility(view, cached + n)[:, None] | (view.fed < 0)[:, None, :, None]
    mask = None if visible.all() else visible

    def eager(i: int) -> Tensor:
        wide = q[i].unflatten(0, (batch, n)).transpose(1, 2)
        out = F.scaled_dot_product_attention(wide, keys[i], values[i], attn_mask=mask, enable_gqa=heads != kv_heads)
        return (out.transpose(1, 2) * (view.fed >= 0)[:, :, None, None]).flatten(2).flatten(0, 1)

    return Case(
        keys[0].nbytes + values[0].nbytes + 2 * q[0].nbytes,
        lambda i, **how: fused.attend(q[i], keys[i], values[i], view, **how),
        eager,
        lambda: plain.attend(q[0].double(), keys[0].double(), values[0].double(), view),
        ways=_attention_tiles(n * heads // kv_heads),
    )


def _attention_tiles(queries: int) -> list[dict[str, Any]]:
    """Sizes (queries, keys, warps, stages) times splits; then ways to put the splits together."""
    sizes = [(64, 64, 4, 2), (64, 64, 4, 3), (64, 64, 4, 4), (64, 64, 8, 3), (64, 128, 4, 2)]
    if queries > 64:
        sizes += [(128, 64, 8, 2), (128, 64, 8, 3), (128, 64, 8, 4), (128, 128, 8, 3)]
    else:
        sizes += [(32, 64, 4, 2), (32, 64, 4, 3), (32, 64, 2, 3), (32, 32, 4, 4)]
    ways: list[dict[str, Any]] = [
        {"tile": AttentionTile(rows, keys, splits, warps, stages)}
        for (rows, keys, warps, stages), splits in product(sizes, (1, 2, 4, 8, 16))
    ]
    return ways + [{"combine": Tile(*each)} for each in ((1, 1), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8))]


def judge(model: Model, rows: int) -> Case:
    logits = 3 * model.random(4, rows, model.vocabulary)
    limits = model.vocabulary - 128, model.vocabulary - 20
    return Case(
        logits[0].nbytes,
        lambda i, **how: fused.judge(logits[i % 4], *limits, **how),
        lambda i: plain.judge(logits[i % 4], *limits),
        lambda: plain.judge(logits[0].double(), *limits)[1].view(torch.float64),
        lambda out: out[1].view(torch.float64),
        [{"tile": Tile(*each)} for each in product((2048, 4096, 8192, 16384), (4, 8, 16))],
    )


def layer(model: Model, n: int, cached: int) -> Case:
    """All of a layer's kernels one after the other, without the matrix products between them."""
    parts = [add_rms_norm(model, n), rotate_store(model, n), attend(model, n, cached), gated(model, n)]
    return Case(
        sum(part.bytes for part in [parts[0], *parts]),  # two norms
        lambda i: [part.fused(i) for part in [parts[0], *parts]],
        lambda i: [part.eager(i) for part in [parts[0], *parts]],
        parts[2].truth,
        lambda out: out[3],
    )


FED = ((32,), (128,), (151,), (160,), (2048,))
STEPS = tuple(product((32, 128, 151, 160), (300, 1200, 2048)))
# The shapes of each kernel: arguments of its function behind the model.
KERNELS: dict[str, tuple[Callable[..., Case], tuple[tuple[int, ...], ...]]] = {
    "add_rms_norm": (add_rms_norm, FED),
    "rotate_store": (rotate_store, FED),
    "gated": (gated, FED),
    "attend": (attend, (*STEPS, (32, 1200, 4), (2048, 0))),
    "judge": (judge, ((32,), (124,), (512,))),
    "layer": (layer, STEPS),
}
