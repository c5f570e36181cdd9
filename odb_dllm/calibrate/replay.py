"""Record what length prediction sees, once; then replay it for any threshold.

The recording is a generation on the full canvas: the model is asked for its predictions at every block's first
forward, but no stop pattern is ever sure enough to shorten the canvas. A replay walks over those predictions as the
sampler would with a real θ. It differs from a real run in one way: there, the predictions of later blocks are made on
the canvas that earlier ones have shortened.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from odb_dllm.contract import Floats, Ints, Prediction
from odb_dllm.engine import Engine
from odb_dllm.generation import Generation
from odb_dllm.sampler import capacity, sample
from odb_dllm.scheduler import Request
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule, first_match, first_predicted


@dataclass(frozen=True)
class Recording:
    """One document: where its answer ends on the full canvas, and what each block's first forward predicted."""

    gen_length: int
    block_length: int
    answer: int  # tokens before the first stop pattern; gen_length where there is none
    ended: bool  # whether there is one
    openings: tuple[tuple[Ints, Floats], ...]  # tokens and confidences [n] from each block's start to the canvas end


@dataclass(frozen=True)
class Outcome:
    """What one θ does to one document."""

    canvas: float  # mean canvas length over the blocks visited, as ``average_predicted_length``
    cut: bool  # the canvas that is left ends before the answer does


def reference(setting: Setting) -> Setting:
    """The setting that a recording is made with: it predicts lengths, and ends with the answer.

    Raises ``InputError`` where the setting cannot predict lengths.
    """
    return setting.override(length="adaptive", early_exit=True, theta=None, ahead=0)


def record(engine: Engine, request: Request) -> Recording:
    """Generate on the full canvas and keep the predictions of every block's first forward.

    Raises:
        NonFiniteLogits: the model's logits are NaN or infinite.
    """
    setting, prompt = request.setting, np.asarray(request.prompt, np.int64)
    never = replace(request.stop, theta=math.inf)  # as a fixed length, but all positions are predicted
    shift = engine.model.network.shift
    sampler = sample(prompt, setting, never, engine.model.ids.mask, shift=shift, sequence=request.sequence)
    cache = engine.open(capacity(setting, len(prompt), shift))
    openings: list[tuple[Ints, Floats]] = []
    forward = next(sampler)
    while True:
        prediction: Prediction = engine.answer([(cache, forward)])[0]
        # Steps ask for positions of their own block alone: only a first forward asks for its block's start.
        if forward.targets[0, 1] == len(prompt) + len(openings) * setting.block_length:
            openings.append((prediction.token.astype(np.int64), prediction.confidence))
        try:
            forward = sampler.send(prediction)
        except StopIteration as finished:
            return _recording(finished.value, request, tuple(openings))


def _recording(generation: Generation, request: Request, openings: tuple[tuple[Ints, Floats], ...]) -> Recording:
    end = first_match(generation.tokens, request.stop.patterns)
    length = request.setting.gen_length
    return Recording(length, request.setting.block_length, length if end is None else end, end is not None, openings)


def replay(recording: Recording, rule: StopRule) -> Outcome:
    """Predict the length at every block's first forward as the sampler does (ODB-dLLM section 3.2)."""
    size = recording.block_length
    end = horizon = recording.gen_length
    lengths = []
    for index, (tokens, confidence) in enumerate(recording.openings):
        start = index * size
        if start >= end:
            break
        found = first_predicted(tokens[: end - start], confidence[: end - start], rule, horizon)
        if found is not None:
            horizon = (found + size) // size * size
            end = min(end, start + horizon)
        lengths.append(end)
    return Outcome(float(np.mean(lengths)), end < recording.answer)


def really_cut(recording: Recording, tokens: list[int], rule: StopRule) -> bool:
    """Whether a real run's response (its canvas at the end) stops short of an end that the reference reached.

    A shorter answer with an end of its own is not cut.
    """
    return len(tokens) < recording.answer and first_match(tokens, rule.patterns) is None
