"""Dream (Dream-org/Dream-v0-Base-7B, -Instruct-7B): Qwen2's transformer, attending both ways, with a mask token.

Tensor names and config keys are those of the published checkpoints, so their safetensors load as they are. It began
as an autoregressive model and still predicts each token at the position before it (arXiv 2508.15487).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odb_dllm.models.config import ModelConfig, read_config
from odb_dllm.models.layers import LayerCache, RMSNorm, Shards, attention, rotary_table, swiglu

# Variants of the architecture that no published Dream uses: {config key: the value that is supported}.
_FIXED = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False, "use_mrope": False}


@dataclass(frozen=True)
class DreamConfig(ModelConfig):
    """Shape of a Dream, from its config.json."""

    KEYS: ClassVar[Mapping[str, str]] = {
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "n_layers": "num_hidden_layers",
        "mlp_hidden_size": "intermediate_size",
        "max_sequence_length": "max_position_embeddings",
        "weight_tying": "tie_word_embeddings",
    }

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "DreamConfig":
        """Read the published keys; ``InputError`` names a key that is missing or a variant that is not supported."""
        return read_config(config, "a Dream", _FIXED, cls._read)

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> "DreamConfig":
        named = {field: cls.KEYS.get(field, field) for field in ("vocab_size", "mask_token_id", "eos_token_id")}
        named |= {field: key for field, key in cls.KEYS.items() if field not in ("n_kv_heads", "weight_tying")}
        return cls(
            **{field: int(config[key]) for field, key in named.items()},
            n_kv_heads=int(config.get("num_key_value_heads") or config["num_attention_heads"]),
            rope_theta=float(config.get("rope_theta", 10000.0)),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            weight_tying=bool(config.get("tie_word_embeddings", False)),
        )


class Attention(nn.Module):
    """Grouped-query attention with biases on queries, keys and values."""

    def __init__(self, config: DreamConfig, index: int) -> None:
        super().__init__()
        width, kv_width = config.d_model, config.n_kv_heads * config.head
        self.index, self.head = index, config.head
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, kv_width)
        self.v_proj = nn.Linear(width, kv_width)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], kv: LayerCache | None, mask: Tensor | None) -> Tensor:
        qkv = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        return self.o_proj(attention(qkv, self.head, rotary, kv, self.index, mask))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.mlp_hidden_size
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x, self.gate_proj, self.up_proj, self.down_proj)


class Block(nn.Module):
    """One layer: attention and SwiGLU, each behind its RMSNorm and added to the residual stream."""

    def __init__(self, config: DreamConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.rms_norm_eps)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], kv: LayerCache | None, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, kv, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Dream(nn.Module):
    """The network, with the published tensor names (``model.layers.0.self_attn.q_proj.weight`` ...)."""

    shift = 1  # the prediction for position i is read at row i - 1
    tempered = True  # the confidence of a drawn token is its probability in the distribution that it is drawn from
    family = "dream"  # whose published windows apply (odb_dllm.benchmarks)
    adds_bos = True  # prompts that are text begin with BOS
    end_of_turn = "<|im_end|>"  # of its chat template
    tokenizer_class = "Qwen2TokenizerFast"  # reads vocab.json and merges.txt; the published class is remote code
    shards: ClassVar[Shards] = {
        **dict.fromkeys(("gate_proj", "up_proj"), (0, "units")),
        **dict.fromkeys(("k_proj", "v_proj"), (0, "kv_heads")),
        "q_proj": (0, "heads"),
        "o_proj": (1, "heads"),
        "down_proj": (1, "units"),
        "lm_head": (0, "vocabulary"),
    }

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        self.config = config
        parts: dict[str, nn.Module] = {
            # from_pretrained: a normal_ on the meta device would import half of torch, for weights that are replaced.
            "embed_tokens": nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False),
            "layers": nn.ModuleList(Block(config, i) for i in range(config.n_layers)),
            "norm": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        self.model = nn.ModuleDict(parts)
        if not config.weight_tying:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dream":
        """Make the network from the dict in config.json (on the default device, weights not loaded)."""
        return cls(DreamConfig.from_dict(config))

    def forward(
        self, tokens: Tensor, positions: Tensor, kv: LayerCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the hidden states after the final norm, [..., n, hidden_size]; arguments as LLaDA's."""
        parts: Any = self.model
        x = parts["embed_tokens"](tokens)
        rotary = rotary_table(positions, self.config.head, self.config.rope_theta)
        for block in parts["layers"]:
            x = block(x, rotary, kv, mask)
        return parts["norm"](x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the vocabulary logits [..., vocab_size] of hidden states [..., hidden_size], in the model's dtype."""
        if self.config.weight_tying:
            embedding: Any = self.model["embed_tokens"]
            return F.linear(hidden, embedding.weight)
        return self.lm_head(hidden)
