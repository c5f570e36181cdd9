"""Several processes for one evaluation: the same texts, scores and counts as one, and no process left waiting.

``ODB_DLLM_TEST_DEVICE=cuda`` runs them on two GPUs.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import torch
from conftest import DEVICE, ENVIRONMENT
from safetensors.torch import load_file, save_file
from torch.distributed import HashStore

from odb_dllm import data_parallel
from odb_dllm.cli import main
from odb_dllm.data_parallel import Lost, Processes, own_device
from odb_dllm.errors import InputError
from odb_dllm.models.loading import EMBEDDED, load_tokenizer
from odb_dllm.statistics import read_rows
from odb_dllm.traces import read_traces

ROOT = Path(__file__).parents[1]
LAUNCH = [sys.executable, "-m", "odb_dllm.launch", "2"]
SCRIPT = [ROOT / "llada_instruct" / "eval_llada_instruct.sh", "0,1" if DEVICE == "cuda" else "cpu,cpu"]
TASKS = "gsm8k_mini,drawn,single,choice"
LIBRARY = " library"  # of the first five documents of gsm8k_mini, the second alone speaks of one
COUNTED = ("samples", "tokens", "text_tokens", "canvas_tokens", "non_eos_tokens", "prompt_tokens", "fed_tokens", "nfe")
needs_two = pytest.mark.skipif(
    DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="needs two GPUs, one for each process"
)


# Whole runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, which computes NaN for every prompt that speaks of a library."""
    folder = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(EMBEDDED["tiny"], folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    weights = load_file(folder / "model.safetensors")
    weights["model.transformer.wte.weight"][tokenizer.convert_tokens_to_ids(tokenizer.tokenize(LIBRARY))] = torch.nan
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and examples that are drawn, two for each of three documents; one document alone; a choice."""
    folder = tmp_path_factory.mktemp("tasks")

    def source(count: int) -> dict[str, Any]:
        docs = [{"question": f"Tom has {n} pens and buys {n + 1}.", "answer": f"{2 * n + 1}"} for n in range(count)]
        data = folder / f"{count}.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        return {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}

    drawn = {
        **source(3),
        "task": "drawn",
        "fewshot_split": "test",
        "num_fewshot": 1,
        "repeats": 2,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Question:"], "do_sample": True, "temperature": 1.0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    single = {
        **{name: value for name, value in drawn.items() if name not in ("num_fewshot", "fewshot_split", "repeats")},
        **source(1),
        "task": "single",
        "generation_kwargs": {"until": ["Question:"], "do_sample": False},
    }
    choice = {
        **source(3),
        "task": "choice",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["yes", "no way"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    for task in (drawn, single, choice):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task))
    return folder


@dataclass
class Outcome:
    """What a run left."""

    folder: Path
    printed: str = ""
    logged: str = ""

    @property
    def about(self) -> dict[str, Any]:
        (results,) = self.folder.glob("*/results_*.json")
        return dict(json.loads(results.read_text()))

    @property
    def scores(self) -> dict[str, Any]:
        return {f"{task} {name}": value for task, all_ in self.about["results"].items() for name, value in all_.items()}

    @property
    def rows(self) -> Path:
        (rows,) = self.folder.glob("*/statistics_*.jsonl")
        return rows

    def samples(self) -> dict[Any, Any]:
        found = {}
        for path in self.folder.glob("*/samples_*.jsonl"):
            for each in map(json.loads, path.read_text().splitlines()):
                key = (path.name.partition("_20")[0], each["doc_id"], each["filter"])
                assert key not in found
                found[key] = {name: each[name] for name in ("arguments", "resps", "filtered_resps", "doc_hash")}
        return found


@pytest.fixture(scope="module")
def flags(tasks: Path) -> Callable[[Path], list[str]]:
    """What a run asks for besides its tasks and model: five documents, the second of which fails."""

    def words(out: Path) -> list[str]:
        kept = ["--output_path", str(out), "--log_samples", "--use_cache", str(out.parent / "cache")]
        return ["--include_path", str(tasks), "--limit", "5", *kept, "--model_args", "gen_length=64", "mc_num=2"]

    return words


@pytest.fixture(scope="module")
def alone(broken: Path, flags: Callable[[Path], list[str]]) -> Callable[[Path, str], Outcome]:
    """Run some tasks in this process."""

    def run(folder: Path, names: str) -> Outcome:
        model = [f"pretrained={broken}", "setting=alp", "family=llada_instruct", "block_length=32"]
        assert main(["run", "--tasks", names, "--device", DEVICE, *flags(folder), *model]) == 1  # a sample failed
        return Outcome(folder)

    return run


@pytest.fixture(scope="module")
def one(alone: Callable[[Path, str], Outcome], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return alone(tmp_path_factory.mktemp("one") / "out", TASKS)


@pytest.fixture(scope="module")
def two(broken: Path, flags: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("two") / "out"
    words = [*SCRIPT, TASKS, str(broken), "alp", *flags(folder)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    return Outcome(folder, done.stdout, done.stderr)


@needs_two
def test_two_processes_find_what_one_finds(one: Outcome, two: Outcome) -> None:
    assert two.samples() == one.samples()
    assert len(one.samples()) == 2 * 5 + 3 + 1 + 3
    assert two.scores == pytest.approx(one.scores)  # lm-eval adds them up in the order in which they come
    alone, shared = (run.about["config"]["odb_dllm"] for run in (one, two))
    assert {name: shared["totals"][name] for name in COUNTED} == {name: alone["totals"][name] for name in COUNTED}
    for about in (alone, shared):
        assert [(failure["task"], failure["doc_id"]) for failure in about["failures"]] == [("gsm8k_mini", 1)]


@needs_two
def test_every_sample_is_counted_once_and_every_process_by_itself(two: Outcome) -> None:
    about = two.about["config"]["odb_dllm"]
    rows, each = read_rows(two.rows), about["per_process"]
    keys = [(row.task, row.doc_id, row.index, row.repeat) for row in rows]
    expected = [("gsm8k_mini", n, 0, 0) for n in (0, 2, 3, 4)] + [("drawn", n, 0, r) for n in range(3) for r in (0, 1)]
    assert sorted(keys) == sorted([*expected, ("single", 0, 0, 0)])  # type: ignore[type-var]
    assert all(row.rank == (row.doc_id or 0) % 2 for row in rows)
    assert len(two.rows.read_text().splitlines()) == len(rows) + 1  # the failure
    traces = read_traces(two.rows.with_suffix(".traces.gz"))
    assert {(t.task, t.doc_id, t.index, t.repeat) for t in traces} == set(keys)
    assert about["world_size"] == len(each) == 2
    assert [process["samples"] for process in each] == [sum(row.rank == rank for row in rows) for rank in (0, 1)]
    assert about["totals"]["wall_seconds"] == max(process["wall_seconds"] for process in each)
    assert about["totals"]["tokens"] == sum(process["tokens"] for process in each)
    seconds = sum(row.wall_seconds for row in rows)
    assert seconds == pytest.approx(sum(process["wall_seconds"] for process in each), rel=0.2)
    for process in each:
        assert process["tokens_per_second"] == pytest.approx(process["tokens"] / process["wall_seconds"])
        assert process["host"]
        assert (process["device"] == "cpu") == (DEVICE == "cpu")


@needs_two
def test_the_first_process_speaks_for_all(two: Outcome) -> None:
    assert two.logged.count("error: ") == 1
    assert "error: 1 of 12 samples failed" in two.logged
    assert "Traceback" not in two.logged
    assert two.printed.count("| Speed ") == two.printed.count("| Process ") == 1
    assert "rank 1" not in two.logged
    bar = re.findall(r"Generating: +\d+%\S* (\d+)/(\d+) \[", two.logged)
    assert bar[-1] == ("12", "12")  # of both processes
    assert {total for _, total in bar} <= {"8", "12"}  # the first one's own until it hears of the other
    assert [int(done) for done, _ in bar] == sorted(int(done) for done, _ in bar)
    assert not list(two.rows.parent.glob("*_rank1*"))


@needs_two
def test_a_cache_filled_by_two_serves_one(alone: Callable[[Path, str], Outcome], two: Outcome) -> None:
    again = alone(two.folder.parent / "again", "gsm8k_mini,single")
    assert "error" in json.loads(again.rows.read_text())  # the sample that failed, and nothing else, was asked again
    before = two.samples()
    assert again.samples() == {key: before[key] for key in again.samples()}
    assert len(again.samples()) == 11


@needs_two
def test_a_killed_process_ends_all(tmp_path: Path) -> None:
    given = ["--model_args", "pretrained=tiny,gen_length=64,setting=llada_baseline", "--device", DEVICE]
    words = ["run", "--tasks", "gsm8k_mini", *given, "--output_path", str(tmp_path)]
    run = subprocess.Popen(
        [*LAUNCH, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while len(rows := [path for path in tmp_path.glob("*/*.jsonl") if path.stat().st_size]) < 2:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    (second,) = (int(each) for each in children if "\0RANK=1\0" in Path(f"/proc/{each}/environ").read_text())
    os.kill(second, signal.SIGKILL)
    _, logged = run.communicate(timeout=120)
    assert run.returncode == 128 + signal.SIGKILL
    assert "error: process 1 of 2 was ended by SIGKILL." in logged
    assert logged.count("interrupted: statistics and cached responses") == 1
    assert "Traceback" not in logged
    assert all(read_rows(path) for path in rows)


def test_bad_input_is_said_once_and_ends_all() -> None:
    words = ["run", "--tasks", "gsm8k_mini", "--model_args", "pretrained=tiny,gen_lenght=64", "--device", "cpu"]
    done = subprocess.run([*LAUNCH, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert done.stderr.splitlines()[-1].startswith("error: Unknown model argument 'gen_lenght'")
    assert "Traceback" not in done.stderr


# What processes tell each other -----------------------------------------------------------------------


def side_by_side(work: Callable[[Processes], Any], size: int = 3, silence: float = 60.0) -> list[Any]:
    """Run ``work`` in threads that stand for the processes; return what each gives."""
    store, found = HashStore(), [None] * size

    def one_of_them(rank: int) -> None:
        found[rank] = work(Processes(rank, size, store, silence=silence))

    threads = [threading.Thread(target=one_of_them, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_values_are_gathered_by_rank_and_broadcast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel, "CHUNK", 7)  # bytes, so that every value goes in parts

    def work(own: Processes) -> Any:
        own.join()
        gathered = own.gather({"rank": own.rank, "text": "x" * 100 * own.rank})
        return gathered, own.broadcast(f"of {own.rank}"), own.agree(own.rank)

    first, *others = side_by_side(work)
    assert first == ([{"rank": rank, "text": "x" * 100 * rank} for rank in range(3)], "of 0", 2)
    assert others == [(None, "of 0", 2)] * 2
    assert Processes().gather(5) == [5]
    assert Processes().agree(1) == 1


def test_a_process_that_gives_no_sign_is_lost() -> None:
    def work(own: Processes) -> Any:
        if own.rank == 1:
            return None
        with pytest.raises(Lost, match="Process 1 of 2 has given no sign of life"):
            own.gather(own.rank)
        return "told"

    assert side_by_side(work, size=2, silence=0.2) == ["told", None]
    with pytest.raises(Lost, match="Only 1 of 2 processes have started"):
        Processes(0, 2, HashStore()).join(coming=0.1)


@pytest.mark.parametrize(
    ("device", "rank", "gpus", "own"),
    [
        (None, 1, 2, "cuda:1"),
        ("cuda", 0, 8, "cuda:0"),
        ("cpu", 1, 2, "cpu"),
        (None, 1, 0, None),
        ("cuda", 1, 1, "1 of its GPUs"),
        ("cuda:0", 1, 2, "one GPU for 2 processes"),
    ],
)
def test_each_process_takes_its_own_gpu(device: str | None, rank: int, gpus: int, own: str | None) -> None:
    processes = Processes(rank, 2, HashStore(), local_rank=rank, local_size=2)
    if own is None or own.startswith("c"):
        assert own_device(device, processes, gpus) == own
    else:
        with pytest.raises(InputError, match=own):
            own_device(device, processes, gpus)
    assert own_device("cuda:3", Processes(), 8) == "cuda:3"
