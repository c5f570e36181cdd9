"""Collects what runs have left below any number of folders, also from different machines.

Two kinds of results are read: the finished cells of ``reproduce`` and ``sweep``, and what ``odb-dllm run
--log_samples`` writes.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from odb_dllm.counting import Shape
from odb_dllm.report import lm_eval_results
from odb_dllm.report.cells import MANIFEST, RESULTS, SAMPLES, read_cell, read_manifest
from odb_dllm.report.lm_eval_results import LeftOut
from odb_dllm.report.provenance import STARTS
from odb_dllm.report.runs import Place, Run, Sample, described

__all__ = ["Place", "Run", "Sample", "collect", "gather", "read_run"]
SHARED = "run.json"  # in the folder of a table: what all of its cells share


def gather(folders: Iterable[Path]) -> list[Run]:
    """All finished runs at or below the folders, in a fixed order."""
    return collect(folders)[0]


def collect(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """All finished runs at or below the folders, in a fixed order; and a sentence for each that is left out."""
    roots = [Path(folder) for folder in folders]
    cells = {path.parent.resolve() for root in roots for path in root.rglob(MANIFEST)}
    files = {path.resolve() for root in roots for path in root.rglob(lm_eval_results.FILES)}
    unfinished = {path.parent.resolve() for root in roots for path in root.rglob(STARTS)} - cells
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
    return found, left_out


def read_run(folder: Path) -> Run | None:
    """The cell in a folder; None where it is not finished."""
    manifest = read_manifest(folder)
    if manifest is None or "config" not in manifest:  # none, or something else's
        return None
    result, protocol = read_cell(folder), _protocol(folder)
    if result is None:
        return None
    if protocol is None and manifest.get("setting"):  # whose switches tell settings apart, not its name alone
        result = replace(result, cell=replace(result.cell, setting=described(manifest["setting"])))
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    about = results["config"]["odb_dllm"]
    shape = about.get("shape")
    return Run(
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
    )


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
