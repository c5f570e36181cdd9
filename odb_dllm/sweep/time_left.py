"""How long a sweep will still take, from the pace of the samples so far."""

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence

from odb_dllm.sweep.jobs import Job, State


def seconds_left(jobs: Sequence[Job]) -> Iterator[tuple[Job, float | None]]:
    """What each job that runs or waits will still take; None as long as no sample tells."""
    loads = [job.loading for job in jobs if job.loading is not None]
    loading = sum(loads) / len(loads) if loads else 0.0
    paces = {model: _pace(job for job in jobs if job.cell.model == model) for model in {j.cell.model for j in jobs}}
    overall = _pace(jobs)
    for job in jobs:
        if job.state in (State.WAITING, State.RUNNING):
            pace = job.seconds / job.new if job.new else _of_all(job, paces[job.cell.model] or overall)
            yield job, None if pace is None else _ahead(job, loading) + job.left * pace


def _ahead(job: Job, loading: float) -> float:
    """Seconds before a job's first sample is begun; ``loading``: what that takes."""
    if job.state is State.WAITING:
        return loading
    return max(0.0, loading - (time.monotonic() - job.started)) if job.loading is None else 0.0


def _of_all(job: Job, pace: float | None) -> float | None:
    return None if pace is None else pace * job.cost / job.cell.size


def _pace(jobs: Iterable[Job]) -> float | None:
    """Seconds taken for each that was expected."""
    taken = expected = 0.0
    for job in jobs:
        taken += job.seconds
        expected += job.cost * job.new / job.cell.size
    return taken / expected if expected else None


def until_the_last(jobs: Sequence[Job], slots: int) -> float | None:
    """Seconds until all are done, each slot taking the next job when it is free; None where that is not known."""
    left = list(seconds_left(jobs))
    known = [(job, each) for job, each in left if each is not None]
    if len(known) < len(left):
        return None
    running = [each for job, each in known if job.state is State.RUNNING]
    free = [*running, *[0.0] * (slots - len(running))]
    heapq.heapify(free)
    for job, each in known:
        if job.state is State.WAITING:
            heapq.heapreplace(free, free[0] + each)
    return max(free)
