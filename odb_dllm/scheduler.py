"""Runs many generations on one engine: admits them, groups what they ask for, shares out the time."""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from odb_dllm.contract import Forward, Prediction
from odb_dllm.costs import Budget, costs_of
from odb_dllm.engine import Engine, KVCache, Pool
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation, NonFiniteLogits
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.sampler import Watcher, capacity, sample
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule
from odb_dllm.tensor_parallel.leader import engine_of

logger = logging.getLogger(__name__)
Result = Generation | NonFiniteLogits


@dataclass(frozen=True)
class Request:
    """One generation to run. ``sequence`` keys its noise, so that neither order nor batch can change it."""

    prompt: Sequence[int]
    setting: Setting
    stop: StopRule
    sequence: int = 0
    shared: int = 0  # first tokens of the prompt that others begin with too, for prefix=shared


@dataclass
class _Running:
    index: int
    request: Request
    sampler: Generator[Forward, Prediction, Generation]
    forward: Forward  # what it waits for
    cache: KVCache | None
    admitted: float
    seconds: list[float] = field(default_factory=list)  # its share of each forward's
    batches: list[int] = field(default_factory=list)  # sequences that shared each forward


def check(model: DiffusionModel, requests: Iterable[Request]) -> None:
    """Raise ``InputError`` for the first request that the model cannot answer, before any is run."""
    for index, request in enumerate(requests):
        try:
            prompt = np.asarray(request.prompt)
        except ValueError:  # lists of unequal lengths
            prompt = np.empty((0, 0))
        if prompt.ndim != 1 or (len(prompt) and prompt.dtype.kind not in "iu"):
            raise InputError(f"Prompt {index} must be a list or 1-d array of token ids.")
        length, wanted = len(prompt), request.setting.gen_length
        if length and not (prompt.min() >= 0 and prompt.max() < model.vocab_size):
            raise InputError(f"Prompt {index} holds token ids outside the vocabulary of {model.vocab_size}.")
        if not (isinstance(request.shared, int) and 0 <= request.shared <= length):
            raise InputError(
                f"The shared prefix of prompt {index} must be a number of its {length} tokens, not {request.shared!r}."
            )
        if length + wanted > model.max_length:
            raise InputError(
                f"Prompt {index} of {length} tokens and gen_length {wanted} exceed the model's maximum of "
                f"{model.max_length} tokens."
            )


def run(
    model: DiffusionModel,
    requests: Iterable[Request],
    *,
    batch_size: int = 1,
    on_event: Watcher | None = None,
    engine: Engine | None = None,
) -> Iterator[tuple[int, Result]]:
    """Run generations and yield (index of the request, result) as they finish.

    A generation whose logits are NaN or infinite has that error as its result; the others go on. Where memory
    runs out, those under way start again, and half as many run at a time from then on.

    Args:
        batch_size: generations that are under way at a time.
        on_event: called with an ``Event`` after each forward of each generation.
        engine: what answers; None: the model's own.

    Raises:
        InputError: a request that the model cannot answer, before the first forward; too little memory for one.
    """
    requests = list(requests)
    check(model, requests)
    engine = engine or engine_of(model)
    waiting = deque(enumerate(requests))
    while waiting:
        try:
            yield from _run(engine, waiting, min(batch_size, len(waiting)), on_event)
        except torch.OutOfMemoryError:
            batch_size = _fewer(min(batch_size, len(waiting)), model)


def _run(
    engine: Engine, waiting: deque[tuple[int, Request]], batch_size: int, watch: Watcher | None
) -> Iterator[tuple[int, Result]]:
    """Run the waiting generations, so many at a time; those under way when memory runs out wait again."""
    running: list[_Running] = []
    shift = engine.model.network.shift
    slots = max(capacity(request.setting, len(request.prompt), shift) for _, request in waiting)
    budget = Budget(costs_of(engine.model.device.type), running.__len__)
    pool: Pool | None = None
    try:
        pool = engine.pool(batch_size, slots) if slots else None
        while waiting or running:
            while waiting and len(running) < batch_size:
                running.append(_admit(engine, *waiting.popleft(), pool, watch, budget))
            yield from _round(engine, running)
    except torch.OutOfMemoryError:
        waiting.extendleft((each.index, each.request) for each in reversed(running))
        running.clear()
        pool = None  # the error's traceback holds this frame, which is not to hold the memory
        raise


def _round(engine: Engine, running: list[_Running]) -> list[tuple[int, Result]]:
    """Answer one group of those that wait, take out those that are finished, and return their results."""
    # Refreshes are bound by compute and steps by memory: they are never answered together, the larger group goes first.
    refreshing = [each for each in running if each.forward.kind == "refresh"]
    stepping = [each for each in running if each.forward.kind == "step"]
    group = max(refreshing, stepping, key=len)
    results = [(each, _advance(engine, each, made)) for each, made in zip(group, _answer(engine, group), strict=True)]
    for each, result in results:
        if result is not None:
            running.remove(each)
            if each.cache is not None:
                each.cache.close()
    return [(each.index, result) for each, result in results if result is not None]


def _advance(engine: Engine, each: _Running, prediction: Prediction) -> Result | None:
    """Let a sampler go on to its next forward; its result where it is at its end."""
    try:
        each.forward = each.sampler.send(prediction)
    except StopIteration as finished:
        latency = engine.clock() - each.admitted
        return replace(finished.value, latency=latency, forward_seconds=each.seconds, batches=each.batches)
    except NonFiniteLogits as error:
        return NonFiniteLogits(f"Request {each.index}: {error}")
    return None


def _fewer(count: int, model: DiffusionModel) -> int:
    """Memory has run out: return how many generations may run at a time from now on, and say so."""
    if count == 1:
        raise InputError(
            f"Memory on {model.device} does not suffice for one generation: use a shorter prompt or gen_length."
        )
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    logger.warning("Memory on %s ran out: at most %d generations run at a time from now on.", model.device, count // 2)
    return count // 2


def _admit(
    engine: Engine, index: int, request: Request, pool: Pool | None, watch: Watcher | None, budget: Budget
) -> _Running:
    admitted = engine.clock()
    prompt = np.asarray(request.prompt, np.int64)
    sampler = sample(
        prompt,
        request.setting,
        request.stop,
        engine.model.ids.mask,
        shift=engine.model.network.shift,
        sequence=request.sequence,
        shared=request.shared,
        watch=watch,
        budget=budget,
    )
    cache = pool.open() if pool is not None and request.setting.cache != "none" else None
    return _Running(index, request, sampler, next(sampler), cache, admitted)


def _answer(engine: Engine, group: list[_Running]) -> list[Prediction]:
    """Answer what a group waits for, and charge each its share of the time by the tokens it fed."""
    started = engine.clock()  # capturing a graph is no generation's time
    predictions = engine.answer([(each.cache, each.forward) for each in group])
    spent = engine.clock() - started  # synchronised: the predictions are on the host
    fed = sum(len(each.forward) for each in group)
    for each in group:
        each.seconds.append(spent * len(each.forward) / fed)
        each.batches.append(len(group))
    return predictions
