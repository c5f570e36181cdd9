"""odb-dllm calibrate: what it records, how it replays, which θ it chooses, and what it refuses."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from checkpoints import small_checkpoint

pytest.importorskip("lm_eval")
from odb_dllm import DiffusionModel, InputError, get_setting
from odb_dllm.benchmarks import resolve
from odb_dllm.calibrate.choice import GRID, Point, choose, documents_needed, upper_bound, verdict
from odb_dllm.calibrate.documents import training_split
from odb_dllm.calibrate.replay import Recording, record, reference, replay
from odb_dllm.cli import main
from odb_dllm.engine import Engine
from odb_dllm.gen_kwargs import METADATA
from odb_dllm.scheduler import Request, run
from odb_dllm.stopping import StopRule

EOS, WORD, B, G = 9, 1, 4, 16
RULE = StopRule(((EOS,),), (EOS,), theta=0.9)


def opening(end: int, length: int, confidence: float) -> tuple[Any, Any]:
    """Predictions of ``length`` positions with EOS from ``end`` on."""
    return np.where(np.arange(length) < end, WORD, EOS), np.full(length, confidence)


def recording(answer: int, *openings: tuple[Any, Any]) -> Recording:
    return Recording(G, B, answer, answer < G, openings)


# Replay -----------------------------------------------------------------------------------------------


def test_a_sure_prediction_shortens_and_may_cut() -> None:
    whole = recording(6, opening(6, 16, 0.95), opening(2, 12, 0.95))
    assert replay(whole, RULE).canvas == 8.0
    assert not replay(whole, RULE).cut
    early = recording(6, opening(3, 16, 0.95), opening(2, 12, 0.95))
    assert replay(early, RULE).cut
    assert replay(early, RULE).canvas == 4.0  # the second block is never reached
    unsure = replay(early, replace(RULE, theta=0.96))
    assert (unsure.canvas, unsure.cut) == (16.0, False)


def test_an_answer_that_fills_the_canvas_exactly_is_whole() -> None:
    assert not replay(recording(8, opening(7, 16, 0.95), opening(4, 12, 0.5)), RULE).cut
    assert replay(recording(9, opening(7, 16, 0.95), opening(4, 12, 0.5)), RULE).cut


def test_an_endless_answer_is_cut_by_any_shortening() -> None:
    assert replay(recording(G, opening(14, 16, 0.95)), RULE).cut is False  # to 16: the whole canvas
    assert replay(recording(G, opening(11, 16, 0.95)), RULE).cut


def test_the_guard_overlooks_an_early_eos() -> None:
    assert not replay(recording(6, opening(3, 16, 0.95)), replace(RULE, eos_guard=True)).cut


@pytest.fixture(scope="module")
def model(model_of: Any) -> DiffusionModel:
    return model_of(small_checkpoint(3, logit_std=14.0, special_boost=2.0), "float64")


@pytest.mark.parametrize("name", ["alp", "accept-jump", "jump-share", "parallel", "prefix-cache-parallel"])
def test_a_replay_at_block_one_is_what_a_real_run_predicts(model: DiffusionModel, name: str) -> None:
    """The first block's predictions are made on the full canvas in either."""
    engine, checked = Engine(model), 0
    setting, stop = resolve(model, reference(get_setting(name, gen_length=64, block_length=16)))
    for seed in range(6):
        prompt = np.random.default_rng(seed).integers(0, 250, 12).tolist()
        request = Request(prompt, setting, stop, seed)
        made = record(engine, request)
        assert made.openings[0][0].shape == (64,)
        assert [len(tokens) for tokens, _ in made.openings] == [64 - 16 * i for i in range(len(made.openings))]
        plain = dict(run(model, [replace(request, stop=replace(stop, theta=math.inf))]))[0]
        assert plain.predicted_lengths == [64] * len(made.openings)
        assert replay(made, replace(stop, theta=math.inf)).canvas == 64
        for theta in (0.05, 0.2, 0.5):
            real = dict(run(model, [replace(request, stop=replace(stop, theta=theta))]))[0]
            short = replace(made, openings=made.openings[:1])
            assert replay(short, replace(stop, theta=theta)).canvas == real.predicted_lengths[0]
            checked += real.predicted_lengths[0] < 64
    assert checked


def test_a_pruned_suffix_has_nothing_to_predict_from() -> None:
    with pytest.raises(InputError, match="needs suffix=full"):
        reference(get_setting("streaming"))


# Choice -----------------------------------------------------------------------------------------------


def points(cuts: dict[float, int], documents: int) -> list[Point]:
    return [Point(theta, documents, cut, 100.0, 0.5) for theta, cut in cuts.items()]


def test_the_bound_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 598) == pytest.approx(1 - 0.05 ** (1 / 598))
    assert upper_bound(0, 598) <= 0.005 < upper_bound(0, 597)
    assert documents_needed(0.005) == 598
    assert upper_bound(3, 50) == pytest.approx(0.1478, abs=1e-4)  # as tables have it
    assert upper_bound(5, 5) == 1.0
    assert 0.49 < upper_bound(3600, 7473) < 0.5


def test_enough_documents_take_the_lowest_theta_whose_bound_holds() -> None:
    choice = choose(points({0.7: 0, 0.8: 9, 0.9: 1, 0.95: 0}, 1000), 0.005)
    assert (choice.theta, choice.proven) == (0.9, True)  # 0.7 is not reached, past a θ that fails
    assert "at most 0.47% of the answers" in verdict(choice, 1000, 0.005, eos_guard=False)
    assert choose(points({0.9: 1, 0.95: 0}, 600), 0.005).theta == 0.95  # one cut in 600 proves too little


def test_a_lower_theta_that_saves_nothing_more_is_not_taken() -> None:
    saved = {0.7: 0.8, 0.8: 0.8, 0.9: 0.75, 0.95: 0.75}
    made = [Point(theta, 700, 0, 100.0, share) for theta, share in saved.items()]
    assert choose(made, 0.005).theta == 0.8
    assert choose([replace(point, saved=0.75) for point in made], 0.005).theta == 0.9


def test_few_documents_do_not_go_below_the_default() -> None:
    choice = choose(points({0.7: 0, 0.9: 0, 0.95: 0}, 20), 0.005)
    assert (choice.theta, choice.proven) == (0.9, False)
    assert "takes 598 documents" in verdict(choice, 20, 0.005, eos_guard=False)
    assert choose(points({0.9: 1, 0.95: 0}, 20), 0.005).theta == 0.95


def test_no_theta_may_do() -> None:
    choice = choose(points(dict.fromkeys(GRID, 5), 20), 0.005)
    assert choice.theta is None
    assert "eos_guard=True" in verdict(choice, 20, 0.005, eos_guard=False)
    assert "length=fixed" in verdict(choice, 20, 0.005, eos_guard=True)


# Documents --------------------------------------------------------------------------------------------


def config(**splits: str) -> SimpleNamespace:
    empty = dict.fromkeys(("training_split", "validation_split", "test_split", "fewshot_split"))
    return SimpleNamespace(task="t", **{**empty, **splits})


def test_the_split_is_never_the_evaluated_one() -> None:
    assert training_split(config(training_split="train", test_split="test"), known=()) == "train"
    assert training_split(config(validation_split="dev", test_split="test"), known=()) == "dev"
    assert training_split(config(fewshot_split="dev", test_split="test"), known=["dev", "test"]) == "dev"
    assert training_split(config(test_split="test"), known=["test", "more"], asked="more") == "more"
    with pytest.raises(InputError, match=r"no training, validation or few-shot split besides 'test'.*--split.*more"):
        training_split(config(test_split="test", fewshot_split="test"), known=["test", "more"])
    with pytest.raises(InputError, match="besides 'dev'"):  # evaluated on its validation split
        training_split(config(validation_split="dev"), known=["dev"])
    with pytest.raises(InputError, match="not chosen on test documents"):
        training_split(config(test_split="test"), known=(), asked="test")
    with pytest.raises(InputError, match="has no split 'nope': it has test"):
        training_split(config(test_split="test"), known=["test"], asked="nope")


# The command ------------------------------------------------------------------------------------------

TINY = ["--model_args", "pretrained=tiny,gen_length=128"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_command_writes_what_a_task_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "theta.yaml"
    words = ["calibrate", "--task", "gsm8k_mini", "--limit", "3", "--num_fewshot", "1", "--check", "--out", str(out)]
    assert main([*words, *TINY]) == 0
    shown = capsys.readouterr().out
    assert "| 0.9   " in shown
    assert "0 of 3" in shown
    assert "A real run with theta 0.9: 0 of 3 answers cut" in shown
    text = out.read_text()
    assert text.startswith("# odb-dllm calibrate: gsm8k_mini (train), tiny, jump-share\n")
    assert yaml.safe_load(text) == {"metadata": {"theta": 0.9, "stop": ["Question:"], "eos_guard": False}}
    assert set(METADATA) == {"theta", "stop", "eos_guard"}
    assert (tmp_path / "theta.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_table_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("odb_dllm.calibrate.plot.available", lambda: False)
    assert main(["calibrate", "--task", "gsm8k_mini", "--limit", "1", *TINY]) == 0
    captured = capsys.readouterr()
    assert "No plot: it needs matplotlib" in captured.err
    assert captured.out.endswith('metadata:\n  theta: 0.9\n  stop: ["Question:"]\n  eos_guard: false\n')


def test_a_document_is_not_among_its_own_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    from odb_dllm import tasks
    from odb_dllm.calibrate.documents import instances

    with tasks.local_data(None) as local:
        manager = tasks.make_manager(["gsm8k_mini"], local, [], {})
        found, split = instances(manager, "gsm8k_mini", num_fewshot=5)
    assert (len(found), split) == (8, "train")
    for instance in found:
        assert instance.args[0].count("Question:") == 6
        assert instance.args[0].count(instance.doc["question"]) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "gsm8k_mini", "--limit", "0"], "--limit must be at least 1"),
        (["--task", "gsm8k_mini", "--max_cut", "5"], "--max_cut is a share"),
        (["--task", "gsm8k_mini", "--out", "no/such/folder.yaml"], "folder must exist"),
        (["--task", "gsm8k_mini", "--split", "test"], "not chosen on test documents"),
        (["--task", "gsm8k_mini", "--num_fewshot", "30"], "cannot be asked"),
        (["--task", "gsm8k_mini", "--model_args", "theta=0.5"], "leave it out"),
        (["--task", "gsm8k_mini", "--model_args", "setting=streaming"], "suffix=full"),
        (["--task", "gsm8k_mini", "--model_args", "gen_length=65536"], "exceed the model's maximum"),
        (["--task", "gsm8k_mini", "--data_dir", "nowhere"], "is no folder"),
    ],
)
def test_bad_input_is_refused_before_the_weights_are_read(
    more: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("odb_dllm.lm_eval_model.load_model", lambda *_, **__: pytest.fail("loaded"))
    assert main(["calibrate", *TINY, *more]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
