"""Sweeps: tables of several models, a process per cell, on all the devices there are."""

import argparse
from typing import Any

from odb_dllm.report import add_table_arguments


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``sweep``; everything else is imported when it runs."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sweep",
        help="Run tables of several models on all GPUs, unattended",
        description=(
            "Run ODB-dLLM's table of several models: a cell (a model, task and setting) per GPU at a time, the longest "
            "first. The same command goes on where an earlier one stopped, however it ended. Any list may be `all`."
        ),
    )
    add = parser.add_argument
    add("--models", required=True, metavar="a,b", help="Folders, hub ids or tiny; all: tiny and the two LLaDA 8B")
    add("--gpus", default="all", metavar="0,1", help="Numbers, or all (default); cpu, or cpu,cpu for two at a time")
    add("--out", default="results/sweep", metavar="<folder>", help="Where results go (default: results/sweep)")
    add("--retry-failed", "--retry_failed", action="store_true", help="Run just the cells that failed last time")
    add("--shard", default="1/1", metavar="i/N", help="Run the i-th of N shares of the cells, such as 1/8 to 8/8")
    add_table_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from odb_dllm.sweep.command import sweep

    return sweep(args)
