"""odb-dllm bundle: a folder made by one command and installed by another, and the wheel that it carries."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_model import write_model

pytest.importorskip("lm_eval")
from odb_dllm.bundle import build_wheel
from odb_dllm.bundle.installer import MANIFEST
from odb_dllm.cli import main

ROOT = Path(__file__).parents[1]
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "odb_dllm"
version = "9.9"
[tool.setuptools]
packages = ["odb_dllm"]
"""


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # whatever would be downloaded fails


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random") / "my-1.5-model"
    folder.mkdir()
    write_model(folder)
    (folder / "notes.bin").write_bytes(b"a pickle, perhaps")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "my data"
    (folder / "gsm8k").mkdir(parents=True)
    (folder / "gsm8k" / "test.jsonl").write_text("{}\n")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A stand-in for the source checkout that needs nothing."""
    folder = tmp_path / "checkout"
    (folder / "odb_dllm").mkdir(parents=True)
    (folder / "odb_dllm" / "__init__.py").write_text("HERE = True\n")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "requirements.txt").write_text("# nothing\n")
    return folder


def install(bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(bundle / "install.sh"), *words]
    return subprocess.run(command, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "Traceback" not in done.stderr
    return error


# Making and installing --------------------------------------------------------------------------------


def test_model_and_data_alone(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    assert main(["bundle", "make", "b", "--model", str(checkpoint), "--data", str(data), "--no-wheels"]) == 0
    bundle, target = tmp_path / "b", tmp_path / "a place" / "here"
    manifest = json.loads((bundle / MANIFEST).read_text())
    assert manifest["model"] == "models/my-1.5-model"
    assert not (bundle / manifest["model"] / "notes.bin").exists()
    assert {"install.sh", "install.py", "data/gsm8k/test.jsonl"} <= manifest["files"].keys()
    assert not list(tmp_path.glob("*.partial"))

    assert install(bundle, "--check").stdout == f"{len(manifest['files'])} files, all as bundled\n"
    done = install(bundle, str(target))
    assert done.returncode == 0, done.stderr
    assert (target / "data/gsm8k/test.jsonl").read_text() == "{}\n"
    assert (target / manifest["model"] / "model.safetensors").is_file()
    shell = f"source '{target}/env.sh'; echo $DATA_DIR; echo $HF_HUB_OFFLINE"
    said = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert said.stdout == f"{target}/data\n1\n"
    assert "is there already" in refused(install(bundle, str(target)))


def test_wheels_make_a_working_environment(project: Path, tmp_path: Path) -> None:
    assert main(["bundle", "make", "b.tar", "--source", str(project)]) == 0
    with tarfile.open("b.tar") as tar:
        tar.extractall("unpacked")
    bundle = tmp_path / "unpacked" / "b"
    assert [path.name for path in (bundle / "wheels").iterdir()] == ["odb_dllm-9.9-py3-none-any.whl"]
    done = install(bundle, "target")
    assert done.returncode == 0, done.stderr
    check = [tmp_path / "target/.venv/bin/python", "-I", "-c", "import odb_dllm; print(odb_dllm.HERE)"]
    assert subprocess.run(check, capture_output=True, text=True).stdout == "True\n"
    assert not (project / "build").exists()


reads_toml = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="before Python 3.11, the extras of the installed package are asked"
)


@reads_toml
def test_unknown_extras_are_refused_before_pip(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write("[project.optional-dependencies]\nmath = []\nplot = []\n")
    for extras, said in (
        ("nosuch", "Unknown extra 'nosuch': Valid: math, plot."),
        ("math,maths", "Unknown extra 'maths': did you mean 'math'? Valid: math, plot."),
    ):
        assert main(["bundle", "make", "b", "--source", str(project), "--extras", extras]) == 2
        assert capfd.readouterr().err == f"error: {said}\n"
    assert main(["bundle", "make", "b", "--source", str(project), "--extras", " Math, plot,math "]) == 0
    assert json.loads(Path("b", MANIFEST).read_text())["install"] == ["odb_dllm[math,plot]"]
    assert install(Path("b"), "--check").returncode == 0


@reads_toml
def test_a_package_without_extras_says_so(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "make", "b", "--source", str(project), "--extras", "math"]) == 2
    assert capfd.readouterr().err == "error: Unknown extra 'math': the package has none.\n"


def test_a_failure_leaves_nothing(project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "requirements.txt").write_text("no-such-package==1\n")
    assert main(["bundle", "make", "b", "--source", str(project)]) == 2
    assert "error: pip could not gather the wheels" in capfd.readouterr().err
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "b.partial").exists()


@pytest.fixture
def made(data: Path, tmp_path: Path) -> Iterator[Path]:
    assert main(["bundle", "make", "made", "--data", str(data), "--no-wheels"]) == 0
    yield tmp_path / "made"
    assert not (tmp_path / "target").exists()


def test_what_was_changed_is_not_installed(made: Path) -> None:
    file = made / "data/gsm8k/test.jsonl"
    file.write_text("[]\n")
    assert "its checksum differs" in refused(install(made, "target"))
    file.unlink()
    assert "1 of its files are missing" in refused(install(made, "target"))
    file.write_text("{}\n")
    (made / "data/more").touch()
    assert "does not list, among them data/more" in refused(install(made, "target"))


def test_links_are_not_followed(made: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("not for the target")
    (made / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    assert "holds links" in refused(install(made, str(tmp_path / "target")))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"files": []},
        {"files": {"data/x": {}}},
        {"made_for": None},
        {"install": ["--index-url=x"]},
        {"model": 5},
        {"model": "../outside"},
        {"model": "models/.."},
    ],
)
def test_a_damaged_manifest_is_refused(damage: dict[str, Any], made: Path, tmp_path: Path) -> None:
    manifest = json.loads((made / MANIFEST).read_text())
    (made / MANIFEST).write_text(json.dumps(manifest | damage))
    assert "is damaged" in refused(install(made, str(tmp_path / "target")))
    assert not (tmp_path / "target").exists()


def test_a_folder_that_is_linked_must_be_copied_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "mbpp").symlink_to(tmp_path)
    assert main(["bundle", "make", str(tmp_path / "out"), "--no-wheels", "--data", str(data)]) == 2
    assert "holds the link 'mbpp' to a folder" in capsys.readouterr().err


def test_another_machine_is_refused(made: Path) -> None:
    manifest = json.loads((made / MANIFEST).read_text())
    manifest |= {"wheels": True, "made_for": {"python": "2.7", "system": "Linux", "machine": "vax"}}
    (made / MANIFEST).write_text(json.dumps(manifest))
    assert "The wheels are for Python 2.7 on Linux vax" in refused(install(made, "target"))
    for text in ("{", "[]", '{"format": 2}', '{"format": 1}'):
        (made / MANIFEST).write_text(text)
        assert MANIFEST in refused(install(made, "target"))
    (made / MANIFEST).unlink()
    assert "this is no bundle" in refused(install(made, "target"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["b", "--no-wheels"], "nothing to bundle"),
        (["b", "--no-wheels", "--model", "tiny"], "nothing to bundle"),
        (["b", "--source", "."], "has no pyproject.toml"),
        (["b", "--no-wheels", "--data", "nowhere"], "is no folder"),
        (["b", "--no-wheels", "--model", "/no/such/model"], "is no folder"),
        (["no/such/b", "--no-wheels", "--data", "my data"], "there is no folder"),
        (["my data", "--no-wheels", "--data", "my data"], "is there already"),
    ],
)
def test_bad_input(words: list[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "make", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


# The wheel --------------------------------------------------------------------------------------------


def test_the_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    wheel = build_wheel(ROOT, tmp_path / "wheels", tmp_path / "work")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        entry_points = archive.read(next(name for name in packed if name.endswith("entry_points.txt"))).decode()
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "odb_dllm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"odb_dllm/py.typed", "odb_dllm/tiny/model/model.safetensors", "odb_dllm/tasks/local/gsm8k.yaml"} <= ours
    assert "odb_dllm/tiny/tasks/gsm8k_mini/train.jsonl" in ours
    assert ours - packed == set()
    assert not any("__pycache__" in name for name in packed)
    assert "odb-dllm = odb_dllm.cli:main" in entry_points
    assert "odb_dllm = odb_dllm.lm_eval_model:ODBDiffusionLM" in entry_points
