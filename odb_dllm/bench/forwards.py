"""Single forwards: the floor that their matrix products set, and what the engine takes for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odb_dllm.bench.machine import graphed, seconds
from odb_dllm.contract import Bools, Forward, Ints
from odb_dllm.engine import Engine, KVCache
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.tensor_parallel.leader import engine_of

BLOCK = 32
STEPS = {BLOCK: "plain", 4 * BLOCK: "accept-jump", BLOCK + 7 * 17: "jump-share"}  # by tokens fed


@dataclass(frozen=True)
class Timing:
    """One kind of forward. ``floor``: seconds of its matrix products alone."""

    kind: str  # refresh or step
    tokens: int  # fed
    cache: int  # cached positions seen
    seconds: float
    floor: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.floor


def floor(model: DiffusionModel, tokens: int, rows: int) -> float:
    """Seconds of all matrix products of one forward over so many tokens, the head on ``rows`` of them, in one graph.

    Weights that lie side by side, as the fast engine puts them, are also taken as one; the faster way counts.
    """
    network: Any = model.network
    config = network.config
    x = torch.randn(tokens, config.d_model, device=model.device, dtype=model.dtype)
    wide = torch.randn(tokens, config.mlp_hidden_size, device=model.device, dtype=model.dtype)
    layers = [
        [[block.q_proj, block.k_proj, block.v_proj], [block.attn_out], [block.ff_proj, block.up_proj]]
        for block in network.parts["blocks"]
    ]
    apart = [[part.weight for group in layer for part in group] for layer in layers]
    joined = [[weight for group in layer for weight in _joined([part.weight for part in group])] for layer in layers]

    def products(weights: list[list[Tensor]]) -> Tensor:
        made = x
        for block, into in zip(network.parts["blocks"], weights, strict=True):
            for weight in into:
                F.linear(x, weight)
            made = F.linear(wide, block.ff_out.weight)
        return F.linear(made[:rows], network.parts["ff_out"].weight)

    ways = [apart] if len(joined[0]) == len(apart[0]) else [apart, joined]
    with torch.inference_mode():
        return min(seconds(graphed(partial(products, way), model.device), model.device) for way in ways)


def _joined(weights: list[Tensor]) -> list[Tensor]:
    """Matrices whose rows follow one another in memory as one; as they are where they do not."""
    first, ends = weights[0], [each.data_ptr() + each.numel() * each.element_size() for each in weights]
    if any(each.data_ptr() != end for each, end in zip(weights[1:], ends, strict=False)):
        return weights
    return [first.detach().as_strided((sum(map(len, weights)), first.shape[1]), first.stride())]


def refresh(model: DiffusionModel, tokens: int) -> tuple[Forward, int]:
    """A refresh of a canvas, which wants one block's predictions, and the cache slots that it needs."""
    wanted = np.arange(tokens - BLOCK, tokens)
    return _forward("refresh", _drawn(model, tokens), np.arange(tokens), wanted, tokens, store=(0, tokens)), tokens


def step(model: DiffusionModel, tokens: int, cache: int) -> tuple[Forward, int]:
    """A step of a block before whose branches ``cache`` positions are cached, and the cache slots that it needs."""
    branch, offset, shared = _layout(tokens)
    ids, end = _drawn(model, tokens), cache + BLOCK
    return (
        _forward(
            "step",
            ids,
            cache + offset,
            cache + offset,
            end,
            sees=((0, cache),),
            branch=None if tokens == BLOCK else branch,
            shared=shared,
        ),
        end + tokens,
    )


def _layout(tokens: int) -> tuple[Ints, Ints, Bools | None]:
    """Branch, offset in the block and sharing of each token that a setting's step feeds."""
    if tokens in (BLOCK, 4 * BLOCK):
        return np.repeat(np.arange(tokens // BLOCK), BLOCK), np.tile(np.arange(BLOCK), tokens // BLOCK), None
    masked = (tokens - BLOCK) // 7
    branch = np.concatenate([np.zeros(BLOCK, np.int64), np.repeat(np.arange(1, 8), masked)])
    offset = np.concatenate([np.arange(BLOCK), np.tile(np.arange(BLOCK - masked, BLOCK), 7)])
    return branch, offset, np.arange(tokens) < BLOCK - masked


def _drawn(model: DiffusionModel, count: int) -> Ints:
    return np.random.default_rng(count).integers(0, model.predictable, count)


def _forward(kind: Any, tokens: Ints, positions: Ints, wanted: Ints, end: int, **more: Any) -> Forward:
    branch = more.get("branch")
    targets = np.stack([np.zeros_like(wanted) if branch is None else branch, wanted], axis=1)
    return Forward(kind, tokens, positions, targets, end, **more)


def time_forward(engine: Engine, forward: Forward, slots: int, *, repeats: int = 20) -> Timing:
    """What the engine takes, sampler and scheduler left out, over a cache of random keys and values."""
    model = engine.model
    cached = sum(last - first for first, last in forward.sees)
    cache = _filled(engine, slots, cached)

    def answer() -> object:
        cache.stored = cached
        return engine.answer([(cache, forward)])

    return Timing(
        forward.kind,
        len(forward),
        cached,
        seconds(answer, model.device, repeats=repeats),
        floor(model, len(forward), len(forward.targets)),
    )


def _filled(engine: Engine, slots: int, cached: int) -> KVCache:
    cache = engine.open(slots)
    assert cache is not None
    for part in (cache.pool.keys, cache.pool.values):
        part[..., :cached, :].normal_()
    return cache


def measure_forwards(
    model: DiffusionModel,
    steps: dict[int, tuple[int, ...]],
    refreshes: tuple[int, ...],
    *,
    repeats: int = 20,
    tell: Callable[[Timing], None] = lambda timing: None,
) -> list[Timing]:
    """Time steps, {tokens: caches}, and refreshes of so many tokens."""
    engine, timings = engine_of(model), []
    wanted = [step(model, tokens, cache) for tokens, caches in steps.items() for cache in caches]
    for forward, slots in [*wanted, *(refresh(model, tokens) for tokens in refreshes)]:
        timings.append(time_forward(engine, forward, slots, repeats=repeats))
        tell(timings[-1])
    return timings
