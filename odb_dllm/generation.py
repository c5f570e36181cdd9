"""What one generation gave, and what it cost."""

from dataclasses import dataclass, field

from odb_dllm.contract import Pass


class NonFiniteLogits(ArithmeticError):
    """The model returned NaN or infinite logits."""


@dataclass(frozen=True)
class Generation:
    """What one generation gave, and what it cost."""

    tokens: list[int]  # the response canvas at the end, EOS fill included
    nfe: int  # forwards: refreshes + steps
    refreshes: int
    forward_lengths: list[int]  # tokens fed to each forward, branches included
    predicted_lengths: list[int]  # response length after each block's prediction; empty without adaptive length
    average_predicted_length: float | None  # their mean; None without adaptive length
    decode_length: int  # up to the stop pattern's first token after an early exit, else the whole canvas
    passes: list[Pass] = field(default_factory=list)  # one per forward
    forward_seconds: list[float] = field(default_factory=list)  # time of each, shared out by tokens fed
    batches: list[int] = field(default_factory=list)  # sequences that each was shared with, this one included
    latency: float = 0.0  # seconds from admission to the last token

    @property
    def seconds(self) -> float:
        """Forward time."""
        return sum(self.forward_seconds)

    @property
    def refresh_seconds(self) -> float:
        """The refreshes' part of it."""
        return sum(s for each, s in zip(self.passes, self.forward_seconds, strict=True) if each.kind == "refresh")

    @property
    def step_seconds(self) -> float:
        """The steps' part of it."""
        return self.seconds - self.refresh_seconds

    @property
    def tokens_per_forward(self) -> float:
        """TPF: decode length / NFE."""
        return self.decode_length / self.nfe
