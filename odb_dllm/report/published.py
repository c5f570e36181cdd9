"""The papers' own figures, as they were published: ``published.json``, a record per model, task and setting."""

import json
from functools import cache
from pathlib import Path
from typing import Any

ODB_DLLM = "2511.21759"


@cache
def records() -> tuple[dict[str, Any], ...]:
    """All records; which fields one has depends on its paper."""
    return tuple(json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8")))


def published(
    family: str | None, task: str, setting: str, gen_length: int, *, paper: str = ODB_DLLM
) -> dict[str, Any] | None:
    """The record of one cell of a paper's table, or None where it has none."""
    wanted = {"paper": paper, "model": family, "task": task, "setting": setting, "gen_length": gen_length}
    return next((each for each in records() if all(each.get(key) == value for key, value in wanted.items())), None)
