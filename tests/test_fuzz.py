"""Differential fuzzing: the sampler and engine against the slow reference, over every combination of switches."""

from typing import Any

import numpy as np
import pytest
from checkpoints import small_checkpoint
from reference import Network
from reference import generate as reference_generate

from odb_dllm import generate

CASES = 160
FIELDS = ("tokens", "nfe", "refreshes", "forward_lengths", "predicted_lengths", "average_predicted_length")


def draw_case(index: int) -> dict[str, Any]:
    """A random, allowed combination of switches, lengths, thresholds and stop patterns."""
    rng = np.random.default_rng(index)
    pick = rng.choice
    block = int(pick([1, 3, 4, 7, 8, 16, 20, 24, 32, 40]))
    blocks = int(rng.integers(1, 6 if block < 20 else 4))
    case: dict[str, Any] = {
        "block_length": block,
        "gen_length": block * blocks,
        "speculation": str(pick(["none", "accept-jump", "jump-share"], p=[0.5, 0.15, 0.35])),
        "early_exit": bool(rng.integers(2)),
        "theta": float(pick([0.0, 0.3, 0.6, 0.9])),
        "eos_guard": bool(rng.integers(2)),
    }
    if case["speculation"] == "none":
        case["cache"] = str(pick(["none", "prefix", "dual"]))
        case["rule"] = str(pick(["quota", "threshold", "factor", "dynamic"]))
    else:
        case |= {"cache": "dual", "rule": "threshold"}
    if case["rule"] == "quota":
        divisors = list(range(1, block + 1))
        case["steps"] = blocks * int(pick(divisors))
    elif case["rule"] == "factor":
        case["factor"] = float(pick([0.3, 1.0, 2.0]))
    else:
        case["threshold"] = float(pick([0.1, 0.4, 0.7, 0.9, 0.99]))
    if case["rule"] == "dynamic":
        case["confidence_alpha"] = float(pick([0.0, 0.3, 0.8]))
    if rng.integers(2):
        case["length"] = "adaptive"
    elif rng.integers(2):
        case |= {"suffix": "window", "window_size": int(pick([0, 1, 5, 16, 50]))}
    return case


@pytest.mark.parametrize("index", range(CASES))
def test_like_the_reference(index: int, model_of: Any) -> None:
    case, rng = draw_case(index), np.random.default_rng(10_000 + index)
    checkpoint = small_checkpoint(
        index % 8,
        vocab_size=128,
        mask=126,
        eos=127,
        special_boost=(0.8, 1.0, 1.3)[index % 3],
        logit_std=(4.0, 8.0, 14.0)[index % 3],
    )
    prompt = checkpoint.prompt(index, int(rng.choice([0, 1, 7, 30, 61]))).tolist()
    patterns = [tuple(rng.integers(0, 128, size=rng.integers(1, 3)).tolist()) for _ in range(rng.integers(0, 4))]
    expected = reference_generate(
        Network(checkpoint.weights, checkpoint.config), prompt, patterns=tuple(patterns), **case
    )
    result = generate(model_of(checkpoint), prompt, setting="llada_baseline", stop=patterns, **case)
    assert {field: getattr(result, field) for field in FIELDS} == {field: expected[field] for field in FIELDS}
    assert result.decode_length == expected["decode_length"]
    assert 126 not in result.tokens
    assert result.nfe <= case["gen_length"] + case["gen_length"] // case["block_length"]


def test_the_cases_reach_every_switch() -> None:
    """What the fuzzing covers does not depend on luck."""
    cases = [draw_case(index) for index in range(CASES)]
    combinations = {(c["cache"], c["rule"], c.get("length", "fixed"), c.get("suffix", "full")) for c in cases}
    assert len(combinations) >= 30  # of 3 caches x 4 rules x 3 lengths
    for speculation in ("accept-jump", "jump-share"):
        assert sum(c["speculation"] == speculation and c["block_length"] > 20 for c in cases) >= 5
        assert sum(c["speculation"] == speculation and c["block_length"] < 20 for c in cases) >= 5
