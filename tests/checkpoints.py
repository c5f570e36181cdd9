"""Tiny random LLaDA checkpoints: those the golden runs were recorded on, and any others for fuzzing.

Weights come from numpy's legacy RandomState, whose stream is the same on every numpy version. Names, keys and
layout are those of the published checkpoint (GSAI-ML/LLaDA-8B-Instruct).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

LLADA_CONFIG: dict[str, Any] = {
    "model_type": "llada", "architectures": ["LLaDAModelLM"], "d_model": 32, "n_heads": 4, "n_kv_heads": 4,
    "n_layers": 2, "mlp_hidden_size": 96, "mlp_ratio": 4, "vocab_size": 126464, "embedding_size": 126464,
    "max_sequence_length": 4096, "rope": True, "rope_theta": 500000.0, "rope_full_precision": True,
    "alibi": False, "rms_norm_eps": 1e-05, "layer_norm_type": "rms", "layer_norm_with_affine": True,
    "bias_for_layer_norm": False, "attention_layer_norm": False, "activation_type": "silu",
    "block_type": "llama", "block_group_size": 1, "include_bias": False, "include_qkv_bias": False,
    "weight_tying": False, "scale_logits": False, "input_emb_norm": False, "multi_query_attention": None,
    "flash_attention": False, "attention_dropout": 0.0, "residual_dropout": 0.0, "embedding_dropout": 0.0,
    "mask_token_id": 126336, "eos_token_id": 126081, "pad_token_id": 126081, "init_device": "cpu",
    "init_fn": "mitchell", "init_std": 0.02, "precision": "amp_bf16", "use_cache": False,
}  # fmt: skip
# End of text, then the first tokens of the stop strings of the five benchmarks.
LLADA_SPECIAL = (126081, 17188, 38649, 48, 198, 2439, 1413, 2, 7442, 371, 3384, 103193)
# Ordinary predictable tokens are drawn below this id (below vocab_size where that is smaller).
LLADA_ACTIVE_BELOW = 100000


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory. Cached and shared: treat the arrays as read-only."""

    config: dict[str, Any]
    weights: dict[str, np.ndarray]  # published tensor name -> float32
    active: np.ndarray  # sorted ids with a non-zero output row: the tokens worth predicting
    special: tuple[int, ...]  # ids with boosted logits, absent from prompts

    def prompt(self, seed: int, length: int) -> np.ndarray:
        """Prompt ids, int64 [length]: active tokens, neither special nor the mask."""
        avoid = {*self.special, self.config["mask_token_id"]}
        choices = np.array([token for token in self.active if token not in avoid])
        return np.random.RandomState(seed + 7919).choice(choices, length).astype(np.int64)

    def write(self, folder: Path) -> Path:
        """Write config.json and model.safetensors into `folder`, made if absent; returns it."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        save_file(self.weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder


@lru_cache(maxsize=8)
def golden_checkpoint(seed: int, special_boost: float = 1.0, logit_std: float = 14.0) -> Checkpoint:
    """The checkpoint of a golden run: full vocabulary (126464), 160 + 12 predictable tokens."""
    return _build(LLADA_CONFIG, LLADA_SPECIAL, seed, special_boost, logit_std, n_active=160)


@lru_cache(maxsize=32)
def small_checkpoint(
    seed: int,
    *,
    vocab_size: int = 256,
    mask: int = 254,
    eos: int = 255,
    special: tuple[int, ...] | None = None,
    d_model: int = 32,
    n_heads: int = 4,
    n_layers: int = 2,
    mlp_hidden_size: int = 96,
    max_sequence_length: int = 4096,
    special_boost: float = 1.0,
    logit_std: float = 14.0,
    n_active: int | None = None,
) -> Checkpoint:
    """Any other small checkpoint. `special` defaults to (eos,). `n_active` None gives every token a logit,
    the mask too, so that its exclusion from the arg-max is exercised."""
    config = LLADA_CONFIG | {
        "vocab_size": vocab_size,
        "embedding_size": vocab_size,
        "mask_token_id": mask,
        "eos_token_id": eos,
        "pad_token_id": eos,
        "d_model": d_model,
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "n_layers": n_layers,
        "mlp_hidden_size": mlp_hidden_size,
        "max_sequence_length": max_sequence_length,
    }
    special = (eos,) if special is None else special
    if n_active is None:
        n_active = min(vocab_size, LLADA_ACTIVE_BELOW)
    return _build(config, special, seed, special_boost, logit_std, n_active)


def _build(
    config: dict[str, Any],
    special: Sequence[int],
    seed: int,
    special_boost: float,
    logit_std: float,
    n_active: int,
) -> Checkpoint:
    """Draw the weights. The order of the draws is part of the golden runs: do not change it."""
    rs = np.random.RandomState(seed)
    d, h, vocab = config["d_model"], config["mlp_hidden_size"], config["vocab_size"]

    def normal(*shape: int) -> np.ndarray:
        return rs.standard_normal(shape).astype(np.float32)

    chosen = rs.choice(min(vocab, LLADA_ACTIVE_BELOW), n_active, replace=False)
    active = np.unique(np.concatenate([chosen, np.array(special, dtype=np.int64)]))
    w = {"wte": normal(vocab, d)}
    w["wte"][config["mask_token_id"]] *= 0.25
    gains = {"q_proj": 2.5, "k_proj": 2.5, "v_proj": 1.5, "attn_out": 1.5}
    shapes = dict.fromkeys(gains, (d, d)) | {"ff_proj": (h, d), "up_proj": (h, d), "ff_out": (d, h)}
    for i in range(config["n_layers"]):
        for name, (rows, cols) in shapes.items():
            w[f"blocks.{i}.{name}"] = normal(rows, cols) * np.float32(gains.get(name, 1.0) / np.sqrt(cols))
        for name in ("attn_norm", "ff_norm"):
            w[f"blocks.{i}.{name}"] = (1 + 0.1 * normal(d)).astype(np.float32)
    w["ln_f"] = (1 + 0.1 * normal(d)).astype(np.float32)
    head = np.zeros((vocab, d), np.float32)
    head[active] = normal(len(active), d) * (logit_std / np.sqrt(d))
    head[list(special)] *= special_boost
    w["ff_out"] = head
    weights = {f"model.transformer.{name}.weight": array for name, array in w.items()}
    return Checkpoint(dict(config), weights, active, tuple(special))
