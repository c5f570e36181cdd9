"""What the kernels' tests share: the implementations under test, and how near to the truth they must be."""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from zlib import crc32

import pytest
import torch
from conftest import DEVICE
from packaging.version import Version
from torch import Tensor


def version_of(package: str) -> Version:
    """0 where it is not installed."""
    try:
        return Version(version(package))
    except PackageNotFoundError:
        return Version("0")


TRITON = version_of("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Why Triton's kernels cannot be tested in this process; "": they can.
NO_TRITON = "triton is not installed" if Version("0") == TRITON else ""
if not NO_TRITON and not INTERPRETED and not DEVICE.startswith("cuda"):
    NO_TRITON = "Triton's kernels need ODB_DLLM_TEST_DEVICE=cuda, or TRITON_INTERPRET=1"

# Where this process has no use for Triton's, another one tests them in the interpreter (test_kernels.py).
both = pytest.mark.parametrize("kernels", ["plain"] if NO_TRITON else ["plain", "fused"])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)


def module(name: str) -> ModuleType:
    """The implementation: ``plain`` or ``fused``."""
    return import_module(f"odb_dllm.kernels.{name}")


def generator(*seed: object) -> torch.Generator:
    """Numbers that depend on the test's parameters alone."""
    return torch.Generator().manual_seed(crc32(repr(seed).encode()))


def random(seed: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seed).to(DEVICE, dtype)


def ints(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def assert_near(found: Tensor, truth: Tensor, roundings: float = 1.0, scale: float = 0.1) -> None:
    """Within so many roundings of float64 ``truth`` to the dtype of ``found``, or of numbers of size ``scale``."""
    step = roundings * torch.finfo(found.dtype).eps * (2 if INTERPRETED else 1)  # the interpreter truncates
    torch.testing.assert_close(found.double(), truth, rtol=step, atol=step * scale)
