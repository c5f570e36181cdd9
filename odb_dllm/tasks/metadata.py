"""Lets a model see its requests' task: lm-eval hands over bare instances, without its configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

ATTRIBUTE = "odb_dllm"


@dataclass(frozen=True)
class TaskFacts:
    """What an instance cannot tell of its task."""

    metadata: dict[str, Any] = field(default_factory=dict)  # of the task's YAML
    chat: bool = False  # whether the prompt went through a chat template
    task: Task | None = field(default=None, repr=False, compare=False)


def facts_of(instance: Instance) -> TaskFacts | None:
    """What is known of an instance's task; None for an instance that no task built."""
    return getattr(instance, ATTRIBUTE, None)


def attach(on_built: Callable[[Task], None]) -> None:
    """Wrap ``Task.build_all_requests`` so that every instance carries its task's ``TaskFacts``.

    ``on_built`` is called with the task afterwards. Wrapping again replaces nothing.
    """
    original = Task.build_all_requests
    if getattr(original, ATTRIBUTE, False):
        return

    @wraps(original)
    def build_all_requests(self: Task, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        metadata = getattr(self.config, "metadata", None)
        metadata = metadata if isinstance(metadata, dict) else {}
        facts = TaskFacts(metadata, bool(kwargs.get("apply_chat_template")), self)
        for instance in self.instances:
            setattr(instance, ATTRIBUTE, facts)
        on_built(self)

    setattr(build_all_requests, ATTRIBUTE, True)
    Task.build_all_requests = build_all_requests
