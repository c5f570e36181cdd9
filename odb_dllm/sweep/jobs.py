"""The cells of a sweep: how far each is, their order and their shares."""

import heapq
import json
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from odb_dllm.errors import InputError
from odb_dllm.report import cells, estimate
from odb_dllm.report.cells import Cell
from odb_dllm.report.command import Plan, answered
from odb_dllm.report.provenance import now

FAILED = "failed.json"  # in a cell's folder, until it is finished


class State(Enum):
    WAITING, RUNNING, DONE, FAILED, HELD = range(5)  # the last by another process


@dataclass(eq=False)
class Job:
    """One cell of one model."""

    plan: Plan
    cell: Cell
    cost: float  # what all of it is expected to take beside others
    state: State = State.WAITING
    outcome: str = ""  # what it came to, or why it failed
    answered: int = 0  # documents, by earlier runs too
    new: int = 0  # of them by this one
    seconds: float = 0.0  # that those took; and their tokens and forwards
    tokens: int = 0
    nfe: int = 0
    started: float = field(default_factory=time.monotonic)
    loading: float | None = None  # seconds before it generated
    logged: bool = False  # whether its process was started, which writes the log

    @property
    def name(self) -> str:
        return f"{Path(self.cell.model).name} {self.cell.task} {self.cell.setting}"

    @property
    def folder(self) -> Path:
        return self.cell.folder(self.plan.out)

    @property
    def log(self) -> Path:
        return self.folder / cells.LOG

    @property
    def left(self) -> int:
        return max(0, self.cell.size - self.answered)

    def is_finished(self) -> bool:
        return cells.is_finished(self.cell, self.plan.out)

    def failed_before(self) -> bool:
        """Whether it failed when it was last run."""
        before = (cells.read_manifest(self.folder) or {}).get("failures")
        return bool((self.folder / FAILED).is_file() or before)

    def begin(self) -> None:
        self.state, self.started = State.RUNNING, time.monotonic()

    def row(self, tokens: int, nfe: int, seconds: float) -> None:
        """A document is answered."""
        if self.loading is None:
            self.loading = max(0.0, time.monotonic() - self.started - seconds)
        self.new += 1
        self.answered = min(self.answered + 1, self.cell.size)
        self.tokens, self.nfe, self.seconds = self.tokens + tokens, self.nfe + nfe, self.seconds + seconds

    def done(self, outcome: str) -> None:
        self.state, self.outcome, self.answered = State.DONE, outcome, self.cell.size
        (self.folder / FAILED).unlink(missing_ok=True)

    def fail(self, why: str) -> None:
        """Mark it for --retry-failed."""
        self.state, self.outcome = State.FAILED, why
        with suppress(OSError):  # a full disk, say, which is why it failed
            cells.write_atomically(self.folder / FAILED, json.dumps({"why": why, "when": now()}, indent=2))

    def hold(self, why: str) -> None:
        self.state, self.outcome = State.HELD, why

    def pace(self) -> str:
        """Of the documents that this run answered."""
        if not self.new:
            return ""
        return f"NFE {self.nfe / self.new:.1f}, {self.tokens / max(self.seconds, 1e-9):.1f} tokens/s"


def make_jobs(plans: Sequence[Plan], weights: dict[str, int]) -> list[Job]:
    """The cells of all plans, the one expected to take longest first; ``weights``: bytes of each model."""
    jobs = [Job(plan, cell, estimate.nominal(cell, weights[cell.model])) for plan in plans for cell in plan.cells]
    for job in jobs:
        if job.is_finished():
            job.state, job.answered = State.DONE, job.cell.size
        else:
            job.answered = len(answered(job.cell, job.plan.out))
    return sorted(jobs, key=lambda job: -job.cost)


def parse_shard(words: str) -> tuple[int, int]:
    """i and N of ``i/N``."""
    found = re.fullmatch(r"(\d+)/(\d+)", words.strip())
    which, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= which <= count:
        raise InputError(f"--shard must be i/N with i from 1 to N, such as 1/8, not {words!r}.")
    return which, count


def share(jobs: Sequence[Job], which: int, count: int) -> list[Job]:
    """One of ``count`` shares of about the same cost, the same on every machine; ``jobs``: longest first."""
    loads = [(0.0, number) for number in range(1, count + 1)]
    found = []
    for job in jobs:
        load, number = heapq.heappop(loads)
        if number == which:
            found.append(job)
        heapq.heappush(loads, (load + job.cost, number))
    return found


def count(jobs: Iterable[Job], state: State) -> int:
    return sum(job.state is state for job in jobs)
