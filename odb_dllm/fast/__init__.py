"""Which engine answers for a model, and the fast one: joined weights, fused kernels, pools that stay, CUDA graphs.

- ``engine``: which way each request goes
- ``bucketed``: forwards of few tokens, in static buffers and graphs
- ``exact``: forwards of many tokens, at their exact sizes
- ``network``, ``weights``: the transformer over flat batches
- ``graphs``, ``pools``: what outlives a generation
"""

import logging
from dataclasses import replace

from odb_dllm.engine import Engine
from odb_dllm.errors import InputError
from odb_dllm.fast.engine import FastEngine
from odb_dllm.fast.network import refusal
from odb_dllm.kernels.dispatch import FAST_DTYPES
from odb_dllm.models.loading import DiffusionModel

__all__ = ["FastEngine", "make_engine"]
logger = logging.getLogger(__name__)


def make_engine(model: DiffusionModel) -> Engine:
    """The engine that ``model.engine`` asks for: plain, fast, or auto, which is fast on CUDA where that can be.

    A model has one fast engine, which stays with it: its graphs and pools serve one generation after the other.

    Raises:
        InputError: ``fast`` for a network that it cannot run.
    """
    if model.engine == "plain" or (model.engine == "auto" and not _suits(model)):
        return Engine(model)
    if why := refusal(model.network):
        raise InputError(f"engine=fast cannot run {model.name}: {why}; engine=plain can.")
    if model.fast_engine is None:  # with a twin of the model, so that neither keeps the other alive
        model.fast_engine = FastEngine(replace(model))
    return model.fast_engine


def _suits(model: DiffusionModel) -> bool:
    if model.device.type != "cuda" or model.dtype not in FAST_DTYPES:
        return False
    if why := refusal(model.network):
        logger.warning("%s runs on the plain engine: %s.", model.name, why)
        return False
    return True
