"""``odb-dllm report --lengths``: two rules of length prediction, on real runs and on records of known lengths."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("lm_eval")
from checkpoints import small_checkpoint
from small_runs import write_cell

from odb_dllm import DiffusionModel, InputError, generate
from odb_dllm.cli import main
from odb_dllm.report.gather import SHARED, gather
from odb_dllm.report.lengths import ALL, Comparison, compare, is_cut, refreshed
from odb_dllm.statistics import make_row, read_rows
from odb_dllm.traces import beside, make_trace

pytestmark = pytest.mark.usefixtures("elsewhere")
MASS, FIXED = "jump-share+length=mass", "jump-share+length=fixed"
EOS = 255  # of small checkpoints
Length = tuple[int, int]  # of an answer, and of the canvas at its end


def lines_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record(out: Path, setting: str, right: str, lengths: Sequence[Length], **about: Any) -> Path:
    """A finished cell whose samples have these lengths; the first prediction is a block more than the last."""
    folder = write_cell(out, right, setting, **about)
    (path,) = folder.glob("statistics_*.jsonl")
    rows = [
        replace(
            row,
            tokens=tokens,
            canvas_tokens=canvas,
            refreshes=1,
            predicted_lengths=[] if "fixed" in setting else [canvas + 32, canvas],
        )
        for row, (tokens, canvas) in zip(read_rows(path), lengths, strict=True)
    ]
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    return folder


def compared(a: str = "jump-share", b: str = MASS) -> list[Comparison]:
    return compare(gather([Path()]), a, b)[0]


# Records ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", ["full", "response", "window:32"])
def test_refreshes_are_over_what_was_predicted_before(tiny: DiffusionModel, refresh: str) -> None:
    """The first is over the whole response, each other over the canvas that the one before left."""
    prompt = tiny.tokenizer.encode(
        "Question: Ann reads 5 pages a day. How many pages does she read in 7 days?\nAnswer:"
    )
    made = generate(tiny, prompt, setting="jump-share", gen_length=128, block_length=16, refresh=refresh)
    assert made.refreshes > 1
    assert min(made.predicted_lengths) < 128
    trace = make_trace(("t", 0, 0, 0), made, prompt_tokens=len(prompt))
    assert refreshed(trace) == 128 + sum(made.predicted_lengths[:-1])


def test_cut_is_a_shortened_canvas_without_an_end(model_of: Callable[..., DiffusionModel]) -> None:
    """A model that is sure of nothing, under a rule that takes every end that it predicts."""
    unsure, seen = small_checkpoint(3, logit_std=6.0, special_boost=1.6), set()
    model = model_of(unsure)
    given: dict[str, Any] = {"gen_length": 128, "block_length": 8, "theta": 0.0}
    for index in range(12):
        made = generate(model, unsure.prompt(index, 20).tolist(), setting="alp", **given)
        row = make_row(("t", index, 0, 0), made, prompt_tokens=20, text_tokens=5, patterns=[[EOS]], eos=[EOS])
        shortened, ends = len(made.tokens) < 128, EOS in made.tokens
        assert is_cut(row, 128) == (shortened and not ends)
        seen.add((shortened, ends))
    assert {(True, True), (True, False), (False, False)} <= seen


# Comparing -------------------------------------------------------------------------------------------------


def test_real_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    words = ["--tasks", "gsm8k_mini,minerva_math_mini", "--limit", "3", "--device", "cpu", "--gen_length", "128"]
    with patch("datasets.config.HF_HUB_OFFLINE", True):
        assert main(["reproduce", *words, "--settings", f"jump-share,{MASS}", "--out", "both"]) == 0
        assert main(["reproduce", *words[2:], "--tasks", "gsm8k_mini", "--settings", FIXED, "--out", "fixed"]) == 0
    assert main(["report", "--lengths", "jump-share", MASS, "both", "fixed", "--out", "out"]) == 0
    lines = lines_of("out/lengths.csv")
    assert [(line["task"], line["setting"], line["documents"]) for line in lines] == [
        *(("gsm8k_mini", name, "3") for name in ("jump-share", MASS, FIXED)),
        *(("minerva_math_mini", name, "3") for name in ("jump-share", MASS)),
        *((ALL, name, "6") for name in ("jump-share", MASS)),
        (ALL, FIXED, "3"),
    ]
    runs = {(run.result.cell.key): run for run in gather([Path("both"), Path("fixed")])}
    for line in lines[:5]:
        result = runs[line["task"], line["setting"]].result
        rows, traces = result.rows.values(), result.traces.values()
        assert int(line["right"]) == sum(result.correct.values())
        assert float(line["answer_length"]) == pytest.approx(mean(row.tokens for row in rows))
        assert float(line["nfe"]) == pytest.approx(mean(row.nfe for row in rows))
        canvases = [made.fed - each.prompt_tokens for each in traces for made in each.passes if made.kind == "refresh"]
        assert float(line["canvas_per_refresh"]) == pytest.approx(mean(canvases))
        firsts = [row.predicted_lengths[0] for row in rows if row.predicted_lengths]
        assert line["first_prediction"] == (str(mean(firsts)) if firsts else "")
        assert (line["cut"] == "") == (line["setting"] == FIXED)
    samples = lines_of("out/samples.csv")
    assert len(samples) == 12
    assert [each["fixed_length"] != "" for each in samples] == [True] * 6 + [False] * 6
    assert Path("out/figures/lengths.png").read_bytes().startswith(b"\x89PNG")
    assert Path("out/figures/lengths.pdf").read_bytes().startswith(b"%PDF")
    assert "![Predicted length against the answer's](figures/lengths.png)" in Path("out/lengths.md").read_text()
    assert f"# Length prediction: jump-share and {MASS}" in capsys.readouterr().out


def test_nothing_cut() -> None:
    """An end within the canvas, and a whole canvas that no prediction shortened."""
    for name in ("jump-share", MASS):
        record(Path("r"), name, "101", [(20, 32), (31, 32), (1024, 1024)])
    (found,) = compared()
    assert found.a.cut == found.b.cut == {}
    assert (found.a.right, found.a.length, found.a.first) == (2, pytest.approx(1075 / 3), pytest.approx(1184 / 3))
    assert found.shorter(found.a) is None
    assert main(["report", "--lengths", "jump-share", MASS, "r"]) == 0
    assert "No answer was cut." in Path("results/lengths/lengths.md").read_text()


def test_all_cut_and_shorter_than_fixed(capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["so the answer is", "so the", "so"]
    record(Path("r"), "jump-share", "110", [(50, 64), (60, 64), (70, 96)])
    record(Path("r"), MASS, "011", [(32, 32), (32, 32), (64, 64)], answers=answers)
    record(Path("r"), FIXED, "111", [(50, 1024), (61, 1024), (60, 1024)])
    record(Path("r"), "jump-share+length=fixed+threshold=0.5", "111", [(9, 1024)] * 3)  # decodes otherwise
    (found,) = compared()
    assert (len(found.a.cut), len(found.b.cut)) == (0, 3)
    assert found.fixed is not None
    assert found.fixed.setting == FIXED
    assert (found.shorter(found.a), found.shorter(found.b)) == (1, 2)
    assert main(["report", "--lengths", "jump-share", MASS, "r", "--out", "out"]) == 0
    ours = lines_of("out/lengths.csv")[1]
    assert (ours["cut"], ours["cut_and_wrong"], ours["gained"], ours["lost"]) == ("3", "1", "1", "1")
    assert (ours["first_prediction"], ours["canvas_per_refresh"]) == (str(mean([64, 64, 96])), "91.0")
    page = Path("out/lengths.md").read_text()
    assert [
        line.split(" | ")[1:7] for line in map(" ".join, map(str.split, page.splitlines())) if "gsm8k 0" in line
    ] == [[MASS, "32", "50", "wrong", "right", "Question 0?"]]
    assert "gsm8k 0" not in capsys.readouterr().out  # the terminal has the table alone
    cut = [line["answer_length"] for line in lines_of("out/samples.csv") if line["cut"] == "True"]
    assert cut == ["32", "32", "64"]


def test_samples_are_paired() -> None:
    """Documents that one setting did not answer, or was not asked, count for neither."""
    record(Path("r"), "jump-share", "1111", [(20, 32), (40, 64), (60, 64), (9, 32)])
    folder = record(Path("s"), MASS, "111", [(20, 32), (40, 64), (64, 64)])
    (path,) = folder.glob("statistics_*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))  # the first one failed
    (found,) = compared()
    assert [document for _, document in found.a.samples] == [document for _, document in found.b.samples] == [1, 2]
    assert (found.a.length, found.b.length) == (50, 52)


def test_older_results_without_forwards_are_read() -> None:
    for name in ("jump-share", MASS):
        folder = record(Path("r"), name, "11", [(20, 32), (32, 32)])
        (path,) = folder.glob("statistics_*.jsonl")
        beside(path).unlink()
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "rank"}) + "\n" for row in rows))
    (found,) = compared()
    assert (found.a.canvas, found.a.length, len(found.a.cut)) == (None, 26, 1)


def test_points_of_the_figure() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    from odb_dllm.report.figures import rules

    record(Path("r"), "jump-share", "11", [(20, 32), (40, 64)])
    record(Path("r"), MASS, "10", [(20, 32), (32, 32)])
    drawn = rules.plot(compared())
    axes = figure.Figure().add_subplot()
    drawn.panels[0].paint(axes)
    points = [each.get_offsets().tolist() for each in axes.collections if hasattr(each, "get_sizes")]
    assert points == [[[20, 64], [40, 96]], [[20, 64]], [[32, 64]]]
    assert [text.get_text() for text in axes.texts] == ["0 cut", "1 cut"]
    assert [key.label for key in drawn.legend][:2] == ["jump-share", MASS]


def test_without_matplotlib_there_is_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("jump-share", MASS):
        record(Path("r"), name, "1", [(20, 32)])
    with patch("odb_dllm.report.figures.available", return_value=False):
        assert main(["report", "--lengths", "jump-share", MASS, "r", "--out", "out"]) == 0
    assert "No figure is drawn, which takes matplotlib: pip install matplotlib." in capsys.readouterr().err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("lengths.csv", "lengths.html", "lengths.md", "samples.csv")
    ]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["jump-share", "alp"], "No finished run is of 'alp': Valid: jump-share, jump-share+length=fixed."),
        (["jump-share", FIXED], f"{FIXED} predicts no length: --lengths compares settings with length=adaptive or"),
        (["jump-share", "Jump_Share"], "--lengths compares two settings, but jump-share and Jump_Share are one."),
        (["jump-share", "leap"], "Unknown setting 'leap'"),
    ],
)
def test_what_cannot_be_compared(asked: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("jump-share", FIXED):
        record(Path("r"), name, "1", [(20, 32)])
    assert main(["report", "--lengths", *asked, "r", "--out", "out"]) == 2
    assert f"error: {sentence}" in capsys.readouterr().err
    assert not Path("out").exists()


def test_lengths_and_seeds_that_were_not_run_are_no_results() -> None:
    for name in ("jump-share", MASS):
        record(Path("r"), name, "1", [(20, 32)], gen_length=256)
    for word in (f"{MASS}+gen_length=512", f"{MASS}+seed=7", f"{MASS}+block_length=16"):
        with pytest.raises(InputError, match="No finished run is of"):
            compared(b=word)
    (found,) = compared(b=" jump-share + gen_length=256+length = mass+seed=0 ")
    assert found.accuracy is not None


def test_runs_of_other_papers_protocols_are_left_out_and_said() -> None:
    """However late they ended."""
    later = {"end": "2030-01-01T00:00:00+00:00"}
    for name in ("jump-share", MASS):
        record(Path("own"), name, "10", [(20, 32), (20, 32)])
        record(Path("paper"), name, "11", [(20, 32), (20, 32)], about=later)
    Path("paper", SHARED).write_text(json.dumps({"protocol": "fast-dllm/llada_instruct"}))
    (found,), remarks, _ = compare(gather([Path()]), "jump-share", MASS)
    assert (found.a.right, found.b.right) == (1, 1)
    assert remarks == ["Runs that follow another paper's protocol are left out: 2 of --paper fast-dllm/llada_instruct."]
    with pytest.raises(InputError, match="All runs there follow another paper's protocol"):
        compare(gather([Path("paper")]), "jump-share", MASS)


def test_no_task_or_document_in_common() -> None:
    record(Path("r"), "jump-share", "1", [(20, 32)])
    record(Path("r"), MASS, "1", [(20, 32)], task="gsm8k_mini")
    with pytest.raises(InputError, match=r"No task has results of both .* jump-share has gsm8k and .* has gsm8k_mini"):
        compared()


def test_flags_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--lengths", "alp", MASS, "r", "--against", "alp"]) == 2
    assert "error: Give --against a setting or --lengths two settings, not together." in capsys.readouterr().err
