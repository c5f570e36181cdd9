"""Data of the minerva_math_mini task, read from the files beside this one; asked and scored by lm-eval's own functions.

Importing lm-eval's module raises the error that says how to install what it needs.
"""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from lm_eval.tasks.minerva_math.utils import doc_to_text, process_docs, process_results

__all__ = ["doc_to_text", "load", "process_docs", "process_results"]

FOLDER = Path(__file__).resolve().parent


def load(**_: Any) -> DatasetDict:
    """The splits; lm-eval passes the task's metadata, which the data does not depend on."""
    splits = {}
    for split in ("train", "test"):
        lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = Dataset.from_list([json.loads(line) for line in lines])
    return DatasetDict(splits)
