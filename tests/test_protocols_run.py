"""``odb-dllm reproduce --paper``: every protocol end to end on the embedded model, and the layout of its table."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from test_report import cell, made, row

from odb_dllm.cli import main
from odb_dllm.protocols import all_protocols
from odb_dllm.report import layout, running
from odb_dllm.report.cells import SECOND, CellResult, read_cell, read_manifest, score_of
from odb_dllm.report.documents import Stratum

OTHERS = [each for each in all_protocols().values() if each.paper != "odb-dllm"]
SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.usefixtures("elsewhere")
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def one() -> int:\n    """The number one."""\n',
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a few documents of gsm8k and one of humaneval."""
    folder = tmp_path / "data"
    for split, count in (("train", 8), ("test", 2)):
        lines = [
            {"question": f"{i} + 1?", "answer": f"{i} + 1 = <<{i}+1={i + 1}>>\n#### {i + 1}"} for i in range(count)
        ]
        write(folder / "gsm8k" / f"{split}.jsonl", lines)
    write(folder / "humaneval" / "test.jsonl", [HUMANEVAL])
    return folder


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in documents))


def run(data: Path, out: Path, paper: str, *words: str) -> int:
    given = ["--paper", paper, "--model", "tiny", "--device", "cpu", "--data_dir", str(data), "--out", str(out)]
    return main(["reproduce", *given, *words])


def figures(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open() as file:
        return list(csv.DictReader(file))


# Runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", OTHERS, ids=lambda each: each.name)
def test_every_protocol_runs(protocol: Any, data: Path, tmp_path: Path) -> None:
    """All of its methods, on canvases of one block; Dream's vanilla is a schedule, which any model takes."""
    (task,) = (each for each in protocol.tasks if each.task.startswith("gsm8k"))
    methods = [each.setting for each in protocol.columns if each.setting]
    words = ["--tasks", task.task, "--settings", ",".join(methods), "--gen_length", "32", "--limit", "1"]
    assert run(data, tmp_path / "out", protocol.name, *words) == 0
    lines = figures(tmp_path / "out")
    assert [line["setting"] for line in lines] == methods
    assert {(line["task"], line["gen_length"], line["n"]) for line in lines} == {(task.name, "32", "1")}
    assert {line["published_accuracy"] for line in lines} == {""}
    text = (tmp_path / "out" / "table.md").read_text()
    assert f"# {protocol.name} (arXiv {protocol.arxiv}, table {protocol.table}): tiny, float32 on cpu" in text
    for note in ("32 is not a length of the paper.", f"The prompts of {task.task} are not those", *protocol.notes):
        assert f"- {note}" in text
    samples = tmp_path / "out" / "32" / "cells" / task.task / methods[0] / "samples.jsonl"
    prompt = json.loads(samples.read_text().split("\n")[0])["arguments"][0][0]
    assert prompt.startswith("<|startoftext|><|start_header_id|>user") == protocol.chat_template
    question = "Q: " if task.task == "gsm8k_cot" else "Question: "
    assert prompt.count(question) == 6


def test_streaming_dllms_lengths_and_windows(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At both lengths, with the paper's window and alpha; the same command finds everything done."""
    out = tmp_path / "out"
    words = ["--tasks", "gsm8k", "--settings", "streaming-dllm", "--limit", "1", "--chat_template", "no"]
    assert run(data, out, "streaming-dllm/llada_1_5", *words) == 0
    for length, window, alpha in ((256, 96, 0.4), (512, 128, 0.6)):
        folder = out / str(length) / "cells" / "gsm8k" / "streaming"
        manifest = read_manifest(folder)
        assert manifest is not None
        setting = manifest["setting"]
        assert (setting["gen_length"], setting["window_size"], setting["confidence_alpha"]) == (length, window, alpha)
        result = read_cell(folder)
        assert result is not None
        assert set(result.second) == set(result.correct) == {("gsm8k", 0)}
        shared = json.loads((out / str(length) / "run.json").read_text())
        assert (shared["protocol"], shared["chat_template"]) == ("streaming-dllm/llada_1_5", False)
    assert "The chat template is left out, as --chat_template says." in (out / "table.md").read_text()
    before = figures(out)
    monkeypatch.setattr(running, "run_cell", lambda *_: pytest.fail("ran"))
    assert run(data, out, "streaming-dllm/llada_1_5", *words) == 0
    assert figures(out) == before
    assert capsys.readouterr().err.count("finished before") == 2
    assert run(data, out, "streaming-dllm/llada_instruct", *words) == 2
    assert "holds results of protocol streaming-dllm/llada_1_5, not" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
def test_humaneval_is_extracted_and_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is put in the model's mouth: a fenced block with prose around it, which lm-eval's own would fail."""
    answer = "Sure:\n```python\ndef one():\n    return ONE\n\nONE = 1\nprint(1 / 0)\n```\nThat is it."
    monkeypatch.setattr("odb_dllm.lm_eval_model.final_text", lambda *_: (answer, 9))
    words = ["--tasks", "humaneval", "--settings", "fast-dllm", "--gen_length", "32"]
    assert run(data, tmp_path / "out", "fast-dllm", *words, "--confirm_run_unsafe_code") == 0
    (line,) = figures(tmp_path / "out")
    assert (line["task"], line["accuracy"]) == ("humaneval", "1.0")
    cell_folder = tmp_path / "out" / "32" / "cells" / "humaneval_extract" / "prefix-cache-parallel"
    sample = json.loads((cell_folder / "samples.jsonl").read_text())
    assert "print" not in sample["filtered_resps"][0][0]
    assert sample["arguments"][0][1]["until"] == []
    capsys.readouterr()
    assert run(data, tmp_path / "none", "fast-dllm", *words) == 2
    assert "pass --confirm_run_unsafe_code" in capsys.readouterr().err


def test_code_is_left_out_unasked(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tasks", "humaneval,gsm8k", "--settings", "streaming", "--gen_length", "32", "--limit", "1"]
    assert run(data, tmp_path / "out", "streaming-dllm", *words) == 0
    assert "humaneval_extract is left out, which would run code" in capsys.readouterr().err
    assert [line["task"] for line in figures(tmp_path / "out")] == ["gsm8k"]


def test_on_the_published_documents(tmp_path: Path) -> None:
    """With the real data, no prompt is another than the protocol's."""
    folder = Path(os.environ.get("DATA_DIR") or SHARED)
    if not (folder / "gsm8k" / "test.jsonl").is_file():
        pytest.skip(f"no gsm8k under {folder}: set DATA_DIR")
    words = ["--tasks", "gsm8k", "--settings", "streaming", "--gen_length", "32", "--limit", "1"]
    assert run(folder, tmp_path / "out", "streaming-dllm", *words) == 0
    assert "The prompts of" not in (tmp_path / "out" / "table.md").read_text()


def test_time_of_vanilla_from_a_subset(data: Path, tmp_path: Path) -> None:
    words = ["--tasks", "gsm8k", "--settings", "vanilla,fast-dllm", "--gen_length", "32"]
    assert run(data, tmp_path / "out", "fast-dllm", *words, "--vanilla-timing-subset", "1") == 0
    slow, fast = figures(tmp_path / "out")
    assert (slow["n"], fast["n"]) == ("1", "2")
    assert float(slow["speedup"]) == 1.0


# The layout ------------------------------------------------------------------------------------------------


def result(setting: str, right: str, **values: Any) -> CellResult:
    of = made(cell(setting, count=len(right)), right)
    rows = {document: row(document[1], **values) for document in of.rows}
    return CellResult(of.cell, of.correct, {}, rows, second=dict.fromkeys(of.correct, True))


def test_layout() -> None:
    protocol = all_protocols()["streaming-dllm/llada_instruct"]
    tokens = {"text_tokens": 20, "tokens": 10, "non_eos_tokens": 40, "canvas_tokens": 256}
    found = {
        ("gsm8k", "llada_baseline"): result("llada_baseline", "1100", wall_seconds=10.0, **tokens),
        ("gsm8k", "streaming"): result("streaming", "1110", wall_seconds=1.0, **{**tokens, "tokens": 5}),
    }
    lines = layout.figures(protocol, {256: found}, published=True)
    assert len(lines) == 4 * 2 * 5
    by = {(each.task, each.gen_length, each.column): each for each in lines}
    ours = by["gsm8k", 256, "streaming-dllm"]
    assert (ours.accuracy, ours.second_accuracy, ours.n, ours.nfe) == (0.75, 1.0, 4, 10)
    assert (ours.text_tokens_per_second, ours.text_tokens_speedup) == (20.0, 10.0)
    assert (ours.tokens_per_second, ours.tokens_speedup) == (5.0, 5.0)
    assert (ours.latency_s, ours.speedup) == (1.0, 10.0)
    assert (ours.published_accuracy, ours.published_tokens_per_second) == (pytest.approx(0.785), 66.2)
    assert ours.published_speedup == pytest.approx(66.2 / 6.6)
    assert by["gsm8k", 512, "streaming-dllm"].n is None
    other = by["gsm8k", 256, "dkv-cache"]
    assert (other.setting, other.n, other.published_tokens_per_second) == (None, None, 11.6)
    written = [
        [part.strip() for part in line.split("|")[1:-1]] for line in layout.to_markdown(protocol, lines).split("\n")
    ]
    assert written[0][3:] == ["vanilla", "dkv-cache", "prefix cache", "fast-dllm", "streaming-dllm"]
    rows = {tuple(line[:3]): line[3:] for line in written}
    assert rows["gsm8k", "256", "exact_match,strict-match"] == ["50.0%", "–", "–", "–", "75.0%"]
    assert rows["gsm8k", "256", "accuracy, published"] == ["79.3%", "76.5%", "79.5%", "78.5%", "78.5%"]
    assert rows["gsm8k", "256", "tokens/s"] == ["1.0 (1.0x)", "–", "–", "–", "5.0 (5.0x)"]
    assert rows["gsm8k", "256", "tokens/s, published"][4] == "66.2 (10.0x)"
    assert rows["gsm8k", "256", "seconds per sample"] == ["10.00 (1.0x)", "–", "–", "–", "1.00 (10.0x)"]
    assert ("gsm8k", "512", "tokens/s") not in rows  # nothing to show but what is published
    assert rows["gsm8k", "512", "seconds, published"][0] == "84.1"
    read = list(csv.DictReader(io.StringIO(layout.to_csv(lines))))
    assert len(read) == len(lines)
    assert read[0]["column"] == "vanilla"


def test_layout_without_published_figures_and_over_a_subset() -> None:
    protocol = all_protocols()["fast-dllm/llada_instruct"]
    slow = made(cell("llada_baseline", documents={"gsm8k": [1]}, strata=(Stratum(40, (("gsm8k", 1),)),)), "1", wall=8.0)
    fast = made(cell("parallel", count=40), "1" * 40, wall=2.0)
    found = {("gsm8k", "llada_baseline"): slow, ("gsm8k", "parallel"): fast}
    lines = {each.column: each for each in layout.figures(protocol, {256: found}, published=False) if each.n}
    assert (lines["vanilla"].latency_s, lines["parallel"].speedup) == (8.0, 4.0)
    assert {each.published_accuracy for each in lines.values()} == {None}
    assert lines["parallel"].second_accuracy is None


def test_scores_of_variants() -> None:
    assert score_of("gsm8k_cot") == score_of("gsm8k_mini") == score_of("gsm8k")
    assert score_of("humaneval_extract").filter == "extract"
    assert score_of("humaneval_mini").filter == "create_test"
    assert SECOND["gsm8k"].filter == "flexible-extract"
