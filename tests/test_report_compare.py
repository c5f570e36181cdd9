"""``odb-dllm report --compare``: paired by sample; McNemar's test, the mean ratio and its interval; what changed."""

import csv
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from small_runs import small_runs, write_cell

from odb_dllm.cli import main
from odb_dllm.report.compare import compare, pairs
from odb_dllm.report.compare_page import begun, ended, sections
from odb_dllm.report.gather import gather
from odb_dllm.report.paired import geometric_mean, student

EXIT = "fast_dllm_baseline+early_exit=True"
pytestmark = pytest.mark.usefixtures("elsewhere")


def lines_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (1318, 1.9618)],
)
def test_students_t_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert student(freedom) == pytest.approx(expected, abs=1e-4)


def test_students_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 5, 8, 51, 200, 6511):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)
        assert student(freedom, 0.9) == pytest.approx(stats.t.ppf(0.95, freedom), rel=1e-9)


def test_geometric_mean_and_its_interval() -> None:
    """Ratios 1, 2 and 4: the mean is 2, and the logarithms in base 2 are 0, 1 and 2, whose error is 1 / sqrt(3)."""
    found = geometric_mean({1: 3.0, 2: 6.0, 3: 8.0, 4: 9.0}, {1: 3.0, 2: 3.0, 3: 2.0, 5: 9.0})
    assert found is not None
    assert found.items == 3
    assert found.value == pytest.approx(2)
    half = 4.302653 / math.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(2 / 2**half), pytest.approx(2 * 2**half))
    alone = geometric_mean({1: 3.0}, {1: 2.0})
    assert alone is not None
    assert (alone.value, alone.low, alone.high) == (pytest.approx(1.5), 0.0, math.inf)
    assert geometric_mean({1: 0.0, 2: 1.0}, {1: 1.0, 3: 1.0}) is None


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    chance, held = random.Random(0), 0
    for _ in range(400):
        theirs = {i: chance.lognormvariate(0, 0.3) for i in range(6)}
        ours = {i: 3 * value * chance.lognormvariate(0, 0.5) for i, value in theirs.items()}
        found = geometric_mean(ours, theirs)
        held += found is not None and found.low < 3 < found.high
    assert 0.92 < held / 400 < 0.98


# Comparing -------------------------------------------------------------------------------------------------


def test_real_runs_against_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell of ``reproduce`` and lm-eval's results of a setting that differs in one switch."""
    a, b = small_runs() / "table" / "cells" / "gsm8k_mini" / "fast_dllm_baseline", small_runs() / "runs"
    assert main(["report", "--compare", str(a), str(b), "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert f"| gsm8k_mini | fast_dllm_baseline | {EXIT} |" in printed
    assert (
        "What else differs: early_exit of the setting: False in A, True in B.\n" in Path("out/compare.md").read_text()
    )
    (line,) = lines_of("out/compare.csv")
    (ours,), (theirs,) = gather([a]), gather([b])
    common = theirs.result.rows.keys()
    logs = [math.log(ours.result.rows[each].seconds / theirs.result.rows[each].seconds) for each in common]
    forwards = [math.log(ours.result.rows[each].nfe / theirs.result.rows[each].nfe) for each in common]
    assert line["documents"] == "3"
    assert float(line["time_ratio"]) == pytest.approx(math.exp(sum(logs) / 3))
    assert float(line["nfe_ratio"]) == pytest.approx(math.exp(sum(forwards) / 3))
    assert float(line["nfe_ratio"]) > 1
    assert (line["gained"], line["lost"], line["same_text"], line["changed"]) == ("0", "0", "3", "0")
    assert lines_of("out/changed.csv") == []
    assert "<table>" in Path("out/compare.html").read_text()


def test_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten documents: two are gained, one is lost, four more have other words, three are the same."""
    before = [f"old | <b> {'x' * 80} {i}" for i in range(10)]
    after = [f"new {i}" if i < 7 else before[i] for i in range(10)]
    a = write_cell(tmp_path / "a", "0011111110", "alp", answers=before, nfe=6, wall=3.0)
    b = write_cell(tmp_path / "b", "1101111110", "jump-share", answers=after, nfe=2, wall=1.0)
    assert main(["report", "--compare", "a", "b"]) == 0
    printed = capsys.readouterr().out
    (line,) = lines_of("results/compare/compare.csv")
    assert (line["gained"], line["lost"], line["same_text"], line["changed"]) == ("2", "1", "3", "7")
    assert (line["folder_a"], line["folder_b"]) == (str(a), str(b))
    assert (float(line["accuracy_a"]), float(line["accuracy_b"])) == (0.7, 0.8)
    assert float(line["difference"]) == pytest.approx(0.1)
    assert float(line["mcnemar_p"]) == 1.0  # of 2 to 1: 2 * (1 + 3) / 8
    names = ("time_ratio", "time_ratio_low", "time_ratio_high", "nfe_ratio")
    assert [float(line[name]) for name in names] == pytest.approx([3, 3, 3, 3])
    changed = lines_of("results/compare/changed.csv")
    assert [(each["document"], each["kind"]) for each in changed] == [
        ("0", "gained"), ("1", "gained"), ("2", "lost"), ("3", "text"), ("4", "text"), ("5", "text"), ("6", "text"),
    ]  # fmt: skip
    assert (changed[2]["right_a"], changed[2]["right_b"]) == ("True", "False")
    assert (changed[2]["question"], changed[2]["answer_a"], changed[2]["answer_b"]) == (
        "Question 2?",
        before[2],
        "new 2",
    )
    text = Path("results/compare/compare.md").read_text()
    assert "7 of 10 samples changed: 2 gained, 1 lost, 4 in their words alone." in text
    assert "speculation of the setting: none in A, jump-share in B" in text
    rows = [[part.strip() for part in line.split(" | ")] for line in text.splitlines() if line.startswith("| gsm8k ")]
    assert [row[0] for row in rows[1:]] == [f"| gsm8k {i}" for i in range(7)]
    assert rows[3][1:4] == ["right", "wrong", "Question 2?"]
    assert rows[3][4] == f"…{'x' * 57} 2"
    assert "| gsm8k 4 " in printed
    assert "| gsm8k 5 " not in printed  # the terminal has the first five
    assert "The first 5 of them; 2 more are in the files." in printed
    assert "more are in the files" not in text


def test_a_known_split_of_gained_and_lost(tmp_path: Path) -> None:
    """Nine of ten gained: p = 2 * 11 / 1024."""
    write_cell(tmp_path / "a", "0" * 9 + "1")
    write_cell(tmp_path / "b", "1" * 9 + "0")
    (found,) = (compare(*pair) for pair in pairs(*both(tmp_path))[0])
    assert found.accuracy is not None
    assert found.accuracy.p == pytest.approx(22 / 1024)
    assert found.same == 10  # the verdicts are others, and the words are not
    assert [each.kind for each in found.changed] == ["gained"] * 9 + ["lost"]


def both(folder: Path) -> tuple[Path, Path, Any]:
    a, b = folder / "a", folder / "b"
    return a, b, (gather([a]), gather([b]))


def test_folders_are_compared_cell_by_cell(tmp_path: Path) -> None:
    for side, settings in (("a", ("alp", "jump-share", "parallel")), ("b", ("jump-share", "alp"))):
        for setting in settings:
            write_cell(tmp_path / side, "11", setting)
            write_cell(tmp_path / side, "11", setting, task="gsm8k_mini")
    made, said = pairs(*both(tmp_path))
    assert [(a.result.cell.key, b.result.cell.key) for a, b in made] == [
        (key, key) for task in ("gsm8k", "gsm8k_mini") for key in ((task, "alp"), (task, "jump-share"))
    ]
    assert said == ["Only in A: gsm8k parallel, gsm8k_mini parallel."]
    titles = [each.title for each in sections([compare(*pair) for pair in made])]
    assert titles[1:3] == ["gsm8k alp", "gsm8k jump-share"]


def test_models_and_places_are_not_crossed(tmp_path: Path) -> None:
    """The same model is compared, and where both sides have a place that one; what is left aside is named."""
    ended = {"end": "2027-01-01T00:00:00+00:00"}
    write_cell(tmp_path / "a" / "1", "11", model="org/A")
    write_cell(tmp_path / "a" / "2", "11", model="org/B", about=ended)
    write_cell(tmp_path / "a" / "3", "11", model="org/A", device="H200", about=ended)
    write_cell(tmp_path / "b" / "1", "11", model="other/A", about=ended)
    write_cell(tmp_path / "b" / "2", "11", model="other/B")
    twice = write_cell(tmp_path / "b" / "3", "11", model="other/B")
    made, said = pairs(*both(tmp_path))
    assert [[(run.result.cell.model, run.result.cell.device) for run in pair] for pair in made] == [
        [("org/A", "cpu"), ("other/A", "cpu")],
        [("org/B", "cpu"), ("other/B", "cpu")],
    ]
    assert "is taken, which ended later, and not" in said[0]
    assert str(twice) in said[0]
    assert said[1:] == ["Only in A: gsm8k alp A H200."]
    rows = sections([compare(*pair) for pair in made])[0].tables[0].rows
    assert [row[1:3] for row in rows[1:]] == [["alp of org/A", "alp of other/A"], ["alp of org/B", "alp of other/B"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "gsm8k_mini"}, "Nothing is in both folders: a holds gsm8k; b holds gsm8k_mini."),
        ({"data": "other"}, "did not ask the same: they differ in the documents and prompts of gsm8k."),
    ],
)
def test_other_data_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell(tmp_path / "a", "11")
    write_cell(tmp_path / "b", "11", **changes)
    assert main(["report", "--compare", "a", "b", "--out", "out"]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ")
    assert error.endswith(message)
    assert not Path("out").exists()


def test_other_documents_and_prompts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_cell(tmp_path / "a", "11"), write_cell(tmp_path / "b", "11")
    log = b / "samples.jsonl"
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    samples[1]["prompt_hash"] = "of another prompt"
    log.write_text("".join(json.dumps(each) + "\n" for each in samples))
    assert main(["report", "--compare", "a", "b"]) == 2
    said = f"error: {a} and {b} did not ask the same: they differ in the text and prompt of document 1 of gsm8k."
    assert capsys.readouterr().err.strip() == said
    log.write_text("".join(json.dumps({**samples[0], "doc_id": index}) + "\n" for index in (5, 6)))
    assert main(["report", "--compare", "a", "b"]) == 2
    assert capsys.readouterr().err.strip() == f"error: {a} and {b} share no documents."
    shutil.rmtree(tmp_path / "b" / "cells")
    assert main(["report", "--compare", "a", "b"]) == 2
    assert capsys.readouterr().err.strip() == "error: No finished results at or below b."


def test_texts_are_cut_at_the_end_that_matters_less() -> None:
    assert begun("a\n b" + "c" * 80) == "a b" + "c" * 56 + "…"
    assert ended("c" * 80 + "a\n b") == "…" + "c" * 56 + "a b"
    assert begun("short") == ended("short") == "short"
