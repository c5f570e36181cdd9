"""What became of results on disk: cells cut short or removed, marks that are none, folders that cannot be written."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from test_report_run import figures, texts

from odb_dllm.cli import main
from odb_dllm.report.cells import MANIFEST, RESULTS, SAMPLES
from odb_dllm.sweep.command import _report

ASKED = ["--tasks", "gsm8k_mini", "--settings", "alp", "--gen_length", "64", "--limit", "2"]
SWEEP = ["sweep", "--models", "tiny", "--gpus", "cpu", *ASKED, "--out", "out"]
TABLE = ["reproduce", "--device", "cpu", *ASKED, "--out", "out/tiny"]
CELL = Path("out/tiny/cells/gsm8k_mini/alp")
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished table of one cell."""
    folder = tmp_path_factory.mktemp("made")
    assert main([*TABLE[:-1], str(folder)]) == 0
    return folder


@pytest.fixture
def table(made: Path) -> Path:
    """A copy of it to damage."""
    shutil.copytree(made, "out/tiny")
    return Path("out/tiny")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def end_early(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))


def forget_hashes(folder: Path) -> None:
    """Have a cell look like one of an earlier version."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("name", "damage"),
    [(SAMPLES, cut), (SAMPLES, Path.unlink), (SAMPLES, end_early), (RESULTS, cut), (RESULTS, Path.unlink)],
)
def test_a_damaged_cell_is_made_good_from_its_answers(
    name: str, damage: Callable[[Path], Any], older: bool, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(table), figures(table)
    (statistics,) = CELL.glob("statistics_*.jsonl")
    rows = statistics.read_bytes()
    if older:
        forget_hashes(CELL)
    damage(CELL / name)
    assert main(TABLE) == 0, capsys.readouterr().err
    assert "1 of 1 cells to run" in capsys.readouterr().err
    assert (texts(table), figures(table)) == before
    assert statistics.read_bytes() == rows  # nothing was generated


def test_a_whole_older_cell_is_finished(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forget_hashes(CELL)
    before = (CELL / MANIFEST).read_bytes()
    assert main(TABLE) == 0
    assert "cells to run" not in capsys.readouterr().err
    assert (CELL / MANIFEST).read_bytes() == before


def test_a_damaged_cell_stops_no_table(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not among those that failed, so it is not run here."""
    cut(CELL / SAMPLES)
    assert main([*SWEEP, "--retry-failed"]) == 0
    assert "No cell failed last time: nothing is run" in capsys.readouterr().err
    shutil.copytree(CELL, CELL.with_name("jump-share"))
    (CELL.with_name("jump-share") / "failed.json").write_text("{}")  # which is run
    assert main([*SWEEP, "--settings", "alp,jump-share", "--retry-failed"]) == 0
    said = capsys.readouterr()
    assert f"{CELL} is left out: it cannot be read (samples.jsonl changed after it was finished)." in said.err
    assert [line["n"] for line in figures(table)] == ["", "2"]


@pytest.mark.parametrize("content", [b"[]", b"3", b"\xff\xfe\x00\x80", b""])
def test_a_mark_that_is_none_is_replaced(content: bytes, table: Path) -> None:
    shared = table / "run.json"
    whole = shared.read_bytes()
    shared.write_bytes(content)
    assert main(TABLE) == 0
    assert shared.read_bytes() == whole


def test_a_mark_with_more_than_is_asked_is_another(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = table / "run.json"
    shared.write_text(json.dumps({**json.loads(shared.read_text()), "protocol": "fast-dllm"}))
    assert main(TABLE) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: out/tiny holds results of protocol fast-dllm, not none: give another folder with --out."
    )


def test_what_python_prints_as_it_starts_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site").mkdir()
    code = "print('Good morning.'); print('[1]'); print(3); print('in part', end='', flush=True)"
    (tmp_path / "site" / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    assert main(SWEEP) == 0, capfd.readouterr().err
    assert "NFE" in capfd.readouterr().err  # its rows were told
    assert (CELL / "log.txt").read_text().startswith("Good morning.\n[1]\n3\nin part\n")


def test_a_report_that_cannot_be_written_is_an_error(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/report").write_text("a file")
    assert main(SWEEP) == 1
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1] == (
        "error: No report was written: The folder out/report cannot be made: File exists."
    )
    assert "| gsm8k_mini |" in said.out


def test_nothing_to_report_on_yet_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(tmp_path) == 0
    assert capsys.readouterr().err.startswith("No report was written: No finished results")


def test_nothing_to_retry_in_a_new_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--retry-failed"]) == 0
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1] == "No cell failed last time: nothing is run."
    assert said.out == ""
    assert not Path("out/tiny/table.md").exists()


@pytest.mark.parametrize("words", [SWEEP, TABLE])
def test_a_log_that_cannot_be_opened_is_not_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    CELL.parent.mkdir(parents=True)
    CELL.write_text("a file")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "log" not in said
    assert f"File exists: '{CELL}'" in said


def test_an_interrupt_while_torch_is_read_has_no_traceback(tmp_path: Path) -> None:
    """As Ctrl-C does while torch's launcher is imported."""
    code = (
        "import builtins, os, signal; import odb_dllm.launch as launch; plain = builtins.__import__\n"
        "def at(name, *rest):\n"
        "    if name == 'torch.distributed': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return plain(name, *rest)\n"
        "builtins.__import__ = at; raise SystemExit(launch.main(['2', 'run']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "interrupted\n")
