"""What a sweep shows: on a terminal a table redrawn in place; elsewhere a line per event, and how far it is."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from odb_dllm.report.estimate import spoken
from odb_dllm.sweep.jobs import Job, State, count
from odb_dllm.sweep.time_left import seconds_left, until_the_last

REDRAWN, SAID = 0.5, 60.0  # seconds between two tables, and between two lines that say how far it is
FAILURES_SHOWN = 5
UP, CLEAR = "\x1b[{}A\r", "\x1b[J"


class Board:
    """Tells of jobs while they run."""

    def __init__(self, stream: TextIO, jobs: Sequence[Job], slots: int) -> None:
        self.stream, self.jobs, self.slots = stream, jobs, slots
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._ended = count(jobs, State.DONE)
        self._height = 0  # of the table that stands
        self._drawn = time.monotonic() if not self.live else 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def began(self, job: Job, slot: str) -> None:
        if not self.live:
            before = f", {job.answered} of them answered before" if job.answered else ""
            self.say(f"{slot}: {job.name}: {job.cell.size} documents{before}")

    def ended(self, job: Job, slot: str) -> None:
        self._drawn = min(self._drawn, time.monotonic() - REDRAWN)
        self._ended += 1
        number = f"[{self._ended:{len(str(len(self.jobs)))}}/{len(self.jobs)}]"
        pace = f", {job.pace()}" if job.new else ""
        took = f", {spoken(time.monotonic() - job.started)}" if job.new else ""
        failed = {State.FAILED: "failed: ", State.HELD: "not run: "}.get(job.state, "")
        self.say(f"{number} {slot}: {job.name}: {failed}{job.outcome}{pace}{took}")

    def draw(self, at_work: Mapping[str, Job]) -> None:
        """Show how far all are, if that was not shown just now; ``at_work``: the jobs by their slots' names."""
        now = time.monotonic()
        if now - self._drawn < (REDRAWN if self.live else SAID):
            return
        self._drawn = now
        if not self.live:
            self.say(summary(self.jobs, self.slots))
            return
        size = shutil.get_terminal_size()
        lines = [summary(self.jobs, self.slots), *table(self.jobs, at_work), *failures(self.jobs)]
        shown = [line[: size.columns - 1] for line in lines[: size.lines - 1]]
        self.clear()
        print(*shown, sep="\n", file=self.stream, flush=True)
        self._height = len(shown)

    def clear(self) -> None:
        """Take the table away, so that other text can be printed."""
        if self._height:
            print(UP.format(self._height) + CLEAR, end="", file=self.stream, flush=True)
            self._height = 0


def summary(jobs: Sequence[Job], slots: int) -> str:
    """How far all jobs are together."""
    counts = [
        f"{count(jobs, State.DONE)} of {len(jobs)} cells done",
        f"{count(jobs, State.RUNNING)} running",
        f"{count(jobs, State.FAILED)} failed",
    ]
    left = until_the_last(jobs, slots)
    return ", ".join(counts) + (f"; about {spoken(left)} left" if left is not None else "")


def table(jobs: Sequence[Job], at_work: Mapping[str, Job]) -> list[str]:
    """A line per job that runs: where, how far, how fast, how long still."""
    left = dict(seconds_left(jobs))
    rows = []
    for slot, job in at_work.items():
        last = left.get(job)
        rest = "" if last is None or not job.left else f"{spoken(last)} left"
        rows.append((slot, job.name, f"{job.answered}/{job.cell.size}", job.pace() or "starting", rest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def failures(jobs: Sequence[Job]) -> list[str]:
    """A line for each of the first few that failed."""
    failed = [f"failed: {job.name}: {job.outcome}" for job in jobs if job.state is State.FAILED]
    more = [f"and {len(failed) - FAILURES_SHOWN} more"] if len(failed) > FAILURES_SHOWN else []
    return failed[:FAILURES_SHOWN] + more
