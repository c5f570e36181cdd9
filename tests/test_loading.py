"""Loading checkpoints: layouts, dtypes, and every way in which they can be wrong."""

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import Checkpoint, small_checkpoint
from safetensors.numpy import load_file, save_file

from odb_dllm import InputError, NonFiniteLogits, generate, load_model
from odb_dllm.models.llada import LLaDA

OPTIONS: dict[str, Any] = {"gen_length": 64, "setting": "jump-share"}


@pytest.fixture
def checkpoint() -> Checkpoint:
    return small_checkpoint(2)


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return checkpoint.write(tmp_path / "model")


def shard(folder: Path, parts: int = 3) -> dict[str, Any]:
    """Split model.safetensors into shards with an index, as large checkpoints come."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{i % parts + 1:05}-of-{parts:05}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def test_shards_load_as_one_file_does(folder: Path) -> None:
    single = generate(load_model(folder, device="cpu"), [1, 2, 3], **OPTIONS)
    shard(folder)
    assert generate(load_model(folder, device="cpu"), [1, 2, 3], **OPTIONS).tokens == single.tokens


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtypes(folder: Path, dtype: str) -> None:
    model = load_model(folder, device="cpu", dtype=dtype)
    assert {p.dtype for p in model.network.parameters()} == {getattr(torch, dtype)}
    result = generate(model, [1, 2, 3], **OPTIONS)
    assert len(result.tokens) == 64
    assert model.ids.mask not in result.tokens
    assert load_model(folder, dtype=getattr(torch, dtype), device="cpu").dtype == model.dtype
    assert load_model(folder, dtype="bf16", device="cpu").dtype == torch.bfloat16


def test_defaults_on_the_cpu(folder: Path) -> None:
    assert load_model(folder, device="cpu").dtype == torch.float32


def test_weights_outlive_their_file(folder: Path) -> None:
    model = load_model(folder, device="cpu", dtype="float32")
    (folder / "model.safetensors").write_bytes(b"")
    assert len(generate(model, [1], **OPTIONS).tokens) == 64


MEASURE = """
import resource, sys
from odb_dllm import load_model
import torch, transformers
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], device="cpu", dtype="float32")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown / 1024, sum(p.nbytes for p in model.network.parameters()) / 2**20)
"""


def test_loading_holds_one_copy_and_one_shard(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(0, vocab_size=300, d_model=768, n_heads=8, n_layers=8, mlp_hidden_size=3072)
    folder = checkpoint.write(tmp_path)
    shard(folder, parts=8)
    ran = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
    grown, weights = map(float, ran.stdout.split())  # MiB
    assert weights > 250
    assert grown < weights * (1 + 1 / 8) + 40


def test_other_shapes(tmp_path: Path) -> None:
    """Grouped keys and values, tied head, no mlp_hidden_size."""
    config = small_checkpoint(1).config | {
        "n_kv_heads": 2,
        "mlp_hidden_size": None,
        "mlp_ratio": 4,
        "weight_tying": True,
        "embedding_size": 300,
    }
    network = LLaDA.from_config(config)
    tensors = {name: p.detach().numpy() for name, p in network.named_parameters()}
    assert tensors["model.transformer.blocks.0.k_proj.weight"].shape == (16, 32)
    assert tensors["model.transformer.blocks.0.ff_proj.weight"].shape == (128, 32)
    assert "model.transformer.ff_out.weight" not in tensors
    (tmp_path / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    save_file(
        {n: rng.normal(size=t.shape).astype(np.float32) for n, t in tensors.items()}, tmp_path / "model.safetensors"
    )
    model = load_model(tmp_path, device="cpu")
    assert model.vocab_size == 300
    result = generate(model, [1, 2, 3], **OPTIONS)
    assert len(result.tokens) <= 64


def refused(folder: Path | str, words: str, **options: Any) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_model(folder, **({"device": "cpu"} | options))
    assert "\n" not in str(caught.value)


def test_missing_folders() -> None:
    refused("/no/such/folder", "is no folder")
    refused("./nothing", "is no folder")
    refused("no-such-model", "or tiny")
    refused("", "is no folder")


def test_hub_ids_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("someone/some-model", "could not be had from the hub")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no config.json"),
        ("{not json", "not readable JSON"),
        ("[1]", "JSON object"),
        ("{}", "unknown model_type None"),
        ('{"model_type": "llama"}', "unknown model_type 'llama'"),
        ('{"model_type": "llada"}', "lacks the key 'd_model'"),
    ],
)
def test_bad_configs(folder: Path, content: str | None, words: str) -> None:
    (folder / "config.json").unlink() if content is None else (folder / "config.json").write_text(content)
    refused(folder, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_token_id": "absent"}, "lacks the key 'mask_token_id'"),
        ({"mask_token_id": 256}, "outside the vocabulary"),
        ({"mask_token_id": 255}, "must differ"),
        ({"d_model": 30}, "even head width"),
        ({"d_model": "wide"}, "wrong type"),
        ({"n_layers": 0}, "n_layers must lie between 1 and 1000"),
        ({"d_model": 2**70}, "d_model must lie between"),
        ({"rms_norm_eps": -1}, "positive number"),
        ({"model_type": {}}, "unknown model_type"),
        ({"n_kv_heads": 3}, "multiple of n_kv_heads"),
        ({"alibi": True}, "alibi = True is not supported"),
        ({"block_type": "sequential"}, "block_type"),
        ({"n_layers": 3}, "lacks 9 of 30 tensors"),
        ({"n_layers": 1}, "holds 9 tensors"),
        ({"mlp_hidden_size": 100}, "has shape"),
        ({"vocab_size": 300, "embedding_size": None}, "has shape"),
    ],
)
def test_configs_that_do_not_fit(folder: Path, changes: dict[str, Any], words: str) -> None:
    rewrite(folder, **changes)
    refused(folder, words)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin is a pickle")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "only safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    refused(folder, "no readable safetensors file")


def test_corrupt_headers(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"x" * 100)
    refused(folder, "no readable safetensors file")


def test_integer_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.transformer.ln_f.weight"] = np.ones(32, np.int8)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "only float weights")


def test_bad_shards(folder: Path) -> None:
    index = shard(folder)
    name = "model-00002-of-00003.safetensors"
    (folder / name).rename(folder / "aside")
    refused(folder, "1 of 3 shards are missing.*00002")
    (folder / "aside").rename(folder / name)
    load_model(folder, device="cpu")
    index["weight_map"]["model.transformer.ln_f.weight"] = "../outside.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "outside its folder")
    (folder / "model.safetensors.index.json").write_text("{}")
    refused(folder, "not a readable index")


def test_bad_tokenizers(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "tokenizer in .* could not be loaded")


def test_a_tokenizer_s_code_is_never_run(tiny: Any, folder: Path) -> None:
    """Without tokenizer.json, transformers would ask whether to run the class that the folder brings along."""
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('the code of a checkpoint was run')")
    refused(folder, "could not be loaded")


def test_a_tokenizer_of_another_model(tiny: Any, folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny.path / name).read_bytes())
    refused(folder, "do not belong together")


def test_bad_devices_and_dtypes(folder: Path) -> None:
    refused(folder, "Unknown device 'gpu'", device="gpu")
    refused(folder, "not supported", device="meta")
    refused(folder, "Unknown dtype 'int8'", dtype="int8")
    refused(folder, "did you mean 'float16'", dtype="flaot16")
    refused(folder, "Unknown dtype", dtype=torch.int64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_asked_for_and_absent(folder: Path) -> None:
    refused(folder, "0 CUDA devices", device="cuda")
    refused(folder, "0 CUDA devices", device="cuda:1")


def test_prompts_that_do_not_fit(checkpoint: Checkpoint, tmp_path: Path) -> None:
    small = replace(checkpoint, config=checkpoint.config | {"max_sequence_length": 100})
    model = load_model(small.write(tmp_path), device="cpu")
    assert len(generate(model, [1] * 36, gen_length=64, setting="parallel").tokens) == 64
    for prompt, words in (
        ([1] * 37, "37 tokens and gen_length 64 exceed the model's maximum of 100"),
        ([1, 256], "outside the vocabulary"),
        ([-1], "outside the vocabulary"),
        ([0.5], "token ids"),
        (["a"], "token ids"),
        ("hello", "Prompt 0 must be"),
        (5, "Prompt 0 must be"),
        (None, "Prompt 0 must be"),
        ([[1], 5], "Prompt 1 must be"),
        ([[1, [2]]], "Prompt 0 must be"),
        ([[1], [1] * 40], "Prompt 1 of 40 tokens"),
    ):
        with pytest.raises(InputError, match=words):
            generate(model, prompt, gen_length=64)
    with pytest.raises(InputError, match="Unknown task 'gsm9k': did you mean 'gsm8k'"):
        generate(model, [1], task="gsm9k", gen_length=64)


def test_empty_and_listed_prompts(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    empty = generate(model, [], **OPTIONS)
    several = generate(model, [[], [1, 2]], **OPTIONS)
    assert several[0].tokens == empty.tokens
    assert several[1].tokens == generate(model, np.array([1, 2]), **OPTIONS).tokens


def test_nan_weights_stop_the_generation(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = dict(checkpoint.weights)
    weights["model.transformer.wte.weight"] = weights["model.transformer.wte.weight"].copy()
    weights["model.transformer.wte.weight"][5] = np.nan
    model = load_model(replace(checkpoint, weights=weights).write(tmp_path), device="cpu")
    with pytest.raises(NonFiniteLogits, match="Request 1: the logits at position 1 are NaN"):
        generate(model, [[1], [5]], **OPTIONS)
