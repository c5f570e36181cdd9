"""The slow, obvious sampler of `reference`, for Dream: Qwen2's network, shifted predictions, and Dream's schedules.

Written from the published rules alone, sharing no code with the package. The prediction for a position is read at
the position before it. So a refresh decides the first position of its block and nothing else, and no step, which
feeds nothing before its block, is ever asked for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import reference as slow
import torch
import torch.nn.functional as F
from reference import ACCEPT_JUMP_BRANCHES, JUMP_SHARE_BRANCHES, KV, SWITCH_AT, Row, ranked
from torch import Tensor


class Prediction(NamedTuple):
    """As in `reference`, and what the schedules rank by: log p, margin - 1, or negative entropy."""

    token: int
    log_p: float
    rank: float

    @property
    def confidence(self) -> float:
        return math.exp(self.log_p)


class Network(slow.Network):
    """Dream in float64, its norms and rotations in float32, from tensors of the published names."""

    def __init__(self, weights: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        self.w = {name.removesuffix(".weight"): torch.tensor(w, dtype=torch.float64) for name, w in weights.items()}
        self.config = config
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = config["hidden_size"] // self.heads
        self.alg, self.top_p, self.top_k = "none", 1.0, 0

    def forward(self, tokens: Tensor, positions: Tensor, visible: Tensor, cached: KV) -> tuple[Tensor, KV]:
        """As in `reference`, but row i is what predicts row i's position: the hidden state of the row before it.
        (Rows of a branch lie side by side. The canvas's first position has none before it and keeps its own.)"""
        n = len(tokens)
        x = self.w["model.embed_tokens"][tokens]
        fed = []
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            w = {name.removeprefix(layer): w for name, w in self.w.items() if name.startswith(layer)}
            h = self.norm(x, w["input_layernorm"])
            q, k, v = (h @ w[f"self_attn.{p}_proj"].T + w[f"self_attn.{p}_proj.bias"] for p in "qkv")
            q, k, v = (y.view(n, -1, self.head_dim).transpose(0, 1) for y in (q, k, v))
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            fed.append((k, v))
            parts = [*cached[i : i + 1], (k, v)]
            keys, values = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
            keys, values = (y.repeat_interleave(self.heads // self.kv_heads, dim=0) for y in (keys, values))
            scores = q @ keys.transpose(1, 2) / math.sqrt(self.head_dim)
            attention = scores.masked_fill(~visible, -math.inf).softmax(-1) @ values
            x = x + attention.transpose(0, 1).reshape(n, -1) @ w["self_attn.o_proj"].T
            h = self.norm(x, w["post_attention_layernorm"])
            x = x + (F.silu(h @ w["mlp.gate_proj"].T) * (h @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
        return torch.cat([x[:1], x[:-1]]), fed

    def predict(self, hidden: Tensor, mask: int) -> list[Prediction]:
        """As in `reference`, after top-p and top-k. The mask is never predicted and, where tokens are filtered,
        is the first to go."""
        head = self.w.get("lm_head", self.w["model.embed_tokens"])
        return [self.one(row, mask) for row in self.norm(hidden, self.w["model.norm"]) @ head.T]

    def one(self, row: Tensor, mask: int) -> Prediction:
        if self.top_p < 1 or self.top_k:
            row = row.clone()
            row[mask] = -math.inf
            row = self.filtered(row)
        allowed = row.clone()
        allowed[mask] = -math.inf
        best, peak = int(allowed.argmax()), int(row.argmax())
        others = (row - row[best]).exp()
        others[best] = 0
        log_p = -math.log1p(float(others.sum()))
        p = row.softmax(0)
        p[peak] = 0  # 1 - p of the most probable token keeps its digits when the others are summed
        rest = float(p.sum())
        rank = {
            "topk_margin": -(rest + float(p.max())),
            "entropy": float((p * (p + 1e-10).log()).sum()) + (1 - rest) * math.log1p(1e-10 - rest),
        }
        return Prediction(best, log_p, rank.get(self.alg, log_p))

    def filtered(self, row: Tensor) -> Tensor:
        """The smallest set of tokens whose mass exceeds top_p, then the top_k most probable of those."""
        order = sorted(range(len(row)), key=lambda i: (-float(row[i]), i))
        p = row.softmax(0)
        kept, mass = [], 0.0
        for i in order:
            if self.top_p < 1 and mass > self.top_p:
                break
            kept.append(i)
            mass += float(p[i])
        out = torch.full_like(row, -math.inf)
        for i in kept[: self.top_k] if self.top_k else kept:
            out[i] = row[i]
        return out


@dataclass(frozen=True, kw_only=True)
class Settings(slow.Settings):
    """Those of `reference`; `rule` may also be schedule or carry."""

    alg: str = "none"  # none | maskgit_plus | topk_margin | entropy | confidence_threshold
    top_p: float = 1.0
    top_k: int = 0


class _Run(slow._Run):
    settings: Settings

    def decode_block(self, s: int, e: int) -> None:
        """As in `reference`; a refresh decides position s alone."""
        adaptive, cached = self.settings.length == "adaptive", self.settings.cache != "none"
        self.block = (s, e)
        fed = [Row(0, p, self.canvas[p]) for p in [*range(e), *self.suffix(e)]]
        (predictions,) = self.forward(fed, set(), range(s, self.end if adaptive else e), cached)
        if adaptive:
            self.predict_length(s, [predictions[p] for p in range(s, self.end)])
        predictions = {p: predictions[p] for p in predictions if p < e}
        self.step = 0
        if cached:
            self.canvas[s] = predictions[s].token
        else:
            self.unmask(predictions, fed, 0)
        sharing, first = False, True
        while masked := self.masked(s, e):
            self.step += 1
            if self.settings.speculation == "none":
                self.plain_step(s, e, 0)
                continue
            chosen, predictions = self.speculative_step(s, e, predictions, sharing)
            if self.settings.speculation == "jump-share" and not sharing and not first:
                sharing = len(masked) <= SWITCH_AT[chosen]
            first = False

    def speculative_step(self, s: int, e: int, last: Any, sharing: bool) -> tuple[int, Any]:
        """As in `reference`; with `sharing`, a branch also feeds the positions before its masked ones, and sees
        its own copy of those instead of branch 0's."""
        masked = self.masked(s, e)
        layout = JUMP_SHARE_BRANCHES if sharing else ACCEPT_JUMP_BRANCHES
        drafts = [(p, last[p].token) for p in ranked({p: last[p] for p in masked})[: 4 if sharing else 2]]
        filled = [dict(drafts[k] for k in branch if k < len(drafts)) for branch in layout]
        own = sorted({*masked, *(p - 1 for p in masked)})
        rows = []
        for branch in range(len(layout)):
            for p in own if sharing and branch > 0 else range(s, e):
                shared = sharing and branch == 0 and p not in own
                rows.append(Row(branch, p, filled[branch].get(p, self.canvas[p]), shared))
        branches = self.forward(rows, self.seen_by_step(s, e), range(s, e), False)
        choose = slow.jump_share_branch if sharing else slow.accept_jump_branch
        chosen = choose(drafts, branches, self.settings.threshold)
        for p, token in filled[chosen].items():
            self.canvas[p] = token
        self.unmask(branches[chosen], None, 0)
        return chosen, branches[chosen]

    def unmask(self, predictions: Any, step_input: Sequence[Row] | None, quota: int) -> None:
        """As in `reference`, with the rules that count steps by `self.step`."""
        rule = self.settings.rule
        if rule not in ("quota", "schedule", "carry"):
            return super().unmask(predictions, step_input, 0)
        order = sorted(predictions, key=lambda p: (-predictions[p].rank, p))
        for p in order[: self.count(predictions, order)]:
            self.canvas[p] = predictions[p].token
        return None

    def count(self, predictions: Any, order: Sequence[int]) -> int:
        """How many of the best positions this step takes."""
        size, m = self.block[1] - self.block[0], len(order)
        n = self.settings.all_steps * size // self.settings.gen_length
        if self.settings.rule == "quota":
            decided = int(self.settings.cache != "none")  # by the refresh
            return slow.quota_of_each_step(size - decided, max(1, n - decided))[self.step - decided]
        if self.settings.rule == "schedule":
            t = np.linspace(1, 1e-3, n + 1)
            return m if self.step >= n - 1 else int(m * (1 - t[self.step + 1] / t[self.step]))
        # carry: the first steps' shares so far, less what was taken of them
        allowed = m if self.step >= n - 1 else (self.step + 1) * (size // n) - (size - m)
        sure = [p for p in order[:allowed] if predictions[p].confidence >= self.settings.threshold]
        return max(1, len(sure))


def generate(network: Network, prompt_ids: Sequence[int], **settings: Any) -> dict[str, Any]:
    """As in `reference`."""
    defaults = {"eos": network.config["eos_token_id"], "mask": network.config["mask_token_id"]}
    chosen = Settings(**(defaults | settings))
    network.alg, network.top_p, network.top_k = chosen.alg, chosen.top_p, chosen.top_k
    return _Run(network, prompt_ids, chosen).decode()
