"""Corrupt checkpoints: whatever is wrong, loading says so in one sentence, or the file still makes sense."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from random_model import write_model

from odb_dllm import InputError, load_model

VALUES: list[Any] = [None, -1, 0, 2**31, 2**63, 2**70, 1e308, float("nan"), "x", "", [], {}, [1], True, "32", 3.7, -0.5]
OPTIONAL = ("n_kv_heads", "embedding_size", "weight_tying", "rms_norm_eps", "mlp_ratio", "rope_full_precision")
HEADER = 4000  # bytes of model.safetensors in which its header lies


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("random"))


def damage(content: bytes, rng: random.Random, within: int) -> bytes:
    """Flip, cut off, take out or put in some bytes."""
    data, at = bytearray(content), rng.randrange(min(within, len(content)))
    match rng.choice(["flip", "cut", "take", "put"]):
        case "flip":
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(min(within, len(data)))] = rng.randrange(256)
        case "cut":
            data = data[:at]
        case "take":
            del data[at : at + rng.randrange(1, 50)]
        case "put":
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(data)


def loads_or_says_why(folder: Path) -> bool:
    said = ""
    try:
        load_model(folder, device="cpu", dtype="float32")
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
    return not said


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_files(name: str, seed: int, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    rng = random.Random(f"{name}{seed}")
    damaged = damage((folder / name).read_bytes(), rng, HEADER if name.endswith("tensors") else 10**9)
    (folder / name).write_bytes(damaged)
    loads_or_says_why(folder)


def test_values_that_nobody_planned_for(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "tokenizer.json").unlink()  # it takes long, and is not what is tested
    (folder / "tokenizer_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    loaded = 0
    for key in (*config, *OPTIONAL):
        for value in VALUES:
            (folder / "config.json").write_text(json.dumps(config | {key: value}))
            loaded += loads_or_says_why(folder)
    assert 0 < loaded < len(VALUES) * len(config)
