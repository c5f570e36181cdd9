"""The choice of tokens: the lowest of the most probable ids that may be chosen, and the log of its probability."""

import math

import pytest
import torch
from conftest import DEVICE
from kernels import INTERPRETED, NO_TRITON, both, each_dtype, generator, module, random
from torch import Tensor

from odb_dllm.confidence import score_rows

COLUMNS = 20_000  # more than a program takes


def truth_of(logits: Tensor, mask: int, vocabulary: int) -> tuple[list[int], list[float]]:
    tokens, logs = [], []
    for row in logits.double().tolist():
        allowed = [column for column in range(vocabulary) if column != mask]
        token = max(allowed, key=lambda column: (row[column], -column))
        others = math.fsum(math.exp(each - row[token]) for column, each in enumerate(row) if column != token)
        tokens.append(token)
        logs.append(-math.log1p(others))
    return tokens, logs


def check(kernels: str, logits: Tensor, mask: int, vocabulary: int) -> list[int]:
    before = logits.clone()
    found = module(kernels).judge(logits, mask, vocabulary)
    assert logits.equal(before)
    assert found.dtype == torch.int64
    assert found.shape == (4, len(logits))
    token, log_confidence, score, finite = found
    assert score.equal(log_confidence)
    assert finite.eq(1).all()
    tokens, logs = truth_of(logits, mask, vocabulary)
    assert token.tolist() == tokens
    truth = torch.tensor(logs, dtype=torch.float64, device=logits.device)
    torch.testing.assert_close(log_confidence.view(torch.float64), truth, rtol=1e-5, atol=0)
    return tokens


@both
@each_dtype
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (3, 67), (2, COLUMNS), (1, 8192), (2, 8193)])
def test_judge(kernels: str, dtype: torch.dtype, rows: int, columns: int) -> None:
    logits = 4 * random(generator(dtype, rows, columns), rows, columns, dtype=dtype)
    check(kernels, logits, mask=columns - 1, vocabulary=columns)
    check(kernels, logits, mask=0, vocabulary=columns - columns // 3)


# Triton's interpreter would take minutes for so many programs.
@pytest.mark.parametrize("kernels", ["plain"] if NO_TRITON or INTERPRETED else ["plain", "fused"])
def test_more_rows_than_a_grid_has_in_its_second_dimension(kernels: str) -> None:
    check(kernels, random(generator("rows"), 65_536, 2), mask=1, vocabulary=2)


@both
def test_a_part_of_wider_rows(kernels: str) -> None:
    """As ranks join the columns of a vocabulary that does not divide."""
    check(kernels, random(generator("wider"), 3, 4096 + 2)[:, :4096], mask=0, vocabulary=4096)


@both
def test_of_equal_logits_the_lowest_id(kernels: str) -> None:
    logits = random(generator("ties"), 6, COLUMNS, dtype=torch.bfloat16)
    places = [[5, 6], [5, 19_999], [8191, 8192], [100, 9000, 16_500], [9000, 9001, 18_000], [3, 4, 5]]
    for row, columns in zip(logits, places, strict=True):
        row[columns] = 9.0
    assert check(kernels, logits, mask=3, vocabulary=COLUMNS) == [5, 5, 8191, 100, 9000, 4]
    assert check(kernels, torch.zeros(1, COLUMNS, device=DEVICE), mask=0, vocabulary=COLUMNS) == [1]


@both
@pytest.mark.parametrize("mask", [0, 2, 8192, 17_000, COLUMNS - 1])
def test_the_mask_and_ids_past_the_vocabulary_count_but_are_never_chosen(kernels: str, mask: int) -> None:
    logits = random(generator(mask), 4, COLUMNS, dtype=torch.bfloat16)
    logits[:, mask] = torch.tensor([8.0, 12.0, 30.0, 5.0])
    logits[1:, 19_500] = torch.tensor([12.5, 3.0, 40.0])
    check(kernels, logits, mask, vocabulary=19_000)


@both
@pytest.mark.parametrize("peak", [15.0, 30.0, 60.0, 80.0])
def test_confidences_near_1_keep_their_order(kernels: str, peak: float) -> None:
    logits = random(generator(peak), 3, COLUMNS)
    logits[range(3), [7, 8500, 19_990]] = peak
    check(kernels, logits, mask=4, vocabulary=COLUMNS)


@both
@pytest.mark.parametrize("ahead", [1e-6, 0.5, 20.0, 200.0])
def test_a_token_far_behind_the_mask(kernels: str, ahead: float) -> None:
    logits = random(generator(ahead), 2, 9000)
    logits[:, 4] = logits.amax(dim=-1) + ahead
    check(kernels, logits, mask=4, vocabulary=8999)


@both
def test_logits_of_minus_infinity_are_tokens_left_out(kernels: str) -> None:
    logits = random(generator("left out"), 3, COLUMNS)
    logits[0, : COLUMNS - 3] = -math.inf  # whole parts of the row
    logits[1, 300:] = -math.inf
    logits[2, ::2] = -math.inf
    _, _, _, finite = found = module(kernels).judge(logits, 1, COLUMNS)
    tokens, logs = truth_of(logits, 1, COLUMNS)
    assert finite.eq(1).all()
    assert found[0].tolist() == tokens
    torch.testing.assert_close(found[1].view(torch.float64).cpu(), torch.tensor(logs, dtype=torch.float64))


@both
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.nan])
@pytest.mark.parametrize("column", [0, 2, 8192, 19_999])
def test_rows_that_are_not_finite_say_so(kernels: str, broken: float, column: int) -> None:
    logits = random(generator(broken, column), 4, COLUMNS)
    logits[1, column] = broken
    logits[2] = broken
    token, _, _, finite = module(kernels).judge(logits, 2, COLUMNS - 1)
    assert finite.tolist() == [1, 0, 0, 1]
    assert ((token >= 0) & (token < COLUMNS - 1)).all()
    nothing = module(kernels).judge(torch.full_like(logits, -math.inf), 2, COLUMNS)
    assert nothing[3].tolist() == [0] * 4


@both
def test_it_says_what_score_rows_says(kernels: str) -> None:
    logits = 3 * random(generator("eager"), 5, COLUMNS, dtype=torch.bfloat16)
    token, log_confidence, finite = score_rows(logits.clone(), mask=7, vocabulary=19_000)
    found = module(kernels).judge(logits, 7, 19_000)
    assert found[0].equal(token)
    torch.testing.assert_close(found[1].view(torch.float64), log_confidence, rtol=2e-6, atol=0)
    assert found[3].equal(finite.long())


@both
def test_no_rows(kernels: str) -> None:
    assert module(kernels).judge(torch.empty(0, 99, device=DEVICE), 1, 99).shape == (4, 0)
