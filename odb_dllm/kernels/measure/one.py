"""Measure one kernel: a line for each of its shapes."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from odb_dllm.kernels.measure.cases import KERNELS, Case, Model, in_float32
from odb_dllm.kernels.measure.timing import microseconds

WRONG = 0.02  # relative error that no rounding explains


def measure(kernel: str, model: Model, sweep: bool) -> int:
    """Print speed and error at each shape, with ``sweep`` also the fastest ways; returns how many shapes failed."""
    build, shapes = KERNELS[kernel]
    failed = 0
    for shape in shapes:
        name = f"{kernel:<13}{' '.join(map(str, shape)):<11}"
        try:
            case = build(model, *shape)
            _say(f"{name} {_speed(case)}  {_errors(case)}")
            if sweep:
                _sweep(name, case)
            if shape == shapes[0]:
                _say(f"{name} in float32: {_errors(build(in_float32(model), *shape))}")
        except Exception as error:  # the others go on
            failed += 1
            _say(f"{name} FAILED: {_short(error)}")
    return failed


def compile_ways(kernel: str, model: Model, share: int, shares: int) -> None:
    """Run a share of the ways once, so that Triton's cache on disk holds them."""
    build, shapes = KERNELS[kernel]
    for shape in shapes:
        case = build(model, *shape)
        for way in case.ways[share::shares]:
            try:
                case.fused(0, **way)
            except Exception:  # it is reported where it is measured
                continue


def _speed(case: Case) -> str:
    quick = microseconds(case.fused)
    try:
        eager = microseconds(case.eager)
        beside = f"eager {eager:8.1f} us, {eager / quick:4.1f}x"
    except Exception as error:
        beside = f"eager failed: {_short(error)}"
    return f"{_rate(case, quick)}  {beside}"


def _rate(case: Case, taken: float) -> str:
    return f"{taken:8.1f} us {case.bytes / taken / 1e3:6.0f} GB/s"


def _errors(case: Case) -> str:
    truth = case.truth()
    quick, eager = (_error(case.found(answer(0)), truth) for answer in (case.fused, case.eager))
    return f"error {quick:.1e}, eager {eager:.1e}"


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.view_as(found)).norm() / truth.norm())


def _sweep(name: str, case: Case) -> None:
    """Print the three fastest ways, and those that fail or are wrong."""
    truth = case.truth()
    taken: list[tuple[float, str]] = []
    for way in case.ways:
        text = ", ".join(f"{key}={value}" for key, value in way.items())
        call: Any = partial(case.fused, **way)
        try:
            error = _error(case.found(call(0)), truth)
            if error < WRONG:
                taken.append((microseconds(call), text))
            else:
                _say(f"{name}   WRONG, error {error:.1e}: {text}")
        except Exception as failure:
            _say(f"{name}   failed: {text}: {_short(failure)}")
    for quick, text in sorted(taken)[:3]:
        _say(f"{name}   {_rate(case, quick)}  {text}")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _say(text: str) -> None:
    torch.cuda.empty_cache()  # what the last graph held
    print(text, flush=True)
