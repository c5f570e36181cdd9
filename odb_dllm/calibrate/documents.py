"""The documents that θ is chosen on: a task's training split, asked as the task asks its test documents."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from odb_dllm.errors import InputError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.tasks import TaskManager

FEWSHOT_SEED = 1234  # lm-eval's own default: the few-shot examples are those of a run


def instances(
    manager: "TaskManager",
    name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    chat: "Callable[..., str] | None" = None,
) -> "tuple[list[Instance], str]":
    """Build the requests for a task's (or a group's) training documents.

    Args:
        manager: knows the task.
        name: a task, group or tag.
        split: use this split of the task's data; None takes its training, validation or few-shot split.
        limit: documents of each task.
        num_fewshot: examples in each prompt; None: as the task says.
        chat: applies the chat template; None: there is none.

    Returns:
        The requests, and the names of the splits.

    Raises:
        InputError: no split but the one that is evaluated, or no generated answers.
    """
    found: list[Instance] = []
    splits: dict[str, None] = {}
    for task in manager.load([name])["tasks"].values():
        if task.config.output_type != "generate_until":
            raise InputError(f"Task {task.config.task!r} has no generated answers ({task.config.output_type}).")
        chosen = training_split(task.config, known=_splits(task), asked=split)
        _evaluate_on(task, chosen)
        if num_fewshot is not None or task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        try:
            task.build_all_requests(limit=limit, apply_chat_template=chat is not None, chat_template=chat)
        except (ValueError, AssertionError) as error:  # among others, from drawing more examples than there are
            raise InputError(f"Task {task.config.task!r}: its split {chosen!r} cannot be asked: {error}.") from error
        found += task.instances
        splits[chosen] = None
    return found, ", ".join(splits)


def training_split(config: Any, *, known: Sequence[str], asked: str | None = None) -> str:
    """The split to use, which is never the one that the task is evaluated on."""
    evaluated = config.test_split or config.validation_split
    if asked is not None:
        if asked == evaluated:
            raise InputError(f"Task {config.task!r} is evaluated on {asked!r}: theta is not chosen on test documents.")
        if known and asked not in known:
            raise InputError(f"Task {config.task!r} has no split {asked!r}: it has {', '.join(known)}.")
        return asked
    for split in (config.training_split, config.validation_split, config.fewshot_split):
        if split is not None and split != evaluated and (not known or split in known):
            return str(split)
    others = [split for split in known if split != evaluated]
    hint = f" --split takes another of its data: {', '.join(others)}." if others else ""
    raise InputError(
        f"Task {config.task!r} names no training, validation or few-shot split besides {evaluated!r}, on which it is "
        f"evaluated, and theta is not chosen on test documents.{hint}"
    )


def _splits(task: Any) -> list[str]:
    """The splits of a task's data."""
    data = getattr(task, "dataset", None)
    return [str(name) for name in data] if isinstance(data, dict) else []


def _evaluate_on(task: Any, split: str) -> None:
    """Have lm-eval ask the documents of ``split``, none of which is then among its own examples."""
    config, fewshot = task.config, task.fewshot_cfg
    drawn = fewshot.split
    if drawn is None and fewshot.samples is None:
        drawn = config.training_split or config.validation_split
    config.test_split = split
    if drawn == split:
        fewshot.split = split  # lm-eval leaves a document out of its examples where both splits are one
