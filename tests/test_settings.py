"""Settings: presets, overrides, what is refused, and settings and models of other packages."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ENVIRONMENT

from odb_dllm import InputError, Setting, get_setting
from odb_dllm.benchmarks import BENCHMARKS, derive, resolve
from odb_dllm.models.loading import TokenIds
from odb_dllm.presets import PRESETS
from odb_dllm.setting_values import SETTING_FIELDS
from odb_dllm.settings_command import accepted, described, overview, page


def test_presets_are_the_published_table() -> None:
    table = {
        name: (s.cache, s.rule, s.threshold, s.length, s.suffix, s.speculation, s.early_exit)
        for name, s in PRESETS.items()
    }
    assert table.pop("jump-share-exact") == ("dual", "threshold", 0.9, "adaptive", "full", "exact", True)  # is ours
    assert table.pop("odb-turbo") == table["jump-share"]  # with partial refreshes
    assert table.pop("dual-cache-parallel-exit") == ("dual", "threshold", 0.9, "fixed", "full", "none", True)
    assert table == {
        "llada_baseline": ("none", "quota", None, "fixed", "full", "none", False),
        "fast_dllm_baseline": ("dual", "threshold", 0.9, "fixed", "full", "none", False),
        "alp": ("dual", "threshold", 0.9, "adaptive", "full", "none", True),
        "accept-jump": ("dual", "threshold", 0.9, "adaptive", "full", "accept-jump", True),
        "jump-share": ("dual", "threshold", 0.9, "adaptive", "full", "jump-share", True),
        "parallel": ("none", "threshold", 0.9, "fixed", "full", "none", False),
        "prefix-cache": ("prefix", "quota", None, "fixed", "full", "none", False),
        "prefix-cache-parallel": ("prefix", "threshold", 0.9, "fixed", "full", "none", False),
        "dual-cache": ("dual", "quota", None, "fixed", "full", "none", False),
        "streaming": ("prefix", "dynamic", 0.9, "fixed", "window", "none", True),
        "dream_baseline": ("none", "schedule", None, "fixed", "full", "none", False),
    }
    assert all((s.gen_length, s.block_length, s.temperature) == (1024, 32, 0.0) for s in PRESETS.values())
    beyond = {n: (s.refresh, s.grow, s.ahead, s.prefix) for n, s in PRESETS.items() if n != "odb-turbo"}
    assert set(beyond.values()) == {("full", None, 0, "none")}


@pytest.mark.parametrize("name", ["Jump-Share", "JUMP-SHARE", "jump_share"])
def test_names_have_no_case(name: str) -> None:
    assert get_setting(name) is PRESETS["jump-share"]


def test_aliases() -> None:
    assert get_setting("baseline") is PRESETS["llada_baseline"]
    assert get_setting("dualCache") is PRESETS["fast_dllm_baseline"]


@pytest.mark.parametrize(
    ("name", "changes", "rule"),
    [
        ("fast_dllm_baseline", {"threshold": None}, "quota"),
        ("fast_dllm_baseline", {"threshold": None, "factor": 1.0}, "factor"),
        ("fast_dllm_baseline", {"factor": 1.0}, "factor"),
        ("fast_dllm_baseline", {"threshold": 0.8}, "threshold"),
        ("llada_baseline", {"threshold": 0.8}, "threshold"),
        ("prefix-cache", {"rule": "threshold"}, "threshold"),
        ("prefix-cache", {"rule": "factor"}, "factor"),
        ("streaming", {"threshold": 0.8}, "dynamic"),
        ("streaming", {"threshold": None}, "quota"),
        ("parallel", {"rule": "quota"}, "quota"),
        ("parallel", {"gen_length": 64}, "threshold"),
    ],
)
def test_the_rule_follows_threshold_and_factor(name: str, changes: dict[str, Any], rule: str) -> None:
    assert get_setting(name, **changes).rule == rule


def test_steps_default_to_the_length() -> None:
    assert get_setting("llada_baseline", gen_length=64, block_length=16).steps_per_block == 16
    assert get_setting("llada_baseline", gen_length=64, block_length=16, steps=8).steps_per_block == 2


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("jump-share", {"cache": "prefix"}, "needs cache=dual"),
        ("jump-share", {"threshold": None}, "fixed threshold"),
        ("jump-share", {"factor": 1.0}, "fixed threshold"),
        ("accept-jump", {"rule": "dynamic"}, "fixed threshold"),
        ("accept-jump", {"temperature": 0.5}, "temperature 0"),
        ("streaming", {"length": "adaptive"}, "suffix=full"),
        ("alp", {"suffix": "window"}, "suffix=full"),
        ("fast_dllm_baseline", {"cfg_scale": 1.0}, "cache=none"),
        ("parallel", {"remasking": "random"}, "quota rule"),
        ("jump-share", {"gen_length": 100}, "multiple of block_length 32; 128 would be"),
        ("jump-share", {"gen_length": 0}, "at least 1"),
        ("llada_baseline", {"steps": 33}, "multiple of the 32 blocks"),
        ("llada_baseline", {"steps": 2048}, "at most gen_length"),
        ("llada_baseline", {"steps": 0}, "multiple of"),
        ("jump-share", {"threshold": 1.5}, "between 0 and 1"),
        ("jump-share", {"theta": -0.1}, "between 0 and 1"),
        ("jump-share", {"temperature": float("nan")}, "finite"),
        ("jump-share", {"gen_length": "long"}, "whole number"),
        ("jump-share", {"gen_length": True}, "whole number"),
        ("jump-share", {"early_exit": 1}, "True or False"),
        ("jump-share", {"stop": 3.5}, "stop must be"),
        ("jump-share", {"stop": [[]]}, "stop must be"),
        ("jump-share", {"cache": "duel"}, "did you mean 'dual'"),
        ("jump-share", {"rule": "treshold"}, "did you mean 'threshold'"),
        ("jump-share", {"block_lenght": 16}, "did you mean 'block_length'"),
        ("parallel", {"rule": "threshold", "threshold": None}, "needs a threshold"),
        ("jumpshare", {}, "did you mean 'jump-share'"),
        (3, {}, "a name or an odb_dllm.Setting"),
    ],
)
def test_refusals_say_why(name: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        get_setting(name, **changes)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"gen_length": np.int64(64), "threshold": np.float32(0.5)}, {"gen_length": 64, "threshold": 0.5}),
        ({"early_exit": np.bool_(True)}, {"early_exit": True}),
        ({"stop": np.array([5, 6])}, {"stop": (5, 6)}),
        ({"stop": [np.int64(5), np.array([6, 7]), [8, np.int32(9)]]}, {"stop": (5, (6, 7), (8, 9))}),
        ({"stop": "Question:"}, {"stop": ("Question:",)}),
        ({"stop": 17}, {"stop": (17,)}),
        ({"speculation": "None", "cache": "DUAL"}, {"speculation": "none", "cache": "dual"}),
        ({"length": None, "early_exit": None, "speculation": None}, {"length": "fixed", "early_exit": False}),
        ({"cache": False, "speculation": False}, {"cache": "none", "speculation": "none"}),
    ],
)
def test_values_may_be_spelled(given: dict[str, Any], kept: dict[str, Any]) -> None:
    setting = get_setting("alp", **given)
    assert {name: getattr(setting, name) for name in kept} == kept
    assert all(type(getattr(setting, name)) is type(value) for name, value in kept.items())


def test_a_rule_of_one_s_own_survives_a_threshold() -> None:
    def rule(score: Any, moment: Any) -> Any:
        return score > 0

    setting = Setting(rule=rule, threshold=0.9)
    assert setting.override(threshold=0.5).rule is rule
    assert setting.override(factor=1.0).rule is rule
    assert setting.override(threshold=None).rule == "quota"


def test_a_setting_is_frozen() -> None:
    with pytest.raises(AttributeError):
        PRESETS["alp"].gen_length = 5  # type: ignore[misc]


def cells(text: str) -> dict[str, list[str]]:
    """The lines of a listing with two or more columns, by their first word."""
    lines = [re.split("  +", line) for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


def test_every_field_is_listed_with_its_default_and_values() -> None:
    listed = cells(overview().partition(":\n\n")[2])
    assert list(listed)[1:] == list(SETTING_FIELDS)
    assert listed["refresh"][:2] == ["full", "full, response, response:n, every:k, window:w"]
    assert listed["theta"][:2] == ["None", "number, None"]
    assert accepted("early_exit") == "True, False"
    assert accepted("rule").startswith("quota, threshold, ")
    assert all(described(name) for name in SETTING_FIELDS)


def test_one_setting_is_shown_field_by_field() -> None:
    shown = page("Jump_Share + refresh=response")
    assert shown.startswith("jump-share+refresh=response\n")
    found = cells(shown)
    assert list(found)[1:] == list(SETTING_FIELDS)
    assert [name for name, (_, origin) in found.items() if origin == "changed"] == ["refresh"]
    assert found["refresh"] == ["response", "changed"]
    assert found["speculation"] == ["jump-share", "jump-share"]  # the preset sets it
    assert found["gen_length"] == ["1024", "default"]
    with pytest.raises(InputError, match="did you mean 'refresh'"):
        page("jump-share+refesh=response")


class Characters:
    """A tokenizer of one id per character, with one merge: 'a' before '!' is a token of its own."""

    all_special_tokens = ("<end>",)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text.replace("a!", "\x01")]


def fake_model(**more: Any) -> Any:
    parts = {"name": "LLaDA-8B-Instruct", "tokenizer": None, "vocab_size": 126464, "ids": TokenIds(126336, 126081)}
    return SimpleNamespace(**(parts | more))


@pytest.mark.parametrize(
    ("task", "instruct", "v15", "guard"),
    [
        ("gsm8k", 0.93, 0.90, True),
        ("minerva_math", 0.80, 0.85, False),
        ("bbh", 0.80, 0.80, False),
        ("humaneval", 0.85, 0.85, False),
        ("mbpp", 0.90, 0.90, True),
        (None, 0.90, 0.90, False),
        ("lambada", 0.90, 0.90, False),
    ],
)
def test_published_thresholds(task: str | None, instruct: float, v15: float, guard: bool) -> None:
    for family, theta in (("llada_instruct", instruct), ("llada_1_5", v15)):
        _, rule = resolve(fake_model(), PRESETS["alp"], task=task, family=family)
        assert (rule.theta, rule.eos_guard) == (theta, guard)


def test_published_patterns_with_llada_alone() -> None:
    def patterns(task: str | None, model: Any = None, **more: Any) -> tuple[tuple[int, ...], ...]:
        return resolve(model or fake_model(), replace(PRESETS["alp"], **more), task=task)[1].patterns

    assert patterns("bbh") == ((126081,), (48,), (198, 198))
    assert patterns("humaneval") == ((126081,), *((198, t) for t in (2439, 1413, 2, 7442, 371, 3384)))
    assert patterns(None) == ((126081,),)
    other = fake_model(vocab_size=5000, ids=TokenIds(4998, 4999))
    assert patterns("bbh", other) == ((4999,),)
    characters = fake_model(tokenizer=Characters(), ids=TokenIds(4998, 4999), vocab_size=5000)
    assert patterns("bbh", characters) == ((4999,), (ord("Q"),), (10, 10))
    assert patterns("gsm8k", stop="eos") == ((126081,),)
    assert patterns("gsm8k", stop=[7, (8, 9)]) == ((126081,), (7,), (8, 9))


def test_subtasks_have_their_group_s_row() -> None:
    for task in ("minerva_math_algebra", "bbh_cot_fewshot_snarks", "bbh_cot_fewshot"):
        assert resolve(fake_model(), PRESETS["alp"], task=task)[1].theta == 0.8
    assert resolve(fake_model(), PRESETS["alp"], task="gsm8k_cot")[1].theta == 0.9  # another prompt, another stop


def test_derived_patterns_are_what_follows_other_text() -> None:
    tokenizer: Any = Characters()
    assert derive(tokenizer, ["Qu", "!", "xyz", "</s>", "<|im_end|>", "", "q"]) == [
        (ord("Q"), ord("u")),
        (1,),  # merged with what comes before: the merged token is the first that differs
        (ord("x"), ord("y")),
        (ord("q"),),
    ]


def test_end_of_turn_counts_as_eos_with_a_chat_template() -> None:
    model = fake_model(ids=TokenIds(126336, 126081, end_of_turn=126348))
    _, plain = resolve(model, PRESETS["alp"])
    _, chat = resolve(model, replace(PRESETS["alp"], end_of_turn=True))
    assert plain.eos == (126081,)
    assert chat.eos == (126081, 126348)
    assert chat.patterns == ((126081,), (126348,))


@pytest.mark.parametrize(
    ("task", "family", "length", "window", "alpha"),
    [
        ("humaneval", "llada_instruct", 256, 192, 0.3),
        ("humaneval", "llada_instruct", 512, 256, 0.4),
        ("humaneval", "llada_1_5", 512, 96, 0.4),
        ("gsm8k", "llada_1_5", 512, 128, 0.6),
        ("mbpp", "llada_instruct", 256, 32, 0.3),
        ("minerva_math", "llada_1_5", 512, 192, 0.3),
        ("gsm8k", "llada_1_5", 1024, 96, 0.3),
        ("bbh", "llada_instruct", 256, 96, 0.3),
        (None, "llada_instruct", 256, 96, 0.3),
    ],
)
def test_published_windows(task: str | None, family: str, length: int, window: int, alpha: float) -> None:
    setting, rule = resolve(fake_model(), get_setting("streaming", gen_length=length), task=task, family=family)
    assert (setting.window_size, setting.confidence_alpha) == (window, alpha)
    assert rule.patterns == ((126081,),)
    own = get_setting("streaming", gen_length=length, window_size=7, confidence_alpha=0.5)
    setting, _ = resolve(fake_model(), own, task=task, family=family)
    assert (setting.window_size, setting.confidence_alpha) == (7, 0.5)


def test_bad_stops_and_families_are_refused() -> None:
    with pytest.raises(InputError, match="outside the vocabulary"):
        resolve(fake_model(), Setting(stop=[[1, 200_000]]))
    with pytest.raises(InputError, match="needs a tokenizer"):
        resolve(fake_model(), Setting(stop=["Question:"]))
    with pytest.raises(InputError, match="did you mean 'llada_1_5'"):
        resolve(fake_model(), Setting(), family="llada_15")
    assert set(BENCHMARKS) == {"gsm8k", "minerva_math", "bbh", "humaneval", "mbpp"}


# A package that adds an acceleration rule as a setting, and a model family.
PACKAGE = '''
import numpy as np
from odb_dllm import Setting
from odb_dllm.models.llada import LLaDA

def confident_half(log_confidence, moment):
    """Unmask the more confident half."""
    order = np.argsort(-log_confidence, kind="stable")
    taken = np.zeros(len(order), bool)
    taken[order[: (len(order) + 1) // 2]] = True
    return taken

HALF = Setting(cache="dual", rule=confident_half)

class Other(LLaDA):
    """A family of its own."""
'''
ENTRY_POINTS = """
[odb_dllm.settings]
half = half:HALF
broken = broken:ANY
[odb_dllm.models]
other = half:Other
"""
USE = """
import json, sys
from odb_dllm import generate, load_model
model = load_model(sys.argv[1], device="cpu", dtype="float32")
print(type(model.network).__name__, generate(model, [1, 2], setting="half", gen_length=64).nfe)
"""


def test_settings_and_models_of_other_packages(tmp_path: Path) -> None:
    from checkpoints import small_checkpoint

    checkpoint = small_checkpoint(1)
    folder = replace(checkpoint, config=checkpoint.config | {"model_type": "other"}).write(tmp_path / "model")
    (tmp_path / "half.py").write_text(PACKAGE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    info = tmp_path / "half-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    ran = subprocess.run(
        [sys.executable, "-c", USE, str(folder)],
        env={**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # Two blocks of 32: the refresh leaves 16, then 8, 4, 2, 1, 0 are left.
    assert ran.stdout.split() == ["Other", "12"]
    assert "Setting 'broken' of another package could not be loaded" in ran.stderr
