"""``odb-dllm doctor``: whether a run can work here, and the command that mends each thing that is amiss.

Quick, without the network, and without loading weights: of a checkpoint only the headers are read.
"""

import argparse
import os
from collections.abc import Iterator

from odb_dllm.doctor.finding import Finding
from odb_dllm.doctor.machine import gpu, kernels, sandbox, threads
from odb_dllm.doctor.offline import checkpoint, data, hub
from odb_dllm.doctor.packages import extras, installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own flags."""
    parser.add_argument(
        "--model", default="tiny", metavar="<model>", help="Folder, hub id or tiny, the default: is it here?"
    )
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("DATA_DIR") or None,
        metavar="<path>",
        help="Folder of local benchmark data (default: $DATA_DIR)",
    )
    parser.set_defaults(func=run)


def main(words: list[str]) -> int:
    """The verb by itself, for when the command's own parser cannot be made: lm-eval may be what is missing."""
    parser = argparse.ArgumentParser(prog="odb-dllm doctor", description="Say whether a run can work here")
    add_arguments(parser)
    return run(parser.parse_args(words))


def run(args: argparse.Namespace) -> int:
    """Print every finding as it is made; return 0 if a run can work, else 1."""
    broken = 0
    for finding in examine(args.model, args.data_dir):
        print(finding, flush=True)
        broken += finding.status == "missing"
    print("\nA run cannot work: mend what is missing." if broken else "\nA run can work.")
    return int(broken > 0)


def examine(model: str, data_dir: str | None) -> Iterator[Finding]:
    """All findings."""
    yield from installed()
    yield from extras()
    yield from gpu()
    yield threads()
    yield kernels()
    yield hub()
    yield from checkpoint(model)
    yield from data(data_dir)
    yield from sandbox()
