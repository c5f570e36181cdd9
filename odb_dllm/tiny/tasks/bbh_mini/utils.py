"""Data of the bbh_mini tasks, read from the folders beside this file."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

FOLDER = Path(__file__).resolve().parent


def load(subtask: str, **_: Any) -> DatasetDict:
    """The splits of a subtask; lm-eval passes the task's metadata too, which the data does not depend on."""
    splits = {}
    for split in ("train", "test"):
        lines = (FOLDER / subtask / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = Dataset.from_list([json.loads(line) for line in lines])
    return DatasetDict(splits)
