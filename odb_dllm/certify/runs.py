"""The generations that are compared, and the line that tells how far they are."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from tqdm import tqdm

from odb_dllm.certify.document import Certificate
from odb_dllm.engine import Engine
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.sampler import Watcher
from odb_dllm.scheduler import Request, run


def generations(
    model: DiffusionModel,
    requests: Sequence[Request],
    batch_size: int = 1,
    *,
    engine: Engine | None = None,
    on_event: Watcher | None = None,
) -> Iterator[tuple[int, Generation]]:
    """As ``scheduler.run``; ``InputError`` where the model's logits are no numbers."""
    for index, made in run(model, requests, batch_size=batch_size, on_event=on_event, engine=engine):
        if not isinstance(made, Generation):
            raise InputError(f"{model.name} cannot be certified: {made}")
        yield index, made


def short(request: Request) -> Request:
    """A request for one block, to be run before others: what a first run prepares is in nobody's time."""
    setting = request.setting
    return replace(request, setting=setting.override(gen_length=setting.span, steps=None))


def progress(certificate: Certificate, sides: int = 1) -> "tqdm[NoReturn]":
    """A line that counts so many times the comparisons of a certificate."""
    return tqdm(total=sides * certificate.settings * certificate.prompts, desc="Comparing", file=sys.stderr)
