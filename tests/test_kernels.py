"""The kernels between a layer's matrix products, against their definitions in float64; and which of them answers."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import DEVICE
from kernels import (
    INTERPRETED,
    NO_TRITON,
    TRITON,
    assert_near,
    both,
    each_dtype,
    generator,
    ints,
    module,
    random,
    version_of,
)
from packaging.version import Version
from torch import Tensor

from odb_dllm import kernels as public
from odb_dllm.kernels import dispatch, plain
from odb_dllm.models.layers import RMSNorm, rotary_table, rotate

HERE = Path(__file__).parent


@both
@each_dtype
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 48), (5, 4096), (2, 3584), (0, 64)])
@pytest.mark.parametrize("adds", [True, False])
def test_add_rms_norm(kernels: str, dtype: torch.dtype, rows: int, width: int, adds: bool) -> None:
    seed = generator(dtype, rows, width, adds)
    x, delta = random(seed, rows, width, dtype=dtype), random(seed, rows, width, dtype=dtype)
    weight = random(seed, width, dtype=dtype)
    before = x.clone()
    summed, normed = module(kernels).add_rms_norm(x, delta if adds else None, weight, 1e-5)
    assert x.equal(before)
    assert summed.dtype == normed.dtype == dtype
    assert_near(summed, x.double() + delta.double() if adds else x.double())
    wide = summed.double()
    truth = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert_near(normed, truth, roundings=2 if dtype != torch.float32 else 8)


@each_dtype
def test_plain_norm_is_the_models(dtype: torch.dtype) -> None:
    seed = generator(dtype)
    x, delta = random(seed, 7, 128, dtype=dtype), random(seed, 7, 128, dtype=dtype)
    norm = RMSNorm(128, 1e-6).to(DEVICE, dtype)
    norm.weight.data = random(seed, 128, dtype=dtype)
    summed, normed = plain.add_rms_norm(x, delta, norm.weight, 1e-6)
    assert summed.equal(x + delta)
    assert normed.equal(norm(x + delta))


@both
@each_dtype
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 37), (2, 1500), (0, 8)])
def test_gated(kernels: str, dtype: torch.dtype, rows: int, width: int) -> None:
    gate_up = 4 * random(generator(dtype, rows, width), rows, 2 * width, dtype=dtype)
    found = module(kernels).gated(gate_up)
    gate, up = gate_up.double().chunk(2, dim=-1)
    assert_near(found, gate * gate.sigmoid() * up, roundings=1.5 if dtype != torch.float32 else 8)


@both
def test_gated_at_the_ends(kernels: str) -> None:
    gate = torch.tensor([[-200.0, -90.0, -0.0, 0.0, 200.0, 1e30]], device=DEVICE)
    found = module(kernels).gated(torch.cat([gate, torch.full_like(gate, 2.0)], dim=-1))
    torch.testing.assert_close(found, 2 * gate.clamp(min=0), rtol=1e-6, atol=1e-30)


@each_dtype
def test_plain_gate_is_the_models(dtype: torch.dtype) -> None:
    gate_up = random(generator(dtype), 5, 2 * 64, dtype=dtype)
    gate, up = gate_up.chunk(2, dim=-1)
    assert plain.gated(gate_up).equal(F.silu(gate) * up)


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
def test_fused_kernels_round_where_plain_torch_does() -> None:
    seed = generator()
    x, delta, gate_up = (random(seed, 8, 512, dtype=torch.float16) for _ in range(3))
    weight = random(seed, 512, dtype=torch.float16)
    for name, arguments in (("gated", (gate_up,)), ("add_rms_norm", (x, delta, weight, 1e-5))):
        fused, eager = (getattr(module(kernels), name)(*arguments) for kernels in ("fused", "plain"))
        for found, truth in zip(fused, eager, strict=True):
            assert (found == truth).float().mean() > 0.99  # not all: sums and exponentials may differ in float32


def rotated(x: Tensor, angle: float, frequencies: Tensor) -> Tensor:
    """Half-split pairs as complex numbers, turned; float64."""
    half = len(frequencies)
    pairs = torch.complex(x.double()[..., :half], x.double()[..., half:])
    turned = pairs * torch.polar(torch.ones_like(frequencies), angle * frequencies)
    return torch.cat([turned.real, turned.imag], dim=-1)


@both
@each_dtype
@pytest.mark.parametrize(("heads", "kv_heads", "head"), [(4, 4, 32), (28, 4, 16), (3, 1, 24)])
def test_rotate_store(kernels: str, dtype: torch.dtype, heads: int, kv_heads: int, head: int) -> None:
    seed = generator(dtype, heads, head)
    tokens, rows, slots = 9, [2, 2, 2, 2, 0, 0, 0, 0, 1], [5, 7, 6, -1, 0, 10, -1, -1, 3]
    positions = [40, 41, 3, 0, 12, 0, 0, 0, 99]
    qkv = random(seed, tokens, (heads + 2 * kv_heads) * head, dtype=dtype)
    keys, values = (random(seed, 3, kv_heads, 11, head, dtype=dtype) for _ in range(2))
    cos, sin = (table[0] for table in rotary_table(torch.arange(100, device=DEVICE), head, 10000.0))
    truth_keys, truth_values = keys.double(), values.double()
    queries = module(kernels).rotate_store(qkv, cos, sin, ints(positions), ints(rows), ints(slots), keys, values)
    assert queries.shape == (tokens, heads, head)
    assert queries.dtype == dtype

    def roundings(dtype: torch.dtype) -> int:  # the table's angles are float32
        return 64 if dtype == torch.float32 else 1

    frequencies = 10000.0 ** -(torch.arange(0, head, 2, dtype=torch.float64, device=DEVICE) / head)
    parts = qkv.unflatten(-1, (-1, head))
    for token in range(tokens):
        turned = rotated(parts[token, : heads + kv_heads], positions[token], frequencies)
        assert_near(queries[token], turned[:heads], roundings(dtype), scale=4.0)
        if slots[token] >= 0:
            at = rows[token], slice(None), slots[token]
            truth_keys[at] = turned[heads:]
            truth_values[at] = parts[token, heads + kv_heads :].double()
    assert_near(keys, truth_keys, roundings(dtype), scale=4.0)
    assert values.double().equal(truth_values)  # also what nobody wrote to


def test_plain_rotation_is_the_models() -> None:
    seed = generator()
    qkv = random(seed, 6, 3 * 32, dtype=torch.bfloat16)
    keys, values = (torch.zeros(1, 1, 8, 32, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    positions = ints([3, 1, 4, 1, 5, 9])
    cos, sin = (table[0] for table in rotary_table(torch.arange(10, device=DEVICE), 32, 10000.0))
    queries = plain.rotate_store(qkv, cos, sin, positions, ints([0] * 6), ints(range(6)), keys, values)
    q, k, _ = (part[None] for part in qkv.split(32, dim=-1))  # [1 head, n, 32]
    table = rotary_table(positions, 32, 10000.0)
    assert queries.transpose(0, 1).equal(rotate(q, *table))
    assert keys[0, :, :6].equal(rotate(k, *table))


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
def test_fused_rotation_rounds_as_plain_torch() -> None:
    seed = generator()
    qkv = random(seed, 6, 3 * 32)
    cos, sin = random(seed, 10, 32), random(seed, 10, 32)
    where = ints([3, 1, 4, 1, 5, 9]), ints([0] * 6), ints([0, 2, 4, 6, -1, 7])
    answers = []
    for kernels in ("plain", "fused"):
        pool = torch.zeros(2, 1, 1, 8, 32, device=DEVICE)
        answers.append((module(kernels).rotate_store(qkv, cos, sin, *where, *pool), pool))
    (queries, pool), (fused_queries, fused_pool) = answers
    assert queries.equal(fused_queries)
    assert pool.equal(fused_pool)


def test_without_triton_plain_torch_answers_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # an import of it fails
    for known in (dispatch.available, dispatch._note):
        known.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            asked = [dispatch.implementation(torch.device("cuda"), torch.bfloat16) for _ in range(3)]
        found, why = public.available()
    finally:
        for known in (dispatch.available, dispatch._note):
            known.cache_clear()
    assert asked == [plain] * 3
    assert not found
    assert "triton cannot be imported" in why
    assert [why in record.getMessage() for record in caplog.records] == [True]


def test_plain_torch_answers_for_float64(caplog: pytest.LogCaptureFixture) -> None:
    assert dispatch.implementation(torch.device("cuda"), torch.float64) is plain
    assert not caplog.records  # nothing is amiss


@pytest.mark.skipif(INTERPRETED, reason="with the interpreter, Triton answers on the CPU")
def test_plain_torch_answers_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    assert dispatch.implementation(torch.device("cpu"), torch.bfloat16) is plain
    assert not caplog.records


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
def test_triton_answers_where_it_can() -> None:
    assert public.available() == (True, "")
    assert dispatch.implementation(torch.device(DEVICE), torch.bfloat16) is module("fused")


@pytest.mark.skipif(Version("0") == TRITON, reason="triton is not installed")
@pytest.mark.skipif(not NO_TRITON, reason="Triton's kernels are tested in this process")
@pytest.mark.skipif(
    Version("3.9") > TRITON and version_of("numpy") >= Version("2.4"),
    reason="the interpreter of triton before 3.9 has no loops with numpy from 2.4 on",
)
def test_triton_in_its_interpreter() -> None:
    files = sorted(map(str, HERE.glob("test_kernels*.py")))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-k", "fused", *files],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert "passed" in run.stdout.splitlines()[-1]
    assert "skipped" not in run.stdout.splitlines()[-1]
