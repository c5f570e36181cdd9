"""Tasks: local data in place of downloads, the checks before a model is made, what a task tells the model."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from odb_dllm import tasks
from odb_dllm.errors import InputError

LM_EVAL_TASKS = Path(lm_eval.tasks.__file__).parent
PROBLEM = {"question": "Ann has 2 pens and buys 3. How many?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture
def made_data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    for split, count in (("train", 8), ("test", 3)):
        docs = [{**PROBLEM, "question": f"{split} {i}: {PROBLEM['question']}"} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return folder.parent


def real_data() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "gsm8k" / "test.jsonl").is_file():
        pytest.skip(f"no gsm8k under {folder}: set DATA_DIR")
    return folder


def contexts(task: Any, count: int, shots: int) -> list[str]:
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests(limit=count)
    return [instance.args[0] for instance in task.instances]


@pytest.mark.parametrize("shots", [0, 5])
def test_local_gsm8k_is_lm_evals_own_but_for_the_data(shots: int) -> None:
    data = real_data()
    config = load_yaml(LM_EVAL_TASKS / "gsm8k" / "gsm8k.yaml")
    files = {split: str(data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": files})
    own = ConfigurableTask(config={k: v for k, v in config.items() if k != "tag"})
    with tasks.local_data(data) as local:
        ours = tasks.make_manager(["gsm8k"], local, [], {}).load(["gsm8k"])["tasks"]["gsm8k"]
        prompts = contexts(ours, 5, shots)
    assert len(prompts) == 5
    assert prompts == contexts(own, 5, shots)
    data_keys = {"dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "metadata"}
    mine, theirs = ours.dump_config(), own.dump_config()
    assert {k: v for k, v in mine.items() if k not in data_keys} == {
        k: v for k, v in theirs.items() if k not in data_keys
    }
    assert len(ours.eval_docs) == 1319


@pytest.mark.parametrize("name", ['an "odd" folder', "da[1]ta", "what?*", "a::b"])
def test_paths_with_odd_characters_are_read(name: str, made_data: Path) -> None:
    odd = made_data.parent / name
    made_data.rename(odd)
    with tasks.local_data(odd) as local:
        assert "gsm8k" not in local.missing
        task = tasks.make_manager(["gsm8k"], local, [], {}).load(["gsm8k"])["tasks"]["gsm8k"]
        assert len(task.eval_docs) == 3


def test_asking_for_local_tasks_alone_skips_lm_evals_thousands(made_data: Path) -> None:
    with tasks.local_data(made_data) as local:
        assert "hellaswag" not in tasks.make_manager(["gsm8k"], local, [], {}).all_tasks


def test_no_data_dir_renders_nothing() -> None:
    with tasks.local_data(None) as local:
        assert local.folder is None


def test_missing_folder_and_missing_files(made_data: Path) -> None:
    with pytest.raises(InputError, match="is no folder"), tasks.local_data(made_data / "nope"):
        pass
    (made_data / "gsm8k" / "test.jsonl").unlink()
    with tasks.local_data(made_data) as local:
        assert local.missing["gsm8k"].name == "test.jsonl"
        manager = index(LM_EVAL_TASKS / "gsm8k")
        with pytest.raises(InputError, match=r"'gsm8k' lacks .*test\.jsonl"):
            tasks.check(manager, ["gsm8k"], local, unsafe_allowed=False)


def index(*folders: Path) -> TaskManager:
    return TaskManager(include_path=list(folders), include_defaults=False)


def test_unknown_tasks_are_refused_with_near_names() -> None:
    with pytest.raises(InputError, match=r"did you mean 'gsm8k'.*humaneval"):
        tasks.check(index(LM_EVAL_TASKS / "gsm8k"), ["gms8k"], tasks.LocalData(), unsafe_allowed=False)


@pytest.mark.parametrize("name", ["humaneval", "human*"])
def test_unsafe_tasks_need_their_flag(name: str) -> None:
    manager = index(LM_EVAL_TASKS / "humaneval")
    with pytest.raises(InputError, match="--confirm_run_unsafe_code"):
        tasks.check(manager, [name], tasks.LocalData(), unsafe_allowed=False)
    tasks.check(manager, [name], tasks.LocalData(), unsafe_allowed=True)


def test_a_folder_named_like_a_task_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval" / "other.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--confirm_run_unsafe_code"):
        tasks.check(index(LM_EVAL_TASKS / "humaneval"), ["humaneval"], tasks.LocalData(), unsafe_allowed=False)


def test_yamls_are_tasks_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manager, local = index(tasks.EMBEDDED), tasks.LocalData()
    (tmp_path / "mine").mkdir()
    for name in ("", "mine", "mine/*.yaml", "mine/a.yaml"):
        with pytest.raises(InputError, match="Unknown task"):
            tasks.check(manager, [name], local, unsafe_allowed=False)
    (tmp_path / "mine" / "a.yaml").write_text("task: a\n")
    for names in (["mine"], ["mine/*.yaml"], ["mine/a.yaml", "gsm8k_mini"]):
        tasks.check(manager, names, local, unsafe_allowed=False)
    with pytest.raises(InputError, match="must be the only task"):  # as lm-eval has it
        tasks.check(manager, ["mine", "gsm8k_mini"], local, unsafe_allowed=False)


def test_empty_names_are_left_out() -> None:
    assert tasks.split("a, b,") == tasks.split(["a", "", "b"]) == ["a", "b"]
    with pytest.raises(InputError, match="No task"):
        tasks.split([" ,", ""])


def test_groups_and_tags_stand_for_their_tasks(tmp_path: Path) -> None:
    for name, text in {
        "a": "task: a\ntag: both\nunsafe_code: true\n",
        "b": "task: b\ntag: both\n",
        "group": "group: g\ntask:\n  - a\n  - task: b\n",
        "outer": "group: outer\ntask: [g]\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    manager = index(tmp_path)
    for name in ("g", "outer", "both"):
        assert sorted(tasks.leaves(manager, name)) == ["a", "b"]
        with pytest.raises(InputError, match="'a' runs code"):
            tasks.check(manager, [name], tasks.LocalData(), unsafe_allowed=False)


def test_every_local_task_names_itself_and_its_files() -> None:
    paths = list(tasks.LOCAL.rglob("*.yaml"))
    assert paths
    for path in paths:
        assert "task:" in path.read_text() or "group:" in path.read_text()


def test_the_embedded_benchmark_is_always_found() -> None:
    manager = tasks.make_manager(["gsm8k_mini"], tasks.LocalData(), [], {})
    assert "gsm8k_mini" in manager.all_subtasks
    task = manager.load(["gsm8k_mini"])["tasks"]["gsm8k_mini"]
    assert len(task.eval_docs) == 1000
