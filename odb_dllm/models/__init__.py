"""Model families by the ``model_type`` of their config.json.

A family is a class with ``from_config(config) -> nn.Module``, a ``forward`` and ``logits`` as LLaDA's, ``shift``
(how many rows before a position its prediction is read) and ``tempered`` (whether the confidence of a drawn token is
that in the distribution it was drawn from), and a ``config`` that gives the sizes. Other packages add theirs through
the entry point group ``odb_dllm.models``, named by model_type. ``docs/adding_a_model.md`` shows one.
"""

import logging
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import torch

from odb_dllm.errors import InputError, nearest
from odb_dllm.models.config import ModelConfig
from odb_dllm.models.dream import Dream
from odb_dllm.models.llada import LLaDA

logger = logging.getLogger(__name__)
FAMILIES: dict[str, Any] = {"llada": LLaDA, "Dream": Dream}


@cache
def all_families() -> dict[str, Any]:
    """Every known family: ours, then those of installed packages."""
    found = {}
    for point in entry_points(group="odb_dllm.models"):
        try:
            found[point.name] = point.load()
        except Exception as error:  # another package's fault must not take our families away
            logger.warning("Model family %r of another package could not be loaded: %r.", point.name, error)
    return {**found, **FAMILIES}


def family_class(model_type: object) -> Any:
    """The class for a config.json's ``model_type``; ``InputError`` lists those there are."""
    families = all_families()
    if not isinstance(model_type, str) or model_type not in families:
        raise InputError(f"config.json: unknown model_type {model_type!r}: {nearest(str(model_type), list(families))}.")
    return families[model_type]


def sizes(config: dict[str, Any]) -> ModelConfig:
    """A model's sizes from the dict in its config.json; ``InputError`` as ``family_class`` and the family say."""
    with torch.device("meta"):
        made: ModelConfig = family_class(config.get("model_type")).from_config(config).config
    return made
