"""A small LLaDA as a large one: the same function at the cost of the large shapes.

Every tensor of the large model holds the small model's numbers somewhere and, elsewhere, numbers that cannot change the
result: the residual stream is zero where the small one has no coordinate, and what unused heads, units and layers
compute is multiplied by zero. So a checkpoint of a few megabytes has an 8B model's cost and a trained model's
confidences.
"""

import math
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from odb_dllm.errors import InputError
from odb_dllm.models.llada import LLaDA, LLaDAConfig
from odb_dllm.models.loading import DiffusionModel, load_model

LLADA_8B: dict[str, Any] = {
    "d_model": 4096,
    "n_heads": 32,
    "n_layers": 32,
    "mlp_hidden_size": 12288,
    "vocab_size": 126464,
}


class Expanded(LLaDA):
    """A LLaDA whose vocabulary ends before its logits do: a column of zeros would add e^0 to every softmax."""

    entries: int

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits [..., vocab_size], -inf from the small model's vocabulary on."""
        logits = super().logits(hidden)
        logits[..., self.entries :] = float("-inf")
        return logits


def expanded_config(small: LLaDAConfig, shape: dict[str, Any]) -> LLaDAConfig:
    """The large model's config; raises ``InputError`` for a shape that cannot hold the small model."""
    large = replace(small, **shape, n_kv_heads=shape["n_heads"], rms_norm_eps=small.rms_norm_eps)
    large = replace(large, rms_norm_eps=small.rms_norm_eps * small.d_model / large.d_model)
    large.check()
    if small.n_kv_heads != small.n_heads or small.weight_tying:
        raise InputError("Only a model with as many key-value heads as heads and an untied head can be expanded.")
    if large.head % small.head:
        raise InputError(f"A head of {large.head} must be a multiple of the small model's {small.head}.")
    for key in ("d_model", "n_heads", "n_layers", "mlp_hidden_size", "vocab_size"):
        if getattr(large, key) < getattr(small, key):
            raise InputError(f"{key} {getattr(large, key)} is less than the small model's {getattr(small, key)}.")
    return large


@torch.no_grad()
def expand(
    model: DiffusionModel,
    shape: dict[str, Any],
    *,
    dense: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> DiffusionModel:
    """The model in the shapes of a larger one: same predictions, same confidences up to rounding.

    Args:
        shape: d_model, n_heads, n_layers, mlp_hidden_size and vocab_size, such as ``LLADA_8B``.
        dense: fold the norms' gains into the matrices behind them and turn the residual stream by a random orthogonal
            matrix. Its zeros, which draw less power than real activations, are gone then.
        device, dtype: of the result; the model's own by default.
        seed: of the numbers that change nothing.

    Raises:
        InputError: a shape that cannot hold the model.
    """
    small, config = model.network, expanded_config(model.network.config, shape)
    device, dtype = torch.device(device or model.device), dtype or model.dtype
    with torch.device("meta"):
        network = Expanded(config)
    network.entries = small.config.vocab_size
    network.to_empty(device=device).to(dtype)
    generator = torch.Generator(device).manual_seed(seed)
    turn = _orthogonal(config.d_model, generator) if dense else None
    layers = [_Layer(small, config, index) for index in range(config.n_layers)]
    for name, weight in network.named_parameters():
        weight.data = _tensor(name, weight, small, layers, turn, generator).to(dtype)
    described = {key: value for key, value in asdict(config).items() if key in shape}
    return replace(
        model,
        name=f"{model.name} in other shapes",
        network=network.eval(),
        config={**model.config, **described, "embedding_size": config.vocab_size},
        device=device,
        dtype=dtype,
        vocab_size=config.vocab_size,
        predictable=min(model.predictable, small.config.vocab_size),
    )


def load_embedded(
    shape: str, *, device: torch.device, dtype: torch.dtype | None, dense: bool = False
) -> DiffusionModel:
    """The embedded checkpoint as it is (``tiny``), or in an 8B model's shapes (``8b``, bfloat16 by default)."""
    if shape == "tiny":
        return load_model("tiny", device=device, dtype=dtype)
    small = load_model("tiny", device="cpu", dtype="float32")
    return expand(small, LLADA_8B, dense=dense, device=device, dtype=dtype or torch.bfloat16)


class _Layer:
    """Where a small model's layer goes in a large one; beyond its depth, a layer that adds nothing."""

    def __init__(self, small: LLaDA, config: LLaDAConfig, index: int) -> None:
        self.config, self.small = config, small.config
        self.block: Any = small.parts["blocks"][index] if index < small.config.n_layers else None

    def heads(self, device: torch.device, rotated: bool) -> Tensor:
        """Rows of the large projections, int64 [small d_model]: head by head, and within it by frequency."""
        h, large = self.small.head, self.config.head
        offset = torch.arange(h, device=device)
        if rotated:  # pair (i, i + h/2) turns as fast as pair (i*H/h, H/2 + i*H/h) does
            offset = offset % (h // 2) * (large // h) + offset // (h // 2) * (large // 2)
        return (torch.arange(self.small.n_heads, device=device)[:, None] * large + offset).flatten()


def _orthogonal(width: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(width, width, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.linalg.qr(drawn)[0]


def _tensor(
    name: str, like: Tensor, small: LLaDA, layers: list[_Layer], turn: Tensor | None, generator: torch.Generator
) -> Tensor:
    """One tensor of the large model, in float32, or in float64 where it is turned."""
    *above, part, _ = name.split(".")
    layer = layers[int(above[-1])] if "blocks" in above else None
    width, gain = small.config.d_model, math.sqrt(layers[0].config.d_model / small.config.d_model)
    if part in ("attn_norm", "ff_norm", "ln_f"):
        made = torch.zeros_like(like, dtype=torch.float32)
        if turn is not None:
            return made + 1.0  # the gain is in the matrices behind
        if layer is None or layer.block is not None:
            made[:width] = _own(small, layer, part).weight.to(made) / gain
        return made
    kind = torch.float32 if turn is None else torch.float64
    made = torch.randn(like.shape, generator=generator, device=like.device, dtype=kind) * 0.02
    if layer is None:
        source = small.parts[part].weight.to(made)
        made.zero_()
        made[: len(source), :width] = source
        if part == "wte":
            return made if turn is None else made @ turn
        return made if turn is None else _behind_norm(made, small.parts["ln_f"].weight, gain) @ turn
    return _block_tensor(made, part, layer, turn, gain)


def _own(small: LLaDA, layer: _Layer | None, part: str) -> Any:
    return small.parts[part] if layer is None else getattr(layer.block, part)


def _block_tensor(made: Tensor, part: str, layer: _Layer, turn: Tensor | None, gain: float) -> Tensor:
    """A matrix of a block; random where it cannot matter."""
    writes = part in ("attn_out", "ff_out")
    if layer.block is None:
        return made.zero_() if writes else made
    source = getattr(layer.block, part).weight.to(made)
    device, width = made.device, layer.small.d_model
    if writes:  # columns: heads or units; rows: the residual stream
        made.zero_()
        columns = layer.heads(device, False) if part == "attn_out" else torch.arange(source.shape[1], device=device)
        made[:width, columns] = source
        return made if turn is None else turn.T @ made
    if part == "q_proj":  # attention divides by the root of the head's width
        source = source * math.sqrt(layer.config.head / layer.small.head)
    rows = torch.arange(len(source), device=device)
    if part in ("q_proj", "k_proj", "v_proj"):
        rows = layer.heads(device, part != "v_proj")
    if part in ("q_proj", "k_proj", "v_proj"):  # what shares a head with the small model's must be silent
        used = torch.arange(layer.small.n_heads * layer.config.head, device=device)
        made[used] = 0.0
    made[rows] = 0.0
    made[rows, :width] = source
    if turn is None:
        return made
    norm = layer.block.ff_norm if part in ("ff_proj", "up_proj") else layer.block.attn_norm
    return _behind_norm(made, norm.weight, gain) @ turn


def _behind_norm(matrix: Tensor, weight: Tensor, gain: float) -> Tensor:
    """The matrix with the gains of the norm before it in its columns."""
    made = matrix.clone()
    made[:, : len(weight)] *= weight.to(made) / gain
    return made
