"""Every recorded run of the published implementations, token for token."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import golden_checkpoint

from odb_dllm import generate

CASES = json.loads((Path(__file__).parent / "goldens" / "llada.json").read_text())
RENAMED = {"factor": "factor", "window": "window_size", "alpha": "confidence_alpha"}


def name(case: dict[str, Any]) -> str:
    return f"{case['seed']}-{case['setting']}-{case.get('task', 'none')}"


@pytest.mark.parametrize("dtype", ["float64", "float32"])  # the inner loop: both share a checkpoint
@pytest.mark.parametrize("case", CASES, ids=name)
def test_golden(case: dict[str, Any], dtype: str, model_of: Any) -> None:
    checkpoint = golden_checkpoint(case["seed"], case["special_boost"], case.get("logit_std", 14.0))
    overrides = {field: case[key] for key, field in RENAMED.items() if key in case}
    result = generate(
        model_of(checkpoint, dtype),
        checkpoint.prompt(case["seed"], case["prompt_len"]),
        setting=case["setting"],
        task=case.get("task"),
        family=case["model"],
        gen_length=case["gen_length"],
        block_length=case["block_length"],
        steps=case["steps"],
        threshold=case["threshold"],
        **overrides,
    )
    assert result.tokens == case["tokens"]
    assert result.forward_lengths == case["forward_lengths"]
    assert result.nfe == case["nfe"]
    if "decode_length" in case:
        assert result.decode_length == case["decode_length"]
        assert result.average_predicted_length == case["avg_predict_length"]
