"""What happens when the machine does not play along: full disks, signals, neighbours, weights that are no numbers."""

import json
import os
import resource
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
from random_model import write_gsm8k, write_model
from safetensors.torch import load_file, save_file
from test_cli import ENVIRONMENT, words

from odb_dllm.models.loading import load_tokenizer
from odb_dllm.statistics import read_rows


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gsm8k(tmp_path_factory.mktemp("data"))


def start(arguments: list[str], cwd: Path, limits: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "odb_dllm", "run", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limits,
    )


def start_until_a_row(arguments: list[str], cwd: Path) -> "subprocess.Popen[str]":
    process = start(arguments, cwd)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(p.stat().st_size for p in cwd.rglob("statistics_*.jsonl")):
        time.sleep(0.1)
    return process


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    return process.returncode, out, err


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_statistics_and_not_the_run(model: Path, data: Path, tmp_path: Path) -> None:
    code, out, err = finish(start(words(model, data, args="statistics=/dev/full"), tmp_path))
    assert code == 1
    assert "exact_match" in out
    assert "error: The statistics in /dev/full are incomplete: No space left on device." in err


def test_results_that_cannot_be_written_are_printed(model: Path, data: Path, tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails instead, as on a full disk

    code, out, err = finish(start(words(model, data, "--output_path", "out"), tmp_path, little_room))
    assert code == 1
    assert "exact_match" in out
    assert "error: The results could not be written to out/" in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_whole_rows(sent: signal.Signals, code: int, model: Path, data: Path, tmp_path: Path) -> None:
    arguments = words(
        model, data, "--limit", "40", "--output_path", "out", args="setting=llada_baseline,gen_length=256"
    )
    process = start_until_a_row(arguments, tmp_path)
    process.send_signal(sent)
    assert finish(process)[0] == code
    lines = only(tmp_path, "statistics_*.jsonl").read_text().splitlines()
    assert 1 <= len(lines) < 40
    assert all(json.loads(line)["nfe"] == 256 for line in lines)


def test_a_killed_run_leaves_whole_rows(model: Path, data: Path, tmp_path: Path) -> None:
    arguments = words(
        model, data, "--limit", "40", "--output_path", "out", args="setting=llada_baseline,gen_length=256"
    )
    process = start_until_a_row(arguments, tmp_path)
    process.kill()
    process.wait()
    assert len(read_rows(only(tmp_path, "statistics_*.jsonl"))) >= 1


def test_two_runs_share_a_folder(model: Path, data: Path, tmp_path: Path) -> None:
    runs = [
        start(words(model, data, "--output_path", "out", "--log_samples", args=f"setting={setting}"), tmp_path)
        for setting in ("alp", "fast_dllm_baseline")
    ]
    assert [finish(run)[0] for run in runs] == [0, 0]
    results = sorted((tmp_path / "out").rglob("results_*.json"))
    assert len(results) == 2
    for path in results:
        about = json.loads(path.read_text())["config"]["odb_dllm"]
        rows = read_rows(path.with_name(path.name.replace("results_", "statistics_")).with_suffix(".jsonl"))
        assert sum(row.fed_tokens for row in rows) == about["totals"]["fed_tokens"]
        adaptive = about["setting"]["name"] == "alp"
        assert all((row.average_predicted_length is not None) == adaptive for row in rows)


def test_the_same_command_writes_the_same_samples(model: Path, data: Path, tmp_path: Path) -> None:
    samples = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        arguments = words(model, data, "--output_path", "out", "--log_samples", args="temperature=0.8,setting=parallel")
        assert finish(start(arguments, tmp_path / name))[0] == 0
        samples.append(only(tmp_path / name, "samples_*.jsonl").read_bytes())
    assert samples[0] == samples[1]
    assert len(samples[0]) > 1000


def test_weights_that_are_no_numbers_fail_their_samples_alone(model: Path, data: Path, tmp_path: Path) -> None:
    """One token's embedding is NaN; only the document that holds it fails, and a second run asks for it again."""
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    tokenizer: Any = load_tokenizer(broken)
    weights = load_file(broken / "model.safetensors")
    (token,) = tokenizer.encode("1")
    weights["model.transformer.wte.weight"][token] = float("nan")
    save_file(weights, broken / "model.safetensors")
    arguments = words(
        broken, data, "--num_fewshot", "0", "--output_path", "out", "--use_cache", str(tmp_path / "cache")
    )
    arguments += ["--limit", "3"]
    for _ in range(2):
        code, out, err = finish(start(arguments, tmp_path))
        assert code == 1
        assert "exact_match" in out
        assert "samples failed and count as empty answers, the first being document 1 of gsm8k" in err
        results = max((tmp_path / "out").rglob("results_*.json"))
        failures = json.loads(results.read_text())["config"]["odb_dllm"]["failures"]
        assert [failure["doc_id"] for failure in failures] == [1]
        assert "NaN or infinite" in failures[0]["error"]
    # All three are generated at first; later the two good ones come from the cache.
    files = sorted((tmp_path / "out").rglob("statistics_*.jsonl"))
    assert [len(read_rows(file)) for file in files] == [2, 0]
    assert os.path.getsize(files[1]) > 0
