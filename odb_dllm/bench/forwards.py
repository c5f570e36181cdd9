"""Single forwards: the floor that their matrix products set, and what the engine takes for them."""

from collections.abc import Callable
from dataclasses import dataclass
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
    """Seconds of all matrix products of one forward over so many tokens, the head on ``rows`` of them, in one graph."""
    network: Any = model.network
    config = network.config
    x = torch.randn(tokens, config.d_model, device=model.device, dtype=model.dtype)
    wide = torch.randn(tokens, config.mlp_hidden_size, device=model.device, dtype=model.dtype)
    into = ("q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj")

    def products() -> Tensor:
        made = x
        for block in network.parts["blocks"]:
            for name in into:
                F.linear(x, getattr(block, name).weight)
            made = F.linear(wide, block.ff_out.weight)
        return F.linear(made[:rows], network.parts["ff_out"].weight)

    with torch.inference_mode():
        return seconds(graphed(products, model.device), model.device)


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
