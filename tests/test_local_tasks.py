"""MATH and BIG-Bench Hard from local files: everything but the data is lm-eval's own, byte for byte."""

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import lm_eval
import lm_eval.tasks
import lm_eval.utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from odb_dllm import tasks
from odb_dllm.cli import main
from odb_dllm.data import BBH_SUBTASKS, BENCHMARKS, MATH_SUBJECTS, SHOWN, Source
from odb_dllm.errors import InputError
from odb_dllm.tasks.documents import load

LM_EVAL_TASKS = Path(lm_eval.tasks.__file__).parent
BBH_YAMLS = sorted((LM_EVAL_TASKS / "bbh" / "cot_fewshot").glob("[a-z]*.yaml"))
MATH_YAMLS = sorted((LM_EVAL_TASKS / "minerva_math").glob("minerva_math_*.yaml"))
GROUP_YAMLS = [
    LM_EVAL_TASKS / "benchmarks" / "minerva_math.yaml",
    LM_EVAL_TASKS / "bbh" / "cot_fewshot" / "_bbh.yaml",
    LM_EVAL_TASKS / "bbh" / "cot_fewshot" / "_bbh_cot_fewshot.yaml",
]
DATA_KEYS = {"dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "metadata"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and templates compiled once: lm-eval compiles them anew for every example of every prompt."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(lm_eval.utils.env, "from_string", functools.cache(lm_eval.utils.env.from_string))


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "bbh").is_dir() or not (folder / "math").is_dir():
        pytest.skip(f"no bbh and math under {folder}: set DATA_DIR")
    return folder


@pytest.fixture(scope="module")
def manager(data: Path) -> Iterator[TaskManager]:
    with tasks.local_data(data) as local:
        yield tasks.make_manager(["bbh", "minerva_math"], local, [], {})


@pytest.fixture
def made_data(tmp_path: Path) -> Path:
    """A folder with two documents per subject and subtask."""
    for name in BBH_SUBTASKS:
        examples = [{"input": f"{name} {i}?", "target": f"({'AB'[i]})"} for i in range(2)]
        write(tmp_path / "data" / "bbh" / f"{name}.json", json.dumps({"canary": "", "examples": examples}))
    lines = [
        {"problem": f"{s} {i}", "solution": f"$\\boxed{{{i}}}$", "subject": s} for s in MATH_SUBJECTS for i in (1, 2)
    ]
    write(tmp_path / "data" / "math" / "test.jsonl", "\n".join(map(json.dumps, lines)))
    return tmp_path / "data"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def bbh_files(config: dict[str, Any], data: Path, _: Path) -> dict[str, Any]:
    return {"data_files": {"test": str(data / "bbh" / f"{config['dataset_name']}.json")}, "field": "examples"}


def math_files(config: dict[str, Any], data: Path, scratch: Path) -> dict[str, Any]:
    lines = (data / "math" / "test.jsonl").read_text().split("\n")
    chosen = [line for line in lines if line and json.loads(line)["subject"] == config["dataset_name"]]
    return {"data_files": {"test": str(write(scratch / "subject.jsonl", "\n".join(chosen)))}}


def lm_evals_own(path: Path, data: Path, scratch: Path) -> ConfigurableTask:
    """The task of lm-eval's YAML on local files, read by the hub's own library."""
    config = load_yaml(path)
    files = (bbh_files if "bbh" in path.parts else math_files)(config, data, scratch)
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs=files)
    config["metadata"] = dict(config["metadata"])
    return ConfigurableTask(config={k: v for k, v in config.items() if k != "tag"})


def requests(task: ConfigurableTask) -> list[Any]:
    """What a model is asked, and what each document's answer is, for all documents."""
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    return [(instance.args, instance.doc_id, task.doc_to_target(instance.doc)) for instance in task.instances]


def test_lm_eval_has_the_families() -> None:
    assert (len(BBH_YAMLS), len(MATH_YAMLS)) == (len(BBH_SUBTASKS), len(MATH_SUBJECTS)) == (27, 7)


@pytest.mark.parametrize("path", [*MATH_YAMLS, *BBH_YAMLS], ids=lambda path: path.stem)
def test_every_prompt_is_lm_evals_own(path: Path, manager: TaskManager, data: Path, tmp_path: Path) -> None:
    if path in MATH_YAMLS:
        pytest.importorskip("math_verify")
    own = lm_evals_own(path, data, tmp_path)
    ours = manager.load([own.config.task])["tasks"][own.config.task]
    mine, theirs = ours.dump_config(), own.dump_config()
    assert {k: v for k, v in mine.items() if k not in DATA_KEYS} == {
        k: v for k, v in theirs.items() if k not in DATA_KEYS
    }
    assert mine["metadata"]["version"] == theirs["metadata"]["version"]
    assert type(ours._filters[0]) is type(own._filters[0])
    asked = requests(ours)
    assert asked == requests(own)
    assert len(asked) == {**MATH_SUBJECTS, **BBH_SUBTASKS}[load_yaml(path, resolve_func=False)["dataset_name"]]
    for doc, other in list(zip(ours.eval_docs, own.eval_docs, strict=True))[:3]:
        answer = doc.get("solution") or f"So the answer is {doc['target']}."
        assert ours.process_results(doc, [answer]) == own.process_results(other, [answer])


@pytest.mark.parametrize("path", GROUP_YAMLS, ids=lambda path: path.stem)
def test_groups_are_lm_evals_own(path: Path, manager: TaskManager) -> None:
    theirs = load_yaml(path)
    entry = manager.task_index[theirs["group"]]
    assert str(LM_EVAL_TASKS) not in str(entry.yaml_path)
    assert entry.cfg == theirs
    assert set(tasks.leaves(manager, theirs["group"])) == set(theirs["task"]) <= set(manager.all_subtasks)


@pytest.mark.parametrize("group", ["bbh", "minerva_math"])
def test_groups_are_evaluated_from_files_alone(group: str, made_data: Path) -> None:
    if group == "minerva_math":
        pytest.importorskip("math_verify")
    with tasks.local_data(made_data) as local:
        manager = tasks.make_manager([group], local, [], {})
        tasks.check(manager, [group], local, unsafe_allowed=False)
        assert "hellaswag" not in manager.all_tasks  # no need of lm-eval's thousands
        results = lm_eval.simple_evaluate("dummy", tasks=[group], task_manager=manager, bootstrap_iters=0)
    count = 27 if group == "bbh" else 7
    assert len(results["group_subtasks"][group]) == count
    assert {n["original"] for n in results["n-samples"].values()} == {2}
    metric = "exact_match,get-answer" if group == "bbh" else "math_verify,none"
    assert results["groups"][group][metric] == 0


def test_what_is_there_is_local_and_what_is_not_is_told(made_data: Path) -> None:
    (made_data / "bbh" / "snarks.json").unlink()
    (made_data / "math" / "test.jsonl").unlink()
    with tasks.local_data(made_data) as local:
        assert sum(name.startswith(("bbh_", "minerva_math_")) for name in local.missing) == 1 + 7
        manager = tasks.make_manager(["bbh_cot_fewshot_navigate"], local, [], {})
        tasks.check(manager, ["bbh_cot_fewshot_navigate"], local, unsafe_allowed=False)
        assert "hellaswag" not in manager.all_tasks
        full = TaskManager(
            include_path=[str(LM_EVAL_TASKS / "bbh"), str(LM_EVAL_TASKS / "benchmarks"), str(local.folder)],
            include_defaults=False,
        )
        for name, file in {"bbh": r"snarks\.json", "minerva_math": r"math/test\.jsonl"}.items():
            assert not tasks._complete(manager, name)
            with pytest.raises(InputError, match=rf"lacks .*{file}: DATA_DIR is incomplete"):
                tasks.check(full, [name], local, unsafe_allowed=False)


def test_lm_evals_tags_keep_all_their_tasks(made_data: Path) -> None:
    with tasks.local_data(made_data) as local:
        own = LM_EVAL_TASKS / "gsm_plus"
        manager = TaskManager(include_path=[str(own), str(local.folder)], include_defaults=False)
        assert "gsm_plus" in tasks.leaves(manager, "math_word_problems")
        assert not tasks._complete(manager, "math_word_problems")


def test_a_group_of_the_users_own_needs_the_whole_index(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "mine.yaml", "group: mine\ntask:\n  - group: inner\n    task: [hellaswag, gsm8k_mini]\n")
    manager = TaskManager(include_path=[str(tasks.EMBEDDED), str(tmp_path / "mine")], include_defaults=False)
    assert sorted(tasks.leaves(manager, "mine")) == ["gsm8k_mini", "hellaswag"]
    assert not tasks._complete(manager, "mine")


@pytest.mark.parametrize("trouble", ["math_verify", "antlr"])
def test_missing_packages_are_named(trouble: str, made_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lm_eval.tasks.minerva_math.utils", raising=False)
    if trouble == "math_verify":
        monkeypatch.setitem(sys.modules, "math_verify", None)
    else:
        pytest.importorskip("math_verify")
        monkeypatch.setattr("importlib.metadata.version", lambda _: "4.9.3")
    with tasks.local_data(made_data) as local:
        manager = tasks.make_manager(["minerva_math"], local, [], {})
        with pytest.raises(InputError, match=r"minerva_math_algebra' needs .*pip install sympy math_verify antlr4"):
            tasks.check(manager, ["minerva_math"], local, unsafe_allowed=False)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks.minerva_math.utils", raising=False)


@pytest.mark.parametrize(
    ("text", "field", "where", "complaint"),
    [
        ('{"a": "x"}\n{"a": \n', None, None, r"file, line 2: not JSON"),
        ('{"a": "x"}\n\n[1]\n', None, None, r"file, line 3: not a JSON object"),
        ("", None, None, "holds no document;"),
        ('{"a": "x"}', None, {"a": "y"}, "holds no document with a 'y'"),
        ('{"a": "x"}\n{"a": 1}', None, None, "differ in type"),
        ('{\n"examples": [{"a": 1}\n', "examples", None, "line 3: not JSON"),
        ('{"examples": 3}', "examples", None, "no list 'examples'"),
        ('{"examples": [{"a": 1}, 2]}', "examples", None, r"examples\[1\]: not a JSON object"),
        ("[" * 100_000, None, None, "line 1: not JSON"),
    ],
)
def test_broken_files_are_one_sentence(text: str, field: Any, where: Any, complaint: str, tmp_path: Path) -> None:
    file = write(tmp_path / "file", text)
    with pytest.raises(InputError, match=complaint):
        load({"test": str(file)}, field=field, where=where, version=1.0)


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load({"test": str(tmp_path / "none")})
    write(tmp_path / "latin", "").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(InputError, match="line 1: not UTF-8"):
        load({"test": str(tmp_path / "latin")})


def test_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "file", '{"a": "one\u2028two\x85", "b": 1}\r\n\ufeff{"a": "x", "b": 2}\n')
    assert load({"test": str(file)}, where={"b": 1})["test"].to_list() == [{"a": "one\u2028two\x85"}]


@pytest.mark.parametrize("task", ["gsm8k", "bbh", "minerva_math"])
def test_a_broken_file_is_told_before_a_model_is_made(
    task: str, made_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if task == "minerva_math":
        pytest.importorskip("math_verify")
    good = json.dumps({"question": "1 + 1?", "answer": "#### 2"})
    write(made_data / "gsm8k" / "train.jsonl", good)
    for file in ("bbh/snarks.json", "math/test.jsonl", "gsm8k/test.jsonl"):
        write(made_data / file, '{"examples": [')
    words = ["run", "--tasks", task, "--data_dir", str(made_data), "--device", "cpu"]
    assert main([*words, "--model_args", "pretrained=tiny"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert ", line 1: not JSON" in error


@pytest.fixture
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Benchmarks of a few documents, and a folder in which all of them are complete."""
    keys = {"text": str, "id": int}
    sources = {
        "lines": (
            Source("lines/a.jsonl", keys, {"a": 2}),
            Source("lines/b.jsonl", keys | {"part": str}, {"x": 1, "y": 2}, by="part"),
        ),
        "listed": tuple(Source(f"listed/{i}.json", keys, {str(i): 1}, field="examples") for i in range(11)),
    }
    monkeypatch.setattr("odb_dllm.data.BENCHMARKS", sources)
    folder = tmp_path / "small"
    doc = {"text": "t", "id": 1}
    write(folder / "lines" / "a.jsonl", "\n".join([json.dumps(doc)] * 2))
    write(folder / "lines" / "b.jsonl", "".join(json.dumps({**doc, "part": part}) + "\n" for part in "yxy"))
    for i in range(11):
        write(folder / "listed" / f"{i}.json", json.dumps({"examples": [doc]}))
    return folder


def checked(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["data", "check", str(folder), *more])
    return code, capsys.readouterr().out


def test_complete_data_is_said_to_be(small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(small_data, capsys)
    assert (code, text) == (
        0,
        "lines   complete    5 documents: a 2, x 1, y 2\n"
        "listed  complete    11 documents in 11 of 11 subtasks\n"
        "2 of 2 benchmarks are complete\n",
    )
    code, text = checked(small_data, capsys, "--json")
    assert code == 0
    assert json.loads(text)["lines"]["documents"] == {"a": 2, "x": 1, "y": 2}


def test_what_is_missing_or_flawed_is_named(small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = json.dumps({"text": "t", "id": 1, "part": "x"})
    lines = [good, '{"text": ', "", "3", '{"text": null, "part": "x"}', '{"text": "t", "id": "1", "part": "z"}']
    write(small_data / "lines" / "b.jsonl", "\n".join([*lines, *["?"] * SHOWN]))
    (small_data / "listed" / "3.json").unlink()
    (small_data / "listed" / "4.json").unlink()
    (small_data / "listed" / "4.json").mkdir()
    write(small_data / "listed" / "5.json", '{"examples": [{"text": "t", "id": 1}, {"id": 1}]}')
    code, text = checked(small_data, capsys)
    assert code == 1
    for line in (
        "lines   incomplete  3 of 5 documents: a 2, x 1, y 0",
        "lines/b.jsonl, line 2: not JSON (Expecting value)",
        "lines/b.jsonl, line 4: not a JSON object",
        "lines/b.jsonl, line 5: no 'text', 'id'",
        "lines/b.jsonl, line 6: 'id' is str, not int; part 'z' is unknown",
        "lines/b.jsonl: 4 more flaws",
        "lines/b.jsonl: 0 sound documents of y, and 2 were published",
        "listed  incomplete  9 of 11 documents in 9 of 11 subtasks",
        "listed/3.json: missing",
        "listed/4.json: no file that can be read",
        "listed/5.json, examples[1]: no 'text'",
        "0 of 2 benchmarks are complete",
    ):
        assert line in text


def test_a_benchmark_of_which_nothing_is_there(small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (small_data / "lines").iterdir():
        file.unlink()
    code, text = checked(small_data, capsys)
    assert code == 1
    assert "lines   missing     0 of 5 documents" in text


def test_no_folder_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    monkeypatch.delenv("DATA_DIR", raising=False)
    assert main(["data", "check"]) == 2
    assert "set DATA_DIR" in capsys.readouterr().err
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(["data", "check"]) == 1


def test_the_published_data_is_complete(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(data, capsys)
    if any(not (data / source.file).is_file() for sources in BENCHMARKS.values() for source in sources):
        pytest.skip("the folder lacks files")
    assert code == 0, text
    for count in ("8,792", "5,000", "6,511 documents in 27 of 27", "164", "974"):
        assert f"complete    {count}" in text
