"""Data of the mbpp_mini task, read from the files beside this one, and lm-eval's own scoring in the sandbox."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from odb_dllm.sandbox.code_eval import lm_eval_utils

FOLDER = Path(__file__).resolve().parent
pass_at_1 = lm_eval_utils("mbpp").pass_at_1


def load(**_: Any) -> DatasetDict:
    """The splits; lm-eval passes the task's metadata, which the data does not depend on.

    Worked examples are marked as lm-eval's own are: for them the target is the code, for others the tests.
    """
    marks: dict[str, dict[str, Any]] = {"train": {"is_fewshot": True}, "test": {}}
    splits = {}
    for split, mark in marks.items():
        lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = Dataset.from_list([json.loads(line) | mark for line in lines])
    return DatasetDict(splits)
