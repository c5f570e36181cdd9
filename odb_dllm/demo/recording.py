"""What was seen of one generation: every step of it, kept small, and any step of it as it was."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from odb_dllm.stream import Snapshot

NO_INTS, NO_FLOATS, NO_BOOLS = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_)


@dataclass(frozen=True)
class Bar:
    """One forward in the time line."""

    kind: str
    start: float  # seconds
    end: float
    accepted: int  # tokens that it decided


@dataclass
class Recording:
    """The snapshots of one generation.

    A canvas of 1024 tokens has up to 1024 snapshots of 40 kB each. The arrays of an earlier step follow from those of
    the latest (a decided position stays as it is, a canvas never grows), so only the latest's are kept.
    """

    setting: str  # its name
    latest: Snapshot  # blank at first
    mask: int  # id of the mask token
    start: Snapshot = field(init=False)  # the blank canvas
    steps: list[Snapshot] = field(default_factory=list)  # without what is as long as the canvas
    state: str = "waiting"  # waiting | running | stopped | failed | done
    ahead: int = 0  # generations that are to end before this one starts

    def __post_init__(self) -> None:
        self.start = self.latest

    def add(self, snapshot: Snapshot) -> None:
        """Keep one more snapshot of the generation."""
        self.latest = snapshot
        self.steps.append(
            replace(
                snapshot,
                tokens=NO_INTS,
                masked=NO_BOOLS,
                decided_at=NO_INTS,
                guess=NO_INTS,
                confidence=NO_FLOATS,
                generation=None,
            )
        )
        self.state = "done" if snapshot.finished else "running"

    @property
    def nfe(self) -> int:
        return len(self.steps)

    @property
    def seconds(self) -> float:
        return self.latest.seconds

    def at(self, nfe: int) -> Snapshot:
        """The canvas as it was after so many forwards, 0 for the blank one; the latest where there were not so many."""
        if nfe < 1:
            return self.start
        if nfe >= self.nfe:
            return self.latest
        step, last = self.steps[nfe - 1], self.latest
        size = len(last.tokens)
        length = max(step.length, size)
        undecided = np.ones(length, np.bool_)
        undecided[:size] = (last.decided_at > step.forward) | (last.decided_at < 0)
        tokens = np.full(length, self.mask, np.int64)
        confidence = np.full(length, np.nan)
        decided_at = np.full(length, -1, np.int64)
        for past, now in ((tokens, last.tokens), (confidence, last.confidence), (decided_at, last.decided_at)):
            past[:size] = np.where(undecided[:size], past[:size], now)
        return replace(
            step,
            length=length,
            tokens=tokens,
            masked=undecided,
            decided_at=decided_at,
            guess=tokens,
            confidence=confidence,
        )

    def bars(self) -> Iterator[Bar]:
        """The forwards in time."""
        before = 0.0
        for step in self.steps:
            yield Bar(step.kind, before, step.seconds, len(step.decided))
            before = step.seconds
