"""A process per cell, one on each slot; none outlives the pool."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from odb_dllm.sweep.board import Board
from odb_dllm.sweep.devices import Slot
from odb_dllm.sweep.jobs import Job, State

TICK = 0.5  # seconds between looks at the clock
GRACE = 5.0  # seconds that a process has to end by itself


@dataclass
class Worker:
    """A process at work on a cell."""

    job: Job
    slot: Slot
    process: "subprocess.Popen[bytes]"
    rest: bytes = b""  # a line that has come in part
    last: dict[str, Any] | None = None  # what it told of its end

    @property
    def pipe(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def read(self) -> bool:
        """Take what it tells; False at its end."""
        data = os.read(self.pipe.fileno(), 2**16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        return bool(data)

    def _take(self, line: bytes) -> None:
        """Take one line; what is none of the worker's, such as a print of Python's site modules, goes to the log."""
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        match event:
            case {"tokens": tokens, "nfe": nfe, "seconds": seconds}:
                self.job.row(tokens, nfe, seconds)
            case {"done": _} | {"held": _} | {"failed": _}:
                self.last = event
            case _ if line.strip():
                with suppress(OSError), self.job.log.open("ab") as log:
                    log.write(line + b"\n")

    def end(self) -> None:
        """Wait for the process, and note in the job what it came to."""
        code = self.process.wait()
        self.pipe.close()
        match self.last:
            case {"done": outcome} if self.job.is_finished():
                self.job.done(outcome)
            case {"done": _}:
                self.job.fail("it is not the cell that was planned: the checkpoint or the package changed meanwhile")
            case {"held": why}:
                self.job.hold(why)
            case {"failed": why}:
                self.job.fail(why)
            case _:
                self.job.fail(_cause(code))


def _cause(code: int) -> str:
    """How a process ended that told nothing."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"its process was ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


class Pool:
    """Runs jobs on slots."""

    def __init__(self, slots: Sequence[Slot], arguments: Mapping[str, Any], board: Board) -> None:
        """``arguments``: of ``plan_table``, besides model, task, setting and device."""
        self.slots, self.arguments, self.board = slots, arguments, board
        self.workers: dict[Slot, Worker] = {}

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs in their order; whatever goes wrong is noted in them. None is left running, whatever is raised."""
        waiting = list(reversed(jobs))
        try:
            with selectors.DefaultSelector() as selector:
                while waiting or self.workers:
                    for slot in self.slots:
                        while waiting and slot not in self.workers:
                            self._next(slot, waiting, selector)
                    self.board.draw(self._at_work())
                    for key, _ in selector.select(TICK):
                        if not key.data.read():
                            selector.unregister(key.fileobj)
                            self._end(key.data)
        finally:
            self._stop()

    def _at_work(self) -> dict[str, Job]:
        return {slot.name: self.workers[slot].job for slot in self.slots if slot in self.workers}

    def _next(self, slot: Slot, waiting: list[Job], selector: selectors.BaseSelector) -> None:
        job = waiting.pop()
        if job.is_finished():  # by another sweep
            job.done("finished meanwhile")
            self.board.ended(job, slot.name)
            return
        job.begin()
        try:
            worker = self.workers[slot] = Worker(job, slot, self._start(job, slot))
            job.logged = True
        except OSError as error:
            job.fail(f"its process could not be started: {error}")
            self.board.ended(job, slot.name)
            return
        selector.register(worker.pipe, selectors.EVENT_READ, worker)
        self.board.began(job, slot.name)

    def _start(self, job: Job, slot: Slot) -> "subprocess.Popen[bytes]":
        about = {
            "parent": os.getpid(),
            "command": sys.orig_argv,
            "out": str(job.plan.out),
            "arguments": {
                **self.arguments,
                "model": job.cell.model,
                "tasks": job.cell.task,
                "settings": job.cell.setting,
                "device": slot.device,
            },
        }
        job.folder.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "odb_dllm.sweep.worker", json.dumps(about)],
                env={**os.environ, **slot.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the sweep's, which ends them
            )

    def _end(self, worker: Worker) -> None:
        worker.end()
        del self.workers[worker.slot]
        self.board.ended(worker.job, worker.slot.name)

    def _stop(self) -> None:
        """End what still runs; its cells go on from there another time."""
        for worker in self.workers.values():
            worker.process.terminate()
        until = time.monotonic() + GRACE
        for worker in self.workers.values():
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.pipe.close()
            worker.job.state = State.WAITING
        self.workers.clear()
