"""The scheduler: many generations, one engine; what is under way beside a generation changes nothing in it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import small_checkpoint

from odb_dllm import DiffusionModel, Event, Generation, InputError, NonFiniteLogits, get_setting
from odb_dllm.benchmarks import resolve
from odb_dllm.engine import Engine, Pool
from odb_dllm.scheduler import Request, check, run

NAMES = ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share", "streaming", "prefix-cache")


@pytest.fixture(scope="module")
def model(model_of: Any) -> DiffusionModel:
    return model_of(small_checkpoint(4, logit_std=6.0), "float32")


def requests(model: DiffusionModel, count: int = 14) -> list[Request]:
    """Requests of all kinds, lengths and temperatures."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        setting = get_setting(NAMES[index % len(NAMES)], gen_length=16 * (1 + index % 3), block_length=16)
        if setting.speculation == "none":
            setting = setting.override(temperature=(0.0, 0.7)[index % 2])
        setting, stop = resolve(model, setting)
        made.append(Request(rng.integers(0, 250, 3 + index).tolist(), setting, stop, sequence=100 + index))
    return made


def untimed(generation: Any) -> Any:
    return replace(generation, latency=0.0, forward_seconds=[], batches=[])


def test_the_batch_size_changes_nothing(model: DiffusionModel) -> None:
    alone = {index: untimed(each) for index, each in run(model, requests(model))}
    assert sorted(alone) == list(range(14))
    for batch_size in (2, 5, 20):
        together = {index: untimed(each) for index, each in run(model, requests(model), batch_size=batch_size)}
        assert together == alone


def test_the_order_changes_nothing(model: DiffusionModel) -> None:
    forwards = dict(run(model, requests(model)))
    backwards = dict(run(model, requests(model)[::-1]))
    assert [untimed(forwards[i]) for i in range(14)] == [untimed(backwards[13 - i]) for i in range(14)]


def test_finished_ones_make_room_at_once(model: DiffusionModel) -> None:
    """With room for two, the third begins while the longer of the first two is still under way."""
    setting, stop = resolve(model, get_setting("llada_baseline", gen_length=64, block_length=16))
    short = replace(setting, gen_length=16)
    seen: list[int] = []

    def watch(event: Event) -> None:
        seen.append(event.sequence)

    each = [Request([1], which, stop, sequence) for sequence, which in enumerate([setting, short, short])]
    order = [index for index, _ in run(model, each, batch_size=2, on_event=watch)]
    assert order == [1, 2, 0]
    assert set(seen[-32:]) == {0}
    assert {0, 2} == set(seen[32:64])


def test_times_add_up(model: DiffusionModel) -> None:
    for _, result in run(model, requests(model), batch_size=4):
        assert result.seconds == pytest.approx(result.refresh_seconds + result.step_seconds)
        assert 0 < result.seconds <= result.latency
        assert (result.refresh_seconds > 0) == (result.refreshes > 0)


def test_requests_are_checked_before_the_first_forward(model: DiffusionModel) -> None:
    good = requests(model, 2)
    seen: list[Event] = []
    with pytest.raises(InputError, match="Prompt 2 of 4090 tokens"):
        list(run(model, [*good, replace(good[0], prompt=[1] * 4090)], on_event=seen.append))
    assert not seen
    check(model, good)
    assert list(run(model, [])) == []


def test_a_failing_generation_names_its_request_and_the_others_go_on(model_of: Any) -> None:
    checkpoint = small_checkpoint(4)
    weights = dict(checkpoint.weights)
    weights["model.transformer.wte.weight"] = weights["model.transformer.wte.weight"].copy()
    weights["model.transformer.wte.weight"][77] = np.inf
    model = model_of(replace(checkpoint, weights=weights))
    setting, stop = resolve(model, get_setting("alp", gen_length=16, block_length=16))
    results = dict(run(model, [Request([prompt], setting, stop) for prompt in (1, 77, 2)]))
    assert [type(results[i]) for i in range(3)] == [Generation, NonFiniteLogits, Generation]
    assert str(results[1]).startswith("Request 1: the logits at position 1 are NaN")


class Small(Engine):
    """An engine with memory for two caches."""

    room = 2

    def pool(self, rows: int, slots: int) -> Pool:
        if rows > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().pool(rows, slots)


@pytest.mark.parametrize("room", [1, 2])
def test_less_memory_means_a_smaller_batch(
    room: int, model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cached = [each for each in requests(model) if each.setting.cache != "none"]
    expected = [untimed(each) for _, each in sorted(run(model, cached))]
    monkeypatch.setattr("odb_dllm.scheduler.engine_of", Small)
    monkeypatch.setattr(Small, "room", room)
    assert [untimed(each) for _, each in sorted(run(model, cached, batch_size=8))] == expected
    assert f"at most {room} generations" in caplog.text


def test_memory_that_runs_out_in_a_forward(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Engine.answer

    def tight(self: Engine, asked: Any) -> Any:
        if len(asked) > 1:
            raise torch.OutOfMemoryError("no room")
        return answer(self, asked)

    expected = [untimed(each) for _, each in sorted(run(model, requests(model)))]
    monkeypatch.setattr(Engine, "answer", tight)
    assert [untimed(each) for _, each in sorted(run(model, requests(model), batch_size=4))] == expected


def test_memory_for_less_than_one_generation(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odb_dllm.scheduler.engine_of", Small)
    monkeypatch.setattr(Small, "room", 0)
    cached = [each for each in requests(model) if each.setting.cache != "none"]
    with pytest.raises(InputError, match="does not suffice for one generation"):
        list(run(model, cached, batch_size=8))
