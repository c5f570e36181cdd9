"""Few-shot examples that lm-eval draws at random: the same for a document in every cell, and as in a plain run."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from lm_eval.tasks import TaskManager

from odb_dllm import tasks
from odb_dllm.cli import main
from odb_dllm.report import running
from odb_dllm.report.gather import gather

LENGTHS = ("--gen_length", "32", "--device", "cpu")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two dozen documents of gsm8k, from which five examples can be drawn in many ways."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 24), ("test", 8)):
        lines: list[Any] = [{"question": f"{split} {i} + 1?", "answer": f"#### {i + 1}"} for i in range(count)]
        path = tmp_path / "data" / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return tmp_path / "data"


def test_every_cell_asks_the_same_and_so_does_a_plain_run(data: Path) -> None:
    """Of three settings, one answers a subset; another is run again with a higher limit."""
    words = ["reproduce", "--tasks", "gsm8k", "--data_dir", str(data), *LENGTHS, "--out", "cells"]
    given = [*words, "--settings", "llada_baseline,alp", "--vanilla-timing-subset", "1"]
    assert main([*given, "--limit", "4"]) == 0
    before = {run.result.cell.setting: run.result.rows for run in gather([Path("cells")])}
    assert main([*words, "--settings", "alp,jump-share", "--limit", "6"]) == 0
    arguments = ["--model_args", "pretrained=tiny,setting=alp,gen_length=32", "--data_dir", str(data), "--limit", "6"]
    plain = ["run", "--tasks", "gsm8k", "--device", "cpu", *arguments, "--log_samples", "--output_path", "runs"]
    assert main(plain) == 0
    runs = gather([Path("cells"), Path("runs")])
    asked = [{document[1]: sample.hashes for document, sample in run.samples.items()} for run in runs]
    assert sorted(map(len, asked)) == [1, 6, 6, 6]
    whole = max(asked, key=len)
    assert len(set(whole.values())) == 6
    for each in asked:
        assert each.items() <= whole.items()
    (alp,) = (run.result.rows for run in runs if run.result.cell.setting == "alp" and run.result.cell.data)
    assert all(alp[document] == row for document, row in before["alp"].items())  # answered once, not again
    assert main(["report", "cells", "runs"]) == 0


def test_a_document_has_its_examples_whichever_others_are_asked(data: Path) -> None:
    with tasks.local_data(str(data)) as local:
        manager = tasks.make_manager(["gsm8k"], local, [], {})
        assert isinstance(manager, TaskManager)
        (task,) = running.load_tasks(manager, "gsm8k").values()

        def prompts(**which: Any) -> list[str]:
            running.build(task, **which)
            return [instance.args[0] for instance in task.instances]

        whole = prompts()
        assert len(set(whole)) == 8
        assert prompts() == whole
        assert prompts(limit=3) == whole[:3]
        assert prompts(samples=[2, 5, 7]) == [whole[i] for i in (2, 5, 7)]
