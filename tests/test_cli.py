"""The odb-dllm command and the scripts in front of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import torch
from checkpoints import small_checkpoint
from conftest import ENVIRONMENT as INHERITED
from random_model import write_gsm8k, write_model

from odb_dllm import cli, lm_eval_model
from odb_dllm.cli import main
from odb_dllm.errors import InputError
from odb_dllm.statistics import read_rows

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **{k: v for k, v in INHERITED.items() if k not in ("DATA_DIR", "LMEVAL_LOG_LEVEL")},
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gsm8k(tmp_path_factory.mktemp("data"))


def words(model: Path, data: Path, *more: str, args: str = "") -> list[str]:
    given = f"pretrained={model},gen_length=32{',' + args if args else ''}"
    return ["--tasks", "gsm8k", "--data_dir", str(data), "--limit", "2", "--model_args", given, *more]


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("setting=jumpshare", "did you mean 'jump-share'"),
        ("family=lada", "Valid: llada_instruct, llada_1_5"),
        ("stteps=3", "did you mean 'steps'"),
        ("gen_length=100", "multiple of block_length 32"),
        ("dtype=int8", "Unknown dtype 'int8'"),
        ("gen_length=2048", "exceed the model's maximum of 2048"),
        ("trust_remote_code=true", "trust_remote_code must be left out"),
    ],
)
def test_bad_arguments(
    args: str, message: str, model: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    refused(words(model, data, args=args), message, capsys)


def refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_bad_folders_and_flags(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(words(Path("/no/such/model"), data), "is no folder", capsys)
    refused(words(model, tmp_path / "nope"), "DATA_DIR", capsys)
    refused(["--model_args", f"pretrained={model}"], "No task", capsys)
    refused(words(model, data, "--log_samples"), "--output_path", capsys)
    refused(words(model, data, "--config", "missing.yaml"), "Config file not found", capsys)
    refused(words(model, data, "--gen_kwargs", "{temperature"), "could not be read", capsys)


@pytest.mark.parametrize("made", ["--output_path", "statistics"])
def test_folders_that_cannot_be_written_are_refused_before_loading(
    made: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").touch()

    def asking(path: str) -> list[str]:
        return words(model, data, made, path) if made[0] == "-" else words(model, data, args=f"statistics={path}/x")

    refused(asking("file/out"), "cannot be made: Not a directory", capsys)
    monkeypatch.setattr(os, "access", lambda path, _: "closed" not in str(path))
    refused(asking("closed"), "cannot be written to", capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    refused(words(model, data, "--device", "cuda:0"), "CUDA", capsys)
    refused(words(model, data, args="device=cuda"), "CUDA", capsys)


def test_unknown_unsafe_and_unreachable_tasks(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from lm_eval.tasks import TaskManager

    index = TaskManager()  # takes seconds: make it once
    monkeypatch.setattr("odb_dllm.tasks.make_manager", lambda *_: index)
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))

    def asking(task: str) -> list[str]:
        return [
            "run",
            "--tasks",
            task,
            "--model_args",
            f"pretrained={model}",
            "--limit",
            "1",
            "--device",
            "cpu",
        ]

    refused(asking("gms8k"), "did you mean 'gsm8k'", capsys)
    refused(asking("mbpp"), "--confirm_run_unsafe_code", capsys)
    refused(asking("hellaswag"), "set DATA_DIR", capsys)
    assert main(["validate", "--tasks", "gsm8k,mbpp"]) == 0
    refused(["validate", "--tasks", "gsm8k,mbppp"], "did you mean 'mbpp'", capsys)


# What works -------------------------------------------------------------------------------------------


def test_settings_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    listed = capsys.readouterr().out
    assert "| jump-share " in listed
    turbo = next(line for line in listed.splitlines() if line.startswith("| odb-turbo "))
    assert turbo.endswith("| refresh=response:96 grow=256 ahead=1 |")
    assert main([]) == 0
    assert "settings" in capsys.readouterr().out
    assert main(["run"]) == 0
    assert capsys.readouterr().out.startswith("usage: odb-dllm run --model")
    for verb in ("run", "ls", "validate", "calibrate", "settings", "doctor", "data check", "bundle make"):
        with pytest.raises(SystemExit):
            main([*verb.split(), "--help"])
        assert capsys.readouterr().out.startswith(f"usage: odb-dllm {verb}")


@pytest.mark.parametrize("command", ["settings", "doctor", "data check . --json"])
def test_a_reader_that_goes_away_ends_the_command(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "odb_dllm", *command.split()]
    done = subprocess.run(argv, env=ENVIRONMENT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_lost_reader_is_no_lack_of_data() -> None:
    with pytest.raises(BrokenPipeError), cli._task_failures():
        raise BrokenPipeError
    with pytest.raises(InputError, match="data could not be had"), cli._task_failures():
        raise ConnectionError


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        ("calibrate --task gsm8k_mini", "calibrate.run", "no theta was chosen"),
        ("bundle make out", "bundle._check_out", "what was gathered is removed"),
        ("run --tasks gsm8k_mini", "cli._check_model", "statistics and cached responses"),
        ("settings", "settings_command.overview", "interrupted\n"),
        ("doctor", "doctor.main", "interrupted\n"),
    ],
)
def test_an_interrupt_says_what_is_kept(
    command: str, place: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"odb_dllm.{place}", interrupt)
    assert main(command.split()) == 130
    assert said in capsys.readouterr().err


def test_results_statistics_and_speed_of_a_run(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting in ("alp", "parallel"):
        cache = ["--use_cache", "cache/texts", "--output_path", "out"]
        assert main(words(model, data, *cache, args=f"setting={setting}")) == 0
        printed = capsys.readouterr().out
        assert printed.index("exact_match") < printed.index("tokens/s")  # speed comes below the accuracy
        assert f"{setting} (" in printed
    assert len(list((tmp_path / "cache").iterdir())) == 2  # one for each setting
    (folder,) = (tmp_path / "out").iterdir()
    results = sorted(folder.glob("results_*.json"))
    rows = sorted(folder.glob("statistics_*.jsonl"))
    assert [p.stem.partition("_")[2] for p in results] == [p.stem.partition("_")[2] for p in rows]
    assert [(row.task, row.doc_id) for row in read_rows(rows[0])] == [("gsm8k", 0), ("gsm8k", 1)]
    config = json.loads(results[0].read_text())["config"]
    assert config["odb_dllm"]["totals"]["samples"] == 2
    assert main(words(model, data, "--use_cache", "cache/texts", args="setting=alp")) == 0
    assert "all generated responses came from the cache" in capsys.readouterr().out


def test_the_embedded_model_solves_its_benchmark(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["--tasks", "gsm8k_mini", "--limit", "8", "--output_path", "out"]
    given = ["--model_args", "pretrained=tiny,gen_length=256"]
    for more in (["setting=jump-share"], ["setting=parallel", "--apply_chat_template"]):
        assert main([*args, *given, *more]) == 0
    for path in (tmp_path / "out").glob("tiny/results_*.json"):
        assert json.loads(path.read_text())["results"]["gsm8k_mini"]["exact_match,strict-match"] >= 0.8


def test_empty_task_names_are_left_out(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    given = ["--model_args", "pretrained=tiny,gen_length=32", "--limit", "1"]
    assert main(["--tasks", "gsm8k_mini,", *given]) == 0
    assert "exact_match" in capsys.readouterr().out
    refused(["--tasks", ",", *given], "No task", capsys)
    assert main(["validate", "--tasks", "gsm8k_mini,"]) == 0


def test_a_config_file_keeps_its_model_args(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        json.dumps(
            {
                "model": "odb_dllm",
                "model_args": {"pretrained": str(model), "setting": "alp", "gen_length": 32},
                "tasks": ["gsm8k"],
                "limit": 1,
                "output_path": "out",
            }
        )
    )
    assert main(["run", "--config", "run.yaml", "--data_dir", str(data)]) == 0
    (result,) = (tmp_path / "out").glob("*/results_*.json")
    assert json.loads(result.read_text())["config"]["odb_dllm"]["setting"]["name"] == "alp"


def test_the_command_fails_without_traceback(tmp_path: Path) -> None:
    for command in (
        ["-m", "odb_dllm"],
        ["-c", "import sys; from odb_dllm.cli import main; sys.exit(main())"],
    ):
        argv = [
            sys.executable,
            *command,
            "run",
            "--tasks",
            "gsm8k",
            "--model_args",
            "pretrained=tiny,setting=x",
        ]
        done = subprocess.run(argv, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("error: Unknown setting 'x'")
        assert "Traceback" not in done.stderr


# Scripts ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts beside a python that only tells how it was called, but for the names of folders."""
    for name in ("scripts", "llada_instruct", "llada_1_5"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1" != -I ] || exec "{sys.executable}" "$@"\necho "$CUDA_VISIBLE_DEVICES:$@"\n')
    (tmp_path / "checkout" / "odb_dllm").mkdir()
    shutil.copy(ROOT / "odb_dllm" / "folder_names.py", tmp_path / "checkout" / "odb_dllm")
    python.chmod(0o755)
    return tmp_path / "checkout"


def call(script: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([script, *args], env=ENVIRONMENT, capture_output=True, text=True)


def test_scripts_have_the_published_defaults(checkout: Path) -> None:
    told = call(checkout / "llada_instruct" / "eval_llada_instruct.sh").stdout.strip()
    assert told == (
        "0:-m odb_dllm run --tasks gsm8k --device cuda --output_path results/llada_instruct/gsm8k/jump-share "
        "--model_args pretrained=GSAI-ML/LLaDA-8B-Instruct setting=jump-share family=llada_instruct "
        "gen_length=1024 block_length=32"
    )
    told = call(checkout / "llada_1_5" / "eval_llada_1_5.sh", "cpu", "mbpp", "--limit", "5").stdout.strip()
    assert told.startswith(":-m odb_dllm run --tasks mbpp --device cpu")
    assert "pretrained=GSAI-ML/LLaDA-1.5 setting=jump-share family=llada_1_5" in told
    assert told.endswith("--limit 5")
    told = call(checkout / "llada_1_5" / "eval_llada_1_5.sh", "2,0,10", "mbpp").stdout.strip()
    assert told.startswith("2,0,10:-m odb_dllm.launch 3 run --tasks mbpp --device cuda")


def test_scripts_pass_everything_on(checkout: Path) -> None:
    script = checkout / "llada_instruct" / "eval_llada_instruct.sh"
    told = call(script, "3", "bbh", "my model", "alp", "--output_path", "o", "--model_args", "gen_length=256")
    assert told.stdout.startswith("3:-m odb_dllm run --tasks bbh --device cuda --model_args pretrained=my model")
    assert told.stdout.strip().endswith("--output_path o --model_args gen_length=256")
    assert "Task_Name" in call(script, "--help").stdout


def test_scripts_work_through_links_and_refuse_a_fifth_word(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "evaluate"
    link.symlink_to(checkout / "llada_instruct" / "eval_llada_instruct.sh")
    assert call(link, "cpu").stdout.startswith(":-m odb_dllm run --tasks gsm8k --device cpu")
    done = call(link, "cpu", "gsm8k", "tiny", "jump-share", "extra", "--limit", "5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 'extra' is one argument too many")


@pytest.mark.parametrize(
    ("task", "setting", "folder"),
    [
        ("bbh,gsm8k", "Jump_Share", "bbh,gsm8k/Jump_Share"),
        ("gsm8k", "jump-share+refresh=window:32", "gsm8k/jump-share+refresh=window%3A32"),
        ("gsm8k", "alp + theta=0.5", "gsm8k/alp%20+%20theta=0.5"),
        ("gsm8k", "alp+costs=../bench.json", "gsm8k/alp+costs=..%2Fbench%2Ejson"),  # no file to lm-eval
        ("my/task.yaml", "alp", "my%2Ftask.yaml/alp"),
    ],
)
def test_scripts_give_every_setting_one_folder(task: str, setting: str, folder: str, checkout: Path) -> None:
    told = call(checkout / "llada_1_5" / "eval_llada_1_5.sh", "cpu", task, "tiny", setting).stdout
    assert f" --output_path results/llada_1_5/{folder} --model_args pretrained=tiny setting={setting} " in told
    assert Path(folder).suffix != ".json"


@pytest.mark.parametrize("code", [1, 127])
def test_scripts_ask_for_setup_where_nothing_is_installed(checkout: Path, tmp_path: Path, code: int) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    (tmp_path / "python3").write_text(f"#!/bin/sh\nexit {code}\n")  # neither the packages nor, for 127, a python
    (tmp_path / "python3").chmod(0o755)
    path = {**ENVIRONMENT, "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
    script = checkout / "llada_1_5" / "eval_llada_1_5.sh"
    done = subprocess.run([script, "cpu"], env=path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: python3 has no torch or no lm-eval: run scripts/quickstart.sh first.\n"


@pytest.mark.parametrize("gpu", ["0,0", "0,cpu", "1,", "gpu0", "-1x", "0;1"])
def test_scripts_refuse_other_gpu_ids(checkout: Path, gpu: str) -> None:
    done = call(checkout / "llada_1_5" / "eval_llada_1_5.sh", gpu)
    if gpu.startswith("-"):
        assert "-1x" in done.stdout  # a flag, for lm-eval to refuse
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("error: GPU_ID")
        assert done.stdout == ""


def test_a_script_evaluates_from_anywhere(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    script = ROOT / "llada_instruct" / "eval_llada_instruct.sh"
    more = ["--limit", "2", "--num_fewshot", "1", "--model_args", "gen_length=32"]
    done = subprocess.run(
        [script, "cpu", "gsm8k", str(model), "jump-share", *more],
        env={**ENVIRONMENT, "DATA_DIR": "data"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "exact_match" in done.stdout
    assert "tokens/s" in done.stdout
    assert list((tmp_path / "results/llada_instruct/gsm8k/jump-share").glob("*/statistics_*.jsonl"))


def test_a_model_without_a_tokenizer_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_checkpoint(1).write(tmp_path / "model")
    monkeypatch.setattr("odb_dllm.lm_eval_model.load_model", lambda *_, **__: pytest.fail("the weights were read"))
    given = ["--model_args", f"pretrained={folder},gen_length=32", "--device", "cpu"]
    assert main(["run", "--tasks", "gsm8k_mini", "--limit", "1", *given]) == 2
    assert "has no tokenizer" in capsys.readouterr().err
