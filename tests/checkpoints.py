"""Tiny random LLaDA and Dream checkpoints: those the golden runs were recorded on, and any others for fuzzing.

Weights come from numpy's legacy RandomState, whose stream is the same on every numpy version. Names, keys and
layout are those of the published checkpoints (GSAI-ML/LLaDA-8B-Instruct, Dream-org/Dream-v0-Base-7B).
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

DREAM_CONFIG: dict[str, Any] = {
    "model_type": "Dream", "architectures": ["DreamModel"], "vocab_size": 512, "hidden_size": 32,
    "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "rope_scaling": None, "tie_word_embeddings": False, "attention_dropout": 0.0, "mask_token_id": 510,
    "pad_token_id": 511, "bos_token_id": 508, "eos_token_id": 511, "use_cache": True,
}  # fmt: skip
DREAM_PROMPT_BELOW = 500  # ids of the golden prompts


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


@lru_cache(maxsize=32)
def dream_checkpoint(seed: int, *, logit_std: float = 10.0, **changes: Any) -> Checkpoint:
    """The Dream checkpoint of a golden run, or one with another config. Every token but the mask has a logit."""
    config = DREAM_CONFIG | changes
    rs = np.random.RandomState(seed)
    d, h, vocab, mask = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size", "mask_token_id"))
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]

    def normal(*shape: int) -> np.ndarray:
        return rs.standard_normal(shape).astype(np.float32)

    # The order of the draws is part of the golden runs: do not change it.
    w = {"model.embed_tokens": normal(vocab, d)}
    w["model.embed_tokens"][mask] *= 0.25
    heads = {"q_proj": (d, 2.5), "k_proj": (kv, 2.5), "v_proj": (kv, 1.5)}
    for layer in (f"model.layers.{i}" for i in range(config["num_hidden_layers"])):
        biases = {}
        for name, (rows, gain) in heads.items():
            w[f"{layer}.self_attn.{name}"] = normal(rows, d) * np.float32(gain / np.sqrt(d))
            biases[f"{layer}.self_attn.{name}.bias"] = normal(rows) * np.float32(0.1)
        w[f"{layer}.self_attn.o_proj"] = normal(d, d) * np.float32(1.5 / np.sqrt(d))
        for name, (rows, cols) in {"gate_proj": (h, d), "up_proj": (h, d), "down_proj": (d, h)}.items():
            w[f"{layer}.mlp.{name}"] = normal(rows, cols) * np.float32(1 / np.sqrt(cols))
        for name in ("input_layernorm", "post_attention_layernorm"):
            w[f"{layer}.{name}"] = (1 + 0.1 * normal(d)).astype(np.float32)
        w |= biases
    w["model.norm"] = (1 + 0.1 * normal(d)).astype(np.float32)
    if not config["tie_word_embeddings"]:
        w["lm_head"] = normal(vocab, d) * np.float32(logit_std / np.sqrt(d))
        w["lm_head"][mask] = 0
    weights = {name if name.endswith(".bias") else f"{name}.weight": array for name, array in w.items()}
    return Checkpoint(config, weights, np.arange(min(vocab, DREAM_PROMPT_BELOW)), ())
