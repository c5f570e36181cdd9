"""The documents of the embedded model's tasks, for the ``custom_dataset`` of their YAMLs."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

TASKS = Path(__file__).parent / "tasks"


def load(folder: str, **_: Any) -> DatasetDict:
    """The splits in a folder of ``tasks``; lm-eval passes the task's metadata too, which they do not depend on."""
    splits = {}
    for split in ("train", "test"):
        lines = (TASKS / folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = Dataset.from_list([json.loads(line) for line in lines])
    return DatasetDict(splits)
