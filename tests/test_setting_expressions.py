"""Setting expressions, a preset with switches after it, wherever a setting is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from small_runs import write_cell
from test_report import cell

from odb_dllm import InputError, generate, get_setting, load_model
from odb_dllm.arguments import from_string, parse
from odb_dllm.cli import main
from odb_dllm.report.cells import MANIFEST, folder_name
from odb_dllm.report.collected import place_of
from odb_dllm.report.estimate import forwards
from odb_dllm.report.figures.plot import in_order
from odb_dllm.report.gather import gather

RESPONSE = "jump-share+refresh=response"
WINDOW = "alp+refresh=window:32+length=mass"


def switches(name: str, **more: Any) -> Any:
    return replace(get_setting(name, **more), name="")


@pytest.mark.parametrize(
    ("expression", "preset", "changes"),
    [
        ("jump-share+refresh=response+grow=256", "jump-share", {"refresh": "response", "grow": 256}),
        ("alp+length=mass", "alp", {"length": "mass"}),
        ("odb-turbo+ahead=2+threshold=0.8", "odb-turbo", {"ahead": 2, "threshold": 0.8}),
        ("baseline+threshold=0.7", "llada_baseline", {"threshold": 0.7}),  # which brings its rule
        ("alp+threshold=none", "alp", {"threshold": None}),
        ("Jump_Share + early_exit=False", "jump-share", {"early_exit": False}),
        ("alp+refresh=window:32", "alp", {"refresh": "window:32"}),
        ("alp+stop=####", "alp", {"stop": "####"}),
    ],
)
def test_an_expression_is_the_preset_with_its_changes(expression: str, preset: str, changes: dict[str, Any]) -> None:
    assert get_setting(expression).name == expression
    assert switches(expression) == switches(preset, **changes)


def test_what_is_given_beside_is_added_but_contradicts_nothing() -> None:
    assert switches("alp+grow=16", gen_length=64, block_length=16).grow == 16  # no multiple of the usual block
    assert get_setting("alp+threshold=0.8", threshold=0.8).threshold == 0.8
    with pytest.raises(InputError, match=r"sets threshold, and threshold 0\.7 is asked beside it"):
        get_setting("alp+threshold=0.8", threshold=0.7)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("jumpshare+grow=256", "Unknown setting 'jumpshare': did you mean 'jump-share'?"),
        ("+grow=256", "Unknown setting ''"),
        ("alp+grwo=256", "Unknown setting field 'grwo': did you mean 'grow'?"),
        ("alp+name=mine", "Unknown setting field 'name'"),
        ("alp+grow", "'grow' in 'alp\\+grow' is no field=value"),
        ("alp+grow=", "'grow=' in 'alp\\+grow=' is no field=value"),
        ("alp+", "'' in 'alp\\+' is no field=value"),
        ("alp+grow=32+grow=64", "sets grow twice"),
        ("alp+grow=many", "grow must be a whole number, not 'many'"),
        ("alp+threshold=2", "threshold must lie between 0 and 1"),
        ("llada_baseline+speculation=exact", "speculation=exact needs cache=dual"),
        ("alp+costs=/nowhere/bench.json", "cannot be read"),
    ],
)
def test_wrong_expressions_are_refused_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        get_setting(expression)


def test_model_arguments_and_generate_take_expressions() -> None:
    given = parse(from_string(f"pretrained=tiny,setting={WINDOW},gen_length=64"))
    assert (given.setting.name, given.setting.refresh, given.setting.gen_length) == (WINDOW, "window:32", 64)
    assert given.explicit == {"refresh", "length", "gen_length"}  # so that no task's own values replace them
    model = load_model("tiny", device="cpu")
    assert model.tokenizer is not None
    prompt = model.tokenizer.encode("Question: 1 + 1?\nAnswer:")
    made = [generate(model, prompt, setting=name, gen_length=64).tokens for name in (RESPONSE, "jump-share")]
    assert made[0] == generate(model, prompt, setting="jump-share", gen_length=64, refresh="response").tokens
    assert all(made)


@pytest.mark.parametrize(
    ("setting", "folder"),
    [
        ("jump-share", "jump-share"),
        (RESPONSE, RESPONSE),
        (WINDOW, "alp+refresh=window%3A32+length=mass"),
        ("alp+costs=a/b c.json", "alp+costs=a%2Fb%20c.json"),
    ],
)
def test_folders_are_valid_on_linux_and_macos(setting: str, folder: str, tmp_path: Path) -> None:
    assert folder_name(setting) == folder
    assert cell(setting, 1, "gsm8k").folder(tmp_path) == tmp_path / "cells" / "gsm8k" / folder


def test_long_expressions_keep_folders_of_their_own() -> None:
    names = [folder_name(f"alp+stop={'x' * 300}{end}") for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(name) < 255 for name in names)


def test_tables_order_and_estimate_expressions_by_their_preset() -> None:
    names = ["odb-turbo+ahead=2", "alp theta=0.8", RESPONSE, "jump-share", "alp"]
    assert in_order(names) == ["alp theta=0.8", "alp", RESPONSE, "jump-share", "odb-turbo+ahead=2"]
    assert sorted(names, key=lambda name: place_of(("gsm8k", name)))[:2] == ["alp", "alp theta=0.8"]
    assert forwards(cell(RESPONSE, 1, "gsm8k")) == forwards(cell("jump-share", 1, "gsm8k"))


def test_reports_tell_what_was_changed_beside_an_expression(tmp_path: Path) -> None:
    write_cell(tmp_path / "plain", "11", RESPONSE)
    write_cell(tmp_path / "more", "10", RESPONSE, switches={"threshold": 0.8})
    assert [run.result.cell.setting for run in gather([tmp_path])] == [f"{RESPONSE} threshold=0.8", RESPONSE]


def reproduce(out: Path, settings: str) -> int:
    words = ["--tasks", "gsm8k_mini", "--limit", "2", "--device", "cpu", "--gen_length", "64", "--out", str(out)]
    with patch("datasets.config.HF_HUB_OFFLINE", True):
        return main(["reproduce", "--model", "tiny", "--settings", settings, *words])


def test_reproduce_runs_expressions_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = f"jump-share,{RESPONSE},{WINDOW}"
    assert reproduce(tmp_path, settings) == 0
    first = capsys.readouterr().out
    cells = tmp_path / "cells" / "gsm8k_mini"
    names = ["alp+refresh=window%3A32+length=mass", "jump-share", RESPONSE]
    assert sorted(path.name for path in cells.iterdir()) == names
    held = json.loads((cells / RESPONSE / MANIFEST).read_text())["setting"]
    assert (held["name"], held["refresh"], held["speculation"]) == (RESPONSE, "response", "jump-share")
    assert reproduce(tmp_path, settings) == 0
    again = capsys.readouterr()
    assert again.err.count("finished before") == 3
    assert again.out == first
    assert {run.result.cell.setting for run in gather([tmp_path])} == {"jump-share", RESPONSE, WINDOW}


@pytest.mark.parametrize("wrong", ["jump-share+refesh=full", "alp+gen_length=128"])
def test_reproduce_refuses_before_anything_is_written(wrong: str, tmp_path: Path) -> None:
    assert reproduce(tmp_path / "out", wrong) == 2
    assert not (tmp_path / "out").exists()


def test_a_sweep_runs_an_expression(tmp_path: Path) -> None:
    words = ["--tasks", "gsm8k_mini", "--limit", "1", "--gen_length", "64", "--out", str(tmp_path)]
    assert main(["sweep", "--models", "tiny", "--gpus", "cpu", "--settings", WINDOW, *words]) == 0
    assert [run.result.cell.setting for run in gather([tmp_path])] == [WINDOW]
