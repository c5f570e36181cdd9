"""Generations under way together against each by itself, on the model's own engine: tokens, and log confidences."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import NamedTuple, NoReturn

import numpy as np
from tqdm import tqdm

from odb_dllm.certify.divergence import decision, digest, divergence_after
from odb_dllm.certify.document import Batch, Certificate, Comparison
from odb_dllm.certify.runs import generations, progress, short
from odb_dllm.contract import Event, Forward, Prediction
from odb_dllm.engine import Asked, Engine, Pool
from odb_dllm.fast import FastEngine
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.scheduler import Request
from odb_dllm.tensor_parallel.leader import engine_of


class Heard(NamedTuple):
    """One forward of a generation: what was asked, what was answered, and what came of it."""

    asked: int  # a digest
    prediction: Prediction
    decided: tuple[object, ...]


class Recorder(Engine):
    """Answers as another engine does, and keeps the answers by generation.

    An engine does not know whose requests it answers. But the scheduler hands the answers on in the requests' order,
    and each makes its generation tell of one event (``watch``) before the next is handed on.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.model)
        self._engine = engine
        self._latest: deque[tuple[Forward, Prediction]] = deque()
        self.heard: dict[int, list[Heard]] = {}  # by the generation's sequence

    def pool(self, rows: int, slots: int) -> Pool:
        """As the other engine's."""
        return self._engine.pool(rows, slots)

    def clock(self) -> float:
        """As the other engine's."""
        return self._engine.clock()

    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        """As the other engine's."""
        predictions = self._engine.answer(requests)
        self._latest = deque(zip((forward for _, forward in requests), predictions, strict=True))
        return predictions

    def watch(self, event: Event) -> None:
        """To be called with each event of the generations that are answered."""
        forward, prediction = self._latest.popleft()
        if event.forward == 0:  # where memory ran out, generations start again
            self.heard[event.sequence] = []
        self.heard[event.sequence].append(Heard(digest(forward), prediction, decision(event)))

    def take(self, sequence: int) -> list[Heard]:
        """All forwards of a generation, which are forgotten."""
        return self.heard.pop(sequence)


def compare(model: DiffusionModel, requests: Sequence[Sequence[Request]], certificate: Certificate) -> None:
    """Answer each setting's requests one at a time, and then ``certificate.comparison.batch_size`` at a time.

    Requests of one setting differ in ``sequence``, which is their index.
    """
    size = certificate.comparison.batch_size
    assert size is not None
    engine = engine_of(model)
    certificate.machine["engine"] = "fast" if isinstance(engine, FastEngine) else "plain"
    with progress(certificate, sides=2) as bar:
        for asked in requests:
            _compare(model, engine, asked, size, certificate, bar)
    certificate.capture_seconds = model.capture_seconds


def _compare(
    model: DiffusionModel,
    engine: Engine,
    asked: Sequence[Request],
    size: int,
    certificate: Certificate,
    bar: "tqdm[NoReturn]",
) -> None:
    alone, together = Recorder(engine), Recorder(engine)
    for count in (1, size):
        list(generations(model, [short(each) for each in asked[:count]], count, engine=engine))
    made = {}
    for index, generation in generations(model, asked, 1, engine=alone, on_event=alone.watch):
        made[index] = generation
        bar.update()
    for index, generation in generations(model, asked, size, engine=together, on_event=together.watch):
        heard = alone.take(index), together.take(index)
        certificate.results.append(_judge(model, asked[index], (made.pop(index), generation), heard))
        bar.set_postfix_str(certificate.pace(), refresh=False)
        bar.update()
    certificate.results[-len(asked) :] = sorted(certificate.results[-len(asked) :], key=lambda each: each.prompt)


def _judge(
    model: DiffusionModel, request: Request, made: tuple[Generation, Generation], heard: tuple[list[Heard], list[Heard]]
) -> Comparison:
    """Compare a generation by itself with the one in a batch, forward by forward while both ask the same."""
    # Equal decisions may be followed by other drafts: then the last forward that both ask for shows what parts them.
    pairs = list(takewhile(lambda pair: pair[0].asked == pair[1].asked, zip(*heard, strict=False)))
    parted = next((i for i, (one, other) in enumerate(pairs) if one.decided != other.decided), len(pairs) - 1)
    compared = pairs[: parted + 1]
    divergence = None
    if made[0].tokens != made[1].tokens and compared:
        before = [one.prediction for one, _ in compared[:-1]]
        divergence = divergence_after(model, request, before, (compared[-1][0].prediction, compared[-1][1].prediction))
    batch = Batch(
        size=sum(made[1].batches) / len(made[1].batches),
        forwards=len(compared),
        deviation=max((_apart(one.prediction, other.prediction) for one, other in compared), default=0.0),
    )
    comparison = Comparison.of(request.setting.name, request.sequence, *made, divergence)
    return replace(comparison, seconds=(made[0].seconds, made[1].seconds), batch=batch)


def _apart(one: Prediction, other: Prediction) -> float:
    return float(np.abs(one.log_confidence - other.log_confidence).max(initial=0.0))
