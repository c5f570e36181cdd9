"""Setting expressions, a preset with switches after it, wherever a setting is named."""

import json
import re
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import write_cell
from test_report import cell

from odb_dllm import InputError, generate, get_setting, load_model
from odb_dllm.arguments import from_string, parse
from odb_dllm.certify.command import _settings as certified
from odb_dllm.cli import main
from odb_dllm.expressions import written
from odb_dllm.report.cells import MANIFEST, folder_name
from odb_dllm.report.collected import place_of
from odb_dllm.report.command import _settings as planned
from odb_dllm.report.estimate import forwards
from odb_dllm.report.figures.plot import in_order
from odb_dllm.report.gather import gather
from odb_dllm.report.runs import described
from odb_dllm.splitting import separated

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
    assert switches(expression) == switches(preset, **changes)


def test_what_is_given_beside_is_added_but_contradicts_nothing() -> None:
    assert switches("alp+grow=16", gen_length=64, block_length=16).grow == 16  # no multiple of the usual block
    assert get_setting("alp+threshold=0.8", threshold=0.8).threshold == 0.8
    assert get_setting("alp+gen_length=64", gen_length=64).gen_length == 64
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
        ("alp+refresh=None", "refresh=None in .* is no value: leave refresh out for full"),
        ("alp+grow=0", "grow 0 must be a positive multiple of block_length 32"),
        ("dream_baseline+grow=128", "multiple of gen_length \\(order=whole has no blocks\\)"),
        ("llada_baseline+speculation=exact", "speculation=exact needs cache=dual"),
        ("alp+costs=/nowhere/bench.json", "cannot be read"),
    ],
)
def test_wrong_expressions_are_refused_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        get_setting(expression)


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("ALP+theta=.5", "alp+theta=0.5"),
        ("alp + theta = 5e-1 ", "alp+theta=0.5"),
        (" alp ", "alp"),
        ("Baseline+threshold=1.0", "llada_baseline+threshold=1"),
        ("alp+factor=1e+0", "alp+factor=1"),
        ("jump_share+refresh=response", RESPONSE),
        ("alp+length=MASS+early_exit=false", "alp+length=mass+early_exit=False"),
        ("alp+threshold=none+rule=none", "alp+rule=None+threshold=None"),
        ("alp+stop=a+b", "alp+stop=a+b"),
        ("alp+stop=['#', (5 , 6)]", "alp+stop=['#',[5,6]]"),
        ("alp+stop=['#']", "alp+stop=#"),
        ("alp+stop=['eos']", "alp+stop=['eos']"),  # the text, and not EOS alone
        ("alp+stop=a,b", "alp+stop=['a,b']"),  # which --settings would part
        ("alp+stop=it's+grow=32", 'alp+grow=32+stop=["it\'s"]'),
        (r"alp+stop=['a\x2bb=c']", r"alp+stop=['a\x2bb=c']"),  # a text like a field
        ("alp+grow=32+length=mass", "alp+length=mass+grow=32"),  # in whatever order they are given
        ("alp+length=mass+grow=32", "alp+length=mass+grow=32"),
    ],
)
def test_a_setting_has_one_name(spelled: str, name: str) -> None:
    assert get_setting(spelled).name == name
    assert get_setting(name) == get_setting(spelled)


def test_costs_keep_their_file(tmp_path: Path) -> None:
    file = tmp_path / "Bench.json"
    figures = {
        "floor_seconds": {"1": 0.001, "64": 0.002},
        "forwards": [{"kind": "step", "tokens": 1, "seconds": 0.001, "floor": 0.001}],
    }
    file.write_text(json.dumps(figures))
    setting = get_setting(f"ALP + costs={file}+speculation=auto")
    assert setting.name == f"alp+speculation=auto+costs={file}"
    assert setting.costs == ((1, 1.0), (64, 2.0))


NUMBERS = st.one_of(st.integers(0, 64), st.floats(0, 1))
TEXTS = st.text("ab+=,'\"[](){} \n\\#Ex2", min_size=1, max_size=8)
STOPS = st.one_of(
    st.just("eos"), st.none(), st.lists(st.one_of(TEXTS, st.integers(0, 9)), min_size=1, max_size=3).map(tuple)
)
VALUES = {
    "threshold": st.floats(0, 1),
    "theta": st.one_of(st.none(), NUMBERS.filter(lambda value: value <= 1)),
    "factor": st.one_of(st.none(), NUMBERS),
    "temperature": NUMBERS,
    "early_exit": st.booleans(),
    "eos_guard": st.sampled_from([True, False, None]),
    "stop": STOPS,
    "refresh": st.sampled_from(["full", "response", "every:3", "window:32"]),
    "length": st.sampled_from(["fixed", "adaptive", "mass"]),
    "grow": st.sampled_from([None, 32, 64]),
    "costs": st.lists(st.floats(0.5, 9), min_size=2, max_size=4).map(lambda times: tuple(enumerate(times, 1))),
}


@settings(max_examples=300, deadline=None)
@given(st.permutations(list(VALUES)), st.integers(0, 4), st.data())
def test_names_read_back_as_their_settings(order: list[str], count: int, data: st.DataObject) -> None:
    values = {name: data.draw(VALUES[name]) for name in order[:count]}
    name = written("alp", values)
    setting = get_setting(name)
    assert setting.name == name
    assert setting == replace(get_setting("alp", **values), name=name)
    assert separated(f"{name},{name},jump-share") == [name, name, "jump-share"]


@given(st.text("ab=,'\"[](){} \\", max_size=20))
def test_lists_of_settings_lose_nothing(text: str) -> None:
    assert re.sub(r"[\s,]", "", "".join(separated(text))) == re.sub(r"[\s,]", "", text)


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
        ("alp+costs=a/b c.json", "alp+costs=a%2Fb%20c%2Ejson"),  # a folder to lm-eval too
        ("alp+early_exit=False", "alp+early_exit=False"),
    ],
)
def test_folders_are_valid_on_linux_and_macos(setting: str, folder: str, tmp_path: Path) -> None:
    assert folder_name(setting) == folder
    assert cell(setting, 1, "gsm8k").folder(tmp_path) == tmp_path / "cells" / "gsm8k" / folder


def test_long_expressions_keep_folders_of_their_own() -> None:
    names = [folder_name(f"alp+stop={'x' * 300}{end}") for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(name) < 255 for name in names)


def test_folders_differ_in_more_than_case() -> None:
    names = [folder_name(f"alp+stop={text}").lower() for text in ("Q", "q")]
    assert names[0] != names[1]


def test_tables_order_and_estimate_expressions_by_their_preset() -> None:
    names = ["odb-turbo+ahead=2", "alp theta=0.8", RESPONSE, "jump-share", "alp"]
    assert in_order(names) == ["alp theta=0.8", "alp", RESPONSE, "jump-share", "odb-turbo+ahead=2"]
    assert sorted(names, key=lambda name: place_of(("gsm8k", name)))[:2] == ["alp", "alp theta=0.8"]
    assert forwards(cell(RESPONSE, 1, "gsm8k")) == forwards(cell("jump-share", 1, "gsm8k"))


def test_reports_tell_what_was_changed_beside_an_expression(tmp_path: Path) -> None:
    write_cell(tmp_path / "plain", "11", RESPONSE)
    write_cell(tmp_path / "more", "10", RESPONSE, switches={"threshold": 0.8})
    found = [run.result.cell.setting for run in gather([tmp_path])]
    assert found == ["jump-share+threshold=0.8+refresh=response", RESPONSE]


@pytest.mark.parametrize(
    ("name", "beside", "called"),
    [
        ("jump-share", {"refresh": "response"}, RESPONSE),
        ("jump-share + refresh = response ", {}, RESPONSE),
        ("alp+threshold=0.5+grow=64", {"threshold": 0.8}, "alp+threshold=0.8+grow=64"),
        ("alp+early_exit=False", {"stop": ("#",), "theta": None}, "alp+early_exit=False+stop=#"),
        ("llada_baseline", {"threshold": 0.7}, "llada_baseline+threshold=0.7"),  # its rule follows
        ("parallel", {"rule": "quota"}, "parallel+rule=quota"),
        ("alp+gen_length=64", {"theta": 1.0}, "alp+gen_length=64+theta=1"),
    ],
)
def test_reports_call_a_setting_by_its_expression(name: str, beside: dict[str, Any], called: str) -> None:
    recorded = json.loads(json.dumps(asdict(get_setting(name).override(**beside))))
    assert described({**recorded, "name": name}) == called
    assert described({**recorded, "name": called}) == called


def reproduce(out: Path, settings: str, *more: str) -> int:
    words = ["--tasks", "gsm8k_mini", "--limit", "2", "--device", "cpu", "--gen_length", "64", "--out", str(out), *more]
    with patch("datasets.config.HF_HUB_OFFLINE", True):
        return main(["reproduce", "--model", "tiny", "--settings", settings, *words])


def test_reproduce_runs_expressions_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = f"jump-share,{RESPONSE},{WINDOW},Jump_Share + refresh= response"
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


@pytest.mark.parametrize(("name", "shared"), [("gen_length", 64), ("block_length", 32), ("seed", 0)])
def test_what_is_shared_is_given_to_the_command(
    name: str, shared: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(tmp_path / "out", f"alp+{name}=16") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line == (
        f"error: 'alp+{name}=16' sets {name} 16, and all settings here run with {name} {shared}: leave it out of the "
        f"expression and give it by --{name} 16, or by {name}=16 among the arguments."
    )


def test_certify_and_reproduce_split_lists_alike(tmp_path: Path) -> None:
    words = "alp, ALP ,alp+theta=.5,alp+theta=0.50,alp+stop=['a,b'],alp+speculation=auto+costs=[(1,2),(3,4)],"
    names = ["alp", "alp+theta=0.5", "alp+stop=['a,b']", "alp+speculation=auto+costs=[[1,2],[3,4]]"]
    assert [each.name for each in certified(Namespace(settings=words, gen_length=64))] == names
    assert planned(Namespace(settings=words, block_length=None), 64) == names


def test_a_sweep_runs_an_expression(tmp_path: Path) -> None:
    words = ["--tasks", "gsm8k_mini", "--limit", "1", "--gen_length", "64", "--out", str(tmp_path)]
    assert main(["sweep", "--models", "tiny", "--gpus", "cpu", "--settings", WINDOW, *words]) == 0
    assert [run.result.cell.setting for run in gather([tmp_path])] == [WINDOW]
