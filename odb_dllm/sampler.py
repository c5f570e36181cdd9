"""The one sampler: block by block from left to right, a refresh and then steps until the block is complete.

It is a generator: it yields a ``Forward``, is sent the ``Prediction`` and returns a ``Generation``. Which tokens are
fed, what is cached, which positions are unmasked and where the canvas ends follows from the ``Setting`` alone.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

import numpy as np

from odb_dllm import speculation as spec
from odb_dllm.canvas import (
    Canvas,
    Opened,
    Watcher,
    accept,
    ask,
    begin,
    extend,
    opens_one,
    plain_step,
    stops_at,
    unfinished,
)
from odb_dllm.contract import Floats, Forward, Ints, Prediction, Range
from odb_dllm.costs import Budget, StepCosts
from odb_dllm.drafting import MOST, Drafter
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation, NonFiniteLogits
from odb_dllm.settings import Setting
from odb_dllm.speculative import exact, speculative
from odb_dllm.stopping import StopRule
from odb_dllm.unmasking import RULES, Moment, schedule, top

Decoder = Callable[[Canvas, Range, Opened], Generator[Forward, Prediction, None]]  # of one block
__all__ = ["Generation", "NonFiniteLogits", "Watcher", "capacity", "sample"]


def sample(
    prompt: Ints,
    setting: Setting,
    stop: StopRule,
    mask: int,
    *,
    shift: int = 0,
    sequence: int = 0,
    shared: int = 0,
    watch: Watcher | None = None,
    budget: Budget | None = None,
) -> Generator[Forward, Prediction, Generation]:
    """Generate ``setting.gen_length`` tokens after ``prompt`` (int64 [P]).

    Args:
        mask: id of the mask token.
        shift: rows before a position at which the model predicts it.
        sequence: with the seed, decides the noise of this generation.
        shared: how many first tokens of the prompt others begin with too, for ``prefix=shared``.
        watch: called with an ``Event`` after each forward.
        budget: for ``speculation=auto``, what a step costs now; the setting's own ``costs`` win. None: a step alone on
            an H200.

    Raises:
        NonFiniteLogits: a prediction that was needed is NaN or infinite.
    """
    tokens = np.concatenate([prompt, np.full(setting.gen_length, mask, np.int64)])
    end = len(prompt) + min(setting.grow or setting.gen_length, setting.gen_length)
    canvas = Canvas(setting, stop, mask, tokens, len(prompt), end, setting.gen_length, sequence, watch)
    canvas.shift = shift
    if setting.prefix == "shared":  # where predictions are shifted, the first one is read within the prompt
        canvas.shared = max(0, min(shared, len(prompt) - shift))
    decoders: dict[str, Decoder] = {"none": _plain, "exact": exact, "auto": _auto(setting, budget)}
    decode = decoders.get(setting.speculation, speculative)
    decode_length = None
    start = canvas.prompt
    while start < extend(canvas, start) and decode_length is None:
        block = (start, start + setting.span)
        opened = yield from begin(canvas, block)
        if opened is None:
            block = (start - setting.span, start)
        else:
            yield from decode(canvas, block, opened)
        decode_length = _exit(canvas, block)
        start = block[1]
    response = tokens[canvas.prompt : canvas.end].tolist()
    return Generation(
        tokens=response,
        nfe=len(canvas.fed),
        refreshes=sum(each.kind == "refresh" for each in canvas.passes),
        forward_lengths=canvas.fed,
        predicted_lengths=canvas.predicted,
        average_predicted_length=float(np.mean(canvas.predicted)) if canvas.predicted else None,
        decode_length=len(response) if decode_length is None else decode_length,
        passes=canvas.passes,
    )


def capacity(setting: Setting, prompt: int, shift: int = 0) -> int:
    """Cache slots that a generation needs: its canvas, and room for the branches of a step."""
    if setting.cache == "none":
        return 0
    block = setting.span
    branches = 0
    if setting.speculation != "none":
        branches = spec.fed_tokens(block, 0, spec.JUMP)
    if setting.speculation == "auto":
        branches = MOST * block
    if setting.speculation == "jump-share":
        branches = max(branches, spec.fed_tokens(block, min(block, (1 + shift) * max(spec.SWITCH_AT)), spec.SHARE))
    return prompt + setting.gen_length + branches


def _auto(setting: Setting, budget: Budget | None) -> Decoder:
    """Lossless speculation, with drafts by their cost."""
    budget = budget or Budget()
    if setting.costs is not None:
        budget = replace(budget, costs=StepCosts(setting.costs))
    return partial(exact, drafter=Drafter(budget, setting.span))


def _plain(canvas: Canvas, block: Range, first: Opened) -> Generator[Forward, Prediction, None]:
    """Unmask by the setting's rule, forward after forward."""
    setting = canvas.setting
    rule = RULES[setting.rule] if isinstance(setting.rule, str) else setting.rule
    assert rule is not None
    forward, prediction = first
    step, masks = 0, int(canvas.is_masked(block).sum())
    opened = int(opens_one(canvas, forward))
    while True:
        open_ = block[0] + np.flatnonzero(canvas.is_masked(block))
        share = float(np.mean(forward.tokens == canvas.mask))
        moment = Moment(setting, step, masks, forward.kind == "refresh", share, opened)
        score = _scores(canvas, prediction)
        taken = np.arange(len(score)) == 0 if opens_one(canvas, forward) else np.asarray(rule(score, moment), bool)
        if taken.shape != score.shape:
            raise InputError(f"The rule must say True or False for each of {len(score)} masks, not {taken.shape}.")
        if not taken.any() and rule is not schedule:  # whatever another rule says, each forward decides something
            taken = top(score, 1)
        accept(canvas, block, forward, open_[taken], prediction.token[taken], prediction.confidence[taken])
        if not unfinished(canvas, block):
            return
        forward = plain_step(canvas, block)
        prediction = yield from ask(canvas, forward)
        step += 1


def _scores(canvas: Canvas, prediction: Prediction) -> Floats:
    """What the rule ranks a block's masks by, [m]: the prediction's score, or noise in part or alone."""
    setting, rank = canvas.setting, prediction.rank
    if setting.remasking == "random":
        return _noise(canvas, len(rank))
    if setting.alg_temp == 0:
        return rank
    # The highest of these are a draw without replacement from softmax(value / alg_temp).
    value = np.exp(rank) if setting.score == "confidence" else rank
    uniform = _noise(canvas, len(rank)).clip(min=np.finfo(float).tiny)
    return value / setting.alg_temp - np.log(-np.log(uniform))


def _exit(canvas: Canvas, block: Range) -> int | None:
    """The decode length where a complete block holds a stop pattern; the rest of the canvas becomes EOS."""
    offset = stops_at(canvas, block)
    if offset is None:
        return None
    canvas.tokens[block[1] :] = canvas.stop.eos[0]
    return block[0] - canvas.prompt + offset + 1


def _noise(canvas: Canvas, count: int) -> Floats:
    """Uniform noise for random remasking, keyed by seed, sequence and forward."""
    key = np.array([canvas.setting.seed % 2**64, canvas.sequence % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=len(canvas.fed))).random(count)
