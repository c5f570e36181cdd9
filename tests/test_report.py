"""The result table from made-up cells: figures, intervals, tests on pairs, which documents are asked."""

import csv
import io
import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from odb_dllm.report import estimate, table
from odb_dllm.report.cells import (
    MANIFEST,
    RESULTS,
    SAMPLES,
    SETTINGS,
    Cell,
    CellResult,
    cell_from,
    is_finished,
    read_cell,
    write_atomically,
)
from odb_dllm.report.documents import Stratum, by_task, deal, stratify
from odb_dllm.report.paired import difference, mcnemar, wilson
from odb_dllm.report.published import published, records
from odb_dllm.statistics import Row


def row(doc: int, task: str = "gsm8k", **values: Any) -> Row:
    given = {
        **dict.fromkeys(("index", "repeat", "prompt_tokens", "tokens", "text_tokens", "canvas_tokens"), 0),
        **dict.fromkeys(("refreshes", "steps", "fed_tokens"), 0),
        **dict.fromkeys(("tokens_per_forward", "latency", "seconds", "refresh_seconds", "step_seconds"), 0.0),
        "decode_length": 100,
        "nfe": 10,
        "predicted_lengths": [],
        "average_predicted_length": None,
        "wall_seconds": 1.0,
        **values,
    }
    return Row(task=task, doc_id=doc, **given)


def cell(setting: str = "alp", count: int = 4, task: str = "gsm8k", **values: Any) -> Cell:
    given: dict[str, Any] = {"fingerprint": "f", "data": "d", "documents": {task: list(range(count))}, **values}
    return Cell(task, setting, "some", "llada_instruct", "float32", "cpu", 1, 1024, 32, 0, **given)


def made(of: Cell, right: str, *, wall: float = 1.0, nfe: int = 10, **values: Any) -> CellResult:
    """A result with an answer per character of ``right``: 1 right, 0 wrong."""
    asked = [(name, index) for name, indices in of.documents.items() for index in indices]
    return CellResult(
        of,
        correct={document: char == "1" for document, char in zip(asked, right, strict=True)},
        math_verify={},
        rows={document: row(document[1], wall_seconds=wall, nfe=nfe) for document in asked},
        **values,
    )


def store(out: Path, of: Cell, rows: list[Row], samples: list[dict[str, Any]], failures: tuple[str, ...] = ()) -> None:
    folder = of.folder(out)
    folder.mkdir(parents=True)
    of.statistics(out).write_text("".join(json.dumps(asdict(each)) + "\n" for each in rows))
    write_atomically(folder / SAMPLES, "".join(json.dumps(each) + "\n" for each in samples))
    write_atomically(folder / RESULTS, "{}")
    write_atomically(folder / MANIFEST, json.dumps({"config": of.config(), "failures": failures}))


def sample(doc: int, value: float, task: str = "gsm8k", **values: Any) -> dict[str, Any]:
    about = {"task": task, "doc_id": doc, "filter": "strict-match", "prompt_hash": f"hash {doc}"}
    return {**about, "exact_match": value, **values}


# Statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    """The last is an example of Newcombe (1998)."""
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_mcnemar_is_a_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    for gained in range(12):
        for lost in range(12):
            expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
            assert mcnemar(gained, lost) == pytest.approx(expected)
    assert 0 < mcnemar(2000, 2400) < 1e-8  # no overflow


def test_difference_is_taken_on_common_items() -> None:
    ours = {1: True, 2: True, 3: False, 4: True, 9: True}
    theirs = {1: True, 2: False, 3: True, 4: False, 8: True}
    found = difference(ours, theirs)
    assert found is not None
    assert (found.items, found.gained, found.lost) == (4, 2, 1)
    assert found.value == pytest.approx(0.25)
    assert found.low < 0.25 < found.high
    assert found.p == 1.0
    assert difference({1: True}, {2: True}) is None


def test_interval_of_a_difference_has_width_where_nothing_changed() -> None:
    found = difference(dict.fromkeys(range(20), True), dict.fromkeys(range(20), True))
    assert found is not None
    assert found.low == -found.high < 0


# Documents -------------------------------------------------------------------------------------------------


def test_limit_is_split_evenly() -> None:
    counts = {"a": 10, "b": 10, "c": 10}
    assert deal(counts, 8) == {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1]}
    assert deal(counts, 2) == {"a": [0], "b": [0]}
    assert deal(counts, 99) == deal(counts, None) == {name: list(range(10)) for name in counts}


def test_limits_nest_whatever_a_task_lacks() -> None:
    counts = {"a": 1, "b": 7, "c": 3}
    before: set[tuple[str, int]] = set()
    for limit in range(1, 12):
        now = {(name, index) for name, indices in deal(counts, limit).items() for index in indices}
        assert len(now) == limit
        assert before < now
        before = now


def test_strata_share_a_subset_by_length() -> None:
    lengths = {("t", i): 10 * i for i in range(103)}
    strata = stratify(lengths, 12, seed=1)
    assert sum(each.size for each in strata) == 103
    assert sum(len(each.asked) for each in strata) == 12
    assert {len(each.asked) for each in strata} == {2, 3}
    for before, after in pairwise(strata):
        assert max(before.asked) < min(after.asked)
    assert strata == stratify(lengths, 12, seed=1) != stratify(lengths, 12, seed=2)
    assert [each.size for each in stratify(lengths, 500, seed=1)] == [20, 21, 20, 21, 21]
    assert by_task([("b", 3), ("a", 1), ("b", 0)]) == {"a": [1], "b": [0, 3]}


# Cells -----------------------------------------------------------------------------------------------------


def test_a_cell_is_read_back(tmp_path: Path) -> None:
    of = cell(count=3)
    rows = [row(0, nfe=99), row(1), row(0, nfe=7), row(17), row(0, task="other")]
    samples = [
        sample(0, 1.0),
        sample(1, 0.0),
        sample(2, 1.0, prompt_hash="hash 1"),
        sample(0, 0.0, filter="flexible-extract"),
    ]
    store(tmp_path, of, rows, samples)
    result = read_cell(of.folder(tmp_path))
    assert result is not None
    assert result.cell == of == cell_from(of.config())
    assert list(result.correct.values()) == [True, False, True]
    assert {document: each.nfe for document, each in result.rows.items()} == {
        ("gsm8k", 0): 7,  # the last one
        ("gsm8k", 1): 10,
        ("gsm8k", 2): 10,  # from the document with the same prompt
    }
    assert is_finished(of, tmp_path)
    assert not is_finished(cell(count=4), tmp_path)
    assert not is_finished(replace(of, data="changed"), tmp_path)
    assert read_cell(tmp_path / "nothing") is None


def test_a_cell_with_failures_is_tried_again(tmp_path: Path) -> None:
    of = cell(count=1)
    store(tmp_path, of, [], [sample(0, 0.0)], failures=("NaN",))
    assert not is_finished(of, tmp_path)
    result = read_cell(of.folder(tmp_path))
    assert result is not None
    assert result.failures == ("NaN",)


def test_rows_of_a_subset_count_within_it(tmp_path: Path) -> None:
    strata = (Stratum(10, (("gsm8k", 4),)), Stratum(20, (("gsm8k", 9),)))
    of = cell("llada_baseline", documents={"gsm8k": [4, 9]}, strata=strata)
    store(tmp_path, of, [row(0, wall_seconds=2.0), row(1, wall_seconds=3.0)], [sample(4, 1.0), sample(9, 1.0)])
    result = read_cell(of.folder(tmp_path))
    assert result is not None
    assert set(result.rows) == {("gsm8k", 4), ("gsm8k", 9)}
    assert table.seconds(result) == 10 * 2.0 + 20 * 3.0


def test_limits_share_their_answers_and_subsets_do_not() -> None:
    assert cell(count=3).tag == cell(count=9).tag
    assert cell(count=3).tag != cell(count=3, strata=(Stratum(9, (("gsm8k", 1),)),)).tag
    assert cell(fingerprint="g").tag != cell().tag != cell(data="e").tag


# Table -----------------------------------------------------------------------------------------------------


def results() -> table.Results:
    walls = {"llada_baseline": 8.0, "fast_dllm_baseline": 2.0, "jump-share": 1.0}
    nfe = {"llada_baseline": 1024, "fast_dllm_baseline": 100, "jump-share": 30}
    right = {"llada_baseline": "1111", "fast_dllm_baseline": "0111", "jump-share": "0011"}
    return {("gsm8k", name): made(cell(name), right[name], wall=walls[name], nfe=nfe[name]) for name in walls}


def test_table() -> None:
    asked = [("gsm8k", name) for name in SETTINGS]
    lines = {line.setting: line for line in table.table(asked, results(), "llada_instruct")}
    fast, jump, alp = lines["fast_dllm_baseline"], lines["jump-share"], lines["alp"]
    assert (jump.speedup_over_vanilla, jump.speedup_over_fast_dllm) == (8.0, 2.0)
    assert (fast.n, fast.correct, fast.accuracy, fast.seconds) == (4, 3, 0.75, 8.0)
    assert fast.tokens_per_forward == 1.0
    assert (jump.published_accuracy, jump.published_speedup_over_vanilla) == (pytest.approx(0.79), 87.96)
    assert alp == table.Line("gsm8k", "alp")
    text = table.to_markdown(list(lines.values()))
    assert "8.00x / 2.00x" in text
    assert "87.96x / 3.81x" in text
    read = list(csv.DictReader(io.StringIO(table.to_csv(list(lines.values())))))
    assert [each["setting"] for each in read] == list(SETTINGS)
    assert float(read[1]["accuracy_low"]) == wilson(3, 4)[0]
    assert read[2]["accuracy"] == ""


def test_speed_up_over_a_subset_is_that_of_all_documents() -> None:
    strata = (Stratum(40, (("gsm8k", 1),)),)
    slow = made(cell("llada_baseline", documents={"gsm8k": [1]}, strata=strata), "1", wall=8.0)
    fast = made(cell("alp", count=40), "1" * 40, wall=2.0)
    assert table.speedup(slow, fast) == 4.0
    line = table.table([("gsm8k", "llada_baseline")], {("gsm8k", "llada_baseline"): slow})[0]
    assert (line.n, line.timed, line.seconds, line.seconds_estimated) == (1, 1, 320.0, True)


def test_samples_that_failed_count_in_neither_time() -> None:
    slow, fast = made(cell("llada_baseline"), "1111", wall=4.0), made(cell("alp"), "1111", wall=1.0)
    del fast.rows["gsm8k", 0]
    assert table.speedup(slow, fast) == 4.0


def test_pairs_and_order() -> None:
    found = results()
    made_pairs = dict(table.pairs([("gsm8k", name) for name in SETTINGS], found))
    assert set(made_pairs) == {("gsm8k", "fast_dllm_baseline"), ("gsm8k", "jump-share")}
    assert made_pairs["gsm8k", "jump-share"].lost == 2
    assert " -50.0% | " in table.pairs_to_markdown(list(made_pairs.items()))
    assert table.disorder("gsm8k", found) == []
    equal = {("gsm8k", name): made(cell(name), "1111", nfe=5) for name in ("accept-jump", "jump-share")}
    assert table.disorder("gsm8k", equal) == []
    above = {**equal, ("gsm8k", "alp"): made(cell("alp"), "1111", nfe=5)}
    assert table.disorder("gsm8k", above) == ["gsm8k: accept-jump takes 5.00 NFE, which is not below the 5.00 of alp."]


def test_published_figures_are_whole() -> None:
    assert len(records()) == 214
    assert len({each["paper"] for each in records()}) == 3
    record = published("llada_1_5", "mbpp", "jump-share", 1024)
    assert record is not None
    assert record["speedup_over_vanilla"] == 182.14
    assert published("llada_1_5", "mbpp", "alp", 1024) is None
    assert published(None, "gsm8k", "jump-share", 1024) is None
    assert published("llada_1_5", "mbpp", "jump-share", 256) is None


def test_estimate_follows_the_forwards() -> None:
    cost = estimate.Cost(full=1.0, step=0.1, wide=0.4, widths=4)
    assert cost.stepping(5) == pytest.approx(0.5)
    vanilla = cell("llada_baseline")
    assert estimate.seconds(vanilla, 2, cost) == pytest.approx(estimate.STARTED + 2 * 1024)
    assert estimate.seconds(vanilla, 0, cost) == pytest.approx(estimate.STARTED)
    times = [estimate.seconds(cell(name), 1, cost) for name in ("llada_baseline", "fast_dllm_baseline", "alp")]
    assert times == sorted(times, reverse=True)
    speculating = [estimate.seconds(cell(name), 1, cost) for name in ("jump-share", "jump-share-exact", "odb-turbo")]
    assert len(set(speculating)) == 1
    assert [estimate.spoken(each) for each in (0.2, 61, 600, 9000)] == [
        "1 second", "61 seconds", "10 minutes", "2.5 hours",
    ]  # fmt: skip
