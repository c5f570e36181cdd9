"""Properties that hold for every setting, prompt and set of predictions, however absurd."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from odb_dllm import InputError, Setting
from odb_dllm.arguments import OWN, from_string, parse
from odb_dllm.contract import Forward, Prediction
from odb_dllm.engine import place, target_rows
from odb_dllm.sampler import capacity, sample
from odb_dllm.setting_values import SETTING_FIELDS
from odb_dllm.stopping import StopRule

MASK = 63
UNIT = st.floats(0, 1)
SWITCHES: dict[str, st.SearchStrategy[Any]] = {
    "cache": st.sampled_from(["none", "prefix", "dual"]),
    "rule": st.sampled_from(["quota", "threshold", "factor", "dynamic", "schedule", "carry"]),
    "threshold": UNIT,
    "factor": st.floats(0, 5),
    "confidence_alpha": UNIT,
    "length": st.sampled_from(["fixed", "adaptive"]),
    "suffix": st.sampled_from(["full", "window"]),
    "window_size": st.integers(0, 80),
    "speculation": st.sampled_from(["none", "accept-jump", "jump-share"]),
    "early_exit": st.booleans(),
    "remasking": st.sampled_from(["low_confidence", "random"]),
    "order": st.sampled_from(["blocks", "blocks", "whole"]),
    "alg": st.sampled_from(["maskgit_plus", "topk_margin", "entropy"]),
    "alg_temp": st.sampled_from([0.0, 1.0]),
}
PATTERNS = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=3).map(tuple), max_size=4)


@st.composite
def allowed_settings(draw: st.DrawFn) -> Setting:
    """Any combination of switches that is not refused; a refused one has its offending switches put back."""
    block, blocks = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    given_ = {name: draw(strategy) for name, strategy in SWITCHES.items()}
    sizes = {"block_length": block, "gen_length": block * blocks, "steps": blocks * draw(st.integers(1, block))}
    if given_["speculation"] != "none":
        given_ |= {"cache": "dual", "rule": "threshold"}
    if given_["rule"] != "quota":
        given_["remasking"] = "low_confidence"
    if given_["length"] == "adaptive":
        given_["suffix"] = "full"
    if given_["rule"] != "schedule":
        given_ |= {"alg": "none", "alg_temp": 0.0}
    elif given_["cache"] != "none":
        sizes["steps"] = max(sizes["steps"], 2 if given_["order"] == "whole" and block * blocks > 1 else 2 * blocks)
        sizes["steps"] = min(sizes["steps"], block * blocks)
    elif given_["order"] == "whole":
        sizes["steps"] = draw(st.integers(1, block * blocks))
    if given_["rule"] == "carry":
        sizes["steps"] = block * blocks if given_["order"] == "whole" else blocks * draw(st.sampled_from([1, block]))
    return Setting(**given_, **sizes)


@settings(max_examples=400, deadline=None)
@given(
    setting=allowed_settings(),
    prompt=st.lists(st.integers(0, 62), max_size=50),
    patterns=PATTERNS,
    theta=UNIT,
    guard=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    sureness=st.sampled_from([0.02, 0.5, 5.0]),
    shift=st.sampled_from([0, 1]),
)
def test_every_generation(
    setting: Setting,
    prompt: list[int],
    patterns: list[tuple[int, ...]],
    theta: float,
    guard: bool,
    seed: int,
    sureness: float,
    shift: int,
) -> None:
    rng = np.random.default_rng(seed)
    start, full = len(prompt), len(prompt) + setting.gen_length
    stop = StopRule(((2,), *patterns), (2,), theta, guard)
    sampler = sample(np.array(prompt, np.int64), setting, stop, MASK, shift=shift)
    slots, stored, forwards = capacity(setting, start, shift), 0, 0
    forward: Forward = next(sampler)
    result = None
    while result is None:
        forwards += 1
        assert forwards <= setting.gen_length + setting.blocks  # it always ends
        assert forward.positions.min() >= 0
        assert forward.positions.max() < forward.end <= full  # and never exceeds its canvas
        in_prompt = forward.positions < start
        assert (forward.tokens[in_prompt] == np.array(prompt)[forward.positions[in_prompt]]).all()
        if setting.cache == "none":
            assert not forward.sees
        else:
            if forward.kind == "step" and setting.cache == "dual":
                assert set(forward.positions) <= set(range(*_block_of(forward, setting, start)))
            stored = place(forward, stored, slots).stored  # the cache has room for it
        assert not any(first <= p < last for p in forward.positions for first, last in forward.sees)
        target_rows(forward, shift)  # every row that a target is read at is fed
        count = len(forward.targets)
        confidence = rng.random(count) ** (1 / sureness)
        made = Prediction(rng.integers(0, 21, count), np.log(confidence.clip(1e-300)), np.ones(count, bool))
        try:
            forward = sampler.send(made)
        except StopIteration as finished:
            result = finished.value
    assert MASK not in result.tokens
    assert len(result.tokens) <= setting.gen_length
    assert len(result.tokens) % setting.span == 0
    assert result.nfe == forwards == len(result.forward_lengths)
    assert 1 <= result.decode_length <= len(result.tokens)
    assert result.predicted_lengths == sorted(result.predicted_lengths, reverse=True)


def _block_of(forward: Forward, setting: Setting, start: int) -> tuple[int, int]:
    first = start + (int(forward.positions.min()) - start) // setting.span * setting.span
    return first, first + setting.span


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)
FIELDS = st.sampled_from([*SWITCHES, "gen_length", "block_length", "steps", "stop", "theta", "eos_guard", "seed"])


WORDS = st.one_of(ANYTHING, st.text("=,[](){}'\"\\0123456789abcdefNone.-+", max_size=30))


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(st.sampled_from([*OWN, *SETTING_FIELDS, "x"]), WORDS, max_size=5), st.text(max_size=40))
def test_model_arguments_are_read_or_refused_in_one_sentence(given_: dict[str, Any], text: str) -> None:
    said = ""
    try:
        parse({"pretrained": "tiny", **given_})
    except InputError as error:
        said = str(error)
    try:
        from_string(text)
    except InputError as error:
        said += str(error)
    assert "\n" not in said


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(FIELDS, ANYTHING, max_size=4))
def test_settings_are_made_or_refused_in_one_sentence(values: dict[str, Any]) -> None:
    said = ""
    try:
        Setting(**values)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
