"""The slow reference with what comes after the papers: partial refreshes and a canvas that begins short."""

from collections.abc import Sequence
from typing import Any

import torch
from reference import Row, Settings, _Run
from reference_network import KV, Network


class Beyond(_Run):
    """As in the papers, but a block's first forward may feed a part and see the rest as it was stored last."""

    def __init__(
        self, network: Network, prompt: Sequence[int], settings: Settings, refresh: str, grow: int | None
    ) -> None:
        super().__init__(network, prompt, settings)
        self.refresh, self.grow, self.full = refresh, grow, self.end
        self.end = self.start + (grow or settings.gen_length)

    def extended(self, s: int) -> int:
        if self.grow and not self.found:
            self.end = min(self.full, max(self.end, s + self.grow))
        return self.end

    def opened(self, s: int, e: int) -> list[int]:
        kind, _, number = self.refresh.partition(":")
        index = (s - self.start) // self.settings.block_length
        if not self.stored or kind == "full" or (kind == "every" and index % int(number) == 0):
            return super().opened(s, e)
        if kind == "window":
            return list(range(max(self.start, s - int(number)), min(self.end, e + int(number))))
        return list(range(self.start, self.end))

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


def generate(
    network: Network, prompt: Sequence[int], refresh: str, grow: int | None, **settings: Any
) -> dict[str, Any]:
    """Decode one prompt with the dual cache; as ``reference.generate``."""
    defaults = {"eos": network.config["eos_token_id"], "mask": network.config["mask_token_id"], "cache": "dual"}
    return Beyond(network, prompt, Settings(**(defaults | settings)), refresh, grow).decode()
