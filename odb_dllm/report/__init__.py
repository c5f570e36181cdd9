"""Result tables: the papers' tables from cells, a folder each, that any number of runs can fill."""

import argparse
from typing import Any


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``reproduce``; everything else is imported when it runs."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reproduce",
        help="Run the papers' tables, such as ODB-dLLM's Table 1: five tasks under five settings",
        description=(
            "Run a paper's table (ODB-dLLM's Table 1, five tasks under five settings, unless --paper names another) "
            "and write it to table.md and table.csv. The same command goes on where an earlier one stopped. For "
            "ODB-dLLM's, the embedded model (tiny) has miniature tasks of its own."
        ),
    )
    add = parser.add_argument
    add(
        "--paper",
        default="odb-dllm",
        metavar="<paper>",
        help="Whose table: odb-dllm (default), fast-dllm or streaming-dllm, or one that `odb-dllm protocols` lists",
    )
    add("--model", default="tiny", metavar="<name>", help="Folder, hub id or tiny (default: tiny)")
    add("--out", metavar="<folder>", help="Where results go (default: results/tables/<model>)")
    add("--device", metavar="<device>", help="cpu, cuda or cuda:N (default: CUDA where there is one)")
    add(
        "--chat_template",
        "--chat-template",
        choices=("yes", "no"),
        help="Instead of what the other papers' protocols say",
    )
    add_table_arguments(parser)
    return parser


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides a table of one model, and how it is run."""
    add = parser.add_argument
    add("--limit", type=int, metavar="N", help="Documents per benchmark, split evenly over its subtasks (default: all)")
    add("--tasks", metavar="a,b", help="gsm8k, minerva_math, bbh, humaneval, mbpp; each with _mini for tiny")
    add("--settings", metavar="a,b", help="llada_baseline, fast_dllm_baseline, alp, accept-jump, jump-share, or others")
    add("--batch_size", "--batch-size", type=int, default=1, metavar="N", help="Generations under way at a time (1)")
    add("--dtype", metavar="<dtype>", help="Default: bfloat16 on CUDA, float32 on the CPU")
    add("--seed", type=int, default=0, metavar="N", help="Of the sampler, and of the timing subset (0)")
    add(
        "--gen_length",
        "--gen-length",
        type=int,
        metavar="N",
        help="Tokens to generate (1024; 256 for tiny; the paper's)",
    )
    add("--block_length", "--block-length", type=int, metavar="N", help="Tokens of a block (32)")
    add(
        "--vanilla-timing-subset",
        "--vanilla_timing_subset",
        type=int,
        metavar="N",
        help="Run llada_baseline on N documents per benchmark, drawn by prompt length, and estimate its time for all",
    )
    add(
        "--confirm_run_unsafe_code",
        action="store_true",
        help=(
            "humaneval and mbpp may run code that the model wrote. Without it they are left out, except for tiny, "
            "whose weights are shipped: its humaneval_mini and mbpp_mini always run, in the sandbox"
        ),
    )


def run(args: argparse.Namespace) -> int:
    from odb_dllm.report.command import reproduce

    return reproduce(args)
