"""lm-eval's own metric with programs run in the sandbox, on what is taken out of each answer."""

from typing import Any

from odb_dllm.protocols.extraction import extract
from odb_dllm.sandbox.code_eval import lm_eval_utils

pass_at_k = lm_eval_utils("humaneval").pass_at_k


def build_predictions(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[list[str]]:
    """The program of each answer of each document."""
    return [
        [extract(doc["prompt"], answer, doc["entry_point"]) for answer in answers]
        for answers, doc in zip(resps, docs, strict=True)
    ]
