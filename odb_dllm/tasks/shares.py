"""Shares out a task's documents among processes, so that each prompt is the one that a process alone would ask.

lm-eval gives process r of n the documents r, r + n, ... and builds their prompts alone. Few-shot examples are drawn
in the order of the documents, so that each would get other ones than in a single process: here every process builds all
prompts and keeps its own. A process without any keeps a spare request, since lm-eval needs one of each task, and
answers it with an empty text that nobody scores.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

SPARE = "odb_dllm_spare"  # marks a spare request among its generation arguments, so also in a response cache


def attach() -> None:
    """Wrap ``Task.build_all_requests`` so that shares are taken as above. Wrapping again replaces nothing."""
    original = Task.build_all_requests
    if getattr(original, SPARE, False):
        return

    @wraps(original)
    def build_all_requests(self: Task, *, rank: int = 0, world_size: int = 1, **which: Any) -> None:
        original(self, **which)
        if world_size == 1:
            return
        limits = {name: which.get(name) for name in ("limit", "samples")}
        own = {doc_id for doc_id, _ in self.doc_iterator(rank=rank, world_size=world_size, **limits)}
        first = self.instances[0].doc_id
        self._instances = [instance for instance in self.instances if instance.doc_id in own] or [
            _spare(instance) for instance in self.instances if instance.doc_id == first
        ]

    setattr(build_all_requests, SPARE, True)
    Task.build_all_requests = build_all_requests


def _spare(instance: Instance) -> Instance:
    if instance.request_type == "generate_until":
        prompt, given, *rest = instance.args
        instance.arguments = (prompt, {**given, SPARE: True}, *rest)
    return instance


def answered(requests: Sequence[Instance], answer: Callable[[list[Instance]], list[str]]) -> list[str]:
    """The texts that ``answer`` gives to all requests but spare ones, whose texts are empty."""
    asked = [SPARE not in request.args[1] for request in requests]
    texts = iter(answer([request for request, real in zip(requests, asked, strict=True) if real]))
    return [next(texts) if real else "" for real in asked]


def complete(of_process: dict[str, Any]) -> dict[str, Any]:
    """What a process found of each task, as lm-eval gathers it: no values of any metric where it had no documents."""
    return {task: defaultdict(list, found) if isinstance(found, dict) else found for task, found in of_process.items()}
