"""What every generator of problems gives."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One document of a miniature benchmark, as its task's files hold it and as it is asked."""

    key: str  # what is asked, whatever the wording and the names: it decides between train and test
    prompt: str  # as lm-eval renders the document, without worked examples
    answer: str  # what follows the prompt, with the space or newline in between, up to end of text
    document: dict[str, Any]  # a line of the task's JSONL


Draw = Callable[[random.Random], Problem]  # a problem of either side
