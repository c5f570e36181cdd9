"""LoRA adapters in the layout of Hugging Face's PEFT, merged into a network's weights when it is loaded.

A linear weight W [out, in] becomes W + scale * B A, with A [r, in], B [out, r] and scale = alpha / r, or
alpha / sqrt(r) for rank-stabilised adapters (arXiv 2106.09685, 2312.03732).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from odb_dllm.errors import InputError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Variants that would change more than W + scale * B A: {key of adapter_config.json: values that are supported}.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "modules_to_save": ([],),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "layer_replication": ([],),
    "trainable_token_indices": ([], {}),
    "target_parameters": ([],),
}


@dataclass(frozen=True)
class Adapter:
    """What is added to a network: {module name: (A [r, in], B [out, r])}, and the factor of B A."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    scale: float


def read_adapter(network: nn.Module, folder: Path) -> Adapter:
    """Read an adapter and compare its names and shapes with the network's (whose weights need not be loaded).

    Raises:
        InputError: a file that is missing or unreadable, a variant that is not supported, a module that the network
            lacks or whose shape is another.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = (folder / "adapter_model.bin").is_file() and name == WEIGHTS
            also = " (adapter_model.bin is a pickle, which is never loaded)" if pickled else ""
            raise InputError(f"There is no {name} in the adapter's folder {folder}{also}.")
    rank, scale = _rank_and_scale(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{folder / WEIGHTS} is no readable safetensors file (truncated or corrupt?): {error}."
        ) from None
    modules = dict(network.named_modules())
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for module in sorted({_module_of(name, folder) for name in tensors}):
        a, b = (tensors.get(f"{PREFIX}{module}.lora_{part}.weight") for part in "AB")
        if a is None or b is None:
            raise InputError(f"The adapter in {folder} has only one of lora_A and lora_B for {module}.")
        linear = modules.get(module)
        if not isinstance(linear, nn.Linear):
            raise InputError(f"The adapter in {folder} is for another model: there is no linear layer {module}.")
        shapes = [list(a.shape), list(b.shape)]
        expected = [[rank, linear.in_features], [linear.out_features, rank]]
        if shapes != expected:
            raise InputError(
                f"The adapter in {folder} does not fit: lora_A and lora_B of {module} have shapes {shapes[0]} and "
                f"{shapes[1]} instead of {expected[0]} and {expected[1]}."
            )
        pairs[module] = (a, b)
    if not pairs:
        raise InputError(f"The adapter in {folder} holds no tensors.")
    return Adapter(pairs, scale)


def merge_adapter(network: nn.Module, adapter: Adapter) -> None:
    """Add the adapter to the network's weights, in place; products in float32 at least, on the weights' device."""
    for module, pair in adapter.pairs.items():
        weight = network.get_parameter(f"{module}.weight")
        wide = torch.promote_types(weight.dtype, torch.float32)
        a, b = (part.to(device=weight.device, dtype=wide) for part in pair)
        with torch.no_grad():
            weight.copy_(weight.to(wide) + adapter.scale * (b @ a))


def _rank_and_scale(path: Path) -> tuple[int, float]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(config).__name__}.")
    for key, values in _FIXED.items():
        if config.get(key) is not None and config[key] not in values:
            raise InputError(f"{path}: {key} = {config[key]!r} is not supported, only plain LoRA on linear layers.")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except KeyError as error:
        raise InputError(f"{path} lacks the key {error.args[0]!r}.") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} holds a value of the wrong type: {error}.") from None
    if rank < 1 or not math.isfinite(alpha):
        raise InputError(f"{path}: r must be at least 1 and lora_alpha finite, not {rank} and {alpha}.")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _module_of(name: str, folder: Path) -> str:
    """The module that an adapter's tensor belongs to."""
    module = name.removeprefix(PREFIX)
    for ending in (".lora_A.weight", ".lora_B.weight"):
        if name.startswith(PREFIX) and module.endswith(ending):
            return module.removesuffix(ending)
    raise InputError(f"The adapter in {folder} holds {name}, which is no LoRA of a linear layer.")
