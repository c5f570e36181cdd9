"""The ladder: rungs by their switches, each credited over the one below and over nothing else."""

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from small_runs import small_runs, write_cell

from odb_dllm.presets import PRESETS, get_setting
from odb_dllm.report.cells import SETTINGS
from odb_dllm.report.gather import gather
from odb_dllm.report.ladder import RUNGS, SWITCHES, Step, ladders, left_aside, missing, rung_of, to_csv, to_table
from odb_dllm.settings import Setting

NAMES = ["baseline", "parallel", "dual cache", "dual cache + early exit", "alp", "accept-jump", "jump-share"]


def switches(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in SWITCHES}


def by_name(steps: list[Step]) -> dict[str, Step]:
    return {step.rung.name: step for step in steps}


# Rungs -----------------------------------------------------------------------------------------------------


def test_every_rung_adds_one_switch_and_is_a_setting_that_can_be_run() -> None:
    assert [rung.name for rung in RUNGS] == NAMES
    for below, rung in pairwise(RUNGS):
        assert sum(below.switches[name] != rung.switches[name] for name in SWITCHES) == 1
    for rung in RUNGS:
        assert switches(get_setting(rung.setting)) == rung.switches


@pytest.mark.parametrize(
    ("name", "rung"),
    [
        ("llada_baseline", "baseline"),
        ("parallel", "parallel"),
        ("fast_dllm_baseline", "dual cache"),
        ("alp", "alp"),
        ("accept-jump", "accept-jump"),
        ("jump-share", "jump-share"),
        ("odb-turbo", "jump-share"),  # on a ladder of its own, as its refreshes are others
        ("dual-cache-parallel-exit", "dual cache + early exit"),
        *(
            (name, None)
            for name in PRESETS
            if name not in (*SETTINGS, "parallel", "odb-turbo", "dual-cache-parallel-exit")
        ),
    ],
)
def test_presets_are_known_by_their_switches(name: str, rung: str | None) -> None:
    found = rung_of({**switches(PRESETS[name]), "name": "whatever"})
    assert (found and found.name) == rung


def test_switches_count_and_not_names() -> None:
    exits = switches(get_setting("fast_dllm_baseline", early_exit=True))
    taken_off = switches(get_setting("alp", length="fixed"))
    assert exits == taken_off
    assert rung_of({**exits, "name": "fast_dllm_baseline"}) == rung_of({**taken_off, "name": "alp"}) == RUNGS[3]
    assert rung_of(switches(get_setting("alp", early_exit=False))) is None
    assert rung_of({}) is None


# Ladders ---------------------------------------------------------------------------------------------------


def test_ladder_of_real_runs() -> None:
    runs = {run.result.cell.setting: run for run in gather([small_runs()])}
    (steps,) = ladders(list(runs.values()))
    assert [step.rung.name for step in steps] == NAMES
    found = by_name(steps)
    fast, exits = runs["fast_dllm_baseline"], runs["fast_dllm_baseline+early_exit=True"]
    assert (found["dual cache"].run, found["dual cache + early exit"].run) == (fast, exits)
    assert found["dual cache"].credit is None  # parallel is not there, and the baseline is not the rung below
    assert found["jump-share"].run is runs["jump-share"]
    assert found["jump-share"].credit is None
    credit, changed = found["dual cache + early exit"].credit, found["dual cache + early exit"].accuracy
    assert credit is not None
    common = exits.result.rows.keys()
    assert len(common) == 3
    for measure, of in (
        ("wall", lambda run, each: run.result.rows[each].wall_seconds),
        ("nfe", lambda run, each: run.result.rows[each].nfe),
        ("flops", lambda run, each: run.work[each].flops),
        ("bytes", lambda run, each: run.work[each].bytes),
    ):
        above, below = (sum(of(run, each) for each in common) for run in (fast, exits))
        assert credit[measure].value == pytest.approx(above / below)
        assert credit[measure].items == 3
    assert credit["nfe"].value > 1  # blocks behind the answer are not decoded
    assert changed is not None
    assert (changed.items, changed.gained, changed.lost) == (3, 0, 0)  # and they are no part of it


def test_each_rung_is_credited_over_the_one_below(tmp_path: Path) -> None:
    """A whole ladder; accuracy, forwards and time by hand."""
    runs = (
        ("llada_baseline", 64, 32.0, "1111"),
        ("parallel", 16, 8.0, "0111"),
        ("fast_dllm_baseline", 16, 4.0, "0111"),
    )
    runs += (("alp", 4, 1.0, "1111"), ("accept-jump", 2, 0.5, "1111"), ("jump-share", 2, 0.25, "1110"))
    for name, nfe, wall, right in runs:
        write_cell(tmp_path / "a", right, name, nfe=nfe, wall=wall)
    write_cell(tmp_path / "b", "0111", "fast_dllm_baseline", nfe=8, wall=2.0, switches={"early_exit": True})
    (steps,) = ladders(gather([tmp_path]))
    assert missing([steps]) == ""
    lines = list(csv.DictReader(io.StringIO(to_csv([steps]))))
    assert [line["rung"] for line in lines] == NAMES
    assert [line["speedup"] for line in lines] == ["", "4.0", "2.0", "2.0", "2.0", "2.0", "2.0"]
    assert [line["nfe_ratio"] for line in lines] == ["", "4.0", "1.0", "2.0", "2.0", "2.0", "1.0"]
    assert [line["change"] for line in lines] == ["", "-0.25", "0.0", "0.0", "0.25", "0.0", "-0.25"]
    assert {line["documents_compared"] for line in lines} == {"", "4"}
    assert lines[3]["setting"] == "fast_dllm_baseline+early_exit=True"
    rows = to_table([steps]).rows
    assert rows[2][5:10] == ["75.0%", "-25.0%", "-60.9% – +27.6%", "1", "4.00x"]


def test_what_was_not_run_is_named(tmp_path: Path) -> None:
    write_cell(tmp_path, "11", "fast_dllm_baseline")
    write_cell(tmp_path, "11", "alp")
    (steps,) = ladders(gather([tmp_path]))
    assert "parallel (setting=parallel); dual cache + early exit (setting=dual-cache-parallel-exit)" in missing([steps])
    assert by_name(steps)["alp"].credit is None
    assert ladders(gather([tmp_path / "cells" / "gsm8k" / "alp"])) == []


def test_nothing_else_may_differ_between_rungs(tmp_path: Path) -> None:
    """Another threshold makes another ladder; one that a rung does not read is nothing to it."""
    write_cell(tmp_path / "a", "11", "llada_baseline")
    for i, threshold in enumerate((0.9, 0.7)):
        write_cell(tmp_path / f"b{i}", "11", "parallel", switches={"threshold": threshold})
        write_cell(tmp_path / f"b{i}", "11", "fast_dllm_baseline", switches={"threshold": threshold})
    write_cell(tmp_path / "c", "11", "alp", switches={"theta": 0.5})
    write_cell(tmp_path / "d", "11", "fast_dllm_baseline", switches={"early_exit": True, "stop": "eos"})
    found = [
        {step.rung.name: step.run.result.cell.setting for step in steps if step.run}
        for steps in ladders(gather([tmp_path]))
    ]
    assert found == [
        {
            "baseline": "llada_baseline",
            "parallel": "parallel",
            "dual cache": "fast_dllm_baseline",
            "alp": "alp+theta=0.5",
        },
        {
            "baseline": "llada_baseline",
            "parallel": "parallel",
            "dual cache": "fast_dllm_baseline",
            "dual cache + early exit": "fast_dllm_baseline+early_exit=True+stop=eos",
        },
        {
            "baseline": "llada_baseline",
            "parallel": "parallel+threshold=0.7",
            "dual cache": "fast_dllm_baseline+threshold=0.7",
        },
    ]


def test_one_run_stands_for_its_rung(tmp_path: Path) -> None:
    """The bare preset; the other one is named and makes no second ladder."""
    write_cell(tmp_path / "a", "11", "dual-cache-parallel-exit")
    other = write_cell(tmp_path / "b", "11", "fast_dllm_baseline", switches={"early_exit": True})
    write_cell(tmp_path / "c", "11", "llada_baseline", switches={"steps": 256})
    write_cell(tmp_path / "d", "11", "llada_baseline")
    write_cell(tmp_path / "e", "11", "alp")
    made = ladders(gather([tmp_path]))
    assert [[step.run.result.cell.setting for step in steps if step.run] for steps in made] == [
        ["llada_baseline", "dual-cache-parallel-exit", "alp"]
    ]
    first, second = left_aside(made)
    assert first.startswith("gsm8k baseline: llada_baseline is taken and not llada_baseline+steps=256, in ")
    assert second == (
        "gsm8k dual cache + early exit: dual-cache-parallel-exit is taken and not fast_dllm_baseline+early_exit=True, "
        f"in {other}."
    )


@pytest.mark.parametrize("switch", [{"refresh": "response"}, {"grow": 64}])
def test_what_is_fed_and_how_the_canvas_grows_makes_another_ladder(switch: dict[str, Any], tmp_path: Path) -> None:
    write_cell(tmp_path / "a", "11", "fast_dllm_baseline")
    write_cell(tmp_path / "b", "11", "dual-cache-parallel-exit", switches=switch)
    assert ladders(gather([tmp_path])) == []


def test_a_ladder_stands_on_one_gpu_as_far_as_it_can(tmp_path: Path) -> None:
    """The baseline was run elsewhere: its forwards count, its time does not."""
    write_cell(tmp_path / "a", "11", "llada_baseline", device="NVIDIA A100", nfe=64)
    for name in ("parallel", "fast_dllm_baseline"):
        write_cell(tmp_path / "b", "11", name, device="NVIDIA H200", nfe=4)
    write_cell(tmp_path / "c", "11", "fast_dllm_baseline", device="NVIDIA A100", nfe=4)
    found = [by_name(steps) for steps in ladders(gather([tmp_path]))]
    here, there = sorted(found, key=lambda steps: str(steps["dual cache"].run.place), reverse=True)
    assert here["parallel"].credit is not None
    assert set(here["parallel"].credit) == {"nfe", "flops", "bytes"}
    assert here["parallel"].credit["nfe"].value == 16
    assert here["dual cache"].credit is not None
    assert here["dual cache"].credit["wall"].value == 1
    assert there["baseline"].run is here["baseline"].run
    assert there["dual cache"].credit is not None
    assert "wall" not in there["dual cache"].credit  # parallel was run on the other one alone
