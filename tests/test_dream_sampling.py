"""How tokens and positions are drawn: top-p, top-k, temperature; margin and entropy of what is left."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import dream_checkpoint, small_checkpoint

from odb_dllm import generate
from odb_dllm.confidence import rank_rows, shape_rows
from odb_dllm.contract import Draw, Forward
from odb_dllm.engine import Engine


@pytest.fixture(scope="module")
def model(model_of: Any) -> Any:
    return model_of(dream_checkpoint(3, logit_std=4.0, vocab_size=128, mask_token_id=126, eos_token_id=127))


def test_filters_against_plain_loops() -> None:
    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    limits: dict[str, int] = {"mask": 49, "vocabulary": 48}
    for top_p, top_k in ((0.8, None), (None, 3), (0.9, 4), (0.0, None), (None, 1)):
        draw = Draw(2.0, 0, 0, 0, top_p, top_k)
        shaped = shape_rows(logits, [draw] * 20, tempered=True, **limits)
        for row, given in zip(shaped, logits, strict=True):
            p = (given[:48] / 2).softmax(0)
            kept, mass = [], 0.0
            for token in p.argsort(descending=True).tolist():
                if top_p is not None and mass > top_p:
                    break
                kept.append(token)
                mass += float(p[token])
            kept = kept[:top_k]
            assert sorted(kept) == torch.isfinite(row).nonzero().flatten().tolist()
            assert torch.allclose(row[kept], given[kept] / 2)
        plain = shape_rows(logits, [draw] * 20, tempered=False, **limits)
        assert torch.equal(torch.isfinite(plain), torch.isfinite(shaped))
        assert torch.equal(plain[torch.isfinite(plain)], logits[torch.isfinite(plain)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_margin_and_entropy_against_a_float64_softmax(dtype: torch.dtype) -> None:
    logits = (torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 5).to(dtype)
    logits[:, 7] = -torch.inf  # as a filter leaves it
    p = logits.double().softmax(-1)
    first, second = p.topk(2).values.T
    assert torch.allclose(rank_rows(logits, "margin") + 1, first - second, atol=1e-6)
    assert torch.allclose(rank_rows(logits, "entropy"), (p * (p + 1e-10).log()).sum(-1), atol=1e-5)


def test_margin_and_entropy_keep_their_order_where_probabilities_round_to_one() -> None:
    logits = torch.zeros(3, 8)
    logits[:, 0] = torch.tensor([30.0, 31.0, 29.0])
    assert logits.softmax(-1)[:, 0].tolist() == [1.0, 1.0, 1.0]
    for kind in ("margin", "entropy"):
        assert rank_rows(logits, kind).argsort().tolist() == [2, 0, 1]  # type: ignore[arg-type]


def drawn(model: Any, temperature: float, forwards: int = 3000, **filters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and confidences of a position drawn many times."""
    tokens = np.array([5, 9, 33, 126])
    engine = Engine(model)
    asked = [
        (None, Forward("step", tokens, np.arange(4), np.array([(0, 3)]), 4, draw=Draw(temperature, 0, 0, i, **filters)))
        for i in range(forwards)
    ]
    made = engine.answer(asked)
    return np.array([each.token[0] for each in made]), np.array([each.confidence[0] for each in made])


def distribution(model: Any, temperature: float) -> np.ndarray:
    with torch.inference_mode():
        hidden = model.network(torch.tensor([5, 9, 33, 126]), torch.arange(4))
        logits = model.network.logits(hidden[3 - model.network.shift])
    return (logits / temperature).softmax(-1).numpy()


def test_tokens_are_drawn_from_the_tempered_distribution(model: Any) -> None:
    """And their confidence is that in it."""
    tokens, confidences = drawn(model, 0.7)
    p = distribution(model, 0.7)
    shares = np.bincount(tokens, minlength=128) / len(tokens)
    np.testing.assert_allclose(shares, p, atol=0.035)
    np.testing.assert_allclose(confidences, p[tokens], atol=1e-9)


def test_filtered_draws_are_renormalised(model: Any) -> None:
    tokens, confidences = drawn(model, 1.5, top_k=3)
    p = distribution(model, 1.5)
    p[126] = 0
    best = np.argsort(-p)[:3]
    assert set(tokens) <= set(best)
    np.testing.assert_allclose(confidences, (p / p[best].sum())[tokens], atol=1e-9)


def test_llada_keeps_the_confidence_of_the_plain_logits(model_of: Any) -> None:
    model = model_of(small_checkpoint(3, logit_std=4.0, vocab_size=128, mask=126, eos=127))
    plain = distribution(model, 1.0)
    for filters in ({}, {"top_k": 3}, {"top_p": 0.5}):
        tokens, confidences = drawn(model, 0.7, 50, **filters)
        np.testing.assert_allclose(confidences, plain[tokens], atol=1e-9)


def test_alg_temp_draws_the_positions(model: Any) -> None:
    def tokens(**more: Any) -> list[int]:
        return generate(model, [1, 2, 3], setting="dream_baseline", gen_length=32, **more).tokens

    plain = tokens(alg="maskgit_plus")
    assert tokens(alg="maskgit_plus", alg_temp=1e-9) == plain
    assert tokens(alg="maskgit_plus", alg_temp=1.0) != plain
    assert tokens(alg="entropy", alg_temp=1.0, seed=1) == tokens(alg="entropy", alg_temp=1.0, seed=1)
    assert tokens(alg="entropy", alg_temp=1.0, seed=1) != tokens(alg="entropy", alg_temp=1.0, seed=2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_other_dtypes(dtype: str, model_of: Any) -> None:
    model = model_of(dream_checkpoint(3, logit_std=4.0, vocab_size=128, mask_token_id=126, eos_token_id=127), dtype)
    for alg in ("maskgit_plus", "topk_margin", "entropy", "confidence_threshold"):
        drawn_with = {"alg": alg, "temperature": 0.5, "top_p": 0.9, "gen_length": 32}
        result = generate(model, [1, 2, 3], setting="dream_baseline", **drawn_with)  # type: ignore[arg-type]
        assert len(result.tokens) == 32
        assert 126 not in result.tokens
