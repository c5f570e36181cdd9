"""``odb-dllm sweep`` on the embedded model: killed, interrupted, with cells that fail, in shards, refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from test_report_run import figures, texts

from odb_dllm.cli import main
from odb_dllm.models.loading import EMBEDDED
from odb_dllm.report.cells import read_manifest
from odb_dllm.report.recovery import LOCK, only_one
from odb_dllm.sweep.command import finish
from odb_dllm.sweep.jobs import FAILED

WORDS = ["sweep", "--models", "tiny", "--tasks", "gsm8k_mini", "--gen_length", "64", "--limit", "2"]
THREE = [*WORDS, "--settings", "llada_baseline,alp,jump-share", "--gpus", "cpu,cpu"]
pytestmark = pytest.mark.usefixtures("elsewhere")


def start(out: Path, *more: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "odb_dllm", *THREE, "--out", str(out), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait(run: "subprocess.Popen[str]", when: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not when():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(out: Path) -> list[int]:
    """The processes of cells in a folder that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "odb_dllm.sweep.worker" in words and str(out) in words[words.index("odb_dllm.sweep.worker") + 1]:
            found.append(int(path.parent.name))
    return found


def gone(out: Path) -> bool:
    """Whether all of them end by themselves."""
    deadline = time.monotonic() + 60
    while workers(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not workers(out)


def rows(out: Path, setting: str = "*") -> int:
    found = out.glob(f"tiny/cells/gsm8k_mini/{setting}/statistics_*.jsonl")
    return sum(len(path.read_bytes().splitlines()) for path in found)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_twice_it_ends_like_an_undisturbed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL at two random moments leaves no process, and then the same texts and the same table."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*THREE, "--out", str(whole)]) == 0
    assert "# tiny, float32 on cpu" in capsys.readouterr().out

    chance = random.Random()
    for _ in range(2):
        before = rows(broken)
        run = start(broken)
        wait(run, lambda before=before: rows(broken) > before)
        time.sleep(chance.uniform(0, 1.5))  # a third cell needs longer to start
        run.kill()
        run.communicate()
        assert gone(broken)
    finished = {path: path.read_bytes() for path in broken.glob("*/cells/*/*/manifest.json")}

    run = start(broken)
    said = run.communicate(timeout=300)[1]
    assert run.returncode == 0, said
    assert f"{3 - len(finished)} of 3 cells to run" in said
    assert texts(broken / "tiny") == texts(whole / "tiny")
    assert figures(broken / "tiny") == figures(whole / "tiny")
    for path, content in finished.items():
        assert path.read_bytes() == content  # not run again


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_cell_that_fails_stops_no_other_and_is_retried_alone(tmp_path: Path) -> None:
    slow, held, fine = (
        tmp_path / "tiny" / "cells" / "gsm8k_mini" / name for name in ("llada_baseline", "alp", "jump-share")
    )
    held.mkdir(parents=True)
    with only_one(held):  # as another sweep has it
        run = start(tmp_path)
        wait(run, lambda: rows(tmp_path, "llada_baseline") > 0)
        os.kill(int((slow / LOCK).read_text().split()[1]), signal.SIGKILL)
        printed, said = run.communicate(timeout=300)
    last = said.strip().splitlines()[-3:]
    assert run.returncode == 1
    assert last[0].startswith("error: tiny gsm8k_mini llada_baseline: its process was ended by SIGKILL")
    assert last[0].endswith(f"(log: {slow}/log.txt)")
    assert last[1].startswith(f"error: tiny gsm8k_mini alp: process {os.getpid()} on ")
    assert last[2] == "1 of 3 cells failed: the same command with --retry-failed runs just those"
    assert "Partial: 2 of 3 cells are missing" in printed
    assert "NFE fall" not in printed  # of one setting
    assert read_manifest(fine) is not None
    assert json.loads((slow / FAILED).read_text())["why"].startswith("its process was ended by SIGKILL")

    run = start(tmp_path, "--retry-failed")
    wait(run, lambda: bool(workers(tmp_path)))
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert said.strip().splitlines()[-1] == "interrupted: the same command goes on from here"
    assert not workers(tmp_path)

    before = rows(tmp_path, "llada_baseline")
    run = start(tmp_path, "--retry-failed")
    said = run.communicate(timeout=300)[1]
    assert run.returncode == 0, said
    assert f"llada_baseline: 2 documents, {before} of them answered before" in said
    assert read_manifest(held) is None  # which did not fail
    manifest = read_manifest(slow)
    assert manifest is not None
    assert manifest["interrupted"] >= 1
    assert not (slow / FAILED).exists()


def test_models_and_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards run one model each, and the tables hold what both did."""
    copy = tmp_path / "copy"
    shutil.copytree(EMBEDDED["tiny"], copy)
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--models", "tiny,copy", "--settings", "alp", "--gpus", "cpu", "--out", "out"]
    assert main([*words, "--shard", "1/2"]) == 0
    assert "1 of 1 cells to run" in capsys.readouterr().err
    assert [bool(read_manifest(path)) for path in Path("out").glob("*/cells/*/*")] == [True]
    assert main([*words, "--shard", "2/2"]) == 0
    tiny, same = figures(Path("out/tiny")), figures(Path("out/copy"))
    assert tiny == same
    assert tiny[0]["n"] == "2"

    manifest = read_manifest(Path("out/tiny/cells/gsm8k_mini/alp"))
    assert manifest is not None
    assert {"odb_dllm", "python", "torch", "transformers", "lm_eval", "numpy", "cuda", "driver"} <= set(
        manifest["versions"]
    )
    assert {"config", "setting", "git", "gpu", "host", "command", "start", "end", "interrupted"} <= set(manifest)
    assert manifest["gpu"] is None
    assert manifest["interrupted"] == 0

    capsys.readouterr()
    assert main([*words, "--retry-failed"]) == 0
    said = capsys.readouterr()
    assert "No cell failed last time: nothing is run." in said.err
    assert said.out.count("| gsm8k_mini |") == 2  # the tables all the same


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "nowhere"], "Model 'nowhere' is no folder"),
        (["--models", "tiny,nowhere"], "Model 'nowhere' is no folder"),
        (["--models", ","], "No model: name one or several with --models"),
        (["--tasks", "gsm8"], "Unknown task 'gsm8': did you mean 'gsm8k_mini'"),
        (["--settings", "alpp"], "Unknown setting 'alpp': did you mean 'alp'"),
        (["--gpus", "tpu"], "--gpus tpu names no GPUs: it takes numbers such as 0,1, or all, or cpu."),
        (["--gpus", "99"], "GPU"),
        (["--limit", "0"], "--limit must be a whole number of at least 1"),
        (["--shard", "3/2"], "--shard must be i/N with i from 1 to N"),
        (["--gen_length", "100"], "must be a multiple of block_length 32"),
        (["--gen_length", "0"], "--gen-length must be a whole number of at least 1, not 0."),
        (["--block_length", "0"], "--block-length must be a whole number of at least 1, not 0."),
    ],
)
def test_refused_in_one_sentence(more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--gpus", "cpu", "--settings", "alp", *more]) == 2
    error: list[Any] = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert not Path("results").exists()


def test_answers_whose_rows_were_lost_are_asked_again(tmp_path: Path) -> None:
    """A machine that goes down can keep a text and lose its row."""
    words = ["reproduce", "--tasks", "gsm8k_mini", "--settings", "alp", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*words, *WORDS[5:]]) == 0
    cell = tmp_path / "cells" / "gsm8k_mini" / "alp"
    before, right = texts(tmp_path), figures(tmp_path)
    (statistics,) = cell.glob("statistics_*.jsonl")
    first, second = statistics.read_bytes().splitlines(keepends=True)
    statistics.write_bytes(first + second[:40])
    (cell / "manifest.json").unlink()
    assert main([*words, *WORDS[5:]]) == 0
    assert (texts(tmp_path), figures(tmp_path)) == (before, right)
    assert len(statistics.read_bytes().splitlines()) == 3  # one kept, two made anew


def test_tables_that_cannot_be_written_do_not_hide_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOCK).mkdir()
    assert finish(tmp_path, []) == 1
    assert capsys.readouterr().err == f"error: Tables were not written to {tmp_path}: Is a directory.\n"
