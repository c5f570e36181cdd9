"""``odb-dllm chat``: a conversation in the terminal, whose answers are seen while they are unmasked."""

import argparse
from typing import Any

GEN_LENGTH, BLOCK_LENGTH = 128, 32


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``chat``; everything else is imported when it runs."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "chat",
        help="Talk with a model in the terminal",
        description=(
            "Talk with a model in the terminal, and see its answers while they are unmasked. /help lists the commands. "
            "Without a terminal, each line of the input is a question; answers go to stdout, statistics to stderr."
        ),
    )
    add = parser.add_argument
    add("--model", default="tiny", metavar="<name>", help="Folder, hub id or tiny (default: tiny)")
    add("--setting", default="jump-share", metavar="<name>", help="As `odb-dllm settings` lists them (jump-share)")
    add("--gen_length", "--gen-length", default=GEN_LENGTH, metavar="N", help=f"Tokens of an answer ({GEN_LENGTH})")
    add("--block_length", "--block-length", default=BLOCK_LENGTH, metavar="N", help=f"Of a block ({BLOCK_LENGTH})")
    add("--steps", metavar="N", help="Forwards over the whole answer, without a threshold (default: gen_length)")
    add("--threshold", metavar="P", help="Confidence from which a token is accepted (default: the setting's)")
    add("--temperature", metavar="T", help="Above 0, tokens are drawn (default: 0)")
    add("--seed", metavar="N", help="Of drawn tokens (default: 0)")
    add("--system", metavar="<text>", help="A system message, before everything that is said")
    add("--device", metavar="<device>", help="cpu, cuda or cuda:N (default: CUDA where there is one)")
    add("--dtype", metavar="<dtype>", help="Default: bfloat16 on CUDA, float32 on the CPU")
    return parser


def run(args: argparse.Namespace) -> int:
    from odb_dllm.chat.command import chat

    return chat(args)
