"""A checkpoint with random weights and the embedded tokenizer, and a small GSM8K: texts that need make no sense."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from odb_dllm.models.llada import LLaDA
from odb_dllm.models.loading import EMBEDDED, load_tokenizer


def write_model(folder: Path) -> Path:
    """Write two layers of width 32 and return the folder; maximum length 2048."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED["tiny"] / name, folder / name)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    config = {
        "model_type": "llada", "d_model": 32, "n_heads": 4, "n_layers": 2, "mlp_hidden_size": 64,
        "vocab_size": len(tokenizer), "max_sequence_length": 2048, "rope_theta": 500000.0,
        "mask_token_id": tokenizer.convert_tokens_to_ids("<|mdm_mask|>"),
        "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    shapes = {name: p.shape for name, p in LLaDA.from_config(config).named_parameters()}
    weights = {name: torch.randn(s) * 0.3 if len(s) > 1 else torch.ones(s) for name, s in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def write_gsm8k(folder: Path) -> Path:
    """Write a folder of local data with a GSM8K of its own, 40 documents a split, and return the folder."""
    (folder / "gsm8k").mkdir()
    for split in ("train", "test"):
        docs = [
            {"question": f"{split} {i}: Ann has 2 pens and buys 3. How many?", "answer": "#### 5"} for i in range(40)
        ]
        (folder / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return folder
