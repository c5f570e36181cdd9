"""The engine by itself: caches, partial refreshes, branches, confidences, noise."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import small_checkpoint

from odb_dllm import DiffusionModel, generate
from odb_dllm.confidence import gumbel, score_rows
from odb_dllm.contract import Draw, Forward, Prediction
from odb_dllm.engine import Engine, place, target_rows

MASK = 254


@pytest.fixture(scope="module")
def model(model_of: Any) -> DiffusionModel:
    return model_of(small_checkpoint(3, logit_std=4.0))


def canvas(length: int = 24, masks_from: int = 10, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(0, 250, length)
    tokens[masks_from:] = MASK
    return tokens


def targets(*positions: int, branch: int = 0) -> np.ndarray:
    return np.array([(branch, position) for position in positions])


def whole(tokens: np.ndarray, *wanted: int, **more: Any) -> Forward:
    n = len(tokens)
    return Forward("refresh", tokens, np.arange(n), targets(*wanted), n, **more)


def same(a: Prediction, b: Prediction) -> bool:
    return bool((a.token == b.token).all() and np.allclose(a.log_confidence, b.log_confidence, atol=1e-10))


def test_partial_refresh_in_place(model: DiffusionModel) -> None:
    """Feeding [10, 24) against cached [0, 10) and storing it is what a refresh with that prefix's K/V would do."""
    engine, tokens = Engine(model), canvas()
    cache = engine.open(40)
    engine.answer([(cache, whole(tokens, 10, store=(0, 24)))])
    assert cache is not None
    before = cache.pool.keys[:, 0].clone()
    changed = tokens.copy()
    changed[10:14] = [1, 2, 3, 4]
    part = Forward("refresh", changed[10:], np.arange(10, 24), targets(15, 23), 24, sees=((0, 10),), store=(10, 24))
    (prediction,) = engine.answer([(cache, part)])
    assert torch.equal(cache.pool.keys[:, 0][:, :, :10], before[:, :, :10])  # the prompt's are as they were
    assert not torch.equal(cache.pool.keys[:, 0][:, :, 10:24], before[:, :, 10:24])
    # In layer 0, K/V depend on the token and position alone: there the partial refresh equals a full one.
    full = engine.open(40)
    engine.answer([(full, whole(changed, 10, store=(0, 24)))])
    assert full is not None
    assert torch.allclose(cache.pool.keys[:, 0][0], full.pool.keys[0, 0], atol=1e-12)
    # A step sees what the partial refresh stored.
    step = Forward("step", changed[16:20], np.arange(16, 20), targets(17), 24, sees=((0, 16), (20, 24)))
    stale = engine.open(40)
    engine.answer([(stale, whole(tokens, 10, store=(0, 24)))])
    fresh, old = engine.answer([(cache, step), (stale, step)])
    assert not same(fresh, old)
    assert np.isfinite(prediction.log_confidence).all()


def test_a_step_over_an_unchanged_canvas_equals_the_refresh(model: DiffusionModel) -> None:
    engine, tokens = Engine(model), canvas()
    cache = engine.open(24)
    (full,) = engine.answer([(cache, whole(tokens, *range(12, 16), store=(0, 24)))])
    step = Forward(
        "step",
        tokens[12:16],
        np.arange(12, 16),
        targets(*range(12, 16)),
        24,
        sees=((0, 12), (16, 24)),
        store=(12, 16),
    )
    (again,) = engine.answer([(cache, step)])
    assert same(full, again)


def branched(blocks: list[np.ndarray], shared: np.ndarray | None = None) -> Forward:
    """Whole copies of the block [12, 16), each with a masked position 15."""
    n = len(blocks)
    return Forward(
        "step",
        np.concatenate(blocks),
        np.tile(np.arange(12, 16), n),
        np.array([(branch, 15) for branch in range(n)]),
        24,
        sees=((0, 12), (16, 24)),
        branch=np.repeat(np.arange(n), 4),
        shared=shared,
    )


def test_branches_do_not_see_each_other(model: DiffusionModel) -> None:
    engine, tokens = Engine(model), canvas()
    block = np.array([5, 6, MASK, MASK])
    others = [np.array([9, 9, 9, MASK]), np.array([8, 7, 6, MASK])]
    cache = engine.open(24 + 12)
    engine.answer([(cache, whole(tokens, 10, store=(0, 24)))])
    alone = [engine.answer([(cache, branched([each]))])[0] for each in (block, *others)]
    (together,) = engine.answer([(cache, branched([block, *others]))])
    for row, single in enumerate(alone):
        assert same(together[np.arange(3) == row], single)


def test_shared_tokens_are_seen_by_every_branch_and_no_others(model_of: Any) -> None:
    """Jump-share: branch 1 feeds position 14 and 15 only, and sees branch 0's tokens at 12 and 13.

    One layer: in deeper ones what is shared depends on what branch 0 sees.
    """
    engine, tokens = Engine(model_of(small_checkpoint(3, n_layers=1, logit_std=4.0))), canvas()
    cache = engine.open(40)
    engine.answer([(cache, whole(tokens, 10, store=(0, 24)))])

    def ask(first: int, masked: int) -> Prediction:
        forward = Forward(
            "step",
            np.array([first, 6, masked, MASK, 7, MASK]),
            np.array([12, 13, 14, 15, 14, 15]),
            targets(15, branch=1),
            24,
            sees=((0, 12), (16, 24)),
            branch=np.array([0, 0, 0, 0, 1, 1]),
            shared=np.array([True, True, False, False, False, False]),
        )
        return engine.answer([(cache, forward)])[0]

    assert not same(ask(5, MASK), ask(99, MASK))  # a shared token counts
    assert same(ask(5, MASK), ask(5, 40))  # an unshared one of branch 0 does not


def test_branches_leave_the_cache_as_it_is(model: DiffusionModel) -> None:
    engine, tokens = Engine(model), canvas()
    cache = engine.open(40)
    engine.answer([(cache, whole(tokens, 10, store=(0, 24)))])
    assert cache is not None
    before = cache.pool.keys[:, 0][:, :, :24].clone()
    block = np.array([5, 6, MASK, MASK])
    engine.answer([(cache, branched([block, block]))])
    assert torch.equal(cache.pool.keys[:, 0][:, :, :24], before)


def test_unstored_tokens_go_behind_what_is_stored() -> None:
    plan = place(branched([np.zeros(4, np.int64)]), stored=24, slots=30)
    assert plan.slots.tolist() == [24, 25, 26, 27]
    assert plan.read == 28
    assert plan.stored == 24
    assert plan.visible is not None
    assert not plan.visible[:, 12:16].any()  # the block's own K/V come from the step, never from the refresh


def test_a_shrunken_canvas_frees_its_slots() -> None:
    step = Forward("step", np.zeros(4, np.int64), np.arange(12, 16), targets(12), 16, sees=((0, 12),), store=(12, 16))
    plan = place(step, stored=24, slots=30)
    assert plan.stored == 16
    assert plan.read == 16
    assert plan.visible is None


def test_a_full_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="24 slots cannot hold 28"):
        place(branched([np.zeros(4, np.int64)]), stored=24, slots=24)


def test_targets_must_be_fed() -> None:
    with pytest.raises(ValueError, match="not fed"):
        target_rows(whole(canvas(), 30), 0)


def test_requests_of_several_sequences_in_one_call(model: DiffusionModel) -> None:
    engine = Engine(model)
    forwards = [whole(canvas(20 + i, seed=i), 12, 15 + i) for i in range(3)]
    single = [engine.answer([(None, forward)])[0] for forward in forwards]
    for together, alone in zip(engine.answer([(None, f) for f in forwards]), single, strict=True):
        assert same(together, alone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_confidences_against_a_float64_softmax(dtype: torch.dtype) -> None:
    logits = (torch.randn(50, 1000, generator=torch.Generator().manual_seed(0)) * 8).to(dtype)
    expected = torch.log_softmax(logits.double(), -1)
    token, log_confidence, finite = score_rows(logits.clone(), mask=999, vocabulary=990)
    allowed = logits.double().clone()
    allowed[:, 990:] = -torch.inf
    assert torch.equal(token, allowed.argmax(-1))
    assert torch.allclose(log_confidence, expected.gather(1, token[:, None])[:, 0], atol=1e-5)
    assert finite.all()
    labels = torch.randint(0, 1000, (50,), generator=torch.Generator().manual_seed(1))
    _, scored, _ = score_rows(logits.clone(), mask=999, vocabulary=990, labels=labels)
    assert torch.allclose(scored, expected.gather(1, labels[:, None])[:, 0], atol=1e-5, rtol=1e-5)


def test_confidences_keep_their_order_where_they_round_to_one() -> None:
    logits = torch.zeros(3, 8, dtype=torch.float64)
    logits[:, 0] = torch.tensor([60.0, 61.0, 59.0])
    _, log_confidence, _ = score_rows(logits, mask=7, vocabulary=8)
    assert log_confidence.exp().tolist() == [1.0, 1.0, 1.0]
    assert log_confidence.argsort().tolist() == [2, 0, 1]


def test_equal_logits_give_the_lowest_id_and_never_the_mask() -> None:
    token, _, _ = score_rows(torch.zeros(1, 8), mask=0, vocabulary=8)
    assert token.tolist() == [1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_reported(bad: float) -> None:
    logits = torch.zeros(2, 8)
    logits[1, 3] = bad
    assert score_rows(logits, mask=7, vocabulary=8)[2].tolist() == [True, False]


def test_noise_depends_on_its_key_alone() -> None:
    draw, cpu = Draw(1.0, seed=1, sequence=2, forward=3), torch.device("cpu")
    rows = gumbel([(draw, at) for at in (10, 11, 12)], 500, cpu)
    assert torch.equal(rows[1], gumbel([(draw, 11)], 500, cpu)[0])
    assert not torch.equal(rows[0], rows[1])
    for other in (Draw(1.0, 2, 2, 3), Draw(1.0, 1, 3, 3), Draw(1.0, 1, 2, 4)):
        assert not torch.equal(gumbel([(other, 10)], 500, cpu), rows[:1])


def test_noise_is_gumbel() -> None:
    """Mean is Euler's constant, variance pi^2 / 6, and drawn tokens follow the softmax."""
    noise = gumbel([(Draw(1.0, 0, 0, 0), at) for at in range(200)], 1000, torch.device("cpu"))
    assert abs(float(noise.mean()) - 0.5772) < 0.01
    assert abs(float(noise.var()) - 1.6449) < 0.02
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2, 0.0]))
    draws = (logits + gumbel([(Draw(1.0, 5, 0, 0), at) for at in range(4000)], 4, torch.device("cpu"))).argmax(-1)
    shares = torch.bincount(draws, minlength=4) / 4000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.03)


def test_temperature_is_reproducible_and_seeded(model: DiffusionModel) -> None:
    def run(**more: Any) -> list[int]:
        options = {"gen_length": 32, "block_length": 16, "temperature": 1.0} | more
        return generate(model, [1, 2, 3], setting="fast_dllm_baseline", **options).tokens

    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)
    assert run(seed=1) != run(temperature=0.0)


def test_temperature_in_a_list_of_prompts_depends_on_the_index_alone(model: DiffusionModel) -> None:
    options: dict[str, Any] = {"setting": "parallel", "gen_length": 32, "temperature": 1.0}
    three = generate(model, [[1, 2, 3]] * 3, **options)
    assert three[0].tokens == generate(model, [1, 2, 3], **options).tokens
    assert three[0].tokens != three[1].tokens


def test_random_remasking_is_seeded(model: DiffusionModel) -> None:
    def run(**more: Any) -> list[int]:
        return generate(model, [1, 2, 3], setting="llada_baseline", gen_length=32, block_length=16, **more).tokens

    assert run(remasking="random", seed=1) == run(remasking="random", seed=1)
    assert run(remasking="random", seed=1) != run(remasking="random", seed=2)


def test_guidance_combines_two_canvases(model: DiffusionModel) -> None:
    """logits = un + (scale + 1) (logits - un), where un does not see the prompt."""
    from odb_dllm.contract import Guidance

    tokens = canvas()
    free = tokens.copy()
    free[:10] = MASK
    (guided,) = Engine(model).answer([(None, whole(tokens, 12, guidance=Guidance(free, 2.0)))])
    with torch.inference_mode():
        logits, un = (
            model.network.logits(model.network(torch.tensor(each).to(model.device), torch.arange(24).to(model.device)))[
                12
            ]
            for each in (tokens, free)
        )
    combined = un + 3.0 * (logits - un)
    combined_p = torch.log_softmax(combined, -1)
    combined[MASK] = -torch.inf
    assert guided.token[0] == combined.argmax()
    assert guided.log_confidence[0] == pytest.approx(float(combined_p[guided.token[0]]), abs=1e-9)
    options: dict[str, Any] = {"setting": "llada_baseline", "gen_length": 16, "block_length": 16}
    plain = generate(model, [1, 2, 3], **options)
    assert generate(model, [1, 2, 3], cfg_scale=3.0, **options).tokens != plain.tokens
    assert generate(model, [1, 2, 3], cfg_scale=0.0, **options).tokens == plain.tokens


def test_requests_answered_together_are_answered_as_alone(model: DiffusionModel) -> None:
    """Refreshes and steps of sequences of other lengths, branches and whole canvases, in one call."""

    def ask(engine: Engine, together: bool) -> list[Prediction]:
        pool = engine.pool(3, 60)
        caches = [pool.open() for _ in range(3)]
        refreshes: list[Any] = [(cache, whole(canvas(), 10 + i, store=(0, 24))) for i, cache in enumerate(caches[:2])]
        refreshes.append((None, whole(canvas()[:20], 10)))
        block = np.array([5, 6, MASK, MASK])
        steps = [(caches[0], branched([block, block])), (caches[1], branched([block])), (None, whole(canvas(), 12))]
        if together:
            return [*engine.answer(refreshes), *engine.answer(steps)]
        return [engine.answer([each])[0] for each in [*refreshes, *steps]]

    for one, other in zip(ask(Engine(model), True), ask(Engine(model), False), strict=True):
        np.testing.assert_array_equal(one.token, other.token)
        np.testing.assert_allclose(one.log_confidence, other.log_confidence, rtol=1e-9)


def test_a_row_is_lent_again_as_if_new(model: DiffusionModel) -> None:
    pool = Engine(model).pool(1, 30)
    cache = pool.open()
    pool.keys[:, 0] = float("nan")
    cache.close()
    again = pool.open()
    assert again.stored == 0
    assert not pool.keys.any()
