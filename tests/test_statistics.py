"""Statistics: definitions on hand-made generations, totals as ratios of sums, rows that survive a kill."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from odb_dllm.contract import Pass
from odb_dllm.errors import InputError
from odb_dllm.generation import Generation
from odb_dllm.statistics import Recorder, Row, make_row, markdown, read_rows, table, total, total_by_task

EOS = 1


def generation(tokens: list[int], nfe: int = 4, seconds: float = 2.0, **changes: object) -> Generation:
    made = Generation(
        tokens=tokens,
        nfe=nfe,
        refreshes=1,
        forward_lengths=[100] + [32] * (nfe - 1),
        predicted_lengths=[64, 32],
        average_predicted_length=48.0,
        decode_length=len(tokens),
        latency=seconds * 1.5,
        passes=[Pass("refresh", 100, 0, 64, 0, 64, 8, 1)] + [Pass("step", 32, 68, 8, 0, 64, 8, 1)] * (nfe - 1),
        forward_seconds=[seconds / 4] + [seconds * 3 / 4 / (nfe - 1)] * (nfe - 1),
        batches=[1] * nfe,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def row(tokens: int = 8, task: str = "a", **changes: object) -> Row:
    key = (task, 0, 0, 0)
    made = make_row(key, generation([9] * tokens), prompt_tokens=10, text_tokens=tokens, patterns=[(EOS,)])
    return replace(made, **changes)  # type: ignore[arg-type]


def test_tokens_end_at_the_first_eos_or_stop_pattern() -> None:
    canvas = [9, 8, 7, 6, EOS, 5, EOS, EOS]
    args = {"prompt_tokens": 10, "text_tokens": 3}
    assert make_row(("t", 0, 0, 0), generation(canvas), patterns=[(EOS,)], **args).tokens == 4
    assert make_row(("t", 0, 0, 0), generation(canvas), patterns=[(EOS,), (8, 7)], **args).tokens == 1
    assert make_row(("t", 0, 0, 0), generation(canvas), patterns=[], eos=(EOS,), **args).non_eos_tokens == 5
    assert make_row(("t", 0, 0, 0), generation([9] * 8), patterns=[(EOS,)], **args).tokens == 8


def test_row_holds_every_figure() -> None:
    made = make_row(
        ("t", 3, 0, 1),
        generation([9] * 8, decode_length=6),
        prompt_tokens=10,
        text_tokens=5,
        patterns=[(EOS,)],
        eos=(9,),
    )
    assert made.non_eos_tokens == 0
    assert (made.task, made.doc_id, made.index, made.repeat) == ("t", 3, 0, 1)
    assert (made.canvas_tokens, made.text_tokens, made.prompt_tokens) == (8, 5, 10)
    assert (made.nfe, made.refreshes, made.steps, made.fed_tokens) == (4, 1, 3, 100 + 3 * 32)
    assert made.tokens_per_forward == 6 / 4
    assert made.refresh_seconds + made.step_seconds == made.seconds == 2.0


def test_totals_are_ratios_of_sums() -> None:
    rows = [row(tokens=100, seconds=1.0, nfe=10), row(tokens=2, seconds=3.0, nfe=1)]
    rows = [replace(each, decode_length=each.tokens) for each in rows]
    totals = total(rows, wall_seconds=8.0)
    assert totals.tokens_per_second == 102 / 8
    assert totals.tokens_per_forward == 102 / 11  # not the mean of 10 and 2
    assert totals.nfe_per_sample == 11 / 2
    assert totals.seconds == 4.0
    assert total(rows).wall_seconds == 4.0


def test_latency_percentiles_and_missing_lengths() -> None:
    rows = [row(latency=float(i), average_predicted_length=None) for i in range(101)]
    totals = total(rows, 1.0)
    assert (totals.latency_p50, totals.latency_p95, totals.latency_mean) == (50, 95, 50)
    assert totals.predicted_length is None


def test_nothing_divides_by_zero() -> None:
    empty = total([], 0.0)
    assert empty.samples == 0
    assert empty.tokens_per_second is None
    assert empty.latency_p95 is None
    assert total_by_task([], 0.0) == {}
    assert "| -" in table({"none": empty}) or " - |" in table({"none": empty})


def test_wall_time_is_shared_out_by_forward_seconds() -> None:
    rows = [row(task="a", seconds=1.0), row(task="b", seconds=2.0), row(task="b", seconds=1.0)]
    by_task = total_by_task(rows, wall_seconds=8.0)
    assert by_task["a"].wall_seconds == 2.0
    assert by_task["b"].wall_seconds == 6.0


def test_rows_are_on_disk_as_they_come_and_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    for repeat in range(2):
        Recorder(path).add(row(repeat=repeat))
        assert len(path.read_text().splitlines()) == repeat + 1  # flushed, though the file is still open
    assert [each.repeat for each in read_rows(path)] == [0, 1]


def test_cells_of_a_table_are_plain_text() -> None:
    """Names hold what users write: none of it ends a cell or a line, is taken for HTML, or escapes what follows."""
    names = ["alp+stop=Answer: 5%/x|y", "alp+stop=</s>", "a\\|b", "two\nlines", "\\boxed{1}", "end\\"]
    _, _, *lines = markdown([["setting", "n"], *([name, "1"] for name in names)]).splitlines()
    cells = ["alp+stop=Answer: 5%/x\\|y", "alp+stop=\\</s>", "a\\\\\\|b", "two lines", "\\boxed{1}", "end\\"]
    assert [line.removesuffix(" | 1 |").removeprefix("| ").rstrip() for line in lines] == cells


def test_what_is_no_row_is_left_out(tmp_path: Path) -> None:
    """A line cut short, JSON that is no object, an object that is no row, bytes that are no text."""
    path = tmp_path / "rows.jsonl"
    line = json.dumps(asdict(row())).encode()
    path.write_bytes(b"\n".join([line, line[:50], b"3", b"[]", b"null", b"{}", b"\xff\x80", line]))
    assert len(read_rows(path)) == 2


@pytest.mark.parametrize(
    "wrong", [{"nfe": "x"}, {"nfe": -1}, {"nfe": None}, {"seconds": float("nan")}, {"tokens": [3]}]
)
def test_what_no_count_or_time_can_be_makes_no_row(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = asdict(row())
    path.write_text("\n".join(map(json.dumps, [good, good | wrong, good])), encoding="utf-8")
    assert len(read_rows(path)) == 2


def test_an_unwritable_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write statistics"):
        Recorder(tmp_path / "file" / "rows.jsonl").add(row())


def test_recorder_counts_the_time_of_results_only() -> None:
    import time

    def slow() -> "object":
        for each in range(2):
            time.sleep(0.02)
            yield each

    recorder = Recorder()
    for _ in recorder.timed(slow()):
        time.sleep(0.1)
        recorder.add(row())
    assert 0.04 <= recorder.wall_seconds < 0.15
    assert sum(each.wall_seconds for each in recorder.rows) == pytest.approx(recorder.wall_seconds, abs=1e-3)
    assert recorder.totals().samples == 2
