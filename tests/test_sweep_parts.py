"""The parts of a sweep by themselves: devices, shares, time left, what is shown, what a killed run leaves."""

import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from test_report import cell

from odb_dllm.errors import InputError
from odb_dllm.report import provenance, recovery
from odb_dllm.sweep.board import Board, failures
from odb_dllm.sweep.devices import THREADS, VISIBLE, gpu_name, slots
from odb_dllm.sweep.jobs import Job, State, parse_shard, share
from odb_dllm.sweep.time_left import until_the_last


def job(cost: float, state: State = State.WAITING, **values: Any) -> Job:
    return Job(plan=None, cell=cell(count=10, **values), cost=cost, state=state)  # type: ignore[arg-type]


def test_slots_are_gpus_of_their_own() -> None:
    made = slots("0, 2", usable=4, environment={}, cores=8)
    assert [(slot.name, slot.device, slot.environment[VISIBLE]) for slot in made] == [
        ("GPU 0", "cuda", "0"),
        ("GPU 2", "cuda", "2"),
    ]
    assert made[0].environment[THREADS] == "4"
    assert [slot.name for slot in slots("all", 2, {}, 8)] == ["GPU 0", "GPU 1"]
    hidden = slots("all", 2, {VISIBLE: "5,GPU-77", THREADS: "3"}, 8)  # as a cluster hands them out
    assert [dict(slot.environment) for slot in hidden] == [{VISIBLE: "5"}, {VISIBLE: "GPU-77"}]


def test_slots_on_the_cpu() -> None:
    assert [slot.name for slot in slots("cpu", 4, {}, 8)] == ["cpu"]
    two = slots("cpu,CPU", 0, {}, 8)
    assert [(slot.name, slot.device, slot.environment[VISIBLE]) for slot in two] == [
        ("cpu 1", "cpu", ""),
        ("cpu 2", "cpu", ""),
    ]
    assert gpu_name(two) is None


@pytest.mark.parametrize(
    ("words", "usable", "message"),
    [
        ("all", 0, "No GPU is usable here: give --gpus cpu"),
        ("0", 0, "No GPU is usable here"),
        ("", 2, "--gpus '' names no device: it takes numbers such as 0,1, or all, or cpu."),
        (",", 0, "--gpus ',' names no device: it takes numbers such as 0,1, or all, or cpu."),
        ("cpu,0", 2, "--gpus cpu,0 mixes GPUs and cpu"),
        ("all,cpu", 0, "--gpus all,cpu mixes GPUs and cpu"),
        ("-1", 2, "--gpus -1 names no GPUs: it takes numbers"),
        ("1,1", 2, "names a GPU twice"),
        ("0,7", 4, "GPU 7 was asked for, and GPUs 0 to 3 are usable here."),
        ("1", 1, "GPU 1 was asked for, and GPU 0 alone is usable here."),
    ],
)
def test_gpus_that_are_not_there(words: str, usable: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        slots(words, usable, {}, 8)


def test_names_of_gpus_are_told_from_what_else_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('Good morning.')")
    (tmp_path / "torch.py").write_text("class cuda:\n get_device_name = 'H{}'.format\n device_count = lambda: 2\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    two = slots("all", 2, {}, 8)
    with pytest.raises(InputError, match=r"GPU 0 is H0, GPU 1 is H1: give --gpus of one kind\.$"):
        gpu_name(two)
    (tmp_path / "torch.py").write_text("class cuda:\n get_device_name = 'H'.format\n device_count = lambda: 2\n")
    assert gpu_name(two) == "H"


def test_shares_are_disjoint_whole_and_even() -> None:
    jobs = [job(cost) for cost in (90, 50, 40, 30, 20, 10, 5)]
    parts = [share(jobs, which, 3) for which in (1, 2, 3)]
    assert sorted(each.cost for part in parts for each in part) == sorted(each.cost for each in jobs)
    assert [sum(each.cost for each in part) for part in parts] == [90, 80, 75]
    assert share(jobs, 1, 1) == jobs
    assert [len(share(jobs, which, 9)) for which in range(1, 10)] == [1] * 7 + [0] * 2
    assert parse_shard("2/8") == (2, 8)
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(InputError, match="--shard must be i/N"):
            parse_shard(wrong)


def test_time_left_follows_the_pace_of_the_samples() -> None:
    jobs = [job(100, State.RUNNING), job(50), job(50), job(10, State.DONE)]
    assert until_the_last(jobs, 2) is None  # nothing tells
    jobs[0].answered = 3  # by an earlier run
    jobs[0].row(tokens=5, nfe=2, seconds=3.0)
    jobs[0].loading = 0.0
    # 10 were expected and 3 taken: 6 more of 3 s; the others 15 s each, one after the other beside it
    assert until_the_last(jobs, 2) == pytest.approx(30)
    assert until_the_last(jobs, 1) == pytest.approx(48)
    jobs[0].loading = 2.0  # which the others will take too
    assert until_the_last(jobs, 2) == pytest.approx(34)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_table_and_lines_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    jobs = [job(3), job(2), job(1)]
    stream = Terminal()
    board = Board(stream, jobs, slots=1)
    jobs[0].state = State.RUNNING
    board.draw({"GPU 0": jobs[0]})
    board.draw({"GPU 0": jobs[0]})  # at once: not again
    first = stream.getvalue()
    assert first.splitlines() == ["0 of 3 cells done, 1 running, 0 failed", "GPU 0  some gsm8k alp  0/10  starting"]
    jobs[0].state, jobs[0].outcome = State.FAILED, "it broke, and this is a long story of how it did so"
    board.ended(jobs[0], "GPU 0")
    jobs[1].state = State.RUNNING
    jobs[1].row(20, 4, 2.0)
    board.draw({"GPU 0": jobs[1]})
    taken_away, *shown = stream.getvalue().removeprefix(first).removesuffix("\n").split("\n")
    assert taken_away.startswith("\x1b[2A\r\x1b[J[1/3] GPU 0: some gsm8k alp: failed: it broke")
    assert shown[0].startswith("0 of 3 cells done, 1 running, 1 failed; about 28 seconds left")
    assert shown[1] == "GPU 0  some gsm8k alp  1/10  NFE 4.0, 10.0 tokens/s  18 seconds left"[:69]
    assert shown[2] == "failed: some gsm8k alp: it broke, and this is a long story of how it did so"[:69]
    assert len(shown) == 3


def test_elsewhere_every_event_is_a_line() -> None:
    jobs = [job(3), job(2)]
    stream = io.StringIO()
    board = Board(stream, jobs, slots=1)
    board.began(jobs[0], "cpu")
    board.draw({"cpu": jobs[0]})  # not a minute has passed
    jobs[0].state, jobs[0].outcome = State.DONE, "7 of 10 right"
    board.ended(jobs[0], "cpu")
    assert stream.getvalue().splitlines() == [
        "cpu: some gsm8k alp: 10 documents",
        "[1/2] cpu: some gsm8k alp: 7 of 10 right",
    ]


def test_many_failures_are_counted() -> None:
    jobs = [job(1, State.FAILED) for _ in range(8)]
    assert len(failures(jobs)) == 6
    assert failures(jobs)[-1] == "and 3 more"


# What a killed run leaves ------------------------------------------------------------------------------------


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    recovery.mend(path)
    assert not path.exists()
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    recovery.mend(path)
    with path.open("ab") as file:
        file.write(b'{"a": 3}\n')
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [1, 2, 3]
    path.write_bytes(b'{"a"')
    recovery.mend(path)
    assert path.read_bytes() == b""


def test_a_damaged_cache_is_told_from_a_sound_one(tmp_path: Path) -> None:
    sound, broken = tmp_path / "a.db", tmp_path / "b.db"
    for path in (sound, broken):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v BLOB)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", [(str(i), b"x" * 500) for i in range(200)])
        connection.close()
    data = bytearray(broken.read_bytes())
    data[4096:-4096] = bytes(len(data) - 8192)
    broken.write_bytes(data)
    before = sound.read_bytes()
    assert [recovery.is_damaged(path) for path in (sound, broken, tmp_path / "none.db")] == [False, True, False]
    assert sound.read_bytes() == before
    recovery.set_aside(broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "b.damaged"]


def test_a_folder_has_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from odb_dllm.report.recovery import only_one\n"
        "with only_one(Path(sys.argv[1])): print('has it', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"has it\n"
    with (
        pytest.raises(recovery.Busy, match=f"^process {other.pid} on .* is at work in "),
        recovery.only_one(tmp_path, 0.0),
    ):
        pass
    other.kill()
    other.communicate()
    started = time.monotonic()
    with recovery.only_one(tmp_path):
        assert time.monotonic() - started < recovery.PATIENCE
    with recovery.only_one(tmp_path, 0.0):
        pass


def test_git_revision_is_of_the_projects_own_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *own, "-C", str(tmp_path), *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert provenance.git_revision(tmp_path) is None
    git("init", "-q")
    assert provenance.git_revision(tmp_path / "site-packages") is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    provenance.git_revision.cache_clear()
    assert provenance.git_revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    provenance.git_revision.cache_clear()
    assert provenance.git_revision(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC 12.2.0 \n",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\n", "560.35.03"),
        ("something else\n", None),
    ],
)
def test_driver(text: str, driver: str | None, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(text)
    assert provenance.driver(tmp_path / "version") == driver
    assert provenance.driver(tmp_path / "absent") is None
