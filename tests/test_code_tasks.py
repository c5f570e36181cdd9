"""humaneval and mbpp on local data: lm-eval's own prompts, and the verdicts of a plain Python."""

import io
import json
import os
import random
import subprocess
import sys
import tokenize
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from odb_dllm import sandbox, tasks
from odb_dllm.errors import InputError
from odb_dllm.sandbox import code_eval

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

LM_EVAL_TASKS = Path(lm_eval.tasks.__file__).parent
COUNTS = {"humaneval": 164, "mbpp": 500}
BROKEN = int(os.environ.get("ODB_DLLM_TEST_BROKEN", "60"))  # of each benchmark's solutions; 500 covers all
DATA_KEYS = {"dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "metadata"}
SWAPS = {"+": "-", "-": "+", "*": "+", "/": "*", "<": ">=", ">": "<=", "<=": ">", ">=": "<", "==": "!=", "!=": "=="}
SWAPS |= {"and": "or", "or": "and", "True": "False", "False": "True", "min": "max", "max": "min", "in": "is"}


@pytest.fixture(scope="session")
def data() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
    if not all((folder / name / "test.jsonl").is_file() for name in COUNTS):
        pytest.skip(f"no humaneval and mbpp under {folder}: set DATA_DIR")
    return folder


def documents(data: Path, name: str) -> list[dict[str, Any]]:
    text = (data / name / "test.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


# Prompts


def local_task(data: Path, name: str) -> Any:
    with tasks.local_data(data) as local:
        return tasks.make_manager([name], local, [], {}).load([name])["tasks"][name]


def own_task(data: Path, name: str) -> Any:
    """lm-eval's own YAML with its dataset read from ``data``."""
    code_eval.lm_eval_utils(name)  # its utils.py cannot be imported without a network
    config = load_yaml(LM_EVAL_TASKS / name / f"{name}.yaml")
    files = {"data_files": {"test": str(data / name / "test.jsonl")}}
    return ConfigurableTask(config={**config, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": files})


@pytest.mark.parametrize("name", COUNTS)
def test_prompts_are_lm_evals_own_byte_for_byte(data: Path, name: str) -> None:
    ours, own = local_task(data, name), own_task(data, name)
    for task in (ours, own):
        task.set_fewshot_seed(1234)
        task.build_all_requests()
    mine, theirs = ([each.args for each in task.instances] for task in (ours, own))
    assert len(mine) == COUNTS[name]
    assert mine == theirs
    targets = [[task.doc_to_target(doc) for doc in task.eval_docs] for task in (ours, own)]
    assert targets[0] == targets[1]


@pytest.mark.parametrize("name", COUNTS)
def test_all_but_the_data_is_lm_evals_own(data: Path, name: str) -> None:
    ours, own = local_task(data, name), own_task(data, name)
    assert without_addresses(ours.dump_config()) == without_addresses(own.dump_config())
    assert ours.UNSAFE_CODE
    assert list(ours._metric_fn_list) == list(own._metric_fn_list)
    answers = ["    return 1\n", "```python\npass\n```", "[DONE]"]
    docs = [dict(doc) for doc in list(ours.eval_docs)[: len(answers)]]
    filtered = []
    for task in (ours, own):
        task.build_all_requests(limit=len(answers))
        for instance, answer in zip(task.instances, answers, strict=True):
            instance.resps = [answer]
        task.apply_filters()
        filtered.append([instance.filtered_resps for instance in task.instances])
    assert filtered[0] == filtered[1]
    assert len(filtered[0]) == len(docs)


def without_addresses(config: dict[str, Any]) -> str:
    """A task's configuration as text; functions are dumped as source, or by name."""
    kept = {key: value for key, value in config.items() if key not in DATA_KEYS}
    return json.dumps(kept, sort_keys=True, default=lambda function: function.__name__)


def test_fewshot_examples_of_mbpp_are_in_the_prompt(data: Path) -> None:
    task = local_task(data, "mbpp")
    task.build_all_requests(limit=1)
    prompt = task.instances[0].args[0]
    assert prompt.count("[BEGIN]\n") == 4
    assert prompt.count("[DONE]") == 3
    assert "\r\n" in prompt  # as published


@pytest.mark.parametrize("name", COUNTS)
def test_the_flag_is_required(data: Path, name: str) -> None:
    with tasks.local_data(data) as local:
        manager = tasks.make_manager([name], local, [], {})
        with pytest.raises(InputError, match="--confirm_run_unsafe_code"):
            tasks.check(manager, [name], local, unsafe_allowed=False)
        tasks.check(manager, [name], local, unsafe_allowed=True)


def test_other_splits_are_read(data: Path) -> None:
    splits = local_task(data, "mbpp").dataset
    assert {name: len(split) for name, split in splits.items()} == {
        "test": 500,
        "train": 374,
        "validation": 90,
        "prompt": 10,
    }


# Scores


@dataclass(frozen=True)
class Problem:
    head: str  # of the program, as the prompt gives it
    solution: str
    test: str

    def program(self, solution: str) -> str:
        return f"{self.head}{solution}\n{self.test}"


def problems(data: Path, name: str) -> list[Problem]:
    docs = documents(data, name)
    if name == "mbpp":
        return [Problem("", doc["code"], "\n".join(doc["test_list"])) for doc in docs]
    return [
        Problem(doc["prompt"], doc["canonical_solution"], f"{doc['test']}\ncheck({doc['entry_point']})") for doc in docs
    ]


def broken(problem: Problem, seed: int) -> str:
    """The solution with one token changed: an operator swapped, a number or a name replaced."""
    text = f"{problem.head}{problem.solution}".replace("\r\n", "\n")
    first_line = problem.head.count("\n")
    lines = text.split("\n")
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.start[0] > first_line]
    choices = [t for t in tokens if t.string in SWAPS or t.type in (tokenize.NAME, tokenize.NUMBER)]
    token = random.Random(seed).choice(choices)
    other = SWAPS.get(token.string) or ("7" if token.type == tokenize.NUMBER else f"{token.string}x")
    row, start = token.start[0] - 1, token.start[1]
    lines[row] = lines[row][:start] + other + lines[row][token.end[1] :]
    return "\n".join(lines)[len(problem.head) :]


def passes_by_hand(program: str) -> bool:
    """Whether a plain Python reaches the end of ``program`` within the reference's 3 s."""
    code = "import sys; text = sys.stdin.buffer.read().decode(); exec(text, {}); print('END', file=sys.__stderr__)"
    command = [sys.executable, "-s", "-S", "-B", "-c", code]
    try:
        done = subprocess.run(
            command, input=program.encode(), capture_output=True, timeout=6, env={"PYTHONHASHSEED": "0"}, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return False
    return done.stderr == b"END\n"


def by_hand(programs: list[str]) -> list[bool]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(passes_by_hand, programs))


@pytest.mark.parametrize("name", COUNTS)
def test_canonical_solutions_all_pass(data: Path, name: str) -> None:
    listed = problems(data, name)
    assert len(listed) == COUNTS[name]
    scores, results = code_eval.CodeEval().compute(
        predictions=[[p.head + p.solution] for p in listed], references=[p.test for p in listed], k=[1]
    )
    failed = [task for task, each in results.items() if not each[0][1]["passed"]]
    needs_setup = [i for i, doc in enumerate(documents(data, name)) if doc.get("test_setup_code")]
    assert failed == needs_setup  # lm-eval's own tasks leave that code out, so those fail there as well
    assert by_hand([listed[i].program(listed[i].solution) for i in failed]) == [False] * len(failed)
    assert scores == {"pass@1": pytest.approx(1 - len(failed) / len(listed))}


def test_mbpps_problem_with_setup_code_passes_with_it(data: Path) -> None:
    docs = [doc for doc in documents(data, "mbpp") if doc["test_setup_code"]]
    assert len(docs) == 1
    for doc in docs:
        program = "\n".join([doc["code"], doc["test_setup_code"], *doc["test_list"]])
        assert sandbox.run(program, code_eval.LIMITS).passed


@pytest.mark.parametrize("name", COUNTS)
def test_broken_solutions_are_judged_as_by_hand(data: Path, name: str) -> None:
    listed = problems(data, name)
    chosen = random.Random(3).sample(range(len(listed)), min(BROKEN, len(listed)))
    programs = [listed[i].program(broken(listed[i], seed=i)) for i in chosen]
    expected = by_hand(programs)
    got = [outcome.passed for outcome in sandbox.run_many(programs, code_eval.LIMITS)]
    assert [i for i, mine, hand in zip(chosen, got, expected, strict=True) if mine != hand] == []
    assert expected.count(False) > len(expected) // 2
    print(f"{name}: {len(programs)} broken, {expected.count(True)} of them pass by hand and here")


@pytest.mark.parametrize("name", COUNTS)
def test_the_tasks_score_answers(data: Path, name: str) -> None:
    task = local_task(data, name)
    doc = task.eval_docs[0]
    good = doc["code"] if name == "mbpp" else doc["prompt"] + doc["canonical_solution"]
    forged = good.split("\n")[0] + "\nimport os\nprint('passed')\nos._exit(0)\n"
    scores = []
    for answer in (good, forged):
        result = task.process_results(doc, [answer if name == "mbpp" else [answer]])
        scores.append(next(iter(result.values())))
    assert scores == [1.0, 0.0]


def test_pass_at_k_is_the_published_estimate() -> None:
    assert code_eval.estimate(10, 0, 1) == 0.0
    assert code_eval.estimate(10, 3, 1) == pytest.approx(0.3)
    assert code_eval.estimate(10, 3, 5) == pytest.approx(1 - 21 / 252)
    assert code_eval.estimate(4, 2, 3) == 1.0


def test_pass_at_1_is_averaged_over_problems() -> None:
    tests = ["assert f() == 1", "assert f() == 2"]
    one, two = "def f(): return 1", "def f(): return 2"
    assert code_eval.pass_at_1(tests, [[one, two], [two]]) == pytest.approx(0.75)
    scores, results = code_eval.CodeEval().compute(predictions=[[one, two], [two]], references=tests)
    assert scores == {"pass@1": pytest.approx(0.75)}
    assert [result["passed"] for _, result in results[0]] == [True, False]
    assert "AssertionError" in results[0][1][1]["result"]
    with pytest.raises(ValueError, match="zip"):
        code_eval.pass_at_1(tests, [[one]])
