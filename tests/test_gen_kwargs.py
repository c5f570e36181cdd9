"""What a task's generation arguments and metadata mean for a canvas."""

from typing import Any

import pytest

from odb_dllm import arguments
from odb_dllm.errors import InputError
from odb_dllm.gen_kwargs import cut, setting_of, until_of


def test_until_is_a_string_or_a_list() -> None:
    assert until_of({"until": "Q"}) == ("Q",)
    assert until_of({"until": ["Q", "", "Q"], "stop": ["\n"]}) == ("Q", "\n")
    assert until_of({}) == ()
    assert cut("abc", ()) == "abc"
    with pytest.raises(InputError, match="until must be"):
        until_of({"until": [3]})


def parsed(**given: Any) -> arguments.Arguments:
    return arguments.parse({"pretrained": "x", "setting": "parallel", **given})


@pytest.mark.parametrize(
    ("given", "gen", "length"),
    [
        ({}, {}, 1024),
        ({}, {"max_gen_toks": 250}, 256),
        ({}, {"max_gen_toks": 256}, 256),
        ({"block_length": 24, "gen_length": 48}, {"max_gen_toks": 9999}, 48),
        ({"block_length": 64}, {"max_new_tokens": 65}, 128),
        ({"gen_length": 64}, {"max_gen_toks": 1024}, 64),
    ],
)
def test_canvas_from_gen_length_and_max_gen_toks(given: dict[str, Any], gen: dict[str, Any], length: int) -> None:
    assert setting_of(parsed(**given), gen, {}, end_of_turn=False).gen_length == length


def test_temperature_needs_do_sample() -> None:
    def temperature(given: dict[str, Any], gen: dict[str, Any]) -> float:
        return setting_of(parsed(**given), gen, {}, end_of_turn=False).temperature

    assert temperature({}, {"temperature": 0.7}) == 0
    assert temperature({}, {"temperature": 0.7, "do_sample": True}) == 0.7
    assert temperature({}, {"temperature": 0.0, "do_sample": True}) == 0
    assert temperature({"temperature": 0.3}, {"temperature": 0.7, "do_sample": True}) == 0.3


def test_filters_are_those_of_drawn_tokens(caplog: pytest.LogCaptureFixture) -> None:
    gen = {"temperature": 0.7, "do_sample": True, "top_p": 0.9, "top_k": 20}
    setting = setting_of(parsed(top_k=5), gen, {}, end_of_turn=False)
    assert (setting.top_p, setting.top_k) == (0.9, 5)
    neutral = setting_of(parsed(), gen | {"top_p": 1.0, "top_k": -1}, {}, end_of_turn=False)
    assert (neutral.top_p, neutral.top_k) == (None, None)
    assert not caplog.records


def test_arguments_that_mean_nothing_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        setting_of(parsed(), {"top_p": 0.123, "top_k": -1, "num_beams": 1}, {}, end_of_turn=False)
    assert [record.getMessage().count("top_p=0.123") for record in caplog.records] == [1]


def test_metadata_gives_stop_theta_guard_unless_arguments_do() -> None:
    metadata = {"stop": ["Z"], "theta": 0.5, "eos_guard": True, "version": 3}
    setting = setting_of(parsed(theta=0.8), {}, metadata, end_of_turn=True)
    assert (setting.stop, setting.theta, setting.eos_guard, setting.end_of_turn) == (("Z",), 0.8, True, True)


def test_a_preset_that_stops_at_eos_keeps_doing_so() -> None:
    setting = setting_of(parsed(setting="streaming"), {}, {"stop": ["Z"], "theta": 0.5}, end_of_turn=False)
    assert (setting.stop, setting.theta) == ("eos", 0.5)
