"""odb_dllm: evaluation harness and inference engine for masked-diffusion language models."""

from odb_dllm.api import generate
from odb_dllm.contract import Event
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation, NonFiniteLogits
from odb_dllm.models.loading import DiffusionModel, load_model
from odb_dllm.presets import get_setting
from odb_dllm.settings import Setting
from odb_dllm.version import __version__

__all__ = [
    "DiffusionModel",
    "Event",
    "Generation",
    "InputError",
    "NonFiniteLogits",
    "Setting",
    "__version__",
    "generate",
    "get_setting",
    "load_model",
]
