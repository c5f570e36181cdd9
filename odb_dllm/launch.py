"""``python -m odb_dllm.launch 2 run ...``: the odb-dllm command in two processes of this machine, by torchrun.

Beside ``torchrun --standalone --nproc_per_node 2 -m odb_dllm run ...`` it leaves out torchrun's own report of processes
that ended with an error, about which they have said a sentence, and its exit code is theirs.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Start the processes, wait for them, and return the exit code of the first that failed."""
    try:
        return _launch(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # before there is a process, which would say so
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _launch(argv: Sequence[str]) -> int:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    count, *words = argv
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(count))))
    logging.disable(logging.CRITICAL)
    try:
        run.run(run.parse_args(["--standalone", f"--nproc_per_node={count}", "-m", "odb_dllm", *words]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"error: process {rank} of {count} was ended by {name}.", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(main())
