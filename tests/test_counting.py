"""Counted work: against torch's own counter of operations, and by hand for LLaDA-8B."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from odb_dllm import DiffusionModel
from odb_dllm.contract import Pass
from odb_dllm.counting import Shape, Work, forward_work, pass_work

LLADA_8B = Shape(4096, 32, 32, 128, 32, 12288, 126464)
DREAM_7B = Shape(3584, 28, 4, 128, 28, 18944, 152064)


@pytest.mark.parametrize(("fed", "read"), [(1, 1), (40, 32), (200, 7)])
def test_operations_are_those_that_torch_counts(tiny: DiffusionModel, fed: int, read: int) -> None:
    # The fused attention of the CPU is not among what torch counts.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hidden = tiny.network(torch.zeros(1, fed, dtype=torch.long), torch.arange(fed))
        tiny.network.logits(hidden[0, :read])
    work = forward_work(Shape.of(tiny.network.config), "float32", fed=fed, seen=fed, cached=0, read=read)
    assert work.flops == counter.get_total_flops()


@pytest.mark.parametrize(("shape", "parameters"), [(LLADA_8B, 8.0e9), (DREAM_7B, 7.6e9)])
def test_one_token_reads_the_weights_and_little_else(shape: Shape, parameters: float) -> None:
    work = forward_work(shape, "bfloat16", fed=1, seen=1, cached=0, read=1)
    embedding = shape.d_model * shape.vocab_size  # of which one row is read
    assert work.bytes == pytest.approx(2 * (parameters - embedding), rel=0.02)
    assert work.intensity == pytest.approx(1.0, rel=0.01)  # two operations per weight of two bytes


def test_a_batch_shares_the_weights_alone() -> None:
    def work(sequences: int) -> Work:
        return forward_work(LLADA_8B, "bfloat16", fed=32, seen=1232, cached=1200, read=32, sequences=sequences)

    one, eight = work(1), work(8)
    assert one.flops == eight.flops
    weights = 2 * (LLADA_8B.n_layers * LLADA_8B.products + 4096 * 126464)
    assert one.bytes - eight.bytes == pytest.approx(weights * 7 / 8)
    assert (one + eight).flops == 2 * one.flops


def test_a_branch_sees_the_cache_and_one_block() -> None:
    plain = pass_work(LLADA_8B, "bfloat16", Pass("step", 32, 1200, 32, 0, 256, 3, 1), 32)
    branched = pass_work(LLADA_8B, "bfloat16", Pass("step", 128, 1200, 32, 0, 256, 3, 4, 2, 0), 32)
    head = 2 * 4096 * 126464 * 32
    assert branched.flops - head == 4 * (plain.flops - head)
    assert (
        plain.intensity
        < 206
        < pass_work(LLADA_8B, "bfloat16", Pass("refresh", 2024, 0, 32, 0, 1024, 3, 1), 32).intensity
    )
