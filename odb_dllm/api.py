"""The function that most people call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from odb_dllm.benchmarks import check_task, resolve
from odb_dllm.generation import Generation, NonFiniteLogits
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.prefixes import in_common
from odb_dllm.presets import get_setting
from odb_dllm.sampler import Watcher
from odb_dllm.scheduler import Request, check, run
from odb_dllm.settings import Setting

Prompt = Sequence[int] | NDArray[np.integer[Any]]


@overload
def generate(
    model: DiffusionModel,
    prompt_ids: Prompt,
    *,
    setting: str | Setting = ...,
    task: str | None = ...,
    family: str | None = ...,
    shared_prefix: int | None = ...,
    on_event: Watcher | None = ...,
    **overrides: Any,
) -> Generation: ...


@overload
def generate(
    model: DiffusionModel,
    prompt_ids: Sequence[Prompt],
    *,
    setting: str | Setting = ...,
    task: str | None = ...,
    family: str | None = ...,
    shared_prefix: int | None = ...,
    on_event: Watcher | None = ...,
    **overrides: Any,
) -> list[Generation]: ...


def generate(
    model: DiffusionModel,
    prompt_ids: Any,
    *,
    setting: str | Setting = "jump-share",
    task: str | None = None,
    family: str | None = None,
    shared_prefix: int | None = None,
    on_event: Watcher | None = None,
    **overrides: Any,
) -> Generation | list[Generation]:
    """Generate a response to a prompt, or one to each of a list of prompts.

    Args:
        model: from ``load_model``.
        prompt_ids: token ids, a list or 1-d array; or a list of such prompts.
        setting: a preset's name or a ``Setting``.
        task: one of the five benchmarks, for its published stop patterns and thresholds; None: EOS only.
        family: ``llada_instruct``, ``llada_1_5`` or ``dream``, whose thresholds to use; None tells it from the model.
        shared_prefix: how many first tokens the prompts have in common, whose keys and values are then computed once
            (``prefix=shared``, an approximation: docs/beyond.md). With ``prefix="shared"`` alone, all that several
            prompts begin with alike.
        on_event: called with an ``Event`` after each forward (``event.sequence`` is the index of the prompt).
        **overrides: any field of ``Setting``; ``threshold=None`` means none: quota unless a factor is given.

    Returns:
        A ``Generation``, or a list of them in the order of the prompts.

    Raises:
        InputError: an unknown name, values that make no sense together, a prompt that does not fit.
        NonFiniteLogits: the model's logits are NaN or infinite.
    """
    if shared_prefix is not None:
        overrides["prefix"] = "shared"
    chosen = get_setting(setting, **overrides)
    check_task(task)
    chosen, stop = resolve(model, chosen, task=task, family=family)
    several = _is_list_of_prompts(prompt_ids)
    prompts = list(prompt_ids) if several else [prompt_ids]
    requests = [Request(prompt, chosen, stop, index, shared_prefix or 0) for index, prompt in enumerate(prompts)]
    if chosen.prefix == "shared" and shared_prefix is None and len(prompts) > 1:
        check(model, requests)
        requests = [replace(request, shared=in_common(prompts)) for request in requests]
    results: dict[int, Generation] = {}
    for index, result in run(model, requests, on_event=on_event):
        if isinstance(result, NonFiniteLogits):
            raise result
        results[index] = result
    return [results[index] for index in range(len(prompts))] if several else results[0]


def _is_list_of_prompts(prompt_ids: Any) -> bool:
    if isinstance(prompt_ids, (list, tuple)):
        return any(isinstance(each, (list, tuple)) or getattr(each, "ndim", 0) > 0 for each in prompt_ids)
    return getattr(prompt_ids, "ndim", 0) > 1
