"""odb-dllm report on a task of one's own: its first metric that calls every sample right or wrong is its score."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from odb_dllm.cli import main
from odb_dllm.report.gather import collect

CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Kenya": "Nairobi"}
SETTINGS = ("jump-share", "fast_dllm_baseline")
pytestmark = pytest.mark.usefixtures("elsewhere")


def write_task(folder: Path) -> None:
    (folder / "tasks").mkdir()
    lines = [json.dumps({"country": country, "capital": capital}) for country, capital in CAPITALS.items()]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    task = {"task": "capitals", "dataset_path": "json", "test_split": "test", "num_fewshot": 0}
    task |= {"dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}}, "output_type": "generate_until"}
    task |= {"doc_to_text": "Country: {{country}}\nCapital:", "doc_to_target": "{{capital}}"}
    task |= {"generation_kwargs": {"until": ["\n\n"]}, "metric_list": [{"metric": "exact_match"}]}
    (folder / "tasks" / "capitals.yaml").write_text(json.dumps(task))


def run(setting: str) -> None:
    given = ["--model_args", f"pretrained=tiny,gen_length=32,setting={setting}", "--device", "cpu"]
    where = ["--include_path", "tasks", "--log_samples", "--output_path", f"results/{setting}"]
    assert main(["run", "--tasks", "capitals", *where, *given]) == 0


def mark(log: Path, score: float) -> None:
    """Score the second sample of a log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["exact_match"] = score
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_tables_take_a_task_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(tmp_path)
    for setting in SETTINGS:
        run(setting)
    (log,) = Path("results", "jump-share").glob("*/samples_capitals_*.jsonl")
    mark(log, 1.0)  # the embedded model knows no capital

    (one, other), left_out = collect([Path("results")])
    assert left_out == []
    assert [each.result.correct for each in (one, other)] == [
        {("capitals", 0): False, ("capitals", 1): False, ("capitals", 2): False},
        {("capitals", 0): False, ("capitals", 1): True, ("capitals", 2): False},
    ]
    assert len(one.result.rows) == len(one.result.traces) == 3

    capsys.readouterr()
    assert main(["report", "results", "--out", "report"]) == 0
    assert "| capitals |         jump-share | cpu | 3 |    33.3% |" in capsys.readouterr().out
    assert main(["report", "--against", "jump-share", "results", "--out", "against"]) == 0
    assert "| capitals | fast_dllm_baseline |         3 |" in capsys.readouterr().out
    assert main(["report", "--compare", *(f"results/{each}" for each in SETTINGS), "--out", "compare"]) == 0
    assert "1 lost" in capsys.readouterr().out

    for path in Path("results").glob("*/*/samples_capitals_*.jsonl"):
        mark(path, 0.5)  # a share is no score
    capsys.readouterr()
    assert main(["report", "results"]) == 2
    left_out, error = capsys.readouterr().err.strip().splitlines()[-2:]
    assert left_out.endswith("is left out: no metric of capitals says of each sample whether it is right.")
    assert error == "error: No finished results at or below results."
