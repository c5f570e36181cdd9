"""The network of the slow reference: LLaDA in float64 with dense attention masks, sharing no code with the package."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Prediction(NamedTuple):
    """The arg-max token of a masked position, and the log of its softmax probability."""

    token: int
    log_p: float

    @property
    def confidence(self) -> float:
        return math.exp(self.log_p)


KV = list[tuple[Tensor, Tensor]]  # of every layer: keys, values, each [heads, positions, D]


class Network:
    """LLaDA in float64, its norms and rotations in float32, from tensors of the published names."""

    def __init__(self, weights: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        names = {name: name.removeprefix("model.transformer.").removesuffix(".weight") for name in weights}
        self.w = {names[name]: torch.tensor(w, dtype=torch.float64) for name, w in weights.items()}
        self.config = config
        self.layers, self.heads = config["n_layers"], config["n_heads"]
        self.head_dim = config["d_model"] // self.heads
        # Vocabulary rows of zeros all have logit 0: the first two (one may be the mask) stand for the others.
        head = self.w.pop("ff_out")
        empty = (head == 0).all(dim=1).nonzero().flatten().tolist()
        skipped = set(empty[2:])
        self.ids = torch.tensor([i for i in range(len(head)) if i not in skipped])  # ascending
        self.head = head[self.ids]
        self.copies = torch.ones(len(self.ids), dtype=torch.float64)
        self.copies[self.ids == (empty[1] if skipped else -1)] += len(skipped)

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMS norm: cast to float32, normalised, cast back, times the weight."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return weight * y.to(x.dtype)

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotary embedding of x [heads, n, D] with half-split pairs, in float32, cast back."""
        d = self.head_dim
        inv_freq = 1.0 / self.config["rope_theta"] ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
        angles = positions.float()[:, None] * inv_freq[None, :]  # [n, D/2]
        cos, sin = angles.cos(), angles.sin()
        left, right = x.float().chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)

    def forward(self, tokens: Tensor, positions: Tensor, visible: Tensor, cached: KV) -> tuple[Tensor, KV]:
        """Hidden states [n, d] of n fed tokens, and their K/V. `visible` [n, C + n]: which of the C cached
        and n fed positions each fed token attends to."""
        n = len(tokens)
        x = self.w["wte"][tokens]
        fed = []
        for i in range(self.layers):
            layer = f"blocks.{i}."
            w = {name.removeprefix(layer): w for name, w in self.w.items() if name.startswith(layer)}
            h = self.norm(x, w["attn_norm"])
            q, k, v = (h @ w[name].T for name in ("q_proj", "k_proj", "v_proj"))
            q, k, v = (y.view(n, self.heads, self.head_dim).transpose(0, 1) for y in (q, k, v))
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            fed.append((k, v))
            parts = [*cached[i : i + 1], (k, v)]
            keys, values = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
            scores = q @ keys.transpose(1, 2) / math.sqrt(self.head_dim)  # [heads, n, C + n]
            attention = scores.masked_fill(~visible, -math.inf).softmax(-1) @ values
            x = x + attention.transpose(0, 1).reshape(n, -1) @ w["attn_out"].T
            h = self.norm(x, w["ff_norm"])
            x = x + (F.silu(h @ w["ff_proj"].T) * (h @ w["up_proj"].T)) @ w["ff_out"].T
        return x, fed

    def predict(self, hidden: Tensor, mask: int) -> list[Prediction]:
        """Predictions of hidden states [n, d]. The mask token is never predicted, but weighs in the softmax.
        On equal logits the lowest token id wins."""
        logits = self.norm(hidden, self.w["ln_f"]) @ self.head.T
        allowed = logits.masked_fill(self.ids == mask, -math.inf)
        predictions = []
        for row, best in zip(logits, allowed.argmax(-1).tolist(), strict=True):
            others = self.copies.clone()
            others[best] -= 1
            log_p = -torch.log1p((others * (row - row[best]).exp()).sum())
            predictions.append(Prediction(int(self.ids[best]), float(log_p)))
        return predictions
