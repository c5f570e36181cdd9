"""Differential fuzzing on Dream: shifted predictions, its schedules and filters, and speculation on it."""

from typing import Any

import numpy as np
import pytest
from checkpoints import dream_checkpoint
from reference_dream import Network
from reference_dream import generate as reference_generate

from odb_dllm import generate

CASES = 120
FIELDS = ("tokens", "nfe", "refreshes", "forward_lengths", "predicted_lengths", "decode_length")
RANKED = ("maskgit_plus", "topk_margin", "entropy")


def draw_case(index: int) -> dict[str, Any]:
    """A random, allowed combination of switches, lengths, thresholds and stop patterns."""
    rng = np.random.default_rng(index)
    pick = rng.choice
    block = int(pick([1, 3, 4, 8, 16, 20, 24, 32, 40]))
    blocks = int(rng.integers(1, 5 if block < 20 else 3))
    case: dict[str, Any] = {
        "block_length": block,
        "gen_length": block * blocks,
        "speculation": str(pick(["none", "accept-jump", "jump-share"], p=[0.5, 0.15, 0.35])),
        "early_exit": bool(rng.integers(2)),
        "theta": float(pick([0.0, 0.3, 0.6])),
        "eos_guard": bool(rng.integers(2)),
    }
    if case["speculation"] == "none":
        case["cache"] = str(pick(["none", "prefix", "dual"]))
        case["rule"] = str(pick(["quota", "threshold", "dynamic", "schedule", "carry"]))
    else:
        case |= {"cache": "dual", "rule": "threshold"}
    if case["rule"] in ("quota", "schedule", "carry"):
        least = 2 if case["rule"] == "schedule" and case["cache"] != "none" and block > 1 else 1
        fitting = [n for n in range(least, block + 1) if case["rule"] != "carry" or block % n == 0]
        case["steps"] = blocks * int(pick(fitting))
    if case["rule"] == "schedule":
        case["alg"] = str(pick(RANKED))
    elif case["rule"] != "quota":
        case["threshold"] = float(pick([0.1, 0.4, 0.7, 0.9]))
    if case["rule"] == "dynamic":
        case["confidence_alpha"] = float(pick([0.0, 0.3, 0.8]))
    if rng.integers(2):
        case["length"] = "adaptive"
    elif rng.integers(2):
        case |= {"suffix": "window", "window_size": int(pick([0, 1, 5, 16, 50]))}
    if rng.integers(3) == 0:
        case |= [{"top_p": 0.7}, {"top_k": 3}, {"top_p": 0.9, "top_k": 5}][rng.integers(3)]
    return case


@pytest.mark.parametrize("index", range(CASES))
def test_like_the_reference(index: int, model_of: Any) -> None:
    case, rng = draw_case(index), np.random.default_rng(20_000 + index)
    checkpoint = dream_checkpoint(
        index % 8,
        logit_std=(2.0, 5.0, 8.0)[index % 3],
        vocab_size=128,
        mask_token_id=126,
        eos_token_id=127,
        num_key_value_heads=(1, 2, 4)[index % 3],
        tie_word_embeddings=index % 8 == 7,
    )
    prompt = rng.integers(0, 120, int(rng.choice([0, 1, 7, 30]))).tolist()
    patterns = [tuple(rng.integers(0, 128, size=rng.integers(1, 3)).tolist()) for _ in range(rng.integers(0, 4))]
    expected = reference_generate(
        Network(checkpoint.weights, checkpoint.config), prompt, patterns=tuple(patterns), **case
    )
    result = generate(model_of(checkpoint), prompt, setting="llada_baseline", stop=patterns, **case)
    assert {field: getattr(result, field) for field in FIELDS} == {field: expected[field] for field in FIELDS}
    assert 126 not in result.tokens


def test_the_cases_reach_every_switch() -> None:
    """What the fuzzing covers does not depend on luck."""
    cases = [draw_case(index) for index in range(CASES)]
    assert {c["alg"] for c in cases if "alg" in c} == set(RANKED)
    assert {(c["cache"], c["rule"]) for c in cases} >= {
        (cache, rule) for cache in ("none", "prefix", "dual") for rule in ("quota", "threshold", "dynamic", "schedule")
    }
    for speculation in ("accept-jump", "jump-share"):
        assert sum(c["speculation"] == speculation and c["block_length"] > 20 for c in cases) >= 4
        assert sum(c["speculation"] == speculation and 1 < c["block_length"] < 20 for c in cases) >= 4
