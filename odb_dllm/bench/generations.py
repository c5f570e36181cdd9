"""Whole generations at batch 1, and schedules of forwards as they were recorded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from odb_dllm.bench.forwards import BLOCK, Timing, refresh, step, time_forward
from odb_dllm.bench.machine import process_seconds
from odb_dllm.benchmarks import resolve
from odb_dllm.counting import Shape, Work, pass_work
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.presets import get_setting
from odb_dllm.scheduler import Request, run
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule
from odb_dllm.tensor_parallel.leader import engine_of
from odb_dllm.tiny.problems import heldout, shots
from odb_dllm.traces import SUFFIX, read_traces

TASK, QUESTIONS, SHOTS = "gsm8k_mini", 50, 5  # the prompt's: the question with the longest answer of so many
LONGEST = 8192  # tokens of a schedule's forwards, and positions behind which they are
_FED = {BLOCK, 4 * BLOCK, *range(BLOCK + 7, BLOCK + 7 * BLOCK + 1, 7)}  # by steps: a block, four, or one and branches


@dataclass(frozen=True)
class Run:
    """One generation. ``host`` is what the sampler and the scheduler took beside the forwards."""

    setting: str
    answer: str  # "fills": no stop pattern is ever found; "ends": as the model would have it
    seconds: float
    refresh_seconds: float
    step_seconds: float
    nfe: int
    refreshes: int
    tokens: int  # decode length
    fed: tuple[int, ...]  # tokens of each forward
    refresh_work: Work  # as counted, of all refreshes
    step_work: Work
    peak_bytes: int | None  # of GPU memory
    capture_seconds: float  # of graphs that it was the first to need; in none of the other figures

    @property
    def host(self) -> float:
        return self.seconds - self.refresh_seconds - self.step_seconds


def measure_run(
    model: DiffusionModel, prompt: Sequence[int], asked: str | Setting, gen_length: int, *, fills: bool
) -> Run:
    """One generation after a warm-up, timed from admission to its last token."""
    setting, stop = resolve(model, get_setting(asked, gen_length=gen_length))
    if fills:
        stop = StopRule(patterns=(), eos=stop.eos)
    request = Request(prompt, setting, stop)
    next(run(model, [Request(prompt, setting.override(gen_length=BLOCK, steps=BLOCK), stop)]))
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    clock, captured = engine_of(model).clock, model.capture_seconds
    started = clock()
    ((_, made),) = run(model, [request])
    taken = clock() - started
    if not isinstance(made, Generation):
        raise made
    return Run(
        setting.name,
        "fills" if fills else "ends",
        taken,
        made.refresh_seconds,
        made.step_seconds,
        made.nfe,
        made.refreshes,
        made.decode_length,
        tuple(made.forward_lengths),
        _work(model, made, "refresh"),
        _work(model, made, "step"),
        torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else None,
        model.capture_seconds - captured,
    )


def _work(model: DiffusionModel, made: Generation, kind: str) -> Work:
    shape, dtype = Shape.of(model.network.config), str(model.dtype).removeprefix("torch.")
    passes = (each for each in made.passes if each.kind == kind)
    return sum((pass_work(shape, dtype, each, BLOCK) for each in passes), start=Work(0.0, 0.0))


def time_first_token(model: DiffusionModel, prompt: Sequence[int], asked: str | Setting) -> float:
    """Seconds from the start of this process until a first generation has decided tokens."""
    setting, stop = resolve(model, get_setting(asked, gen_length=BLOCK, steps=None))
    seen: list[float] = []
    next(run(model, [Request(prompt, setting, stop)], on_event=lambda _: seen.append(process_seconds())))
    return seen[0]


def few_shot_prompt(model: DiffusionModel, tokens: int) -> list[int]:
    """A question of the embedded model's after up to five worked examples, in GSM8K's format, so many tokens in all.

    Its answer is long: about 170 tokens. What the examples leave of the length comes first, as end-of-text tokens.
    """
    assert model.tokenizer is not None
    asked = max(heldout(TASK, QUESTIONS), key=lambda problem: len(problem.answer))
    ids = model.tokenizer.encode(asked.prompt, add_special_tokens=False)
    for example in shots(TASK, SHOTS):
        before = model.tokenizer.encode(f"{example.prompt}{example.answer}\n\n", add_special_tokens=False)
        ids = before + ids if len(before) + len(ids) <= tokens else ids
    return [model.ids.eos] * (tokens - len(ids)) + ids


def read_schedule(path: str | Path) -> list[tuple[str, int, int]]:
    """(kind, tokens fed, cached positions seen) of each forward in a JSON file: a list of objects with these keys.

    A file of traces (``statistics_*.traces.gz``, beside every run's statistics) gives those of its first sample.

    Raises:
        InputError: a file that is no such list.
    """
    if str(path).endswith(SUFFIX):
        return _checked(path, _recorded(path))
    try:
        listed = json.loads(Path(path).read_text(encoding="utf-8"))
        made = [(each["kind"], each["tokens"], each.get("cache", 0)) for each in listed]
    except OSError as error:
        raise InputError(f"The schedule {path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        made = []
    return _checked(path, made)


def _recorded(path: str | Path) -> list[tuple[str, int, int]]:
    if not Path(path).is_file():
        raise InputError(f"The traces {path} cannot be read: there is no such file.")
    return [(each.kind, each.fed, each.cached) for trace in read_traces(path)[:1] for each in trace.passes]


def _checked(path: str | Path, made: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The schedule, if forwards of these sizes can be made up."""
    if not made:
        raise InputError(f'{path} is no schedule: [{{"kind": "refresh", "tokens": 2024}}, ...] is expected.')
    for kind, tokens, cache in made:
        counts = all(type(count) is int and 0 <= count <= LONGEST for count in (tokens, cache))
        fed = counts and (tokens in _FED if kind == "step" else kind == "refresh" and tokens >= BLOCK)
        if not fed:
            raise InputError(
                f"{path} holds a {kind} of {tokens} tokens behind {cache}: accepted are refreshes of {BLOCK} tokens or "
                f"more and steps of {BLOCK}, {4 * BLOCK} or {BLOCK} + 7 m with m up to {BLOCK}, none beyond {LONGEST}."
            )
    return made


def replay(model: DiffusionModel, schedule: Sequence[tuple[str, int, int]]) -> list[Timing]:
    """A timing per forward of a schedule; equal forwards are timed once."""
    engine, known = engine_of(model), dict[tuple[str, int, int], Timing]()
    for kind, tokens, cache in schedule:
        if (kind, tokens, cache) not in known:
            made = refresh(model, tokens) if kind == "refresh" else step(model, tokens, cache)
            known[kind, tokens, cache] = time_forward(engine, *made)
    return [known[each] for each in schedule]
