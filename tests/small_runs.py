"""Results to report on: real ones of the embedded model, made once per process, and folders written by hand."""

import atexit
import csv
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from test_report import cell, row, store

from odb_dllm.cli import main
from odb_dllm.contract import Pass
from odb_dllm.counting import Shape
from odb_dllm.presets import get_setting
from odb_dllm.report.cells import MANIFEST, RESULTS
from odb_dllm.traces import Trace, beside, encode

SHAPE = Shape(d_model=8, n_heads=2, n_kv_heads=1, head=4, n_layers=3, mlp_hidden_size=16, vocab_size=32)
SETTINGS = ("llada_baseline", "fast_dllm_baseline", "jump-share")
LENGTHS = ["--gen_length", "112", "--block_length", "16"]  # beyond the first answers' ends
MODEL = "GSAI-ML/LLaDA-8B-Instruct"


@cache
def small_runs() -> Path:
    """A folder with ``table``, cells of three settings, and ``runs``, lm-eval's results of the rung between two."""
    folder = Path(tempfile.mkdtemp(prefix="odb_dllm_runs"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = ["--settings", ",".join(SETTINGS), "--limit", "4", *LENGTHS, "--vanilla-timing-subset", "1"]
    given = "pretrained=tiny,setting=fast_dllm_baseline,early_exit=True,gen_length=112,block_length=16"
    logged = ["--log_samples", "--output_path", str(folder / "runs"), "--model_args", given, "--limit", "3"]
    with patch("datasets.config.HF_HUB_OFFLINE", True):
        cells = ["reproduce", "--tasks", "gsm8k_mini", "--device", "cpu", "--out", str(folder / "table"), *words]
        assert main(cells) == 0
        assert main(["run", "--tasks", "gsm8k_mini", "--device", "cpu", *logged]) == 0
    return folder


def write_cell(
    out: Path,
    right: str,
    setting: str = "alp",
    *,
    about: dict[str, Any] | None = None,
    answers: Sequence[str] = (),
    switches: dict[str, Any] | None = None,
    nfe: int = 2,
    wall: float = 1.0,
    task: str = "gsm8k",
    **values: Any,
) -> Path:
    """Write a finished cell with an answer per character of ``right``: 1 right, 0 wrong; return its folder.

    Args:
        about: more of its manifest, or other values for what is in it; ``weights`` goes to its results.
        answers: its texts; the same one for each document by default.
        switches: fields of its setting.
        nfe, wall: forwards and seconds of each document.
        values: fields of the cell.
    """
    of = replace(cell(setting, len(right), task), **values)
    folder, documents = of.folder(out), range(len(right))
    texts = [*answers, *["the answer"] * len(right)]
    samples = [
        {"task": task, "doc_id": i, "filter": "strict-match", "exact_match": float(right[i]), "resps": [[texts[i]]]}
        | {"prompt_hash": f"prompt {i}", "doc_hash": f"document {i}", "doc": {"question": f"Question {i}?"}}
        for i in documents
    ]
    store(out, of, [row(i, task, nfe=nfe, wall_seconds=wall, seconds=wall, latency=wall) for i in documents], samples)
    passes = (Pass("refresh", 100, 0, 32, 0, 1024, 3, 1), *[Pass("step", 32, 68, 30, 0, 1024, 3, 1)] * (nfe - 1))
    traces = (Trace(task, i, 0, 0, 9, passes, (wall / nfe,) * nfe, (1,) * nfe) for i in documents)
    beside(of.statistics(out)).write_bytes(b"".join(map(encode, traces)))
    made = get_setting(setting, gen_length=of.gen_length, block_length=of.block_length, **(switches or {}))
    known = {"config": of.config(), "setting": asdict(made), "failures": [], "end": "2026-01-01T00:00:00+00:00"}
    known |= {"versions": {"odb_dllm": "1"}, "chat_template": False, "weights": "w" * 64, **(about or {})}
    config = {"odb_dllm": {"shape": asdict(SHAPE), "device": of.device, "weights": known.pop("weights")}}
    (folder / MANIFEST).write_text(json.dumps(known))
    (folder / RESULTS).write_text(json.dumps({"config": config, "n-shot": {task: 5}}))
    return folder


def lines_of(table: str) -> dict[str, dict[str, str]]:
    """A CSV table's lines by setting and place."""
    lines = csv.DictReader(io.StringIO(table))
    return {" on ".join(filter(None, (line["setting"], line["place"]))): line for line in lines}
