"""Monte-Carlo likelihood against the sum that it estimates."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import small_checkpoint

from odb_dllm import DiffusionModel, NonFiniteLogits, generate
from odb_dllm.likelihood import _draws, log_likelihood


@pytest.fixture(scope="module")
def model(model_of: Any) -> DiffusionModel:
    return model_of(small_checkpoint(5, logit_std=3.0))


def exact(model: DiffusionModel, context: list[int], continuation: list[int]) -> float:
    """The expectation over every mask: k uniform on 1..L, then a uniform choice of k positions."""
    start, length, total = len(context), len(continuation), 0.0
    for k in range(1, length + 1):
        subsets = list(itertools.combinations(range(length), k))
        for subset in subsets:
            tokens = torch.tensor(context + continuation)
            at = start + torch.tensor(subset)
            labels = tokens[at].clone()
            tokens[at] = model.ids.mask
            with torch.inference_mode():
                logits = model.network.logits(model.network(tokens, torch.arange(len(tokens)))[at])
            log_p = torch.log_softmax(logits, -1).gather(1, labels[:, None]).sum()
            total += float(log_p) * length / k / len(subsets) / length
    return total


def test_estimates_converge_on_the_expectation(model: DiffusionModel) -> None:
    context, continuation = [3, 1, 4, 1, 5], [9, 2, 6]
    expected = exact(model, context, continuation)
    estimate, _ = log_likelihood(model, context, continuation, mc_num=4000, check_greedy=False)
    assert estimate == pytest.approx(expected, rel=0.02)
    runs = [log_likelihood(model, context, continuation, seed=seed, check_greedy=False)[0] for seed in range(20)]
    assert np.mean(runs) == pytest.approx(expected, rel=0.05)


def test_one_token_needs_no_luck(model: DiffusionModel) -> None:
    for continuation in ([7], [8]):
        estimate, _ = log_likelihood(model, [1, 2], continuation, mc_num=5, check_greedy=False)
        assert estimate == pytest.approx(exact(model, [1, 2], continuation), rel=1e-9)
    assert log_likelihood(model, [], [7])[0] < 0


def test_weights_that_are_no_numbers_are_said_to_be(model_of: Any) -> None:
    checkpoint = small_checkpoint(5, logit_std=3.0)
    weights = {name: array * np.float32(np.nan) for name, array in checkpoint.weights.items()}
    with pytest.raises(NonFiniteLogits):
        log_likelihood(model_of(replace(checkpoint, weights=weights)), [1], [2, 3], check_greedy=False)


def test_the_same_call_gives_the_same_number(model: DiffusionModel) -> None:
    assert log_likelihood(model, [1, 2], [3, 4, 5]) == log_likelihood(model, [1, 2], [3, 4, 5])
    assert log_likelihood(model, [1, 2], [3, 4, 5])[0] != log_likelihood(model, [1, 2], [3, 4, 5], seed=1)[0]


@pytest.mark.parametrize("length", [1, 2, 5, 16, 40])
def test_the_number_of_masked_tokens_is_spread_evenly(length: int) -> None:
    masks = np.concatenate(list(_draws(length, 128, np.random.default_rng(0))))
    counts = masks.sum(axis=1)
    assert masks.shape == (128, length)
    assert counts.min() >= 1
    assert counts.max() <= length
    if length == 16:  # as many as there are draws in a batch: each count once a batch
        assert (np.bincount(counts, minlength=17)[1:] == 8).all()


def test_greedy_is_what_one_token_a_forward_decodes(model: DiffusionModel) -> None:
    context = [3, 1, 4]
    tokens = generate(model, context, setting="llada_baseline", gen_length=4, block_length=4).tokens
    assert log_likelihood(model, context, tokens, mc_num=1)[1]
    tokens[2] = (tokens[2] + 1) % 200
    assert not log_likelihood(model, context, tokens, mc_num=1)[1]
    assert not log_likelihood(model, context, tokens, mc_num=1, check_greedy=False)[1]
