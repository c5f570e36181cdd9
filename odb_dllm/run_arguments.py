"""What ``odb-dllm run`` asks of lm-eval that can be refused before any weights are read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from odb_dllm.errors import InputError, nearest

if TYPE_CHECKING:
    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.tasks import TaskManager

# What lm-eval says of too few examples: of the first ones; of drawn ones, by random.sample; and of none.
FEW = re.compile(
    r"fewshot samples requested exceeds the (\d+)|Sample larger than population|no documents available for"
)


def check(config: "EvaluatorConfig") -> None:
    """Raise ``InputError`` for a limit, a number of examples, samples or a folder that no evaluation can have."""
    if not (config.limit is None or _is_limit(config.limit)):
        raise InputError(f"--limit takes a whole number of at least 1, or a share between 0 and 1, not {config.limit}.")
    if not (config.num_fewshot is None or _is_count(config.num_fewshot)):
        raise InputError(f"--num_fewshot takes a whole number of at least 0, not {config.num_fewshot}.")
    if config.samples is not None:
        _check_samples(config.samples)
    include_folders(config.include_path)


def include_folders(path: str | None) -> list[str]:
    """--include_path as a list of none or one; raises ``InputError`` where it is no folder."""
    if path and not Path(path).is_dir():
        raise InputError(f"--include_path {path!r} is no folder.")
    return [path] if path else []


@contextmanager
def checked_tasks(manager: "TaskManager", samples: dict[str, list[int]] | None) -> Iterator[None]:
    """Check documents and examples that are asked for against the tasks, once an evaluation has loaded them.

    Raises:
        InputError: the tasks have fewer, before the first of their requests reaches the model.
    """
    load = manager.load

    def checked(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        _check_documents(samples or {}, loaded["tasks"])
        return loaded

    try:
        with patch.object(manager, "load", checked):
            yield
    except (AssertionError, ValueError) as error:
        if not (said := FEW.search(str(error))):
            raise
        found = f"{said[1]} examples to show, and more" if said[1] else "fewer examples to show than"
        raise InputError(f"A task has {found} were asked for: give --num_fewshot a smaller number.") from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_limit(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (0 < value < 1 or (value >= 1 and float(value).is_integer()))


def _check_samples(samples: Any) -> None:
    if not (isinstance(samples, dict) and samples and all(isinstance(each, list) for each in samples.values())):
        raise InputError('--samples takes JSON like {"gsm8k_mini": [0, 1]}, or a file of it.')
    for task, numbers in samples.items():
        # lm-eval takes an empty list for all documents, and counts others as if they were in order.
        if not numbers or not all(map(_is_count, numbers)) or sorted(set(numbers)) != numbers:
            raise InputError(
                f"--samples numbers documents from 0, each once and in rising order, not {numbers}: {task}."
            )


def _check_documents(samples: dict[str, list[int]], tasks: dict[str, Any]) -> None:
    for task, numbers in samples.items():
        if task not in tasks:  # which lm-eval would not notice, and evaluate all documents
            raise InputError(f"--samples names {task!r}, which is not evaluated: {nearest(task, list(tasks))}.")
        if numbers[-1] >= (count := len(tasks[task].eval_docs)):
            raise InputError(f"{task} has {count} documents: --samples takes 0 to {count - 1}, not {numbers[-1]}.")
