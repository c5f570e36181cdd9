"""Which tensors of a network are which, and those that are read together made one, without a second copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from odb_dllm.models.dream import Dream
from odb_dllm.models.llada import LLaDA


@dataclass(frozen=True)
class Paths:
    """Names of a transformer's parts: modules of the network, then of each of its layers.

    The layers must be pre-norm ones with rotated queries and keys and a SwiGLU: what ``fast.network`` computes.
    """

    embedding: str
    layers: str
    norm: str
    attention_norm: str
    qkv: tuple[str, str, str]
    attention_out: str
    mlp_norm: str
    gate_up: tuple[str, str]
    mlp_out: str


PATHS: dict[Any, Paths] = {
    LLaDA: Paths(
        embedding="model.transformer.wte",
        layers="model.transformer.blocks",
        norm="model.transformer.ln_f",
        attention_norm="attn_norm",
        qkv=("q_proj", "k_proj", "v_proj"),
        attention_out="attn_out",
        mlp_norm="ff_norm",
        gate_up=("ff_proj", "up_proj"),
        mlp_out="ff_out",
    ),
    Dream: Paths(
        embedding="model.embed_tokens",
        layers="model.layers",
        norm="model.norm",
        attention_norm="input_layernorm",
        qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attention_out="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        gate_up=("mlp.gate_proj", "mlp.up_proj"),
        mlp_out="mlp.down_proj",
    ),
}


def paths_of(network: Any) -> Paths | None:
    """The parts of a network of a known family, or of one that names its own (``paths``); None for any other."""
    if isinstance(own := getattr(network, "paths", None), Paths):
        return own
    family = next((each for each in PATHS if isinstance(network, each)), None)
    if family is None or type(network).forward is not family.forward:  # a subclass that computes something else
        return None
    return PATHS[family]


@dataclass(frozen=True)
class Layer:
    """A layer's weights, those of products over the same input joined: rows behind rows."""

    attention_norm: Any  # RMSNorm: weight, eps
    qkv: Tensor  # [(H + 2K) * h, d]
    qkv_bias: Tensor | None
    attention_out: nn.Module  # called, as tensor parallelism completes its result
    mlp_norm: Any
    gate_up: Tensor  # [2m, d]
    mlp_out: nn.Module


def join_layers(network: nn.Module, paths: Paths) -> list[Layer]:
    """Join the weights of every layer, one layer after the other: never more than one layer is held twice."""
    layers = []
    layers_of: Any = network.get_submodule(paths.layers)
    for block in layers_of:
        qkv, gate_up = ([block.get_submodule(name) for name in names] for names in (paths.qkv, paths.gate_up))
        layers.append(
            Layer(
                attention_norm=block.get_submodule(paths.attention_norm),
                qkv=join([linear.weight for linear in qkv]),
                qkv_bias=None if qkv[0].bias is None else join([linear.bias for linear in qkv]),
                attention_out=block.get_submodule(paths.attention_out),
                mlp_norm=block.get_submodule(paths.mlp_norm),
                gate_up=join([linear.weight for linear in gate_up]),
                mlp_out=block.get_submodule(paths.mlp_out),
            )
        )
        if layers[-1].qkv.is_cuda:  # the parts' memory fits no joined tensor: without this it would pile up
            torch.cuda.empty_cache()
    return layers


def join(parts: Sequence[nn.Parameter]) -> Tensor:
    """Tensors [n_i, ...] as one [sum of n_i, ...], of which each becomes a view.

    The parameters stay the objects that they are, and train or load as before. What is joined already is left as it is.
    """
    first, rows = parts[0], sum(len(part) for part in parts)
    if _adjacent(parts):
        return torch.as_strided(first.data, (rows, *first.shape[1:]), first.stride(), first.storage_offset())
    joined = torch.cat([part.data for part in parts])
    for part, view in zip(parts, joined.split([len(part) for part in parts]), strict=True):
        part.data = view
    return joined


def _adjacent(parts: Sequence[nn.Parameter]) -> bool:
    """Whether each tensor begins in the memory where the one before it ends."""
    storage, offset = parts[0].untyped_storage().data_ptr(), parts[0].storage_offset()
    for part in parts:
        if part.untyped_storage().data_ptr() != storage or part.storage_offset() != offset or not part.is_contiguous():
            return False
        offset += part.numel()
    return True
