"""The fast engine gives what the plain one gives: the published runs, fuzzing, batches, and requests by themselves."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import test_fuzz
import test_fuzz_dream
import test_goldens
import test_goldens_dream
import test_scheduler
import torch
from checkpoints import dream_checkpoint, small_checkpoint
from conftest import DEVICE
from test_engine import MASK, branched, canvas, same, whole

from odb_dllm import DiffusionModel, generate
from odb_dllm.contract import Draw, Forward, Guidance
from odb_dllm.engine import Engine
from odb_dllm.fast import FastEngine, make_engine
from odb_dllm.scheduler import run

# The other tests have all cases on the plain engine; here, a share of them is enough but on a GPU or when asked for.
ALL = DEVICE != "cpu" or "ODB_DLLM_TEST_ALL" in os.environ


@pytest.fixture(scope="session")
def fast_of(model_of: Any) -> Callable[..., DiffusionModel]:
    """``model_of``, with models that take the fast engine."""
    return lambda *checkpoint: replace(model_of(*checkpoint), engine="fast")


def cheapest(cases: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """Of each kind the case with the fewest forwards that has steps; all where all are wanted."""
    if ALL:
        return cases
    chosen: dict[str, dict[str, Any]] = {}
    for case in sorted(cases, key=lambda case: case["nfe"]):
        if case["nfe"] > 4:
            chosen.setdefault(key(case), case)
    return list(chosen.values())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", cheapest(test_goldens.CASES, lambda case: case["setting"]), ids=test_goldens.name)
def test_golden(case: dict[str, Any], dtype: str, fast_of: Any) -> None:
    test_goldens.test_golden(case, dtype, fast_of)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", test_goldens_dream.CASES, ids=test_goldens_dream.name)
def test_golden_of_dream(case: dict[str, Any], dtype: str, fast_of: Any) -> None:
    test_goldens_dream.test_golden(case, dtype, fast_of)


@pytest.mark.parametrize("index", range(0, test_fuzz.CASES, 1 if ALL else 5))
def test_like_the_reference(index: int, fast_of: Any) -> None:
    test_fuzz.test_like_the_reference(index, fast_of)


@pytest.mark.parametrize("index", range(0, test_fuzz_dream.CASES, 1 if ALL else 5))
def test_like_the_reference_of_dream(index: int, fast_of: Any) -> None:
    test_fuzz_dream.test_like_the_reference(index, fast_of)


@pytest.fixture(scope="module")
def model(fast_of: Any) -> DiffusionModel:
    return fast_of(small_checkpoint(4, logit_std=6.0), "float32")


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_batches_of_all_settings_lengths_and_temperatures(batch_size: int, model: DiffusionModel) -> None:
    requests = test_scheduler.requests(model)
    plain = sorted(run(replace(model, engine="plain"), requests))
    fast = sorted(run(model, requests, batch_size=batch_size))
    assert [test_scheduler.untimed(each) for _, each in fast] == [test_scheduler.untimed(each) for _, each in plain]


def test_a_batch_of_dreams(fast_of: Any) -> None:
    """Grouped heads, biases and shifted predictions, several sequences at a time."""
    checkpoint = dream_checkpoint(3, logit_std=4.0, vocab_size=256, mask_token_id=254, eos_token_id=255)
    model = fast_of(checkpoint, "float32")
    requests = [each for each in test_scheduler.requests(model) if each.setting.rule != "quota"]
    plain = sorted(run(replace(model, engine="plain"), requests))
    fast = sorted(run(model, requests, batch_size=5))
    assert [test_scheduler.untimed(each) for _, each in fast] == [test_scheduler.untimed(each) for _, each in plain]


def test_a_failing_generation_names_its_request_and_the_others_go_on(fast_of: Any) -> None:
    test_scheduler.test_a_failing_generation_names_its_request_and_the_others_go_on(fast_of)


def pair(model: DiffusionModel) -> tuple[FastEngine, Engine]:
    engine = make_engine(model)
    assert isinstance(engine, FastEngine)
    return engine, Engine(model)


STEPS = {
    "plain": Forward("step", np.full(4, MASK), np.arange(12, 16), np.array([(0, 13)]), 24, sees=((0, 12), (16, 24))),
    "branches": branched([np.array([5, 6, MASK, MASK]), np.array([9, 9, 9, MASK])]),
    "shared": branched([np.array([5, 6, MASK, MASK])] * 2, np.arange(8) < 2),
    "drawn": replace(branched([np.array([5, 6, MASK, MASK])]), draw=Draw(0.7, 1, 2, 3)),
    "filtered": replace(branched([np.array([5, 6, MASK, MASK])]), draw=Draw(0.7, 1, 2, 3, 0.9, 5)),
    "margin": replace(branched([np.array([5, 6, MASK, MASK])]), score="margin"),
    "long": Forward("step", canvas(600)[24:], np.arange(24, 600), np.array([(0, 100), (0, 599)]), 600, sees=((0, 24),)),
    "many ranges": Forward(
        "step",
        np.array([MASK, 7]),
        np.array([1, 3]),
        np.array([(0, 1)]),
        24,
        sees=((0, 1), (2, 3), (4, 5), (6, 7), (9, 20)),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_each_kind_of_step(name: str, model: DiffusionModel) -> None:
    answers = []
    for engine in pair(model):
        cache = engine.open(700)
        engine.answer([(cache, whole(canvas(), 10, store=(0, 24)))])
        answers.append(engine.answer([(cache, STEPS[name])])[0])
    fast, plain = answers
    assert np.array_equal(fast.token, plain.token)
    np.testing.assert_allclose(fast.log_confidence, plain.log_confidence, atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(fast.rank, plain.rank, atol=2e-5, rtol=1e-4)


def test_whole_canvases_with_and_without_a_cache_or_targets(fast_of: Any) -> None:
    """Stored in full, in part, with a gap, with nothing read, guided, with labels."""
    fast, plain = pair(fast_of(small_checkpoint(3, logit_std=4.0)))
    tokens = canvas()
    gap = np.array([*range(18), 23])
    free = np.where(np.arange(24) < 10, MASK, tokens)
    forwards = [
        whole(tokens, 10, 23, store=(0, 24)),
        whole(tokens, 10, 23, store=(0, 12)),
        whole(tokens, 10),
        Forward("refresh", tokens[gap], gap, np.array([(0, 12), (0, 23)]), 24, store=(0, 24)),
        replace(whole(tokens, 10, store=(0, 24)), targets=np.empty((0, 2), np.int64)),
        whole(tokens, 12, guidance=Guidance(free, 2.0)),
        whole(tokens, 12, 13, labels=np.array([3, 4])),
    ]
    step = STEPS["plain"]
    for forward in forwards:
        made = []
        for engine in (fast, plain):
            cache = engine.open(40)
            made.append(engine.answer([(cache, forward), (None, whole(tokens[:20], 11))]))
            if forward.store == (0, 24) and len(forward) == 24:  # what was stored is the same
                made[-1] += engine.answer([(cache, step)])
        assert len(made[0]) == len(made[1])
        assert all(same(a, b) for a, b in zip(*made, strict=True))


def test_a_cache_that_another_engine_would_overwrite_is_left_as_it_is(fast_of: Any) -> None:
    """Tokens that are not stored find no room behind what is stored: the plain engine, which needs none, answers."""
    made = []
    for engine in pair(fast_of(small_checkpoint(3, logit_std=4.0))):
        cache = engine.open(512)  # as many slots as there are in a pool of one row
        full = canvas(512, 500)
        engine.answer([(cache, whole(full, 500, store=(0, 512)))])
        before = cache.pool.keys[:, cache.row, :, 12:].clone()
        made += engine.answer([(cache, whole(full, 505, store=(0, 12)))])
        assert torch.equal(cache.pool.keys[:, cache.row, :, 12:], before)
    assert same(*made)


def test_a_full_cache_is_refused(model: DiffusionModel) -> None:
    engine = make_engine(model)
    cache = engine.open(24)
    cache.stored = cache.slots - 4
    with pytest.raises(ValueError, match="slots cannot hold"):
        engine.answer([(cache, replace(branched([np.full(4, MASK)] * 2), end=cache.slots))])


def test_requests_of_all_kinds_in_one_call(model: DiffusionModel) -> None:
    answers = []
    for engine in pair(model):
        caches = [engine.open(700) for _ in STEPS]
        engine.answer([(cache, whole(canvas(), 10, store=(0, 24))) for cache in caches])
        answers.append(engine.answer([*zip(caches, STEPS.values(), strict=True), (None, whole(canvas(), 12))]))
    for fast, plain in zip(*answers, strict=True):
        assert np.array_equal(fast.token, plain.token)
        np.testing.assert_allclose(fast.log_confidence, plain.log_confidence, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precisions(dtype: str, fast_of: Any) -> None:
    """Rounding may part the tokens of a random model, so that only the confidences of one step are compared."""
    fast, plain = pair(fast_of(small_checkpoint(4, logit_std=2.0), dtype))
    made = []
    for engine in (fast, plain):
        cache = engine.open(64)
        engine.answer([(cache, whole(canvas(), 10, store=(0, 24)))])
        made.append(engine.answer([(cache, STEPS["branches"])])[0])
    assert np.abs(made[0].confidence - made[1].confidence).max() < 0.03
    prompt: list[int] = [1, 2, 3]
    assert MASK not in generate(fast.model, prompt, setting="jump-share", gen_length=64).tokens
