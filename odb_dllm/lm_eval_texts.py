"""What lm-eval says in our command: its help under our name and with our model, and nothing from git."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

ABOUT = "Evaluation harness and inference engine for masked-diffusion language models, inside lm-eval"
EXAMPLES = """
examples:
  # The embedded model on its own benchmark, on any machine
  odb-dllm run --tasks gsm8k_mini --model_args pretrained=tiny,setting=jump-share --limit 5

  # LLaDA on GSM8K, with results, samples and statistics in a folder
  odb-dllm run --tasks gsm8k --model_args pretrained=GSAI-ML/LLaDA-8B-Instruct,setting=jump-share \\
      --log_samples --output_path results

  # What there is to choose from
  odb-dllm ls tasks
  odb-dllm settings
"""
NAMES = {"lm-eval list": "odb-dllm ls", "lm-eval ": "odb-dllm "}


def rename(top: argparse.ArgumentParser, verbs: Mapping[str, argparse.ArgumentParser]) -> None:
    """Put our command's name and examples into the help of lm-eval's parsers, which name themselves lm-eval.

    Args:
        top: the parser of the whole command.
        verbs: those of its verbs, by name.
    """
    top.description = ABOUT
    for verb, parser in {"": top, **verbs}.items():
        parser.prog = f"odb-dllm {verb}".rstrip()
        parser.usage, parser.epilog = _ours(parser.usage), _ours(parser.epilog)
        for action in parser._actions:
            action.help = _ours(action.help)
            if verb == "run" and "--model" in action.option_strings:
                action.help = "Model name, of lm-eval's (default: odb_dllm)"
    for parser in filter(None, (top, verbs.get("run"))):
        parser.epilog = EXAMPLES


def _ours(text: str | None) -> str | None:
    for theirs, ours in NAMES.items():
        text = text and text.replace(theirs, ours)
    return text


@contextmanager
def quiet_git() -> Iterator[None]:
    """Keep ``git describe``, which lm-eval runs for its results, from saying that this is no checkout."""
    from lm_eval import evaluator

    name = "get_git_commit_hash"
    if not hasattr(evaluator, name):
        yield
        return
    with patch.object(evaluator, name, _silently(getattr(evaluator, name))):
        yield


def _silently(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function without what processes that it starts write to stderr."""

    @wraps(function)
    def silent() -> Any:
        if sys.stderr is None:  # the shell closed it
            return function()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            return function()
        finally:
            os.dup2(kept, 2)
            os.close(kept)

    return silent
