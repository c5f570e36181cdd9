"""LoRA adapters in the layout of Hugging Face's PEFT, merged into a network's weights when it is loaded.

A linear weight W [out, in] becomes W + scale * B A, with A [r, in], B [out, r] and scale = alpha / r, or
alpha / sqrt(r) for rank-stabilised adapters (arXiv 2106.09685, 2312.03732).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from odb_dllm.errors import InputError
from odb_dllm.tensor_parallel.sharding import Cut

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Variants that would change more than W + scale * B A: {key of adapter_config.json: values that are supported}.
_FIXED: dict[str, tuple[Any, ...]] = {
    "use_rslora": (False, True),
    "init_lora_weights": (False, True, "gaussian", "eva"),  # the others start from a base model that they changed
    "alora_invocation_tokens": ([],),  # active behind certain tokens only
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
        if not (a.is_floating_point() and b.is_floating_point()):
            raise InputError(f"The adapter in {folder} holds {a.dtype} and {b.dtype} for {module}, not floating point.")
        pairs[module] = (a, b)
    if not pairs:
        raise InputError(f"The adapter in {folder} holds no tensors.")
    return Adapter(pairs, scale)


def cut_adapter(adapter: Adapter, cuts: Mapping[str, Cut]) -> Adapter:
    """The adapter for a rank's parts of the weights: products are cut by the rows of B or the columns of A."""
    pairs = dict(adapter.pairs)
    for module in pairs.keys() & cuts.keys():
        cut, (a, b) = cuts[module], pairs[module]
        pairs[module] = (a, cut.of("weight", b)) if cut.dim == 0 else (cut.of("weight", a), b)
    return Adapter(pairs, adapter.scale)


def merge_adapter(network: nn.Module, adapter: Adapter) -> None:
    """Add the adapter to the network's weights, in place; products in float32 at least, on the weights' device."""
    for module, pair in adapter.pairs.items():
        weight = network.get_parameter(f"{module}.weight")
        wide = torch.promote_types(weight.dtype, torch.float32)
        a, b = (part.to(device=weight.device, dtype=wide) for part in pair)
        with torch.no_grad():
            weight.copy_(weight.to(wide) + adapter.scale * (b @ a))
            if not weight.isfinite().all():
                raise InputError(f"With the LoRA adapter, the weights of {module} are NaN or infinite.")


def _rank_and_scale(path: Path) -> tuple[int, float]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(config).__name__}.")
    if config.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type = {config.get('peft_type')!r} is not supported, only 'LORA'.")
    for key, value in config.items():
        variant = key.startswith("use_") or key.endswith("_config")  # whatever later versions bring
        values = _FIXED.get(key, (False, {}) if variant else None)
        if value is not None and values is not None and not any(type(value) is type(v) and value == v for v in values):
            raise InputError(f"{path}: {key} = {value!r} is not supported, only plain LoRA on linear layers.")
    for key, kinds in (("r", (int,)), ("lora_alpha", (int, float))):
        if key not in config:
            raise InputError(f"{path} lacks the key {key!r}.")
        if isinstance(config[key], bool) or not isinstance(config[key], kinds):
            raise InputError(f"{path} holds a value of the wrong type: {key} = {config[key]!r}.")
    rank, alpha = config["r"], float(config["lora_alpha"])
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
