"""Which runs share a figure: those of one model under the same conditions, a panel per task, a colour per setting."""

import os
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from odb_dllm.report.assemble import by_model
from odb_dllm.report.cells import BENCHMARKS, benchmark
from odb_dllm.report.figures.plot import in_order, palette
from odb_dllm.report.runs import Run

Made = TypeVar("Made")
Part = tuple[str, list[Run]]  # of the runs, and the name of their model


@dataclass(frozen=True)
class Group:
    """The runs of one figure; no two are of the same task and setting."""

    runs: tuple[Run, ...]
    label: str  # tells the group from the others; empty where there is one alone
    suffix: str  # the same for names of files
    colours: dict[str, str] = field(repr=False)  # of the settings of all groups

    @cached_property
    def tasks(self) -> dict[str, dict[str, Run]]:
        """Runs by task and setting, in the papers' order."""
        names = sorted({run.result.cell.task for run in self.runs}, key=_place)
        found = {run.result.cell.key: run for run in self.runs}
        settings = in_order(run.result.cell.setting for run in self.runs)
        return {task: {name: found[task, name] for name in settings if (task, name) in found} for task in names}

    def collect(self, make: Callable[[Run], Made | None]) -> dict[str, dict[str, Made]]:
        """What is made of each run, by task and setting; where that is None or empty, they are left out."""
        found = {
            task: {name: made for name, run in runs.items() if (made := make(run))} for task, runs in self.tasks.items()
        }
        return {task: made for task, made in found.items() if made}

    def file(self, name: str) -> str:
        return name + self.suffix

    def title(self, text: str) -> str:
        return f"{text}: {self.label}" if self.label else text


def group(runs: Sequence[Run]) -> list[Group]:
    """Part runs by model and conditions, and by folder where a cell is there more than once."""
    parts: list[Part] = []
    for model, of in by_model(runs).items():
        for part in _parted(of, lambda run: tuple(_conditions(run).values())):
            repeated = len({run.result.cell.key for run in part}) < len(part)
            parts += [(model, each) for each in (_parted(part, _root) if repeated else [part])]
    labels = _labels(parts)
    colours = palette(in_order(run.result.cell.setting for run in runs))
    suffixes = [re.sub(r"[^\w.]+", "-", f"-{label}" if label else "") for label in labels]
    return [
        Group(tuple(part), label, suffix if suffixes.count(suffix) == 1 else f"{suffix}-{i}", colours)
        for i, ((_, part), label, suffix) in enumerate(zip(parts, labels, suffixes, strict=True), start=1)
    ]


def _parted(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    """The runs by key, in the order in which keys first come."""
    parts: dict[Hashable, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return list(parts.values())


def _conditions(run: Run) -> dict[str, str]:
    """What the runs of a figure share besides their model, in words."""
    cell = run.result.cell
    return {
        "place": str(run.place),
        "protocol": run.protocol or "",
        "dtype": cell.dtype,
        "gen_length": f"gen_length {cell.gen_length}",
        "block_length": f"block_length {cell.block_length}",
        "seed": f"seed {cell.seed}",
    }


def _labels(parts: Sequence[Part]) -> list[str]:
    """What tells each part from the others: its model, those conditions that differ anywhere, its folder."""
    if len(parts) < 2:
        return [""] * len(parts)
    known = [{"model": model, **_conditions(part[0])} for model, part in parts]
    roots = [str(_root(part[0])) for _, part in parts]
    different = [name for name in known[0] if len({each[name] for each in known}) > 1 and name != "model"]
    labels = []
    for each, root in zip(known, roots, strict=True):
        words = [each["model"], *(each[name] for name in different)]
        if known.count(each) > 1:
            words.append(os.path.relpath(root, os.path.commonpath(roots)))
        labels.append(", ".join(filter(None, words)))
    return labels


def _root(run: Run) -> Path:
    """The folder of results that a cell's own, cells/<task>/<setting>, is in; else the run's own."""
    return run.folder.parents[2] if run.folder.parts[-3:-2] == ("cells",) else run.folder


def _place(task: str) -> tuple[int, str]:
    name = benchmark(task)
    return (BENCHMARKS.index(name) if name in BENCHMARKS else len(BENCHMARKS)), task
