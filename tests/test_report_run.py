"""``odb-dllm reproduce`` on the embedded model: whole, interrupted, killed, resumed, refused."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from odb_dllm.cli import main
from odb_dllm.report import running
from odb_dllm.report.cells import read_cell
from odb_dllm.statistics import read_rows

SMALL = ["reproduce", "--tasks", "gsm8k_mini,bbh_mini", "--gen_length", "64", "--device", "cpu"]
TWO = [*SMALL, "--settings", "llada_baseline,alp", "--limit", "2"]
TIMES = ("seconds", "tokens_per_second", "speedup_over_vanilla", "speedup_over_fast_dllm")
pytestmark = pytest.mark.usefixtures("elsewhere")


def start(out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "odb_dllm", *TWO, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(run: "subprocess.Popen[str]", number: int, when: Callable[[], bool]) -> str:
    """Send a signal as soon as ``when`` says; return what was printed."""
    deadline = time.monotonic() + 120
    while not when():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(number)
    return run.communicate(timeout=60)[0]


def rows(cell: Path) -> list[Any]:
    return [row for path in cell.glob("statistics_*.jsonl") for row in read_rows(path)]


def texts(out: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(out.glob("cells/*/*/samples.jsonl")):
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(out))] = [(s["task"], s["doc_id"], s["filter"], s["resps"]) for s in samples]
    return found


def figures(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open() as file:
        return [{name: value for name, value in line.items() if name not in TIMES} for line in csv.DictReader(file)]


def test_interrupted_killed_and_resumed(tmp_path: Path) -> None:
    """Ctrl-C in the first cell and SIGKILL in the third leave the texts and figures of a run that nobody disturbed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*TWO, "--out", str(whole)]) == 0

    first, third = (broken / "cells" / task / "llada_baseline" for task in ("gsm8k_mini", "bbh_mini"))
    run = start(broken)
    printed = end(run, signal.SIGINT, lambda: len(rows(first)) == 1)
    assert run.returncode == 130, printed
    assert printed.strip().splitlines()[-1] == "interrupted: the same command goes on from here"
    assert "Partial: 4 of 4 cells are missing" in (broken / "table.md").read_text()

    kept = rows(first)[0]
    run = start(broken)
    end(run, signal.SIGKILL, lambda: len(rows(third)) == 1)
    assert run.returncode == -signal.SIGKILL
    assert not (third / "manifest.json").exists()

    run = start(broken)
    printed = run.communicate(timeout=120)[0]
    assert run.returncode == 0, printed
    assert "[1/4] gsm8k_mini llada_baseline: finished before" in printed
    assert "[3/4] bbh_mini llada_baseline: 2 documents, 1 of them answered before" in printed
    assert texts(broken) == texts(whole)
    assert figures(broken) == figures(whole)
    result = read_cell(first)
    assert result is not None
    assert result.rows["gsm8k_mini", 0] == kept  # its time too


def test_growing_limit_failing_cell_and_mixed_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = [*SMALL, "--settings", "alp,jump-share", "--out", str(out)]
    assert main([*words, "--limit", "1"]) == 0
    cell = out / "cells" / "gsm8k_mini" / "alp"
    before = rows(cell)

    run_cell = running.run_cell

    def broken(of: Any, *rest: Any) -> Any:
        if of.key == ("gsm8k_mini", "jump-share"):
            raise RuntimeError("it broke")
        return run_cell(of, *rest)

    monkeypatch.setattr(running, "run_cell", broken)
    capsys.readouterr()
    assert main([*words, "--limit", "2"]) == 1
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1] == "error: gsm8k_mini jump-share: it broke"
    assert "Partial: 1 of 4 cells are missing" in said.out
    assert "NFE fall in the order alp > jump-share" in said.out
    assert rows(cell)[: len(before)] == before
    assert len(rows(cell)) == 2  # the first answer was there
    lines = figures(out)
    assert [line["n"] for line in lines] == ["2", "", "2", "2"]

    monkeypatch.setattr(running, "run_cell", lambda *_: pytest.fail("ran"))
    assert main([*words, "--dtype", "float64"]) == 2
    assert "holds results of dtype float32, not float64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--settings", "alpp"], "Unknown setting 'alpp': did you mean 'alp'"),
        (["--settings", ","], "No setting"),
        (["--settings", "alp,alp+temperature=1"], "alp+temperature=1 draws its tokens"),
        (["--tasks", "gsm8"], "Unknown task 'gsm8': did you mean 'gsm8k_mini'"),
        (["--tasks", "humaneval"], "pass --confirm_run_unsafe_code"),
        (["--model", "nowhere"], "Model 'nowhere' is no folder"),
        (["--limit", "0"], "--limit must be a whole number of at least 1"),
        (["--vanilla-timing-subset", "-1"], "--vanilla-timing-subset must be a whole number"),
        (["--gen_length", "100", "--tasks", "gsm8k_mini"], "must be a multiple of block_length 32"),
        (["--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_refused_in_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "load_tasks", lambda *_: pytest.fail("loaded"))
    assert main(["reproduce", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert not Path("results").exists()


def test_code_of_other_models_needs_consent() -> None:
    from odb_dllm.report.command import consented

    mini, real = ["gsm8k_mini", "mbpp_mini"], ["gsm8k", "humaneval", "mbpp"]
    assert consented(mini, True, False) == (mini, "")
    assert consented(real, False, True) == (real, "")
    names, said = consented(real, False, False)
    assert names == ["gsm8k"]
    assert said.startswith("humaneval and mbpp are left out")
    assert consented(mini, False, False)[0] == ["gsm8k_mini"]  # another model on the embedded one's tasks


def test_time_of_the_slow_baseline_from_a_subset(tmp_path: Path) -> None:
    words = [
        "reproduce",
        "--tasks",
        "gsm8k_mini",
        "--settings",
        "llada_baseline,alp",
        "--limit",
        "5",
        "--device",
        "cpu",
    ]
    sizes = ["--gen_length", "32", "--vanilla-timing-subset", "2", "--out", str(tmp_path)]
    assert main([*words, *sizes]) == 0
    slow, fast = figures(tmp_path)
    assert (slow["n"], slow["timed"], slow["seconds_estimated"]) == ("2", "2", "True")
    assert (fast["n"], fast["timed"], fast["seconds_estimated"]) == ("5", "5", "False")
    result = read_cell(tmp_path / "cells" / "gsm8k_mini" / "llada_baseline")
    assert result is not None
    assert sum(each.size for each in result.cell.strata) == 5
    assert (
        set(result.rows) == set(result.correct) == {document for each in result.cell.strata for document in each.asked}
    )
