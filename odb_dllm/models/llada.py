"""LLaDA (GSAI-ML/LLaDA-8B-Base, -Instruct, LLaDA-1.5): a bidirectional transformer with a mask token.

Tensor names and config keys are those of the published checkpoints, so their safetensors load as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odb_dllm.models.config import ModelConfig, read_config
from odb_dllm.models.layers import LayerCache, RMSNorm, Shards, attention, rotary_table, swiglu

# Variants of the architecture that no published LLaDA uses: {config key: the value that is supported}.
_FIXED = {
    "rope": True,
    "alibi": False,
    "layer_norm_type": "rms",
    "bias_for_layer_norm": False,
    "attention_layer_norm": False,
    "activation_type": "silu",
    "block_type": "llama",
    "include_bias": False,
    "include_qkv_bias": False,
    "scale_logits": False,
    "input_emb_norm": False,
}


@dataclass(frozen=True)
class LLaDAConfig(ModelConfig):
    """Shape of a LLaDA, from its config.json."""

    rope_full_precision: bool = True

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "LLaDAConfig":
        """Read the published keys; ``InputError`` names a key that is missing or a variant that is not supported."""
        return read_config(config, "a LLaDA", _FIXED, cls._read)

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> "LLaDAConfig":
        d_model, n_heads = int(config["d_model"]), int(config["n_heads"])
        return cls(
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=int(config.get("n_kv_heads") or (1 if config.get("multi_query_attention") else n_heads)),
            n_layers=int(config["n_layers"]),
            mlp_hidden_size=int(config.get("mlp_hidden_size") or config["mlp_ratio"] * d_model),
            vocab_size=int(config.get("embedding_size") or config["vocab_size"]),
            max_sequence_length=int(config["max_sequence_length"]),
            mask_token_id=int(config["mask_token_id"]),
            eos_token_id=int(config["eos_token_id"]),
            rope_theta=float(config.get("rope_theta", 10000.0)),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-5)),
            rope_full_precision=bool(config.get("rope_full_precision", True)),
            weight_tying=bool(config.get("weight_tying", False)),
        )


class Block(nn.Module):
    """One layer: attention and SwiGLU, each behind its RMSNorm and added to the residual stream."""

    def __init__(self, config: LLaDAConfig, index: int) -> None:
        super().__init__()
        width, kv_width, hidden = config.d_model, config.n_kv_heads * config.head, config.mlp_hidden_size
        self.index, self.head = index, config.head
        self.attn_norm = RMSNorm(width, config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = RMSNorm(width, config.rms_norm_eps)
        self.ff_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.ff_out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], kv: LayerCache | None, mask: Tensor | None) -> Tensor:
        h = self.attn_norm(x)
        qkv = (self.q_proj(h), self.k_proj(h), self.v_proj(h))
        x = x + self.attn_out(attention(qkv, self.head, rotary, kv, self.index, mask))
        return x + swiglu(self.ff_norm(x), self.ff_proj, self.up_proj, self.ff_out)


class LLaDA(nn.Module):
    """The network, with the published tensor names (``model.transformer.blocks.0.q_proj.weight`` ...)."""

    shift = 0  # the prediction for position i is read at row i
    tempered = False  # the confidence of a drawn token is its probability in the plain softmax
    shards: ClassVar[Shards] = {
        **dict.fromkeys(("ff_proj", "up_proj"), (0, "units")),
        **dict.fromkeys(("k_proj", "v_proj"), (0, "kv_heads")),
        "q_proj": (0, "heads"),
        "attn_out": (1, "heads"),
        "ff_out": (1, "units"),
        "transformer.ff_out": (0, "vocabulary"),
    }

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        self.config = config
        parts: dict[str, nn.Module] = {
            # from_pretrained: a normal_ on the meta device would import half of torch, for weights that are replaced.
            "wte": nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False),
            "blocks": nn.ModuleList(Block(config, i) for i in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        if not config.weight_tying:
            parts["ff_out"] = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.model = nn.ModuleDict({"transformer": nn.ModuleDict(parts)})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LLaDA":
        """Make the network from the dict in config.json (on the default device, weights not loaded)."""
        return cls(LLaDAConfig.from_dict(config))

    @property
    def parts(self) -> Any:
        """The named parts: wte, blocks, ln_f and, untied, ff_out."""
        return self.model["transformer"]

    def forward(
        self, tokens: Tensor, positions: Tensor, kv: LayerCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the hidden states after the final norm, [..., n, d_model].

        Args:
            tokens: int64 [..., n].
            positions: int64 [n] or [..., n], true canvas positions.
            kv: receives each layer's new keys and values and answers with those to attend to; None attends to
                the input itself.
            mask: bool, broadcastable to [..., heads, n, m]; True where a query attends to a key. None = all.
        """
        config = self.config
        x = self.parts["wte"](tokens)
        cos, sin = rotary_table(positions, config.head, config.rope_theta)
        if not config.rope_full_precision:
            cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for block in self.parts["blocks"]:
            x = block(x, (cos, sin), kv, mask)
        return self.parts["ln_f"](x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the vocabulary logits [..., vocab_size] of hidden states [..., d_model], in the model's dtype."""
        if self.config.weight_tying:
            return F.linear(hidden, self.parts["wte"].weight)
        return self.parts["ff_out"](hidden)
