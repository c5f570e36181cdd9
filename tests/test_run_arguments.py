"""Arguments of an evaluation that cannot be meant: told in one sentence before the weights are read."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from conftest import ENVIRONMENT

from odb_dllm import lm_eval_model
from odb_dllm.cli import main
from odb_dllm.errors import InputError
from odb_dllm.lm_eval_texts import rename
from odb_dllm.run_arguments import check

pytestmark = pytest.mark.usefixtures("elsewhere")
RUN = ["run", "--tasks", "gsm8k_mini", "--model_args", "pretrained=tiny,gen_length=32", "--device", "cpu"]


def config(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"limit": None, "num_fewshot": None, "samples": None, "include_path": None, **values})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "0"], "--limit takes a whole number of at least 1, or a share between 0 and 1, not 0.0."),
        (["--limit", "-1"], "--limit takes"),
        (["--limit", "2.5"], "--limit takes"),
        (["--limit", "nan"], "--limit takes"),
        (["--limit", "inf"], "--limit takes"),
        (["--num_fewshot", "-1"], "--num_fewshot takes a whole number of at least 0, not -1."),
        (["--num_fewshot", "99"], "A task has 8 examples to show, and more were asked for: give --num_fewshot"),
        (["--include_path", "nosuch"], "--include_path 'nosuch' is no folder."),
        (["--samples", "[0]"], '--samples takes JSON like {"gsm8k_mini": [0, 1]}, or a file of it.'),
        (["--samples", "nosuch.json"], "--samples takes JSON"),
        (
            ["--samples", '{"gsm8k_mini": [99999]}'],
            "gsm8k_mini has 1000 documents: --samples takes 0 to 999, not 99999.",
        ),
        (["--samples", '{"gsm8k_mni": [0]}'], "did you mean 'gsm8k_mini'"),
        (["--samples", '{"gsm8k_mini": [-1]}'], "--samples numbers documents from 0"),
        (["--samples", '{"gsm8k_mini": []}'], "--samples numbers documents from 0"),
        (["--samples", '{"gsm8k_mini": [2, 0]}'], "each once and in rising order"),  # else doc ids are mixed up
    ],
)
def test_one_sentence_before_the_model_is_loaded(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    assert main([*RUN, *words]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


def test_a_task_that_draws_its_examples_says_so_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "documents.jsonl").write_text('{"q": "1", "a": "1"}\n{"q": "2", "a": "2"}\n')
    task = {"task": "drawn", "dataset_path": "json", "test_split": "test", "fewshot_split": "train"}
    task |= {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "num_fewshot": 5}
    task |= {
        "dataset_kwargs": {"data_files": {split: str(tmp_path / "documents.jsonl") for split in ("train", "test")}}
    }
    (tmp_path / "tasks" / "drawn.yaml").write_text(json.dumps(task))
    words = ["--tasks", "drawn", "--include_path", "tasks", "--model_args", "pretrained=tiny,gen_length=32"]
    assert main(["run", *words]) == 2
    assert "give --num_fewshot a smaller number" in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_can_be_meant_passes(tmp_path: Path) -> None:
    for values in ({}, {"limit": 0.5}, {"limit": 3.0}, {"limit": 1}, {"num_fewshot": 0}, {"samples": {"a": [0, 7]}}):
        check(config(**values))
    check(config(include_path=str(tmp_path)))
    for values in ({"limit": True}, {"limit": "3"}, {"num_fewshot": 1.5}, {"samples": {"a": [True]}}):  # of a file
        with pytest.raises(InputError):
            check(config(**values))


@pytest.mark.parametrize("verb", [["ls", "tasks"], ["validate", "--tasks", "gsm8k_mini"], ["calibrate", "--task", "x"]])
def test_other_verbs_refuse_a_folder_that_is_not_there(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--include_path", "nosuch"]) == 2
    assert capsys.readouterr().err.strip().endswith("error: --include_path 'nosuch' is no folder.")


def test_a_run_outside_a_checkout_is_quiet_about_git(tmp_path: Path) -> None:
    words = ["--limit", "1", "--samples", '{"gsm8k_mini": [3]}']
    argv = [sys.executable, "-m", "odb_dllm", *RUN, "--output_path", "out"]
    environment = {**ENVIRONMENT, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run([*argv, *words[2:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fatal" not in done.stderr
    (results,) = Path("out").glob("*/results_*.json")
    assert json.loads(results.read_text())["git_hash"] is None
    assert json.loads(results.read_text())["n-samples"]["gsm8k_mini"]["effective"] == 1


# Help -------------------------------------------------------------------------------------------------


def test_help_names_our_model_and_an_example_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    example = "odb-dllm run --tasks gsm8k_mini --model_args pretrained=tiny,setting=jump-share --limit 5"
    for words in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        shown = capsys.readouterr().out
        assert example in shown
        assert "lm-eval ls" not in shown
        assert "Language Model Evaluation Harness" not in shown
    assert "(default: odb_dllm)" in shown
    assert "(default: hf)" not in shown
    assert "odb-dllm ls tasks" in shown


def test_help_of_another_lm_eval_is_taken_as_it_is() -> None:
    bare = argparse.ArgumentParser("lm-eval")
    rename(bare, {})
    run = argparse.ArgumentParser("lm-eval run")
    run.add_argument("--tasks")
    rename(bare, {"run": run})
    assert (bare.prog, run.prog) == ("odb-dllm", "odb-dllm run")
