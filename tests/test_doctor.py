"""odb-dllm doctor: what it finds, how it says so, and when it fails."""

import json
import sys
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from random_model import write_model

from odb_dllm import cli
from odb_dllm.doctor import machine, main, offline, packages
from odb_dllm.doctor.finding import python


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data, an empty hub cache, no network."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_this_machine_can_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odb_dllm.doctor.sandbox", lambda: iter(()))
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "A run can work."
    assert any(line.startswith("ok       model            tiny, 8.") for line in lines)
    for line, after in pairwise(lines):
        assert line == "" or line.split()[0] in ("ok", "warning", "mend:", "A")
        assert not line.startswith("warning") or after.lstrip().startswith("mend: ")


def test_a_model_that_is_not_here_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odb_dllm.doctor.sandbox", lambda: iter(()))
    assert main(["--model", "owner/nothing"]) == 1
    shown = capsys.readouterr().out
    assert "missing  model            owner/nothing is neither a folder nor in the hub cache" in shown
    assert "snapshot_download('owner/nothing')" in shown
    assert shown.endswith("A run cannot work: mend what is missing.\n")


def test_a_model_that_may_be_fetched_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert [f.status for f in offline.checkpoint("owner/nothing")] == ["warning"]


def test_checkpoints_are_looked_into(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    assert [f.status for f in offline.checkpoint(str(folder))] == ["ok", "ok"]
    (folder / "model.safetensors").write_bytes(b"short")
    (folder / "tokenizer.json").write_text("{")
    bad = list(offline.checkpoint(str(folder)))
    assert [(f.status, f.subject) for f in bad] == [("missing", "model"), ("missing", "tokenizer")]
    assert "truncated or corrupt" in bad[0].text
    for name in ("/no/such/folder", "one", "a/b/c", ""):
        assert [f.status for f in offline.checkpoint(name)] == ["missing"]


def test_a_model_in_the_hub_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(write_model(tmp_path)))
    found = list(offline.checkpoint("owner/model"))
    assert [f.status for f in found] == ["ok", "ok"]
    assert "hub cache" in found[0].text


def test_data_here_and_elsewhere(tmp_path: Path) -> None:
    statuses = [(f.status, f.text) for f in offline.data(None)]
    assert statuses[0] == ("ok", "gsm8k_mini and four other miniature benchmarks are embedded")
    assert statuses[1][0] == "warning"
    assert "gsm8k, minerva_math, bbh, humaneval, mbpp: not here" in statuses[1][1]

    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text(json.dumps({"question": "?", "answer": "#### 1"}) + "\n")
    flawed = next(f for f in offline.data(str(tmp_path)) if "not as published" in f.text)
    assert (flawed.status, flawed.mend) == ("warning", f"odb-dllm data check {tmp_path}")

    cached = tmp_path / "hub" / "datasets--openai--gsm8k" / "snapshots" / "1"
    cached.mkdir(parents=True)
    (cached / "README.md").touch()
    assert any(f.text == "gsm8k in the hub cache" for f in offline.data(None))
    assert [f.status for f in offline.data(str(tmp_path / "nowhere"))] == ["ok", "missing"]


def test_every_source_of_data_is_where_lm_eval_has_it() -> None:
    import lm_eval

    for file in offline.SOURCES.values():
        text = (Path(lm_eval.__file__).parent / "tasks" / file).read_text(encoding="utf-8")
        assert "\ndataset_path: " in f"\n{text}"


def test_packages_against_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {f.status for f in packages.installed()} == {"ok"}
    names = {f.subject for f in packages.installed()}
    assert {"python", "odb_dllm", "torch", "transformers", "tokenizers", "lm-eval", "datasets"} <= names
    old = packages.package(Requirement("tqdm>=999"))
    assert (old.status, old.text) == ("missing", f"{metadata.version('tqdm')} is installed, >=999 is needed")
    assert old.mend is not None
    assert old.mend.endswith('-m pip install "tqdm>=999"')
    assert packages.package(Requirement("no-such-thing>=1,<2")).text == "not installed (needs <2,>=1)"
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    assert any("0.0.1 is what was installed" in f.text for f in packages.installed())


def test_extras_are_told_apart_from_requirements() -> None:
    for source in (packages.declared, lambda *extra: packages.requirements("odb_dllm", *extra)):
        assert "sympy" in {r.name for r in source("math")}
        assert not {"pytest", "sympy"} & {r.name for r in source()}
        assert "torch" in {r.name for r in source()}
    assert [r.name for r in packages.declared("plot")] == ["matplotlib"]
    assert packages.requirements("no-such-thing") == []


def test_every_extra_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {finding.subject: finding for finding in packages.extras()}
    assert {"sympy", "matplotlib", "gradio"} <= found.keys()
    assert "triton" not in found  # nothing on the CPU needs it
    assert (found["matplotlib"].status, found["gradio"].status) == ("warning", "ok")
    assert "the demo in the browser" in found["gradio"].text
    assert all(finding.mend for finding in found.values())

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if sys.platform == "linux":
        triton = next(finding for finding in packages.extras() if finding.subject == "triton")
        assert (triton.status, triton.text.partition(":")[0]) == ("warning", "not installed (needs >=3.2)")
        assert "the fast engine's own kernels" in triton.text


def test_offline_no_data_is_mended_by_carrying_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mend = list(offline.data(None))[-1].mend
    assert mend == "DATA_DIR=<folder>, laid out as docs/data.md says; `odb-dllm data check <folder>` checks it"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert "TaskManager" in (list(offline.data(None))[-1].mend or "")


def test_gpus_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia_smi", lambda: (None, None))
    assert [f.status for f in machine.gpu()] == ["ok"]
    monkeypatch.setattr(machine, "_nvidia_smi", lambda: ("570.1", "1 x NVIDIA H200"))
    monkeypatch.setattr(torch.version, "cuda", None)
    (cpu_build,) = machine.gpu()
    assert "build for the CPU" in cpu_build.text
    assert cpu_build.mend is not None
    assert "--force-reinstall" in cpu_build.mend
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert next(machine.gpu()).mend == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "driver 570.1 does not serve" in next(machine.gpu()).text


def test_threads_beyond_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.kernels().status == "ok"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    finding = machine.threads()
    assert finding.status == "warning"
    assert finding.mend is not None
    assert finding.mend.startswith("export OMP_NUM_THREADS=")


def test_commands_are_quoted() -> None:
    assert python("print('a')").endswith("-c \"print('a')\"")
    assert python("$(x)").endswith("-c '$(x)'")


def test_a_broken_sandbox_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from odb_dllm import sandbox

    def broken() -> None:
        raise sandbox.SandboxError("no processes")

    monkeypatch.setattr(sandbox, "capabilities", broken)
    assert [(f.status, f.text) for f in machine.sandbox()] == [
        ("warning", "humaneval and mbpp cannot be scored here: no processes")
    ]
    weak = {"network": "OPEN: to all", "layers": ["pid"], "missing": {"net": "not permitted"}}
    monkeypatch.setattr(sandbox, "capabilities", lambda: weak)
    assert [f.status for f in machine.sandbox()] == ["ok", "warning"]
