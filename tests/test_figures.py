"""The figures of a report: their numbers from known traces and from real ones, how runs are grouped, what is drawn."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from checkpoints import small_checkpoint
from test_report import cell, row

from odb_dllm import DiffusionModel, Generation, InputError, generate
from odb_dllm.contract import Pass
from odb_dllm.counting import Shape, Work, pass_work
from odb_dllm.report import figures
from odb_dllm.report.cells import CellResult
from odb_dllm.report.figures import acceptance, course, lengths, phases, plot, roofline, tradeoff
from odb_dllm.report.figures.groups import group
from odb_dllm.report.looks import CSS
from odb_dllm.report.runs import Run
from odb_dllm.statistics import make_row
from odb_dllm.traces import Trace, make_trace

QUESTIONS = (
    "Question: Ben has 31 stamps and gets 12 more, then loses 9. How many stamps does Ben have?\nAnswer:",
    "Question: Tom has 3 apples and buys 4 more. How many apples does Tom have?\nAnswer:",
    "Question: Ann reads 5 pages a day. How many pages does she read in 7 days?\nAnswer:",
)
SETTINGS = ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share")
LENGTH = 64
SHAPE = Shape(d_model=8, n_heads=2, n_kv_heads=2, head=4, n_layers=2, mlp_hidden_size=16, vocab_size=32)


def finished(
    task: str, setting: str, made: Sequence[Generation], root: Path = Path("/r"), right: int = 2, **changes: Any
) -> Run:
    """A run as it is read back, of generations."""
    of = replace(cell(setting, len(made), task), **{"gen_length": LENGTH, **changes})
    documents = [(task, index) for index in range(len(made))]
    rows = [
        replace(
            make_row((task, i, 0, 0), each, prompt_tokens=9, text_tokens=5, patterns=[[255]]),
            wall_seconds=each.latency,
        )
        for i, each in enumerate(made)
    ]
    traces = [make_trace((task, i, 0, 0), each, prompt_tokens=9) for i, each in enumerate(made)]
    result = CellResult(
        of,
        correct={document: i < right for i, document in enumerate(documents)},
        math_verify={},
        rows=dict(zip(documents, rows, strict=True)),
        traces=dict(zip(documents, traces, strict=True)),
    )
    return Run(of.folder(root), result, {}, SHAPE)


def traced(*passes: Pass, seconds: float = 0.5) -> Trace:
    return Trace("t", 0, 0, 0, 9, passes, (seconds,) * len(passes), (1,) * len(passes))


@pytest.fixture(scope="module")
def runs(tiny: DiffusionModel, model_of: Callable[..., DiffusionModel]) -> list[Run]:
    """The embedded model on one task, and one that is often unsure on another, as if it were the same."""
    asked = [tiny.tokenizer.encode(question) for question in QUESTIONS]
    counts = {"llada_baseline": 1, "fast_dllm_baseline": 3, "alp": 3, "jump-share": 3}
    made = [
        finished("gsm8k_mini", name, generate(tiny, asked[:count], setting=name, gen_length=LENGTH))
        for name, count in counts.items()
    ]
    return made + unsure_runs(model_of, "bbh_mini")


def unsure_runs(model_of: Callable[..., DiffusionModel], task: str) -> list[Run]:
    """All settings on a random checkpoint, whose drafts are often refused."""
    unsure = small_checkpoint(3, logit_std=11.0, special_boost=1.6)
    prompts = [unsure.prompt(index, 20 + 9 * index).tolist() for index in range(4)]
    model = model_of(unsure)
    return [finished(task, name, generate(model, prompts, setting=name, gen_length=LENGTH)) for name in SETTINGS]


def of(runs: Sequence[Run], task: str, setting: str) -> Run:
    return next(run for run in runs if run.result.cell.key == (task, setting))


# Speculation -----------------------------------------------------------------------------------------------


def test_drafts_count_where_they_were_offered_and_held() -> None:
    steps = [
        Pass("refresh", 80, 0, 32, 0, 64, 5, 1),
        Pass("step", 128, 48, 90, 0, 64, 4, 4, 2, 3),  # a and b
        Pass("step", 128, 48, 90, 0, 64, 2, 4, 2, 1),  # a
        Pass("step", 128, 48, 3, 0, 64, 1, 4, 1, 0),  # one draft alone, refused
        Pass("step", 151, 48, 90, 1, 64, 4, 8, 4, 5),  # a, b and c
        Pass("step", 40, 48, 9, 1, 64, 3, 8, 3, 3),  # a and b of three
        Pass("step", 40, 48, 9, 1, 64, 1, 8, 4, 6),  # d alone
        Pass("step", 32, 48, 9, 2, 64, 1, 1),
    ]
    first, second = acceptance.stages([traced(*steps[:5]), traced(*steps[5:])])
    assert first == acceptance.Stage(1, offered=(3, 2), accepted=(2, 1), chosen=(1, 1, 0, 1))
    assert second == acceptance.Stage(2, offered=(3, 3, 3, 2), accepted=(2, 2, 1, 1), chosen=(0, 0, 0, 1, 0, 1, 1, 0))
    assert first.acceptance == [2 / 3, 1 / 2]
    assert second.choices[3] == pytest.approx(1 / 3)
    names = [acceptance.branch_name(branch) for branch in range(8)]
    assert names == ["none", "a", "b", "ab", "c", "abc", "d", "abcd"]
    assert acceptance.stages([traced(steps[0], steps[-1])]) == []


def test_accepted_drafts_are_decided_by_their_step(model_of: Callable[..., DiffusionModel]) -> None:
    unsure = small_checkpoint(3, logit_std=11.0, special_boost=1.6)
    seen: list[Any] = []
    made = generate(
        model_of(unsure), unsure.prompt(1, 30).tolist(), setting="jump-share", gen_length=128, on_event=seen.append
    )
    found = acceptance.stages([make_trace(("t", 0, 0, 0), made, prompt_tokens=30)])
    assert [stage.stage for stage in found] == [1, 2]
    speculative = [event for event in seen if event.branch is not None]
    assert sum(stage.steps for stage in found) == len(speculative) > 5
    held = [
        [
            position
            for i, position in enumerate(event.drafts)
            if acceptance.DRAFTS[i] in acceptance.branch_name(event.branch)
        ]
        for event in speculative
    ]
    assert sum(sum(stage.accepted) for stage in found) == sum(map(len, held)) > 0
    assert all(set(drafts) <= set(event.accepted) for drafts, event in zip(held, speculative, strict=True))


# The course of a response ----------------------------------------------------------------------------------


def test_forwards_belong_where_their_response_had_come_to() -> None:
    def forward(accepted: int) -> Pass:
        return Pass("step", 32, 0, 32, 0, 64, accepted, 1)

    long, short = traced(forward(3), forward(5), forward(1), forward(6)), traced(forward(4))
    assert course.course([long, short], 4) == [
        course.Stretch(0, samples=2, forwards=3, tokens=12),
        course.Stretch(8, samples=1, forwards=2, tokens=7),
    ]
    assert course.course([long, short], 4)[0].tokens_per_forward == 4.0


def test_a_course_adds_up_to_the_run(runs: list[Run]) -> None:
    for run in runs:
        traces, rows = run.result.traces.values(), run.result.rows.values()
        made = course.course(traces, 32)
        assert sum(each.forwards for each in made) == sum(row.nfe for row in rows)
        assert sum(each.tokens for each in made) == sum(p.accepted for trace in traces for p in trace.passes)
        assert made[0].samples == len(traces)
        if run.result.cell.setting == "llada_baseline":
            assert [(each.first, each.tokens_per_forward) for each in made] == [(0, 1.0), (32, 1.0)]


# Refreshes and steps ---------------------------------------------------------------------------------------


def test_phases_are_means_per_sample(runs: list[Run]) -> None:
    rows = [
        row(0, refreshes=2, steps=6, refresh_seconds=0.5, step_seconds=0.5),
        row(1, refreshes=4, steps=8, refresh_seconds=0.25, step_seconds=1.75),
    ]
    made = phases.phases(rows)
    assert made == phases.Phases(2, 3.0, 7.0, 0.375, 1.125)
    assert (phases.share(made.counts), phases.share(made.seconds)) == (0.3, 0.25)
    assert phases.share((0.0, 0.0)) == 0.0
    vanilla = phases.phases(of(runs, "bbh_mini", "llada_baseline").result.rows.values())
    assert (vanilla.refreshes, vanilla.steps) == (0.0, LENGTH)
    fast = phases.phases(of(runs, "gsm8k_mini", "fast_dllm_baseline").result.rows.values())
    assert fast.refreshes == LENGTH / 32
    assert fast.refresh_seconds > 0


# Lengths ---------------------------------------------------------------------------------------------------


def test_lengths_fall_into_bars_of_equal_width() -> None:
    made = lengths.effective([1, 32, 33, 1024], 1024)
    assert (len(made.counts), made.samples) == (32, 4)
    assert (made.counts[0], made.counts[1], made.counts[31]) == (2, 1, 1)
    assert made.median == 32.5
    assert lengths.effective([64], 64).counts == (*[0] * 31, 1)
    assert lengths.effective([7], 7).counts == (*[0] * 6, 1)
    assert lengths.effective([1, 33, 100], 100).samples == 3  # no multiple of the width


def test_predictions_are_of_the_samples_that_reach_a_block() -> None:
    found = lengths.predicted([[64, 32], [128], [96, 96, 64]])
    assert [(each.block, each.samples, each.median) for each in found] == [(1, 3, 96.0), (2, 2, 64.0), (3, 1, 64.0)]
    assert (found[1].low, found[1].high) == (48.0, 80.0)
    assert lengths.predicted([]) == []


# The roofline ----------------------------------------------------------------------------------------------


def test_points_are_counted_work_over_measured_time(runs: list[Run]) -> None:
    run = of(runs, "bbh_mini", "jump-share")
    traces = list(run.result.traces.values())
    refresh, step = roofline.points("jump-share", traces, SHAPE, "float32", 32)
    for point, kind in ((refresh, "refresh"), (step, "step")):
        passes = [
            (each, taken) for t in traces for each, taken in zip(t.passes, t.seconds, strict=True) if each.kind == kind
        ]
        works = [pass_work(SHAPE, "float32", each, 32) for each, _ in passes]
        assert point.kind == kind
        assert point.work.flops == pytest.approx(sum(work.flops for work in works))
        assert point.work.bytes == pytest.approx(sum(work.bytes for work in works))
        assert point.seconds == pytest.approx(sum(taken for _, taken in passes))
        assert point.flops_per_second == point.work.flops / point.seconds
    vanilla = of(runs, "bbh_mini", "llada_baseline").result.traces.values()
    assert [point.kind for point in roofline.points("x", vanilla, SHAPE, "float32", 32)] == ["step"]


def test_a_forward_of_several_sequences_reads_its_weights_once() -> None:
    alone = traced(Pass("step", 32, 48, 32, 0, 64, 4, 1))
    shared = replace(alone, batches=(2,))
    (one,), (both,) = (roofline.points("x", traces, SHAPE, "float32", 32) for traces in ([alone], [shared, shared]))
    assert both.work.flops == 2 * one.work.flops
    weights = 4 * (SHAPE.n_layers * SHAPE.products + SHAPE.d_model * SHAPE.vocab_size)
    assert both.work.bytes == 2 * one.work.bytes - weights


def test_a_roof_is_that_of_the_machine_and_the_dtype() -> None:
    measured = {"device": "CPU", "dtype": "float32", "copy_bytes_per_second": 1e10, "flops_per_second": 4e10}
    made = roofline.roof("cpu", "float32", measured)
    assert made == roofline.Roof("CPU", 1e10, 4e10, "measured by odb-dllm bench")
    assert (made.ridge, made.at(1.0), made.at(100.0)) == (4.0, 1e10, 4e10)
    assert roofline.roof("cpu", "bfloat16", measured) is None
    h200 = roofline.roof("NVIDIA H200", "bfloat16", measured)
    assert h200 is not None
    assert (h200.source, round(h200.ridge)) == ("the vendor's figures", 206)
    assert roofline.roof("NVIDIA H200", "float32") is None  # which the figures are not of
    assert roofline.roof("NVIDIA H200 MIG 1g.18gb", "bfloat16") is None


def test_a_benchmark_draws_points_of_its_own(tmp_path: Path) -> None:
    points = [
        roofline.Point("32 tokens", "step", Work(1e9, 1e9), 0.1),
        roofline.Point("refresh of 300", "refresh", Work(1e11, 1e9), 0.2),
    ]
    made = figures.draw_roofline(points, roofline.Roof("some", 1e11, 1e12, "measured"), tmp_path / "a" / "b")
    assert [key.label for key in made.legend] == ["32 tokens", "refresh of 300", "refreshes", "steps"]
    assert made.rows[1] == ("32 tokens", "step", "1e+09", "1e+09", "0.1", "1", "1e+10", "1e+10")
    assert "100 GB/s and 1 TFLOP/s" in made.caption
    assert "ridge 10<" in made.svg
    assert made.png == tmp_path / "a" / "b" / "roofline.png"
    assert made.png.read_bytes().startswith(b"\x89PNG")


# Accuracy against speed ------------------------------------------------------------------------------------


def test_an_outcome_is_a_share_with_its_interval_and_a_ratio_of_sums() -> None:
    made = tradeoff.outcome(8, 10, 300, 2.0)
    assert (made.accuracy, made.tokens_per_second) == (0.8, 150.0)
    assert (round(made.low, 3), round(made.high, 3)) == (0.490, 0.943)  # Wilson's, as tables have it


# Words and colours -----------------------------------------------------------------------------------------


def test_words() -> None:
    assert plot.counted([5, 5]) == "n = 5"
    assert plot.counted([7], "{} steps") == "7 steps"
    assert plot.counted([9, 3, 5]) == "n = 3–9"
    assert [plot.si(value) for value in (12, 4.8e12, 1e15, 0.5)] == ["12 ", "4.8 T", "1 P", "0.5 "]
    assert plot.table(["a", "b"], [["x", 1], ["y", 0.12345]]) == (("a", "b"), ("x", "1"), ("y", "0.123"))


def test_settings_keep_their_order_and_colours() -> None:
    names = ["jump-share", "mine", "alp theta=0.5", "llada_baseline", "alp", "mine too"]
    assert plot.in_order(names) == ["llada_baseline", "alp theta=0.5", "alp", "jump-share", "mine", "mine too"]
    colours = plot.palette(names)
    assert {name: colours[name] for name in plot.COLOURS if name in names} == {
        name: plot.COLOURS[name] for name in ("llada_baseline", "alp", "jump-share")
    }
    assert len(set(colours.values())) == len(names)


@pytest.mark.parametrize("paper", ["#ffffff", "#15181d"])
def test_colours_are_seen_on_light_and_dark_paper(paper: str) -> None:
    assert paper == "#ffffff" or paper in CSS
    for colour in {*plot.COLOURS.values(), *plot.OTHERS}:
        assert contrast(colour, paper) >= 3, colour


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


# Grouping --------------------------------------------------------------------------------------------------


def empty(task: str, setting: str, root: str = "/r", **changes: Any) -> Run:
    return finished(task, setting, [], Path(root), **changes)


def test_runs_of_one_model_share_a_figure() -> None:
    names = ("gsm8k", "jump-share"), ("humaneval", "alp"), ("gsm8k", "alp"), ("my_task", "alp"), ("bbh_mini", "mine")
    (made,) = group([empty(*key, root=f"/{i}") for i, key in enumerate(names)])
    assert (made.label, made.suffix, made.title("Roofline"), made.file("roofline")) == ("", "", "Roofline", "roofline")
    assert [(task, list(runs)) for task, runs in made.tasks.items()] == [
        ("gsm8k", ["alp", "jump-share"]), ("bbh_mini", ["mine"]), ("humaneval", ["alp"]), ("my_task", ["alp"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [
        ({"model": "a/x"}, {"model": "b/y"}, ["x", "y"]),
        ({"model": "a/x"}, {"model": "b/y", "batch_size": 8}, ["x, cpu", "y, cpu, batch 8"]),
        ({"gen_length": 256}, {"gen_length": 512}, ["some, gen_length 256", "some, gen_length 512"]),
        ({"root": "/r/new"}, {"root": "/r/old"}, ["some, new", "some, old"]),
        ({"model": "a/x"}, {"model": "b/x", "root": "/q"}, ["x, r", "x, q"]),
    ],
)
def test_runs_that_differ_do_not(one: dict[str, Any], other: dict[str, Any], labels: list[str]) -> None:
    made = group([empty("gsm8k", "alp", **one), empty("gsm8k", "alp", **other), empty("mbpp", "mine", **other)])
    assert [each.label for each in made] == labels
    assert [len(each.runs) for each in made] == [1, 2]
    assert made[0].title("Roofline") == f"Roofline: {labels[0]}"
    assert len({each.file("roofline") for each in made}) == 2
    assert all(re.fullmatch(r"[\w.-]+", each.file("roofline")) for each in made)
    assert made[0].colours == made[1].colours


# Drawing ---------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn_with_its_numbers(runs: list[Run], tmp_path: Path) -> None:
    made = figures.draw(runs, tmp_path)
    names = ["tradeoff", "phases", "roofline", "course", "lengths", "predicted", "drafts", "branches"]
    assert [each.name for each in made] == names
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for each in made:
        assert each.png.read_bytes().startswith(b"\x89PNG")
        assert each.pdf.read_bytes().startswith(b"%PDF")
        head, *rows = each.rows
        assert rows
        assert {len(row) for row in rows} == {len(head)}
        shown = list(dict.fromkeys(row[0] for row in rows))
        assert shown in (["gsm8k_mini", "bbh_mini"], ["bbh_mini"])
        assert len(each.panels) == len(shown)
        assert each.caption.endswith(".")
    check_ids([each.svg for each in made])
    assert "gsm8k_mini (n = 1–3)" in made[0].panels[0]


def check_ids(drawings: Sequence[str]) -> None:
    """All drawings together are one page's: well-formed, no id twice, none that points nowhere, no colours of ours."""
    whole = "<g>" + "".join(drawings) + "</g>"
    ids = Counter(element.get("id") for element in ElementTree.fromstring(whole).iter() if element.get("id"))
    assert set(ids.values()) == {1}
    pointed = set(re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", whole))
    assert {a or b for a, b in pointed} == set(ids)
    assert plot.INK not in whole
    assert plot.PAPER not in whole
    assert "currentColor" in whole
    assert "font-family" not in whole


def test_a_figure_that_has_nothing_to_show_is_left_out(runs: list[Run], tmp_path: Path) -> None:
    fixed = of(runs, "bbh_mini", "fast_dllm_baseline")
    untraced = replace(fixed, result=replace(fixed.result, traces={}))
    assert [each.name for each in figures.draw([untraced], tmp_path)] == ["tradeoff", "phases", "lengths"]
    unshaped = replace(of(runs, "bbh_mini", "alp"), shape=None)
    (made,) = group([unshaped])
    assert roofline.plot(made) is None
    assert lengths.plot_predicted(made) is not None
    assert acceptance.plot_drafts(made) is None


def test_what_cannot_be_drawn_is_said_in_one_sentence(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="tradeoff cannot be written to"):
        figures.draw(runs[:1], tmp_path / "file")
    monkeypatch.setattr("odb_dllm.report.figures.drawing.available", lambda: False)
    with pytest.raises(InputError, match=r"need matplotlib: pip install matplotlib"):
        figures.draw(runs[:1], tmp_path)
    assert figures.draw([], tmp_path) == []
