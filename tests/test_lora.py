"""LoRA adapters: merged at load time, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import dream_checkpoint, small_checkpoint
from safetensors.numpy import save_file

from odb_dllm import InputError, generate, load_model
from odb_dllm.arguments import fingerprint, parse
from odb_dllm.lm_eval_model import ODBDiffusionLM

PREFIX = "base_model.model."
MODULES = {
    "llada": {"model.transformer.blocks.1.q_proj": (32, 32), "model.transformer.blocks.0.ff_out": (32, 96)},
    "dream": {"model.layers.1.self_attn.k_proj": (16, 32), "model.layers.0.mlp.down_proj": (32, 96)},
}


def write_base(family: str, folder: Path) -> Path:
    checkpoint = small_checkpoint(1) if family == "llada" else dream_checkpoint(1)
    return checkpoint.write(folder / "base")


def write_adapter(
    family: str, folder: Path, tensors: dict[str, np.ndarray] | None = None, **changes: Any
) -> dict[str, np.ndarray]:
    """An adapter of rank 4 and alpha 6 with all the keys that PEFT writes; {module: B A}."""
    rng = np.random.default_rng(0)
    config = {
        "peft_type": "LORA", "task_type": None, "r": 4, "lora_alpha": 6, "lora_dropout": 0.1, "bias": "none",
        "use_rslora": False, "use_dora": False, "fan_in_fan_out": False, "modules_to_save": None, "rank_pattern": {},
        "alpha_pattern": {}, "target_modules": ["q_proj", "ff_out"], "base_model_name_or_path": "x",
        "layers_to_transform": None, "inference_mode": True, "lora_bias": False,
    } | changes  # fmt: skip
    products, written = {}, {}
    for module, (rows, columns) in MODULES[family].items():
        a = rng.normal(size=(4, columns)).astype(np.float32)
        b = rng.normal(size=(rows, 4)).astype(np.float32)
        written |= {f"{PREFIX}{module}.lora_A.weight": a, f"{PREFIX}{module}.lora_B.weight": b}
        products[module] = b.astype(np.float64) @ a
    folder.mkdir(exist_ok=True)
    save_file(written if tensors is None else tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return products


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_weights_gain_scaled_products(family: str, rslora: bool, scale: float, tmp_path: Path) -> None:
    base = write_base(family, tmp_path)
    products = write_adapter(family, tmp_path / "lora", use_rslora=rslora)
    plain = dict(load_model(base, device="cpu", dtype="float64").network.named_parameters())
    model = load_model(base, device="cpu", dtype="float64", peft=tmp_path / "lora")
    for name, weight in model.network.named_parameters():
        product = products.get(name.removesuffix(".weight"), 0.0)
        np.testing.assert_allclose(weight.numpy(), plain[name].numpy() + scale * product, rtol=1e-12, atol=1e-12)
    tokens = generate(model, [1, 2, 3], setting="parallel", gen_length=32).tokens
    assert tokens != generate(load_model(base, device="cpu"), [1, 2, 3], setting="parallel", gen_length=32).tokens


def test_products_are_rounded_once(tmp_path: Path) -> None:
    """In bfloat16 the sum is made in float32, from the rounded weight."""
    base = write_base("dream", tmp_path)
    ((module, product), _) = write_adapter("dream", tmp_path / "lora").items()
    plain = load_model(base, device="cpu", dtype="bfloat16").network.get_parameter(f"{module}.weight")
    merged = load_model(base, device="cpu", dtype="bfloat16", peft=tmp_path / "lora").network
    expected = (plain.float() + 1.5 * torch.tensor(product).float()).bfloat16()
    difference = (merged.get_parameter(f"{module}.weight").float() - expected.float()).abs()
    assert float(difference.max()) <= 2**-7 * float(expected.abs().max())


def test_the_adapter_is_a_model_argument(tmp_path: Path) -> None:
    base = write_base("llada", tmp_path)
    write_adapter("llada", tmp_path / "lora")
    adapter = ODBDiffusionLM(pretrained=str(base), peft=str(tmp_path / "lora"), device="cpu")
    plain = load_model(base, device="cpu")
    module = "model.transformer.blocks.1.q_proj.weight"
    assert not torch.equal(adapter.model.network.get_parameter(module), plain.network.get_parameter(module))
    with pytest.raises(InputError, match="peft must be a folder"):
        parse({"pretrained": str(base), "peft": "/no/such/folder"})


def test_cached_answers_are_told_apart_by_adapter(tmp_path: Path) -> None:
    about: dict[str, Any] = {"device": "cpu", "dtype": "float32", "digest": "x", "version": "1"}
    seen = {fingerprint(parse({"pretrained": "tiny"}), **about)}
    for alpha in (6, 7):
        write_adapter("llada", tmp_path / "lora", lora_alpha=alpha)
        seen.add(fingerprint(parse({"pretrained": "tiny", "peft": str(tmp_path / "lora")}), **about))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not supported"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"r": 8}, r"have shapes \[4, 96\] and \[32, 4\] instead of \[8, 96\] and \[32, 8\]"),
        ({"r": 0}, "r must be at least 1"),
        ({"r": "many"}, "wrong type"),
        ({"lora_alpha": None}, "wrong type"),
        ({"lora_alpha": True}, "wrong type"),
        ({"r": 4.0}, "wrong type"),
        ({"use_rslora": "false"}, "use_rslora = 'false' is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"corda_config": {"rank": 2}}, "corda_config"),
        ({"use_anything_new": True}, "use_anything_new = True"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"lora_alpha": 1e300}, "are NaN or infinite"),
    ],
)
def test_unsupported_variants(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_adapter("llada", tmp_path / "lora", **changes)
    refused("llada", tmp_path, words)


def refused(family: str, folder: Path, words: str) -> None:
    base = write_base(family, folder)
    with pytest.raises(InputError, match=words) as caught:
        load_model(base, device="cpu", peft=folder / "lora")
    assert "\n" not in str(caught.value)


def test_adapters_of_other_models(tmp_path: Path) -> None:
    write_adapter("llada", tmp_path / "lora")
    refused("dream", tmp_path, "for another model: there is no linear layer model.transformer.blocks.0.ff_out")


def test_names_and_shapes_that_do_not_fit(tmp_path: Path) -> None:
    name = f"{PREFIX}model.transformer.blocks.0.q_proj"
    a, b = np.zeros((4, 32), np.float32), np.zeros((32, 4), np.float32)
    for tensors, words in (
        ({}, "holds no tensors"),
        ({f"{name}.lora_A.weight": a}, "only one of lora_A and lora_B"),
        ({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b[:16]}, "instead of"),
        ({f"{name}.lora_magnitude_vector": a}, "is no LoRA of a linear layer"),
        ({f"{PREFIX}model.transformer.wte.lora_embedding_A": a}, "is no LoRA of a linear layer"),
        ({"model.lora_A.weight": a}, "is no LoRA of a linear layer"),
        (
            {f"{PREFIX}model.transformer.wte.lora_A.weight": a, f"{PREFIX}model.transformer.wte.lora_B.weight": b},
            "no linear layer model.transformer.wte",
        ),
    ):
        write_adapter("llada", tmp_path / "lora", tensors=tensors)
        refused("llada", tmp_path, words)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    module, (rows, columns) = next(iter(MODULES["llada"].items()))
    for value, words in ((np.float32("nan"), "are NaN or infinite"), (np.int32(1), "not floating point")):
        shapes = {"A": (4, columns), "B": (rows, 4)}
        tensors = {f"{PREFIX}{module}.lora_{part}.weight": np.full(shape, value) for part, shape in shapes.items()}
        write_adapter("llada", tmp_path / "lora", tensors)
        refused("llada", tmp_path, words)


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    write_adapter("llada", folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused("llada", tmp_path, "adapter_model.bin is a pickle")
    (folder / "adapter_model.bin").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").write_bytes(b"1234")
    refused("llada", tmp_path, "no readable safetensors file")
    (folder / "adapter_config.json").write_text("{")
    refused("llada", tmp_path, "not readable JSON")
    (folder / "adapter_config.json").write_text("[]")
    refused("llada", tmp_path, "JSON object")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    refused("llada", tmp_path, "lacks the key 'lora_alpha'")
    (folder / "adapter_config.json").unlink()
    refused("llada", tmp_path, "no adapter_config.json")
