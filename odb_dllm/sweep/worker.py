"""One cell in a process of its own: ``python -m odb_dllm.sweep.worker JSON``, which a sweep starts.

It tells how far it is in lines of JSON on stdout; all else that is printed goes to stderr, the cell's log.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Tell = Callable[..., None]


def main() -> int:
    job: dict[str, Any] = json.loads(sys.argv[1])
    _end_with(job["parent"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that temporary files are removed
    tell = _channel()
    sys.orig_argv = job["command"]  # which the manifest names
    from odb_dllm.report.command import sentence
    from odb_dllm.report.recovery import Busy

    try:
        _run(argparse.Namespace(**job["arguments"]), Path(job["out"]), tell)
    except Busy as busy:
        tell(held=str(busy))
    except Exception as error:
        traceback.print_exc()
        tell(failed=sentence(error))
        return 1
    return 0


def _run(args: argparse.Namespace, out: Path, tell: Tell) -> None:
    from odb_dllm import tasks
    from odb_dllm.report import cells, command, running

    with tasks.local_data(args.data_dir) as local:
        plan, _ = command.plan_table(args, local, out)
        (cell,) = plan.cells
        adapter = plan.adapter(cell.key, cell.statistics(out))
        failures = running.run_cell(
            cell,
            out,
            adapter,
            plan.leaves[cell.task],
            lambda row: tell(tokens=row.tokens, nfe=row.nfe, seconds=row.wall_seconds),
            plan.chat,
        )
    result = cells.read_cell(cell.folder(out))
    right = sum(result.correct.values()) if result else 0
    if failures:
        tell(failed=command.lost(cell, failures))
    else:
        tell(done=f"{right} of {cell.size} right")


def _end_with(parent: int) -> None:
    """End at once when the sweep does, even by SIGKILL; where there is no such call, its next line ends it."""
    from odb_dllm.sandbox.inside import linux

    with suppress(OSError, AttributeError):
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        sys.exit(1)


def _channel() -> Tell:
    """What writes to the sweep, in place of which prints get stderr."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines.write("\n")  # ends a line that was printed before in part

    def tell(**event: Any) -> None:
        lines.write(json.dumps(event) + "\n")

    return tell


if __name__ == "__main__":
    sys.exit(main())
