"""Which implementation answers: Triton's kernels where they can run, plain torch everywhere else."""

import logging
import os
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from odb_dllm.kernels import plain

logger = logging.getLogger(__name__)
FAST_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@cache
def available() -> tuple[bool, str]:
    """Whether Triton's kernels can run on CUDA tensors here, and where not, why (one sentence)."""
    try:
        import_module("triton")
    except Exception as error:  # also an installation that is broken in its own way
        return False, f"triton cannot be imported ({type(error).__name__}: {error})."
    if not (torch.cuda.is_available() or interpreted()):
        return False, "there is no CUDA device."
    return True, ""


def interpreted() -> bool:
    """Whether Triton runs its kernels on the CPU, for tests (its own switch ``TRITON_INTERPRET``)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def implementation(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose functions take tensors of this device and dtype."""
    if dtype not in FAST_DTYPES or not (device.type == "cuda" or interpreted()):
        return plain
    found, why = available()
    if not found:
        _note(why)
        return plain
    from odb_dllm.kernels import fused

    return fused


@cache  # once for each reason
def _note(why: str) -> None:
    logger.warning("Running without fused kernels, at the speed of plain torch: %s", why)
