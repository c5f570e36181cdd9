"""``odb-dllm certify``: the fast engine against the plain one on one's own machine and weights, for all to read."""

import argparse
from typing import Any

PROMPTS, GEN_LENGTH, REQUIRED = 20, 256, 0.98
SETTINGS = ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share")
DOES = (
    "Answers prompts with the plain eager engine and with the fast one under each setting (or, with --batch_size, one "
    "at a time and in batches): how many generations have the same tokens, where the others part and by how little, "
    "forwards and time."
)


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add the verb to the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "certify", help="Compare the fast engine's tokens with the plain one's on this machine", description=DOES
    )
    return _with_flags(parser)


def main(words: list[str]) -> int:
    """The verb by itself: the command's own parser is made from lm-eval's, which need not be installed."""
    return run(_with_flags(argparse.ArgumentParser(prog="odb-dllm certify", description=DOES)).parse_args(words))


def _with_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    add = parser.add_argument
    add("--model", default="tiny", metavar="<name>", help="Folder, hub id or tiny (default: tiny)")
    add("--peft", metavar="<folder>", help="A LoRA adapter, merged into the weights")
    add("--shape", choices=("tiny", "8b"), help="Take the embedded model in an 8B model's shapes instead of --model")
    add("--prompts", type=int, metavar="N", help=f"So many of the prompts (default: all of a file, {PROMPTS} else)")
    add("--prompts_file", "--prompts-file", metavar="<file>", help="Text with a prompt a line, or .jsonl with 'prompt'")
    add("--settings", default=",".join(SETTINGS), metavar="<a,b>", help=f"Default: {','.join(SETTINGS)}")
    add("--gen_length", "--gen-length", default=GEN_LENGTH, type=int, metavar="N", help=f"Tokens ({GEN_LENGTH})")
    add("--batch_size", "--batch-size", type=int, metavar="N", help="Compare N generations at a time with one instead")
    add("--require", default=REQUIRED, type=float, metavar="<share>", help=f"Of equal generations ({REQUIRED})")
    add("--out", metavar="<file>", help="Write all of it there: .json, or Markdown for any other name")
    add("--device", metavar="<device>", help="cpu, cuda or cuda:N (default: CUDA where there is one)")
    add("--dtype", metavar="<dtype>", help="Default: bfloat16 on CUDA, float32 on the CPU")
    return parser


def run(args: argparse.Namespace) -> int:
    from odb_dllm.certify.command import certify

    return certify(args)
