"""Data of the humaneval_mini task, read from the files beside this one, and lm-eval's own scoring in the sandbox."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from odb_dllm.sandbox.code_eval import lm_eval_utils

FOLDER = Path(__file__).resolve().parent
_own = lm_eval_utils("humaneval")
pass_at_k, build_predictions = _own.pass_at_k, _own.build_predictions


def load(**_: Any) -> DatasetDict:
    """The splits; lm-eval passes the task's metadata, which the data does not depend on."""
    splits = {}
    for split in ("train", "test"):
        lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = Dataset.from_list([json.loads(line) for line in lines])
    return DatasetDict(splits)
