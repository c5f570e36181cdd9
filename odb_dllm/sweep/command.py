"""``odb-dllm sweep``: plans the tables of several models, gives their cells to processes, writes the tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from odb_dllm import tasks
from odb_dllm.errors import InputError
from odb_dllm.folder_names import plain_name
from odb_dllm.folders import make_writable
from odb_dllm.report import command
from odb_dllm.report.command import Plan
from odb_dllm.report.recovery import only_one
from odb_dllm.report.verb import write_report
from odb_dllm.sweep import devices
from odb_dllm.sweep.board import Board
from odb_dllm.sweep.devices import Slot
from odb_dllm.sweep.jobs import Job, State, count, make_jobs, parse_shard, share
from odb_dllm.sweep.pool import Pool

MODELS = ("tiny", "GSAI-ML/LLaDA-8B-Instruct", "GSAI-ML/LLaDA-1.5")  # --models all
PASSED = (  # on to the process of a cell
    *("limit", "batch_size", "dtype", "seed", "gen_length", "block_length", "vanilla_timing_subset"),
    *("confirm_run_unsafe_code", "data_dir"),
)
LOCKED = 60.0  # seconds that another shard may take to write the tables


def sweep(args: argparse.Namespace) -> int:
    """Run the verb; 0 where all cells asked are there. Raises ``InputError`` before anything starts."""
    command.check_counts(args)
    shard = parse_shard(args.shard)
    slots = devices.find(args.gpus)
    out = Path(args.out)
    plans = make_plans(args, slots, out)
    for plan in plans:
        command.claim(plan)
    jobs = share(make_jobs(plans, {plan.given.pretrained: weight_bytes(plan) for plan in plans}), *shard)
    begun = any(job.answered for job in jobs)
    if args.retry_failed:
        jobs = [job for job in jobs if job.state is State.WAITING and job.failed_before()]
    board = Board(sys.stderr, jobs, len(slots))
    board.say(_announced(jobs, slots, args.retry_failed))
    if args.retry_failed and not (jobs or begun):  # there is nothing to write a table of
        return 0
    try:
        pool = Pool(slots, {name: getattr(args, name) for name in PASSED}, board)
        pool.run([job for job in jobs if job.state is State.WAITING])
    except KeyboardInterrupt:
        board.clear()
        finish(out, plans)
        _complain(jobs)
        raise
    board.clear()
    written = finish(out, plans)
    return max(written, _complain(jobs))


def make_plans(args: argparse.Namespace, slots: Sequence[Slot], out: Path) -> list[Plan]:
    """A plan per model; what is left out is said once."""
    names = _models(args.models)
    name = devices.gpu_name(slots)
    plans: list[Plan] = []
    said: set[str] = set()
    with tasks.local_data(args.data_dir) as local:
        for model in names:
            one = argparse.Namespace(**{**vars(args), "model": model, "device": slots[0].device})
            plan, left_out = command.plan_table(one, local, out / plain_name(model), name)
            plans.append(plan)
            if left_out and left_out not in said:
                print(left_out, file=sys.stderr)
            said.add(left_out)
    return plans


def _models(words: str) -> list[str]:
    given = [word.strip() for word in words.split(",") if word.strip()]
    if not given:
        raise InputError(f"No model: name one or several with --models, such as {', '.join(MODELS)}.")
    return list(dict.fromkeys(name for word in given for name in (MODELS if word == command.ALL else [word])))


def weight_bytes(plan: Plan) -> int:
    """The size of a model's weights, which tells models' costs apart."""
    from odb_dllm.models.loading import find_folder, weight_files

    return sum(path.stat().st_size for path in weight_files(find_folder(plan.given.pretrained)))


def _announced(jobs: Sequence[Job], slots: Sequence[Slot], retry: bool) -> str:
    if retry and not jobs:
        return "No cell failed last time: nothing is run."
    todo = count(jobs, State.WAITING)
    before = f" ({count(jobs, State.DONE)} finished before)" if todo < len(jobs) else ""
    return f"{todo} of {len(jobs)} cells to run{before}, on {', '.join(slot.name for slot in slots)}"


def finish(out: Path, plans: Sequence[Plan]) -> int:
    """What a sweep ends in, also one that was interrupted: each model's table, and the report on all; the exit code."""
    try:
        with only_one(out, LOCKED):  # of several shards the last one to end reads what all others wrote
            written = max(command.report_on(plan, {}) for plan in plans)
            return max(written, _report(out))
    except OSError as error:  # a full disk, say: what failed is still to be told
        print(f"error: Tables were not written to {out}: {error.strerror or error}.", file=sys.stderr)
        return 1


def _report(out: Path) -> int:
    """Write the report; 1 where it cannot be written, but not where there is nothing that one could say."""
    try:
        make_writable(out / "report")
    except InputError as error:
        print(f"error: No report was written: {error}", file=sys.stderr)
        return 1
    try:
        return write_report([out], out / "report")
    except InputError as error:  # nothing is finished yet, or the folder holds results of another kind
        print(f"No report was written: {error}", file=sys.stderr)
        return 0


def _complain(jobs: Sequence[Job]) -> int:
    """Say what is not there, last of all; the exit code."""
    for job in jobs:
        if job.state is State.HELD and job.is_finished():
            job.done("finished meanwhile")
        if job.state is State.FAILED:
            log = f" (log: {job.log})" if job.logged else ""
            print(f"error: {job.name}: {job.outcome}{log}", file=sys.stderr)
        elif job.state is State.HELD:
            print(f"error: {job.name}: {job.outcome}", file=sys.stderr)
    if failed := count(jobs, State.FAILED):
        again = "the same command with --retry-failed runs just those"
        print(f"{failed} of {len(jobs)} cells failed: {again}", file=sys.stderr)
    return 1 if failed or count(jobs, State.HELD) else 0
