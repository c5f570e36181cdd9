"""The tables of a report from folders written by hand: published figures, what is not mixed, duplicates, places."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from small_runs import MODEL, lines_of, write_cell

from odb_dllm.cli import main
from odb_dllm.errors import InputError
from odb_dllm.report import mixing
from odb_dllm.report.assemble import Report, assemble
from odb_dllm.report.gather import gather
from odb_dllm.report.papers import papers


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def reported(*folders: Path) -> Report:
    return assemble(gather(folders))


# Beside the published figures ------------------------------------------------------------------------------


def test_published_figures_stand_beside_and_are_flagged(tmp_path: Path) -> None:
    """LLaDA-Instruct's gsm8k: 79.76, 77.79 and 79.0 are published; nothing for alp."""
    write_cell(tmp_path, "1" * 30 + "0" * 70, "fast_dllm_baseline", model=MODEL)
    write_cell(tmp_path, "1" * 78 + "0" * 22, "jump-share", model=MODEL)
    write_cell(tmp_path, "1" * 78 + "0" * 22, "alp", model=MODEL)
    report = reported(tmp_path)
    found = lines_of(report.files["table_LLaDA-8B-Instruct.csv"])
    assert {name: line["interval_excludes_published"] for name, line in found.items()} == {
        "llada_baseline": "",  # published and not run
        "fast_dllm_baseline on cpu": "True",
        "alp on cpu": "",
        "jump-share on cpu": "False",
    }
    assert found["jump-share on cpu"]["published_speedup_over_fast_dllm"] == "3.81"
    assert found["alp on cpu"]["published_accuracy"] == ""
    assert float(found["llada_baseline"]["published_accuracy"]) == pytest.approx(0.7976)
    said = " ".join(report.sections[0].paragraphs)
    assert "Our interval excludes its accuracy in gsm8k fast_dllm_baseline." in said


@pytest.mark.parametrize(
    "values",
    [{"about": {"chat_template": True}}, {"block_length": 16}, {"shots": 0}],
    ids=["template", "block", "shots"],
)
def test_published_figures_stand_beside_nothing_that_was_asked_otherwise(
    values: dict[str, Any], tmp_path: Path
) -> None:
    shots = values.pop("shots", 5)
    folder = write_cell(tmp_path, "11", "jump-share", model=MODEL, **values)
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "n-shot": {"gsm8k": shots}}))
    report = reported(tmp_path)
    assert (
        "Nothing published stands beside gsm8k jump-share: shots, chat template or block length are not the paper's."
        in report.sections[0].paragraphs
    )
    found = lines_of(report.files["table_LLaDA-8B-Instruct.csv"])
    line = found["jump-share on cpu"]
    assert (line["published_accuracy"], line["published_speedup_over_vanilla"]) == ("", "")
    assert found["llada_baseline"]["published_accuracy"] != ""


def test_what_an_older_run_did_not_write_down_is_not_held_against_it(tmp_path: Path) -> None:
    folder = write_cell(tmp_path, "11", "jump-share", model=MODEL, about={"chat_template": None})
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "n-shot": {}}))
    found = lines_of(reported(tmp_path).files["table_LLaDA-8B-Instruct.csv"])
    assert found["jump-share on cpu"]["published_accuracy"] != ""


# Mixing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "name", "values"),
    [
        ({"gen_length": 256}, "gen_length", ("1024", "256")),
        ({"block_length": 16}, "block_length", ("32", "16")),
        ({"dtype": "bfloat16"}, "dtype", ("float32", "bfloat16")),
        ({"data": "e"}, "documents and prompts of gsm8k", ("d", "e")),
        ({"about": {"weights": "v" * 64}}, "weights", ("wwwwwwwwwwww", "vvvvvvvvvvvv")),
        ({"about": {"chat_template": True}}, "chat template", ("none", "applied")),
    ],
)
def test_runs_that_differ_in_what_a_table_holds_equal_are_refused(
    changed: dict[str, Any],
    name: str,
    values: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = write_cell(tmp_path / "a", "11"), write_cell(tmp_path / "b", "11", "jump-share", **changed)
    assert main(["report", "a", "b", "--out", "out"]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error == (
        f"error: One table cannot hold both {one} and {other}: {name} is {values[0]} in the one and {values[1]} in the "
        "other."
    )
    assert not Path("out").exists()


def test_shots_prompts_and_seeds_are_held_equal(tmp_path: Path) -> None:
    write_cell(tmp_path / "a", "11")
    one = gather([tmp_path])[0]
    sample = replace(one.samples["gsm8k", 1], hashes=("document 1", "another prompt"))
    drawn = {**one.manifest, "setting": {**one.setting, "temperature": 0.5}}
    first, second = (
        replace(one, manifest=drawn),
        replace(one, manifest={**drawn, "setting": {**drawn["setting"], "seed": 1}}),
    )
    asked = replace(one, logs=())
    asked.samples.update({("gsm8k", 1): sample})
    for pair, said in (
        ((one, replace(one, shots={"gsm8k": 0})), "shots of gsm8k is 5 in the one and 0"),
        ((one, asked), "text and prompt of document 1 of gsm8k is document 1/prompt 1 in"),
        ((first, second), "seed is 0 in the one and 1 in the other"),
    ):
        with pytest.raises(InputError, match=said):
            mixing.refuse_mixed(pair)
    quiet = {**one.manifest, "setting": {**one.setting, "seed": 1}}
    mixing.refuse_mixed([one, replace(one, manifest=quiet)])  # nothing is drawn
    mixing.refuse_mixed([one, replace(one, weights=None, shots={}, chat_template=None)])  # nothing is known


def test_times_of_different_gpus_are_not_compared(tmp_path: Path) -> None:
    write_cell(tmp_path / "a", "1111", "fast_dllm_baseline", device="NVIDIA A100", nfe=6, wall=6.0)
    write_cell(tmp_path / "b", "1111", "jump-share", device="NVIDIA H200", nfe=2, wall=1.0)
    write_cell(tmp_path / "c", "1111", "alp", device="NVIDIA A100", nfe=3, wall=2.0)
    write_cell(tmp_path / "d", "1111", "accept-jump", device="NVIDIA A100", nfe=3, wall=2.0, batch_size=8)
    found = lines_of(reported(tmp_path).files["table_some.csv"])
    assert {name: line["speedup_over_fast_dllm"] for name, line in found.items()} == {
        "llada_baseline": "",  # published and not run
        "fast_dllm_baseline on NVIDIA A100": "1.0",
        "alp on NVIDIA A100": "3.0",
        "accept-jump on NVIDIA A100, batch 8": "",
        "jump-share on NVIDIA H200": "",
    }
    assert [line["nfe_ratio_over_fast_dllm"] for line in found.values()] == ["", "1.0", "2.0", "2.0", "3.0"]
    assert found["jump-share on NVIDIA H200"]["samples_per_second"] == "1.0"


def test_processes_side_by_side_take_the_time_of_the_longest(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "a", "1111", "alp", wall=2.0)
    (path,) = folder.glob("statistics_*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    times = (2.0, 2.0, 2.0, 6.0)  # the first process takes 4, the second 8
    path.write_text(
        "".join(
            json.dumps({**each, "rank": i % 2, "tokens": 10, "wall_seconds": times[i]}) + "\n"
            for i, each in enumerate(rows)
        )
    )
    write_cell(tmp_path / "b", "1111", "fast_dllm_baseline", wall=8.0)
    (line,) = (
        each for name, each in lines_of(reported(tmp_path).files["table_some.csv"]).items() if name.startswith("alp")
    )
    assert line["place"] == "cpu, 2 processes"
    figures = [float(line[name]) for name in ("seconds", "samples_per_second", "tokens_per_second")]
    assert figures == pytest.approx([8, 0.5, 5])
    assert line["speedup_over_fast_dllm"] == ""  # of one process


def test_the_same_cell_twice(tmp_path: Path) -> None:
    first = write_cell(tmp_path / "a", "1100", about={"end": "2026-03-01T12:00:00+00:00"})
    later = write_cell(tmp_path / "b", "1111", answers=["another"], about={"end": "2026-03-01T12:30:00+00:00"})
    last = write_cell(tmp_path / "c", "11", about={"end": "2026-04-01T12:00:00+09:00"})
    runs = gather([tmp_path])
    (best,), said = mixing.taken(runs, lambda run: run.result.cell.key)
    assert best.folder == later
    assert said == [
        f"gsm8k alp: {later} is taken, which has 4 documents where that has 2, and not {last}; 1 of their 2 common "
        "answers differ.",
        f"gsm8k alp: {later} is taken, which ended later, and not {first}; 1 of their 4 common answers differ.",
    ]
    assert set(said) <= set(assemble(runs).sections[0].paragraphs)
    same = gather([tmp_path / "a"])[0]
    assert mixing.taken([same, same], lambda run: run.result.cell.key)[1][0].endswith("their answers are the same.")


def test_one_model_whatever_its_folder_is_called_and_several_versions(tmp_path: Path) -> None:
    write_cell(tmp_path / "a", "11", model=MODEL)
    write_cell(tmp_path / "b", "11", "jump-share", model="/data/llada", about={"versions": {"odb_dllm": "2"}})
    write_cell(tmp_path / "c", "11", model="tiny", about={"weights": "v" * 64})
    report = reported(tmp_path)
    assert [section.title.split(":")[0] for section in report.sections] == [
        "LLaDA-8B-Instruct",
        "Ladder",
        "tiny",
        "Runs",
    ]
    assert report.sections[-1].paragraphs == ["Several versions of odb_dllm made these runs: 1 and 2."]


def test_two_models_with_the_same_last_name(tmp_path: Path) -> None:
    write_cell(tmp_path / "a", "11", model="one/llada")
    write_cell(tmp_path / "b", "11", model="two/llada", about={"weights": "v" * 64})
    assert [name for name in reported(tmp_path).files if name.startswith("table")] == [
        "table_one__llada.csv",
        "table_two__llada.csv",
    ]


# The other papers' tables ----------------------------------------------------------------------------------


def test_a_papers_table_from_its_own_runs_and_from_others_that_fit(tmp_path: Path) -> None:
    """Runs of ``reproduce --paper`` are told by their folder; others by task, shots, lengths, template and setting."""
    about, model = {"chat_template": True}, {"model": MODEL}
    for length in (256, 512):
        own = tmp_path / "paper" / str(length)
        write_cell(own, "1100", "llada_baseline", about=about, gen_length=length, wall=8.0, **model)
        (own / "run.json").write_text(json.dumps({"protocol": "fast-dllm/llada_instruct"}))
    write_cell(tmp_path / "more", "1110", "parallel", about=about, gen_length=256, wall=2.0, **model)
    report = reported(tmp_path)
    titles = [section.title for section in report.sections]
    assert titles == [
        "LLaDA-8B-Instruct: float32, 256 tokens to generate in blocks of 32",
        "fast-dllm/llada_instruct: LLaDA-8B-Instruct",
        "streaming-dllm/llada_instruct: LLaDA-8B-Instruct",
        "Runs",
    ]
    rows = {tuple(row[1:3]): row[3:] for row in report.sections[1].tables[0].rows}
    assert rows["length", "figure"] == ["vanilla", "prefix cache", "parallel", "fast-dllm"]
    assert rows["256", "exact_match,strict-match"] == ["50.0%", "–", "75.0%", "–"]
    assert rows["256", "seconds per sample"] == ["8.00 (1.0x)", "–", "2.00 (4.0x)", "–"]
    assert rows["256", "accuracy, published"][0] == "79.3%"
    assert rows["256", "outside the interval"] == ["no", "–", "no", "–"]
    assert rows["512", "exact_match,strict-match"] == ["50.0%", "–", "–", "–"]
    lines = list(csv.DictReader(io.StringIO(report.files["fast-dllm__llada_instruct_LLaDA-8B-Instruct.csv"])))
    assert {line["place"] for line in lines} == {"cpu"}
    write_cell(tmp_path / "paper" / "512", "11", "parallel", about=about, gen_length=512, dtype="bfloat16", **model)
    with pytest.raises(InputError, match="dtype is float32 in the one and bfloat16 in the other"):
        reported(tmp_path)


def test_a_method_with_another_switch_is_not_the_published_one(tmp_path: Path) -> None:
    given: dict[str, Any] = {"about": {"chat_template": True}, "model": MODEL, "gen_length": 256}
    write_cell(tmp_path / "a", "1110", "prefix-cache-parallel", **given)
    write_cell(tmp_path / "b", "0000", "prefix-cache-parallel", switches={"threshold": 0.5}, **given)
    titles = {section.title: section for section in reported(tmp_path).sections}
    rows = {tuple(row[1:3]): row[3:] for row in titles["fast-dllm/llada_instruct: LLaDA-8B-Instruct"].tables[0].rows}
    assert rows["256", "exact_match,strict-match"] == ["–", "–", "–", "75.0%"]
    write_cell(tmp_path / "c", "1110", "prefix-cache-parallel", **{**given, "block_length": 16})
    assert papers("m", gather([tmp_path / "c"])) == []


def test_a_method_with_the_papers_own_switches_is_the_published_one(tmp_path: Path) -> None:
    """Dream's prefix cache takes the entropy schedule, which brings its rule."""
    model = "Dream-org/Dream-v0-Base-7B"
    given: dict[str, Any] = {"model": model, "gen_length": 256, "family": "dream", "switches": {"alg": "entropy"}}
    write_cell(tmp_path, "1110", "prefix-cache", **given)
    assert [each.protocol.name for each in papers("m", gather([tmp_path]))][:1] == ["fast-dllm/dream_base"]
