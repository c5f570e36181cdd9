"""What sharing a model gains: the same forwards on one process and on several, over random weights."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from odb_dllm.bench.expand import LLADA_8B
from odb_dllm.bench.forwards import refresh, step
from odb_dllm.bench.machine import seconds
from odb_dllm.models.loading import EMBEDDED, DiffusionModel, TokenIds, blank_network, read_config
from odb_dllm.statistics import markdown
from odb_dllm.tensor_parallel.group import Group, check_machine
from odb_dllm.tensor_parallel.leader import engine_of
from odb_dllm.tensor_parallel.peers import Peers
from odb_dllm.tensor_parallel.sharding import check, shard

LLADA_8B_CONFIG: dict[str, Any] = {
    **LLADA_8B,
    "model_type": "llada",
    "max_sequence_length": 4096,
    "rope_theta": 500000.0,
    "mask_token_id": 126336,
    "eos_token_id": 126081,
}


@dataclass(frozen=True)
class Timing:
    """One kind of forward on so many processes."""

    ranks: int
    kind: str  # refresh or step
    tokens: int  # fed
    cache: int  # cached positions seen
    seconds: float


def random_weights(model: DiffusionModel, peers: Peers | None) -> None:
    """Give a blank network, or a rank's part of it, weights that were drawn at random."""
    network = model.network
    if peers is not None:
        shard(network, peers)
    network.to(model.dtype).to_empty(device=model.device).requires_grad_(False)
    for weight in network.parameters():
        weight.fill_(1.0) if weight.dim() == 1 else weight.normal_(0.0, 0.02)


def random_model(
    config: dict[str, Any], device: torch.device, dtype: torch.dtype, ranks: int, engine: str = "auto"
) -> DiffusionModel:
    """A model of a config.json's shapes that so many processes share; its texts mean nothing.

    Raises:
        InputError: this machine or the model's sizes do not allow so many.
    """
    check_machine(ranks, device)
    network = blank_network(config)
    check(network, ranks)
    sizes = network.config
    model = DiffusionModel(
        name="random weights",
        path=Path(),
        network=network.eval(),
        config=config,
        device=device,
        dtype=dtype,
        tokenizer=None,
        ids=TokenIds(sizes.mask_token_id, sizes.eos_token_id),
        vocab_size=sizes.vocab_size,
        predictable=sizes.vocab_size,
        max_length=sizes.max_sequence_length,
        engine=engine,
    )
    if ranks == 1:
        random_weights(model, None)
    else:
        model.group = Group.start(model, ranks, random_weights)
    return model


def measure(
    model: DiffusionModel, ranks: int, steps: dict[int, tuple[int, ...]], refreshes: tuple[int, ...]
) -> list[Timing]:
    """Time steps, {tokens: caches}, and refreshes of so many tokens."""
    engine, timings = engine_of(model), []
    wanted = [step(model, tokens, cached) for tokens, caches in steps.items() for cached in caches]
    for forward, slots in [*wanted, *(refresh(model, tokens) for tokens in refreshes)]:
        cache, cached = engine.open(slots), sum(last - first for first, last in forward.sees)
        assert cache is not None

        def answer(cache: Any = cache, forward: Any = forward, cached: int = cached) -> None:
            cache.stored = cached
            engine.answer([(cache, forward)])

        taken = seconds(answer, model.device)
        timings.append(Timing(ranks, forward.kind, len(forward), cached, taken))
        cache.close()
    return timings


def compare(
    shape: str, device: torch.device, dtype: torch.dtype | None, ranks: int, sizes: dict[str, Any], engine: str
) -> dict[str, Any]:
    """Measure one process, then ``ranks`` of them, and print both.

    Args:
        shape: ``tiny`` or ``8b``.
        dtype: None is bfloat16 on CUDA and float32 on the CPU.
        sizes: ``steps`` and ``refreshes``, as ``measure`` takes them.
        engine: plain, fast, or auto, which is fast on CUDA.

    Returns:
        The figures, as JSON takes them.
    """
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    config = LLADA_8B_CONFIG if shape == "8b" else read_config(EMBEDDED["tiny"])
    made: dict[int, list[Timing]] = {}
    peaks = {}
    for count in dict.fromkeys((1, ranks)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        model = random_model(config, device, dtype, count, engine)
        try:
            made[count] = measure(model, count, sizes["steps"], sizes["refreshes"])
        finally:
            model.close()
        del model
        peaks[count] = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    lines = [["forward", "tokens", "cache", *(f"{count} × {device.type}, ms" for count in made), "gain"]]
    for alone, shared in zip(made[1], made[ranks], strict=True):
        times = [f"{1e3 * each.seconds:.2f}" for each in (alone, shared)]
        lines.append([alone.kind, str(alone.tokens), str(alone.cache), *times, f"{alone.seconds / shared.seconds:.2f}"])
    print(markdown(lines))
    for count, peak in peaks.items():
        if peak is not None:
            print(f"peak memory of the first of {count}: {peak / 2**30:.2f} GiB")
    return {"peak_bytes": peaks, "forwards": [asdict(each) for timings in made.values() for each in timings]}
