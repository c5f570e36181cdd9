"""odb-dllm certify --batch_size: generations alone and in a batch, what differs, and what is said of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import small_checkpoint
from conftest import DEVICE

from odb_dllm import DiffusionModel, Generation, get_setting
from odb_dllm.benchmarks import resolve
from odb_dllm.certify import batches
from odb_dllm.certify.divergence import MARGINS
from odb_dllm.certify.document import Certificate, Comparison, Sides
from odb_dllm.cli import main
from odb_dllm.contract import Prediction
from odb_dllm.engine import Asked, Engine
from odb_dllm.scheduler import Request, run

WORDS = ["certify", "--device", DEVICE, "--dtype", "float32", "--gen_length", "32", "--prompts", "3"]
PROMPTS = ("Question: 3+4?\nAnswer:", "Question: Tom has 5 apples and eats 2. How many?\nAnswer:", "Hello")


def requests(model: DiffusionModel, name: str, gen_length: int = 32) -> list[Request]:
    assert model.tokenizer is not None
    setting, stop = resolve(model, get_setting(name, gen_length=gen_length))
    return [Request(model.tokenizer.encode(text), setting, stop, i) for i, text in enumerate(PROMPTS)]


def compared(model: DiffusionModel, asked: list[Request]) -> Certificate:
    certificate = Certificate({}, 32, 1.0, len(asked), 1, Sides.batches(len(asked)))
    batches.compare(model, [asked], certificate)
    return certificate


class Disturbed(Engine):
    """An engine whose predictions in a batch are not those of a sequence alone: each sequence's first is surer."""

    by = 0.0

    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        made = super().answer(requests)
        return made if len(requests) == 1 else [self._other(each) for each in made]

    def _other(self, made: Prediction) -> Prediction:
        log_confidence = made.log_confidence.copy()
        log_confidence[:1] += self.by
        return replace(made, log_confidence=log_confidence, score=None)


class Mistaken(Disturbed):
    """One that in a batch predicts another token where each sequence is surest."""

    def _other(self, made: Prediction) -> Prediction:
        surest = made.log_confidence == made.log_confidence.max()
        return replace(made, token=np.where(surest, made.token % 200 + 7, made.token))


class Reordered(Engine):
    """One that in a batch exchanges the confidences of the surest and the next of a new block's unsure positions."""

    def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
        made = super().answer(requests)
        return made if len(requests) == 1 else list(map(self._other, requests, made))

    def _other(self, asked: Asked, made: Prediction) -> Prediction:
        log_confidence = made.log_confidence.copy()
        block = log_confidence[: 32 if asked[1].kind == "refresh" else 0]
        unsure = np.flatnonzero(block < np.log(0.9))
        first = unsure[np.argsort(-block[unsure], kind="stable")[:2]]
        block[first] = block[first[::-1]]
        return replace(made, log_confidence=log_confidence, score=None)


def test_the_command_finds_all_equal_in_float32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "batches.json"
    words = [*WORDS, "--settings", "fast_dllm_baseline,jump-share", "--batch_size", "3", "--require", "1"]
    assert main([*words, "--out", str(path)]) == 0
    written = json.loads(path.read_text())
    assert "CERTIFIED: 6 of 6 generations (100.0%)" in capsys.readouterr().out
    assert written["comparison"]["batch_size"] == 3
    assert written["comparison"]["reference"] == "one at a time"
    assert written["machine"]["engine"] == ("plain" if DEVICE == "cpu" else "fast")
    for each in written["results"]:
        assert each["same"]
        assert each["nfe"][0] == each["nfe"][1] == each["batch"]["forwards"]
        assert min(each["seconds"]) > 0
        assert each["batch"]["deviation"] < 1e-3
        assert 1 < each["batch"]["size"] <= 3
    assert written["deviation"] == max(each["batch"]["deviation"] for each in written["results"])


def test_the_page_says_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--settings", "alp", "--batch-size", "2"]) == 0
    said = capsys.readouterr().out
    assert "# 2 generations at a time against one at a time" in said
    assert "| alp     | 3 of 3 |      100.00% |" in said
    assert "worst deviation" in said
    assert "log confidences differ by" in said


@pytest.mark.parametrize("name", ["fast_dllm_baseline", "jump-share"])
def test_deviations_are_those_of_the_engine(name: str, tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance that changes no decision is found, and its size."""
    monkeypatch.setattr(Disturbed, "by", 1e-4)
    monkeypatch.setattr(batches, "engine_of", Disturbed)
    certificate = compared(tiny, requests(tiny, name))
    assert certificate.deviation == pytest.approx(1e-4, rel=0.1)
    assert certificate.passed


@pytest.mark.parametrize("name", ["llada_baseline", "fast_dllm_baseline", "jump-share"])
def test_a_batch_that_answers_otherwise_is_told(
    name: str, tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "engine_of", Mistaken)
    certificate = compared(tiny, requests(tiny, name))
    assert certificate.agreement == 0
    assert certificate.verdict.startswith("NOT CERTIFIED: 0 of 3")
    for each in certificate.results:
        assert each.divergence is not None
        assert each.divergence.kind == "token"
        assert each.divergence.margin > 0
        assert each.batch is not None
        assert each.batch.forwards == each.divergence.forward + 1
    assert "Where the 3 others part" in certificate.markdown()


def test_a_surer_prediction_parts_by_threshold_or_order(tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disturbed, "by", 8.0)
    monkeypatch.setattr(batches, "engine_of", Disturbed)
    certificate = compared(tiny, requests(tiny, "fast_dllm_baseline", gen_length=64))
    kinds = {each.divergence.kind for each in certificate.results if each.divergence}
    assert kinds
    assert kinds <= {"threshold", "order"} < set(MARGINS)
    assert certificate.deviation == pytest.approx(8.0, rel=1e-3)


def test_other_drafts_after_equal_decisions_are_explained(model_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are the surest positions in their order: where that differs, so do the forwards, before any token does."""
    model = model_of(small_checkpoint(4, logit_std=6.0), "float32")
    setting, stop = resolve(model, get_setting("jump-share", gen_length=64, length="fixed", early_exit=False))
    monkeypatch.setattr(batches, "engine_of", Reordered)
    certificate = compared(model, [Request([i + 1, 5, 6], setting, stop, i) for i in range(6)])
    parted = [each for each in certificate.results if not each.same]
    assert parted
    assert all(each.divergence is not None for each in parted)
    assert {each.divergence.kind for each in parted if each.divergence} <= {"order", "threshold"}


def test_forwards_that_differ_with_the_load_are_not_compared(tiny: DiffusionModel) -> None:
    """Automatic speculation drafts less where more are under way: other forwards, the same tokens."""
    asked = requests(tiny, "fast_dllm_baseline")
    costs = ((1, 1.0), (128, 1.0), (129, 50.0), (4096, 1500.0))
    setting = get_setting("jump-share-exact", gen_length=32, speculation="auto", costs=costs)
    setting, stop = resolve(tiny, setting)
    certificate = compared(tiny, [replace(each, setting=setting, stop=stop) for each in asked])
    assert certificate.agreement == 1
    compared_share = [each.batch.forwards / min(each.nfe) for each in certificate.results if each.batch]
    assert min(compared_share) < 1


def test_where_memory_runs_out_generations_are_recorded_anew(
    tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a forward or more of all three, one at a time goes on, and their records are whole."""
    sizes: list[int] = []

    class Tight(Engine):
        def answer(self, requests: Sequence[Asked]) -> list[Prediction]:
            sizes.append(len(requests))
            if len(requests) == 3 and sizes.count(3) == 35:  # 32 of them are the first run's, which nobody records
                raise torch.OutOfMemoryError("no room")
            return super().answer(requests)

    monkeypatch.setattr(batches, "engine_of", Tight)
    certificate = compared(tiny, requests(tiny, "llada_baseline"))
    assert certificate.agreement == 1
    for each in certificate.results:
        assert each.batch is not None
        assert each.batch.forwards == each.nfe[1]
        assert each.batch.size == 1
    assert sizes.count(3) == 35


def test_a_divergence_that_no_forward_shows() -> None:
    made = [Generation(tokens, 4, 1, [32] * 4, [], None, 2, latency=2.0) for tokens in ([1, 2], [1, 3])]
    certificate = Certificate({}, 2, 1.0, 1, 1, Sides.batches(2))
    certificate.results.append(Comparison.of("alp", 0, *made, None))
    assert "Where the 1 others part" in certificate.markdown()
    assert "- -: no forward that both ask for shows it" in certificate.markdown()


def test_a_shared_prefix_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--model", "nowhere", "--settings", "alp,alp+prefix=shared"]) == 2
    assert "alp+prefix=shared shares a prefix" in capsys.readouterr().err


def test_a_recorder_answers_as_its_engine(tiny: DiffusionModel) -> None:
    asked = requests(tiny, "jump-share")
    recorder = batches.Recorder(Engine(tiny))
    found = dict(run(tiny, asked, batch_size=3, engine=recorder, on_event=recorder.watch))
    plain = dict(run(tiny, asked, batch_size=3))
    for index, made in found.items():
        assert made.tokens == plain[index].tokens
        heard = recorder.take(index)
        assert len(heard) == made.nfe
        assert [len(each.prediction.token) for each in heard] == [each.read for each in made.passes]
    assert not recorder.heard


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch_size", "0"], "--batch_size must be at least 2, not 0"),
        (["--batch_size", "-1"], "--batch_size must be at least 2, not -1"),
        (["--batch_size", "1"], "--batch_size must be at least 2, not 1"),
        (["--batch_size", "4"], "--batch_size 4 is more than the 3 prompts"),
    ],
)
def test_bad_sizes_are_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--model", "nowhere", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
