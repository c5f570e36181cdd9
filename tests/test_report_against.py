"""``odb-dllm report --against``: settings beside one of them, paired by document, and times at measured costs."""

import csv
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from small_runs import small_runs, write_cell

from odb_dllm import Generation, InputError, generate, get_setting, load_model
from odb_dllm.cli import main
from odb_dllm.contract import Pass
from odb_dllm.costs import ForwardCosts, StepCosts, read_forward_costs
from odb_dllm.report.against import ALL, Line, against
from odb_dllm.report.against_costs import AS_RECORDED, Lengths, _sees_cached, fed_at, sample_milliseconds
from odb_dllm.report.against_page import rows
from odb_dllm.report.gather import SHARED, gather
from odb_dllm.report.paired import difference
from odb_dllm.report.table import NONE

pytestmark = pytest.mark.usefixtures("elsewhere")
RESPONSE = "alp+refresh=response"
TURBO = "jump-share+refresh=response:96+grow=256+ahead=1"  # odb-turbo's fields
COSTS = ForwardCosts(StepCosts(((100, 10.0), (2100, 50.0))), StepCosts(((32, 5.0), (132, 6.0))))


def bench_file(folder: Path, *kinds: str) -> Path:
    """What bench --out writes: a floor of 1 ms per 100 tokens; refreshes take 2 ms more, steps 1 and 3."""
    floors = {str(tokens): tokens * 1e-5 for tokens in (1, 100, 2000)}
    made = [("refresh", 300, 0, 2e-3), ("refresh", 2000, 0, 2e-3), ("step", 32, 300, 1e-3), ("step", 32, 2000, 3e-3)]
    forwards = [
        {"kind": kind, "tokens": tokens, "cache": cached, "seconds": tokens * 1e-5 + over, "floor": tokens * 1e-5}
        for kind, tokens, cached, over in made
        if kind in kinds
    ]
    path = folder / "bench.json"
    path.write_text(json.dumps({"floor_seconds": floors, "forwards": forwards}))
    return path


# What forwards would take ----------------------------------------------------------------------------------


def test_each_kind_of_forward_has_its_curve(tmp_path: Path) -> None:
    costs = read_forward_costs(bench_file(tmp_path, "refresh", "step"))
    assert costs.milliseconds("refresh", 1000) == pytest.approx(10 + 2)
    assert costs.milliseconds("step", 1000) == pytest.approx(10 + 2), "the mean over what was cached"
    assert costs.milliseconds("step", 66) == pytest.approx(0.66 + 2), "between two points"
    assert COSTS.milliseconds("refresh", 1100) == 30
    assert COSTS.milliseconds("step", 232) == 7, "on as between the last two"


def test_a_file_without_refreshes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no measured refreshes"):
        read_forward_costs(bench_file(tmp_path, "step"))


@cache
def generation(setting: str, words: int, gen_length: int) -> tuple[int, dict[str, Any], Generation]:
    """A real generation, with the length of its prompt and the fields of its setting."""
    model = load_model("tiny", device="cpu")
    assert model.tokenizer is not None
    prompt = model.tokenizer.encode("Question: " + " ".join(["1 + 1"] * words) + "?\nAnswer:")
    shared = len(prompt) // 2 if "prefix=shared" in setting else None
    made = generate(model, prompt, setting=setting, gen_length=gen_length, shared_prefix=shared)
    return len(prompt), asdict(get_setting(setting, gen_length=gen_length)), made


@pytest.mark.parametrize(
    "setting",
    [
        *("llada_baseline+steps=8", "dual-cache+steps=8", "prefix-cache+steps=8", "fast_dllm_baseline", "jump-share"),
        *(
            "streaming+window_size=16",
            "dual-cache+steps=8+grow=32",
            "alp+grow=128",
            "alp+prefix=shared+length=fixed",
            RESPONSE,
        ),
    ],
)
def test_a_translated_forward_is_the_one_at_those_lengths(setting: str) -> None:
    """The first forward feeds what it does where the prompt and the canvas are those that it is translated to."""
    short, fields, recorded = generation(setting, 20, 64)
    long, _, real = generation(setting, 40, 256)
    assert fed_at(recorded.passes[0], short, 64, fields, Lengths(long, 256)) == pytest.approx(real.passes[0].fed, abs=1)
    for made in recorded.passes:
        assert fed_at(made, short, 64, fields, Lengths()) == made.fed
        assert fed_at(made, short, 64, fields, Lengths(short, 64)) == made.fed


def test_what_is_fed_of_a_short_prompt_is_a_part_of_a_long_one() -> None:
    """So that it takes a step's time there: the first refresh alone sees no cache."""
    prompt, fields, made = generation("fast_dllm_baseline+refresh=response:64", 10, 128)
    kinds = [_sees_cached(each, prompt, fields, Lengths(1000)) for each in made.passes if each.kind == "refresh"]
    recorded = [_sees_cached(each, prompt, fields, AS_RECORDED) for each in made.passes if each.kind == "refresh"]
    assert prompt < 64
    assert kinds == [False, True, True, True]
    assert recorded == [False] * 4


@pytest.mark.parametrize(
    ("setting", "more"),
    [
        *((f"fast_dllm_baseline+refresh=window:{width}", "") for width in (16, 64, 256)),
        ("jump-share+length=fixed+refresh=window:64+grow=64", ""),
        *((f"prefix-cache+suffix=window+window_size={width}", "+steps={}") for width in (16, 64, 256)),
        *((name, "+steps={}") for name in ("prefix-cache", "llada_baseline", "dual-cache", "prefix-cache+grow=64")),
    ],
)
def test_every_block_feeds_what_it_does_on_that_canvas(setting: str, more: str) -> None:
    """A block's forwards on a canvas of 128, or 256, feed on the other what that block's do there."""
    made = {}
    for length in (128, 256):
        prompt, fields, done = generation(setting + more.format(length // 16), 20, length)
        made[length] = [each for each in done.passes if each.branches == 1]
    known = {length: {(each.kind, each.block): each.fed for each in passes} for length, passes in made.items()}
    for here, there in ((128, 256), (256, 128)):
        assert known[here].keys() & known[there].keys()
        for each in made[here]:
            theirs = known[there].get((each.kind, each.block), each.fed)  # a block that is not there stays as it was
            assert fed_at(each, prompt, here, fields, Lengths(canvas=there)) == theirs


@pytest.mark.parametrize(
    ("made", "setting", "fed"),
    [
        (Pass("refresh", 356, 0, 32, 0, 96, 3, 1), "jump-share", 1000 + 1024),  # the first: not cut yet
        (Pass("refresh", 196, 0, 32, 1, 96, 3, 1), "jump-share", 1000 + 96),  # cut
        (Pass("refresh", 96, 100, 32, 1, 96, 3, 1), RESPONSE, 96),
        (Pass("refresh", 256, 100, 32, 1, 256, 3, 1), RESPONSE, 1024),  # no end was predicted
        (Pass("refresh", 228, 0, 32, 0, 128, 3, 1), "alp+grow=128", 1000 + 128),
        (Pass("refresh", 228, 0, 32, 0, 96, 3, 1), "odb-turbo+grow=128", 1000 + 128),
        (Pass("refresh", 288, 4, 32, 2, 192, 3, 1), "odb-turbo+grow=128", 96 + 64 + 128),  # no end was predicted
        (Pass("refresh", 192, 4, 32, 2, 96, 3, 1), "odb-turbo+grow=128", 96 + 96),
        (Pass("refresh", 356, 0, 32, 0, 96, 3, 1), "odb-turbo", 1000 + 256),
        (Pass("refresh", 352, 4, 32, 2, 256, 3, 1), "odb-turbo", 96 + 64 + 256),  # no end was predicted
        (Pass("refresh", 196, 0, 32, 2, 96, 3, 1), "alp+refresh=response:128", 128 + 96),  # all of a short prompt
        (Pass("refresh", 356, 0, 32, 0, 96, 3, 1), "alp+grow=512", 1000 + 512),
        (Pass("refresh", 296, 60, 32, 0, 96, 3, 1), "alp+prefix=shared", 400 + 1024),
        (Pass("refresh", 64, 200, 32, 1, 164, 3, 1), "alp+refresh=window:32", 64),
        (Pass("refresh", 256, 100, 32, 1, 256, 3, 1), "alp+refresh=window:256", 32 + 32 + 256),
        (Pass("refresh", 256, 100, 32, 7, 256, 3, 1), "alp+refresh=window:256", 256 + 256),
        (Pass("refresh", 96, 100, 32, 1, 96, 3, 1), "alp+refresh=window:256", 96),  # cut
        (Pass("refresh", 229, 0, 32, 1, 256, 3, 1), "streaming", 1000 + 129),  # whose window is by task
        (Pass("step", 32, 324, 30, 0, 256, 3, 1), "fast_dllm_baseline", 32),
        (Pass("step", 256, 164, 30, 1, 96, 3, 8), "jump-share", 256),  # branches, and no canvas
    ],
)
def test_what_is_fed_behind_a_longer_prompt_and_on_a_longer_canvas(made: Pass, setting: str, fed: int) -> None:
    assert fed_at(made, 100, 256, asdict(get_setting(setting, gen_length=256)), Lengths(1000, 1024)) == fed


def test_a_cut_canvas_is_no_longer_than_a_shorter_one() -> None:
    made, setting = Pass("refresh", 196, 100, 32, 1, 96, 3, 1), asdict(get_setting(RESPONSE, gen_length=256))
    assert fed_at(made, 100, 256, setting, Lengths(canvas=128)) == 196 - (196 - 128)
    assert fed_at(made, 100, 256, setting, Lengths(canvas=32)) == 196, "which does not have that block"


def test_the_only_block_of_a_canvas_is_fed_by_its_steps_alone() -> None:
    made, setting = Pass("step", 32, 100, 30, 0, 32, 3, 1), asdict(get_setting("alp", gen_length=32))
    assert fed_at(made, 100, 32, setting, Lengths(canvas=64)) == 32


def test_a_sample_takes_its_forwards_times(tmp_path: Path) -> None:
    """Written cells have a refresh of 100 tokens behind a prompt of 9, and steps of 32."""
    write_cell(tmp_path, "10", "alp", nfe=3)
    (run,) = gather([tmp_path])
    assert sample_milliseconds(run, COSTS) == {("gsm8k", 0): 10 + 2 * 5.0, ("gsm8k", 1): 10 + 2 * 5.0}
    behind = sample_milliseconds(run, COSTS, Lengths(prompt=1009))
    assert behind["gsm8k", 0] == pytest.approx(30 + 2 * 5.0)


# Tables ----------------------------------------------------------------------------------------------------


def lines_of(made: list[Line]) -> dict[tuple[str, str], Line]:
    return {(line.task, line.setting): line for line in made}


def test_pairs_on_each_task_and_on_all(tmp_path: Path) -> None:
    for task, setting, right, nfe in (
        *(("gsm8k", "alp", "1100", 4), ("gsm8k", RESPONSE, "1010", 2), ("gsm8k", "jump-share", "1111", 3)),
        *(("gsm8k_cot", "alp", "10", 2), ("gsm8k_cot", RESPONSE, "11", 2)),
    ):
        write_cell(tmp_path, right, setting, task=task, nfe=nfe)
    (model,) = against(gather([tmp_path]), "ALP", COSTS)
    lines = lines_of(model.lines)
    assert set(lines) == {(task, each) for task in ("gsm8k", ALL) for each in (RESPONSE, "jump-share")} | {
        ("gsm8k_cot", RESPONSE)
    }
    first = lines["gsm8k", RESPONSE]
    assert (first.accuracy.items, first.accuracy.gained, first.accuracy.lost) == (4, 1, 1)
    assert (first.nfe and first.nfe.setting, first.nfe and first.nfe.reference) == (2, 4)
    assert first.milliseconds is not None
    assert (first.milliseconds.setting, first.milliseconds.reference) == (10 + 5, 10 + 3 * 5)
    assert first.speedup == pytest.approx(25 / 15)
    ours, theirs = (dict(enumerate(map(bool, map(int, of)))) for of in ("1010", "1100"))
    assert first.accuracy == difference(ours, theirs)
    pooled = lines[ALL, RESPONSE]
    assert (pooled.accuracy.items, pooled.accuracy.gained, pooled.accuracy.lost) == (6, 2, 1)
    assert (pooled.right.setting, pooled.right.reference) == (4 / 6, 3 / 6)
    assert (pooled.nfe and pooled.nfe.reference) == pytest.approx((4 * 4 + 2 * 2) / 6)
    assert model.lines[-1].task == ALL
    assert "all tasks of jump-share: without gsm8k_cot, which it or the reference was not run on." in model.notes


def test_a_fixed_length_has_no_times_on_another_canvas(tmp_path: Path) -> None:
    """How many blocks it would have is not known; with early exit, they are taken as they were and that is said."""
    for setting in ("alp", "fast_dllm_baseline", "dual-cache-parallel-exit"):
        write_cell(tmp_path, "10", setting)
    runs = gather([tmp_path])
    (there,) = against(runs, "alp", COSTS, Lengths(canvas=2048))
    lines = lines_of(there.lines)
    assert lines["gsm8k", "fast_dllm_baseline"].milliseconds is lines["gsm8k", "fast_dllm_baseline"].speedup is None
    assert lines["gsm8k", "dual-cache-parallel-exit"].milliseconds is not None
    assert there.notes == [
        "Of fixed length, fast_dllm_baseline on a canvas of 2048: no times, for it has another number of blocks than "
        "the canvas of 1024 that was recorded.",
        "Of fixed length, dual-cache-parallel-exit on a canvas of 2048: the number of blocks is as recorded on a "
        "canvas of 1024; an answer that no early exit ended would have another.",
    ]
    assert rows(there, "bench.json")[1][-2:] == [NONE, NONE]
    (same,) = against(runs, "alp", COSTS, Lengths(canvas=1024))
    assert all(line.milliseconds for line in same.lines)
    assert same.notes == against(runs, "alp", None, Lengths(canvas=2048))[0].notes == []


def test_the_reference_is_found_by_what_it_means(tmp_path: Path) -> None:
    for setting in ("odb-turbo", "alp"):
        write_cell(tmp_path, "10", setting)
    runs = gather([tmp_path])
    for word in (TURBO, " odb-turbo ", TURBO.replace("+", " + "), f"{TURBO}+seed=0+gen_length=1024"):
        (model,) = against(runs, word)
        assert (model.reference, [line.setting for line in model.lines]) == ("odb-turbo", ["alp"])
    for word in (f"{TURBO}+seed=7", f"{TURBO}+gen_length=512", f"{TURBO}+theta=0.5"):
        with pytest.raises(InputError, match="No finished run is of"):
            against(runs, word)


def test_runs_of_other_papers_protocols_are_left_out_and_said(tmp_path: Path) -> None:
    for setting in ("alp", "jump-share"):
        write_cell(tmp_path / "own", "10", setting)
        write_cell(tmp_path / "paper", "11", setting)
    (tmp_path / "paper" / SHARED).write_text(json.dumps({"protocol": "fast-dllm/llada_instruct"}))
    (model,) = against(gather([tmp_path]), "alp")
    assert [line.right.setting for line in model.lines] == [0.5]
    said = "Runs that follow another paper's protocol are left out: 2 of --paper fast-dllm/llada_instruct."
    assert model.notes == [said]
    with pytest.raises(InputError, match="All runs there follow another paper's protocol and are left out: 2 of"):
        against(gather([tmp_path / "paper"]), "alp")


def test_the_command_on_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs, out = bench_file(tmp_path, "refresh", "step"), tmp_path / "out"
    words = ["report", "--against", "fast_dllm_baseline", str(small_runs()), "--costs", str(costs)]
    assert main([*words, "--prompt", "1000", "--canvas", "112", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "behind a prompt of 1000 tokens and on a canvas of 112" in printed
    with (out / "against.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["setting"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"llada_baseline", "fast_dllm_baseline+early_exit=True", "jump-share"}
    runs = {run.result.cell.setting: run.result for run in gather([small_runs()])}
    fast, jump = runs["fast_dllm_baseline"], runs["jump-share"]
    row, made = rows["jump-share"], difference(jump.correct, fast.correct)
    assert made is not None
    assert (int(row["documents"]), int(row["gained"]), int(row["lost"])) == (4, made.gained, made.lost)
    assert float(row["mcnemar_p"]) == made.p
    assert float(row["nfe"]) == sum(each.nfe for each in jump.rows.values()) / 4
    assert float(row["refreshes_reference"]) == sum(each.refreshes for each in fast.rows.values()) / 4
    assert float(row["speedup"]) == pytest.approx(float(row["milliseconds_reference"]) / float(row["milliseconds"]))
    assert float(row["speedup"]) > 1, "whose canvas was cut"
    assert int(rows["llada_baseline"]["documents"]) == 1, "its timing subset"
    assert (out / "against.md").read_text(encoding="utf-8") in printed
    assert (out / "against.html").is_file()


def test_without_out_it_goes_to_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--against", "jump-share", str(small_runs() / "table")]) == 0
    printed = capsys.readouterr().out
    assert "tiny: against jump-share" in printed
    assert "ms / reference" not in printed, "which takes costs"
    assert sorted(path.name for path in Path("results/against").iterdir()) == [
        *("against.csv", "against.html", "against.md")
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--against", "jump-shore"], "did you mean 'jump-share'?"),
        (["--against", "alp"], "No finished run is of 'alp'"),
        (["--against", "jump-share", "--costs", "nowhere.json"], "'nowhere.json' cannot be read"),
        (["--against", "jump-share", "--prompt", "1000"], "--prompt goes with --costs"),
        (["--against", "jump-share", "--costs", "x", "--canvas", "0"], "--canvas must be a whole number of at least 1"),
        (["--costs", "x"], "--costs goes with --against"),
        (["--against", "", "--out", "x"], "--against is empty: give a name"),
        (["--against", "alp", "--costs", " "], "--costs is empty"),
        (["--lengths", "alp", ""], "--lengths is empty"),
        (["--out", ""], "--out is empty"),
        ([""], "The name of a folder is empty"),
        (["--against", "alp", "--bench", "nothere.json"], "--bench goes with the report's figures, and --against"),
        (["--lengths", "alp", "x", "--bench", "nothere.json"], "figures, and --lengths draws no roofline"),
        (["--against", "alp", "--lengths", "alp", "x"], "a setting or --lengths two settings, not together."),
    ],
)
def test_wrong_flags_are_refused_in_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(small_runs()), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("results").exists()


def test_compare_takes_no_roof_and_no_empty_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--compare", "a", "b", "--bench", "nothere.json"]) == 2
    assert "figures, and --compare draws no roofline." in capsys.readouterr().err
    assert main(["report", "--compare", "", "b"]) == 2
    assert "--compare is empty" in capsys.readouterr().err


def test_help_names_every_kind_of_report(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "results/report, results/compare, results/against or results/lengths" in said
    for flag in ("--compare", "--against", "--lengths"):
        assert f"with {flag}," in said.lower()


def test_a_setting_alone_has_nothing_beside_it(tmp_path: Path) -> None:
    write_cell(tmp_path, "10", "alp")
    with pytest.raises(InputError, match="No other setting shares a task"):
        against(gather([tmp_path]), "alp")
