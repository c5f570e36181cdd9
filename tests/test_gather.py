"""``odb-dllm report``: what is gathered, the tables, what they refuse to mix, duplicates; counted work."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from small_runs import SETTINGS, lines_of, small_runs, write_cell

from odb_dllm.cli import main
from odb_dllm.counting import Shape
from odb_dllm.report import figures, mixing
from odb_dllm.report.gather import collect, gather
from odb_dllm.report.lm_eval_results import parted
from odb_dllm.report.runs import Run, changes, described
from odb_dllm.report.table import table
from odb_dllm.traces import Trace

EXIT = "fast_dllm_baseline+early_exit=True"
pytestmark = pytest.mark.usefixtures("elsewhere")


def by_setting(runs: list[Run]) -> dict[str, Run]:
    return {run.result.cell.setting: run for run in runs}


# Gathering -------------------------------------------------------------------------------------------------


def test_cells_and_results_of_lm_eval_are_runs() -> None:
    runs, left_out = collect([small_runs(), small_runs() / "table"])  # what is there twice is one
    found = by_setting(runs)
    assert len(runs) == len(found) == 4
    assert set(found) == {*SETTINGS, EXIT}
    assert left_out == []
    cells = [run.result.cell for run in runs]
    assert {(cell.task, cell.model, cell.gen_length, cell.block_length) for cell in cells} == {
        ("gsm8k_mini", "tiny", 112, 16)
    }
    assert [len(found[name].result.correct) for name in (*SETTINGS, EXIT)] == [1, 4, 4, 3]
    assert all(run.result.rows.keys() == run.result.correct.keys() == run.work.keys() for run in runs)
    assert {run.chat_template for run in runs} == {False}
    assert {run.place for run in runs} == {("cpu", 1, 1, "")}
    assert {tuple(run.shots.items()) for run in runs} == {(("gsm8k_mini", 1),)}
    assert len({run.weights for run in runs if run.weights}) == 1
    ours, theirs = found["fast_dllm_baseline"], found[EXIT]
    for document in theirs.samples:
        assert theirs.samples[document].hashes == ours.samples[document].hashes
        assert ">>" in ours.samples[document].answer
        assert ours.samples[document].question.endswith("?")
    assert mixing.ended(theirs) > mixing.ended(found["llada_baseline"])


def counted(shape: Shape, trace: Trace, block: int) -> tuple[int, int]:
    """Operations and bytes in float32 of a generation alone in its batch, matrix by matrix."""
    d, wide, narrow = shape.d_model, shape.n_heads * shape.head, shape.n_kv_heads * shape.head
    layer = [(d, wide), (d, narrow), (d, narrow), (wide, d)] + [(d, shape.mlp_hidden_size)] * 2
    layer.append((shape.mlp_hidden_size, d))
    flops = numbers = 0
    for made in trace.passes:
        seen = made.cached + (made.fed if made.branches == 1 else block)
        attention = 2 * 2 * made.fed * seen * wide  # queries by keys, weights by values
        flops += shape.n_layers * (sum(2 * made.fed * a * b for a, b in layer) + attention)
        flops += 2 * made.read * d * shape.vocab_size
        kept = 2 * narrow * (made.cached + made.fed)
        into = made.fed * (d + wide + d + shape.mlp_hidden_size)  # what qkv share, and what each other product reads
        out = made.fed * (wide + 2 * narrow + d + 2 * shape.mlp_hidden_size + d)
        numbers += shape.n_layers * (sum(a * b for a, b in layer) + kept + into + out)
        numbers += d * shape.vocab_size + made.read * (d + shape.vocab_size)
    return flops, 4 * numbers


@pytest.mark.parametrize("name", [*SETTINGS, EXIT])
def test_counted_work_is_that_of_the_recorded_forwards(name: str) -> None:
    run = by_setting(gather([small_runs()]))[name]
    assert run.shape is not None
    for document, trace in run.result.traces.items():
        flops, moved = counted(run.shape, trace, run.result.cell.block_length)
        assert len(trace.passes) == run.result.rows[document].nfe
        assert run.work[document].flops == flops
        assert run.work[document].bytes == pytest.approx(moved)


def test_what_cannot_be_read_is_left_out_in_one_sentence(tmp_path: Path) -> None:
    whole = write_cell(tmp_path / "a", "11")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")  # another file of that name
    unfinished = tmp_path / "b" / "cells" / "gsm8k" / "alp"
    unfinished.mkdir(parents=True)
    (unfinished / "starts.txt").write_text("2026-01-01\n")
    lost = write_cell(tmp_path / "f", "11")
    (lost / "manifest.json").write_text('{"config": ')
    odd = write_cell(tmp_path / "h", "11")
    (odd / "manifest.json").write_text("[]")
    few = write_cell(tmp_path / "g", "111")
    (few / "samples.jsonl").write_text((few / "samples.jsonl").read_text().splitlines()[0])
    broken = write_cell(tmp_path / "c", "11")
    (broken / "samples.jsonl").write_text('{"task": "gs')
    shutil.copytree(small_runs() / "runs" / "tiny", tmp_path / "d")
    (log,) = (tmp_path / "d").glob("samples_*")
    log.unlink()
    shutil.copytree(small_runs() / "runs" / "tiny", tmp_path / "e")
    (rows,) = (tmp_path / "e").glob("statistics_*.jsonl")
    rows.unlink()
    (tmp_path / "results_x.json").write_text('{"config": {"model": "hf"}}')
    runs, left_out = collect([tmp_path])
    assert [run.folder for run in runs] == [whole]
    assert len(left_out) == 8
    for folder, why in (
        (unfinished, "it is not finished."),
        (broken, "it cannot be read (JSONDecodeError"),
        (lost, "it cannot be read (JSONDecodeError"),
        (odd, "its manifest.json is no JSON object."),
        (few, "it holds 1 of its 3 samples."),
        (tmp_path / "d", "it has no log of its samples, which --log_samples writes."),
        (tmp_path / "e", f"there is no {rows.name} beside it."),
        (tmp_path / "results_x.json", "it is no result of odb-dllm."),
    ):
        (said,) = (sentence for sentence in left_out if sentence.startswith(str(folder)))
        assert why in said


def test_times_that_are_not_there_are_named(tmp_path: Path) -> None:
    folder = write_cell(tmp_path, "11111111")
    (path,) = folder.glob("statistics_*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    runs, said = collect([tmp_path])
    assert len(runs) == 1
    assert said == [f"{folder}: times of 5 of 8 samples of gsm8k, forwards of 8."]


def test_links_are_followed_and_lead_nowhere_twice(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "disk", "11")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "cycle").symlink_to(tmp_path)
    (run,) = gather([tmp_path / "results"])
    assert run.folder == folder


def test_hosts_and_processes_of_a_run(tmp_path: Path) -> None:
    """They are what the run wrote down, whichever processes had a sample."""

    def change(results: dict[str, Any]) -> None:
        about = results["config"]["odb_dllm"]
        about |= {"world_size": 4, "tensor_parallel": 2}
        about["per_process"] = [{"host": host, "device": "cpu"} for host in ("a", "a", "b", "b")]

    run = results_changed(tmp_path, change)
    assert run.manifest["host"] == "a, b"
    assert str(run.place) == "cpu, 4 processes, tensor parallel 2"


def results_changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Run:
    """The run of lm-eval's results with something else in their file."""
    shutil.copytree(small_runs() / "runs", tmp_path / "runs")
    (path,) = (tmp_path / "runs").rglob("results_*.json")
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))
    (run,) = gather([tmp_path / "runs"])
    return run


def test_the_canvas_that_a_task_asked_for(tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        del results["config"]["model_args"]["gen_length"]
        results["configs"]["gsm8k_mini"]["generation_kwargs"]["max_gen_toks"] = 85

    assert results_changed(tmp_path, change).result.cell.gen_length == 96  # six blocks of 16


def test_an_expression_keeps_its_length_whatever_a_task_asks_for(tmp_path: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        given = results["config"]["model_args"]
        given["setting"] += f"+gen_length={given.pop('gen_length')}"
        results["configs"]["gsm8k_mini"]["generation_kwargs"]["max_gen_toks"] = 16

    assert results_changed(tmp_path, change).result.cell.gen_length == gather([small_runs()])[0].result.cell.gen_length


def test_subtasks_are_of_the_benchmark_whose_group_they_are_in() -> None:
    groups = {
        "everything": ["minerva_math", "bbh", "gsm8k"],
        "minerva_math": ["minerva_math_algebra", "minerva_math_geometry"],
        "bbh": ["bbh_cot_fewshot"],
        "bbh_cot_fewshot": ["bbh_cot_fewshot_navigate"],
    }
    leaves = ["minerva_math_algebra", "minerva_math_geometry", "bbh_cot_fewshot_navigate", "gsm8k", "arc_easy"]
    assert parted({"group_subtasks": groups, "configs": dict.fromkeys(leaves)}) == {
        "minerva_math": ["minerva_math_algebra", "minerva_math_geometry"],
        "bbh": ["bbh_cot_fewshot_navigate"],
        "gsm8k": ["gsm8k"],
        "arc_easy": ["arc_easy"],
    }


def test_a_setting_is_called_by_what_it_changes() -> None:
    run = by_setting(gather([small_runs()]))[EXIT]
    assert changes(run.setting) == {"early_exit": True}
    assert described({**run.setting, "theta": 0.8}) == "fast_dllm_baseline+early_exit=True+theta=0.8"
    assert described({"name": "somebody's own", "cache": "dual"}) == "somebody's own"


# The table -------------------------------------------------------------------------------------------------


def test_report_of_real_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The verb, whole: every file is there, and its figures are those of the table of ``reproduce``."""
    assert main(["report", str(small_runs()), "--out", "out"]) == 0
    printed = capsys.readouterr().out
    text = Path("out/report.md").read_text()
    assert "tiny: float32, 112 tokens to generate in blocks of 16" in printed
    assert text.index("| samples/s |") < text.index("latency, s |") < text.index("tokens/s |")
    assert Path("out/report.html").read_text().count("<table>") >= 5
    assert not re.search(r'(src|href)="(?!#|data:)', Path("out/report.html").read_text())
    assert len(list(Path("out/figures").glob("*.png"))) == len(list(Path("out/figures").glob("*.pdf"))) > 3
    assert all(f"(figures/{path.name})" in text for path in Path("out/figures").glob("*.png"))
    found = lines_of(Path("out/table_tiny.csv").read_text())
    runs = by_setting(gather([small_runs()]))
    own = {run.result.cell.key: run.result for run in runs.values()}
    for line in table(own, own):
        written = found[f"{line.setting} on cpu"]
        for name in ("n", "accuracy", "accuracy_low", "nfe", "speedup_over_fast_dllm", "speedup_over_vanilla"):
            assert float(written[name]) == pytest.approx(getattr(line, name))
    slow, fast = runs["llada_baseline"], runs["fast_dllm_baseline"]
    line = found["fast_dllm_baseline on cpu"]
    (vanilla,) = slow.work.values()  # a subset of one, which stands for all four
    ours = sum(work.flops for work in fast.work.values())
    assert float(line["flops_ratio_over_vanilla"]) == pytest.approx(4 * vanilla.flops / ours)
    assert float(line["nfe_ratio_over_vanilla"]) == pytest.approx(
        4 * 112 / sum(r.nfe for r in fast.result.rows.values())
    )
    moved = sum(work.bytes for work in fast.work.values())
    assert float(line["intensity"]) == pytest.approx(ours / moved)
    assert float(line["samples_per_second"]) == pytest.approx(
        4 / sum(r.wall_seconds for r in fast.result.rows.values())
    )
    exits = found[f"{EXIT} on cpu"]
    assert (
        exits["wall_documents_over_fast_dllm"] == exits["bytes_documents_over_fast_dllm"] == "3"
    )  # of the four that one of them answered
    common = runs[EXIT].work.keys()
    bytes_ratio = sum(fast.work[each].bytes for each in common) / sum(w.bytes for w in runs[EXIT].work.values())
    assert float(exits["bytes_ratio_over_fast_dllm"]) == pytest.approx(bytes_ratio)
    assert "~" in text.split("**Speed")[1].split("**Forwards")[0]


def test_without_matplotlib_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "available", lambda: False)
    write_cell(tmp_path / "a", "11")
    assert main(["report", "a"]) == 0
    assert "pip install matplotlib" in capsys.readouterr().err
    assert Path("results/report/report.html").is_file()
    assert not Path("results/report/figures").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name the folders to report on"),
        (["here", "--compare", "a", "b"], "Give folders to report on or two to --compare, not both."),
        (["nowhere"], "There is no folder nowhere."),
        (["."], "No finished results at or below ."),
        ([".", "--bench", "nothing.json"], "--bench nothing.json cannot be read: No such file or directory."),
        (
            [".", "--bench", "empty.json"],
            "--bench empty.json is not what odb-dllm bench --out writes: it has",
        ),
    ],
)
def test_refused_in_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.json").write_text('{"machine": {}}', encoding="utf-8")
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert not Path("results").exists()
