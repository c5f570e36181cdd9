"""Every recorded run of the published implementations on Dream, token for token."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import dream_checkpoint

from odb_dllm import generate

CASES = json.loads((Path(__file__).parent / "goldens" / "dream.json").read_text())
RENAMED = {"block_length": "block_length", "window": "window_size", "alpha": "confidence_alpha"}


def name(case: dict[str, Any]) -> str:
    return f"{case['seed']}-{case['kind']}-{case['alg']}"


def setting_of(case: dict[str, Any]) -> str:
    if case["kind"] == "block":
        return "fast_dllm_baseline" if case["dual"] else "prefix-cache"
    return {"full": "dream_baseline", "streaming": "streaming"}[case["kind"]]


@pytest.mark.parametrize("dtype", ["float64", "float32"])  # the inner loop: both share a checkpoint
@pytest.mark.parametrize("case", CASES, ids=name)
def test_golden(case: dict[str, Any], dtype: str, model_of: Any) -> None:
    checkpoint = dream_checkpoint(case["seed"])
    overrides = {field: case[key] for key, field in RENAMED.items() if key in case}
    result = generate(
        model_of(checkpoint, dtype),
        checkpoint.prompt(case["seed"], case["prompt_len"]),
        setting=setting_of(case),
        gen_length=case["gen_length"],
        steps=case["steps"],
        threshold=case["threshold"],
        alg=case["alg"],
        **overrides,
    )
    assert result.forward_lengths == case["forward_lengths"]
    assert result.nfe == case["nfe"]
    assert result.tokens == case["tokens"]
