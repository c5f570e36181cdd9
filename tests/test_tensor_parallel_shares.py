"""What each rank holds of a model, and that ranks together compute what one process does. Here they are threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Checkpoint, dream_checkpoint, small_checkpoint
from test_lora import write_adapter
from torch import Tensor

from odb_dllm import DiffusionModel, InputError, load_model
from odb_dllm.models.loading import blank_network
from odb_dllm.models.weights import load_weights
from odb_dllm.tensor_parallel.layers import GatheredLinear, SummedLinear
from odb_dllm.tensor_parallel.peers import Lost, Peers
from odb_dllm.tensor_parallel.sharding import check

LLADA = small_checkpoint(1)  # 4 heads, 96 units, vocabulary of 256
MODELS = {
    "llada": LLADA,
    "llada, odd sizes": small_checkpoint(2, n_heads=4, mlp_hidden_size=97, vocab_size=251, mask=249, eos=250),
    "dream": dream_checkpoint(1),  # 4 heads of 2 key-value heads
    "dream, tied": dream_checkpoint(1, tie_word_embeddings=True),
    "dream, 8 heads": dream_checkpoint(3, hidden_size=64, num_attention_heads=8),
}


def together(count: int, folder: Path, act: Callable[[Peers], Any]) -> list[Any]:
    """What each of so many ranks returns, each in a thread of its own."""

    def one(rank: int) -> Any:
        peers = Peers(rank, count, torch.device("cpu"), folder)
        peers.connect()
        try:
            return act(peers)
        finally:
            peers.leave()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def share_of(model: DiffusionModel, peers: Peers, adapter: Path | None = None) -> DiffusionModel:
    part = replace(model, network=blank_network(model.config))
    load_weights(part, peers, adapter=adapter)
    return part


@torch.inference_mode()
def logits(model: DiffusionModel) -> Tensor:
    """Of 40 tokens, some of which do not see each other, [2, 20, vocabulary]."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 200, (2, 20), generator=generator)
    mask = torch.rand(2, 1, 20, 20, generator=generator) < 0.8
    return model.network.logits(model.network(tokens, torch.arange(20), None, mask | torch.eye(20, dtype=torch.bool)))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., DiffusionModel]:
    def load(checkpoint: Checkpoint, dtype: str, **options: Any) -> DiffusionModel:
        return load_model(checkpoint.write(tmp_path / "model"), device="cpu", dtype=dtype, **options)

    return load


@pytest.mark.parametrize(
    ("name", "count"), [(name, count) for name in MODELS for count in (2, 3, 4) if count != 3 or "llada" in name]
)
def test_ranks_together_compute_the_logits(name: str, count: int, load: Any, tmp_path: Path) -> None:
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-4)):
        whole = load(MODELS[name], dtype)
        folder = tmp_path / dtype
        folder.mkdir()
        expected, parts = logits(whole), together(count, folder, lambda peers: logits(share_of(whole, peers)))  # noqa: B023
        for part in parts:
            torch.testing.assert_close(part, parts[0], rtol=0, atol=0)
            assert float((part - expected).abs().max()) < tolerance * float(expected.abs().max())


def test_a_rank_holds_its_part_of_each_weight(load: Any, tmp_path: Path) -> None:
    whole = load(dream_checkpoint(1), "float32")
    first, second = together(2, tmp_path, lambda peers: share_of(whole, peers))
    full = dict(whole.network.named_parameters())
    layer = "model.layers.0"
    for name, dim in (("self_attn.q_proj.weight", 0), ("self_attn.k_proj.bias", 0), ("mlp.down_proj.weight", 1)):
        parts = [model.network.get_parameter(f"{layer}.{name}") for model in (first, second)]
        assert torch.equal(torch.cat(parts, dim), full[f"{layer}.{name}"])
        assert all(part.is_contiguous() and part.shape[dim] * 2 == full[f"{layer}.{name}"].shape[dim] for part in parts)
    assert torch.equal(first.network.get_parameter("model.embed_tokens.weight"), full["model.embed_tokens.weight"])
    assert first.kv_shape == (2, 1, 8)
    assert whole.kv_shape == (2, 2, 8)
    block = first.network.model["layers"][1]
    assert isinstance(block.self_attn.o_proj, SummedLinear)
    assert isinstance(block.mlp.down_proj, SummedLinear)
    assert isinstance(first.network.lm_head, GatheredLinear)
    assert type(block.self_attn.q_proj) is torch.nn.Linear
    assert (block.self_attn.q_proj.out_features, block.mlp.down_proj.in_features) == (16, 48)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_adapters_are_merged_in_parts(family: str, load: Any, tmp_path: Path) -> None:
    adapter = tmp_path / "lora"
    write_adapter(family, adapter)
    checkpoint = small_checkpoint(1) if family == "llada" else dream_checkpoint(1)
    plain, merged = load(checkpoint, "float64"), load(checkpoint, "float64", peft=adapter)
    parts = together(2, tmp_path, lambda peers: logits(share_of(plain, peers, adapter)))
    torch.testing.assert_close(parts[1], logits(merged), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(logits(plain), logits(merged), atol=1.0)


def test_models_that_are_too_small_are_refused(load: Any) -> None:
    llada, dream = load(LLADA, "float32").network, load(dream_checkpoint(1), "float32").network
    for network, count, words in (
        (llada, 5, "exceeds the model's 4 attention heads"),
        (load(small_checkpoint(3, mlp_hidden_size=3), "float32").network, 4, "exceeds the model's 3 MLP units"),
        (dream, 3, "at most the model's 2 key-value heads, or a multiple"),
        (torch.nn.Linear(2, 2), 2, "does not know how to cut a Linear"),
    ):
        with pytest.raises(InputError, match=words):
            check(network, count)
    check(dream, 4)
    check(llada, 3)


def test_a_rank_that_leaves_is_noticed(tmp_path: Path) -> None:
    def act(peers: Peers) -> str:
        if peers.rank == 1:
            return "left"
        with pytest.raises(Lost):
            peers.sum(torch.ones(2))
        return "noticed"

    assert together(2, tmp_path, act) == ["noticed", "left"]
