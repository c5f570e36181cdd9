"""Collects what runs have left below any number of folders, also from different machines.

Two kinds of results are read: the finished cells of ``reproduce`` and ``sweep``, and what ``odb-dllm run
--log_samples`` writes.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from odb_dllm.counting import Shape
from odb_dllm.report import lm_eval_results
from odb_dllm.report.cells import MANIFEST, RESULTS, SAMPLES, read_cell
from odb_dllm.report.lm_eval_results import LeftOut
from odb_dllm.report.provenance import STARTS
from odb_dllm.report.runs import Place, Run, Sample, described

__all__ = ["Place", "Run", "Sample", "collect", "gather", "read_run"]
SHARED = "run.json"  # in the folder of a table: what all of its cells share


def gather(folders: Iterable[Path]) -> list[Run]:
    """All finished runs at or below the folders, in a fixed order."""
    return collect(folders)[0]


def collect(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """All finished runs at or below the folders, in a fixed order; and a sentence for each that is not whole."""
    there = {path for folder in folders for path in _files(Path(folder))}
    cells = {path.parent for path in there if path.name == MANIFEST}
    files = {path.resolve() for path in there if path.match(lm_eval_results.FILES)}
    unfinished = {path.parent for path in there if path.name == STARTS} - cells
    found: list[Run] = []
    left_out = [f"{folder} is left out: it is not finished." for folder in sorted(unfinished)]
    for path in tqdm(sorted(cells | files), desc="reading results", unit="result", disable=None, leave=False):
        try:
            if path in files:
                found += lm_eval_results.read(path)
            elif (run := read_run(path)) is not None:
                found.append(run)
        except LeftOut as why:
            left_out.append(f"{path} is left out: {why}.")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            left_out.append(f"{path} is left out: it cannot be read ({type(error).__name__}: {error}).")
    return found, [*left_out, *filter(None, map(_lacking, found))]


def _files(root: Path) -> Iterator[Path]:
    """The files below a folder whose links are followed, each folder once and by its own name."""
    seen: set[str] = set()
    for folder, inner, names in os.walk(root.resolve(), followlinks=True):
        own = os.path.realpath(folder)
        if own in seen:
            inner.clear()
            continue
        seen.add(own)
        yield from (Path(own, name) for name in names)


def _lacking(run: Run) -> str:
    """A sentence where times or forwards of some samples are not there."""
    every, rows, traces = len(run.samples), len(run.result.rows), len(run.result.traces)
    if rows >= every and (traces >= every or not traces):
        return ""
    recorded = f", forwards of {traces}" if traces and traces != rows else ""
    return f"{run.folder}: times of {rows} of {every} samples of {run.result.cell.task}{recorded}."


def read_run(folder: Path) -> Run | None:
    """The cell in a folder with a manifest, None where that is something else's; raises ``LeftOut``."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) and (folder / SAMPLES).is_file():
        raise LeftOut(f"its {MANIFEST} is no JSON object")
    if not isinstance(manifest, dict) or "config" not in manifest:  # something else's
        return None
    result, protocol = read_cell(folder), _protocol(folder)
    if result is None:
        return None
    if protocol is None and manifest.get("setting"):  # whose switches tell settings apart, not its name alone
        result = replace(result, cell=replace(result.cell, setting=described(manifest["setting"])))
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    about = results["config"]["odb_dllm"]
    shape = about.get("shape")
    run = Run(
        folder,
        result,
        manifest,
        Shape(**shape) if shape else None,
        weights=about.get("weights"),
        shots=results.get("n-shot") or {},
        chat_template=manifest.get("chat_template"),
        protocol=protocol,
        logs=(("", folder / SAMPLES),),
        more=lm_eval_results.more(about),
        world_size=about.get("world_size"),
    )
    if (held := len(run.samples)) < result.cell.size:
        raise LeftOut(f"it holds {held} of its {result.cell.size} samples")
    return run


def _protocol(folder: Path) -> str | None:
    """What the folder of results says that a cell, in its cells/<task>/<setting>, was run by."""
    if len(folder.parents) < 3:
        return None
    try:
        shared = json.loads((folder.parents[2] / SHARED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = shared.get("protocol") if isinstance(shared, dict) else None
    return found if isinstance(found, str) else None
