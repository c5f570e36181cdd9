"""The slow reference with what comes after the papers: partial refreshes, a shared prefix, a short canvas, and blocks
whose last masks the next one's refresh decides."""

from collections.abc import Sequence
from typing import Any

import torch
from reference import Branches, Predictions, Row, Settings, _Run, first_match
from reference_network import KV, Network, Prediction


class Beyond(_Run):
    """As in the papers, but a block's first forward may feed a part and see the rest as it was stored last."""

    def __init__(
        self, network: Network, prompt: Sequence[int], settings: Settings, refresh: str, grow: int | None, shared: int
    ) -> None:
        super().__init__(network, prompt, settings)
        self.refresh, self.grow, self.full, self.shared = refresh, grow, self.end, shared
        self.end = self.start + (grow or settings.gen_length)
        if shared:  # the first tokens see each other alone, which counts as no forward
            tokens = torch.tensor(self.canvas[:shared])
            _, kv = network.forward(tokens, torch.arange(shared), torch.ones(shared, shared, dtype=torch.bool), [])
            self.keep(list(range(shared)), kv)

    def extended(self, s: int) -> int:
        if self.grow and not self.found:
            self.end = min(self.full, max(self.end, s + self.grow))
        return self.end

    def opened(self, s: int, e: int) -> list[int]:
        kind, _, number = self.refresh.partition(":")
        index = (s - self.start) // self.settings.block_length
        if s == self.start:
            return list(range(self.shared, self.end))
        if kind == "full" or (kind == "every" and index % int(number) == 0):
            return super().opened(s, e)
        if kind == "window":
            return list(range(max(self.start, s - int(number)), min(self.end, e + int(number))))
        before = int(number or 0) if kind == "response" else 0
        return list(range(max(0, self.start - before), self.end))

    def seen_by_first(self, fed: Sequence[Row]) -> set[int]:
        return {p for p in self.stored if p < self.end} - {row.position for row in fed}

    def plain_step(self, s: int, e: int, quota: int) -> None:
        fed = [Row(0, p, self.canvas[p]) for p in range(s, e)]
        (predictions,) = self.forward(fed, self.seen_by_step(s, e), range(s, e), True)
        self.refreshes -= 1  # it is stored, but is none
        self.unmask(predictions, fed, quota)

    def keep(self, positions: list[int], kv: KV) -> None:
        kept = [i for i, p in enumerate(self.stored) if p not in positions]
        before = [(k[:, kept], v[:, kept]) for k, v in self.kv] or [(k[:, :0], v[:, :0]) for k, v in kv]
        self.kv = [
            (torch.cat([old_k, k], 1), torch.cat([old_v, v], 1))
            for (old_k, old_v), (k, v) in zip(before, kv, strict=True)
        ]
        self.stored = [self.stored[i] for i in kept] + positions


class Ahead(Beyond):
    """Goes on to the next block where at most ``ahead`` masks are left; they become tokens with its refresh."""

    ahead = 0
    left: list[int]
    ended: int | None = None  # the decode length, where that refresh completed the answer

    def decode(self) -> dict[str, Any]:
        result = super().decode()
        return result if self.ended is None else result | {"decode_length": self.ended}

    def decode_block(self, s: int, e: int) -> None:
        self.left = super().masked(max(self.start, s - (e - s)), s)
        super().decode_block(s, e)

    def forward(self, rows: list[Row], seen: set[int], targets: range, store: bool) -> list[Predictions]:
        s, left, self.left = targets.start, self.left, []
        branches: Branches = super().forward(rows, seen, range(min([s, *left]), targets.stop), store)
        for p in left:
            self.canvas[p] = branches[0].pop(p).token
        before = s - self.settings.block_length
        if left and self.settings.early_exit:
            offset = first_match(self.canvas[before:s], self.settings.stops)
            self.ended = None if offset is None else before - self.start + offset + 1
        return list(branches)

    def opened(self, s: int, e: int) -> list[int]:
        fed = super().opened(s, e)
        return [*range(min([fed[0], *self.left]), fed[0]), *fed]

    def predict_length(self, s: int, predictions: Sequence[Prediction]) -> None:
        if self.ended is None:
            super().predict_length(s, predictions)

    def unmask(self, predictions: Predictions, step_input: Sequence[Row] | None, quota: int) -> None:
        super().unmask(predictions, step_input, quota)
        if self.ended is not None:  # an EOS here ends the generation, and with it the loop over blocks
            self.canvas[min(predictions) :] = [self.settings.ends[0]] * (len(self.canvas) - min(predictions))

    def masked(self, s: int, e: int) -> list[int]:
        left = super().masked(s, e)
        if not left or len(left) > self.ahead:
            return left
        stops = self.settings.early_exit and first_match(self.canvas[s:e], self.settings.stops) is not None
        return left if stops or e >= self.extended(e) else []


def generate(
    network: Network,
    prompt: Sequence[int],
    refresh: str,
    grow: int | None,
    shared: int = 0,
    ahead: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Decode one prompt with the dual cache; as ``reference.generate``."""
    defaults = {"eos": network.config["eos_token_id"], "mask": network.config["mask_token_id"], "cache": "dual"}
    run = Ahead(network, prompt, Settings(**(defaults | settings)), refresh, grow, shared)
    run.ahead = ahead
    return run.decode()
