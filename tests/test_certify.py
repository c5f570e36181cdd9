"""odb-dllm certify: what agrees, what parts and by how little, and what it says of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import small_checkpoint
from conftest import DEVICE

from odb_dllm import DiffusionModel, Generation, InputError, generate, get_setting
from odb_dllm.benchmarks import resolve
from odb_dllm.certify.divergence import MARGINS, Divergence, first_divergence
from odb_dllm.certify.document import Certificate, Comparison
from odb_dllm.cli import main
from odb_dllm.scheduler import Request

SETTINGS = ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share", "streaming")


@pytest.fixture(scope="module")
def model(model_of: Any) -> DiffusionModel:
    return replace(model_of(small_checkpoint(4, logit_std=6.0), "float32"), engine="plain")


def disturbed(model: DiffusionModel, by: float) -> DiffusionModel:
    """The model with another head, whose predictions differ a little."""
    head = model.network.parts["ff_out"]
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0)).to(head.weight)

    class Disturbed:
        def __init__(self, network: Any) -> None:
            self._network = network

        def __getattr__(self, name: str) -> Any:
            return getattr(self._network, name)

        def __call__(self, *args: Any) -> Any:
            return self._network(*args)

        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden @ (head.weight + by * noise).T

    return replace(model, network=Disturbed(model.network))


def request(model: DiffusionModel, name: str, **more: Any) -> Request:
    setting, stop = resolve(model, get_setting(name, gen_length=32, block_length=16, **more))
    return Request([1, 2, 3, 4], setting, stop)


@pytest.mark.parametrize("name", SETTINGS)
def test_engines_that_agree_do_not_part(name: str, model: DiffusionModel) -> None:
    assert first_divergence(model, replace(model, engine="fast"), request(model, name)) is None


@pytest.mark.parametrize("name", SETTINGS)
def test_where_generations_part(name: str, model: DiffusionModel) -> None:
    """The tokens are equal up to the forward that is named, and what is said of it can be checked there."""
    other, asked = disturbed(model, 0.3), request(model, name)
    found = first_divergence(model, other, asked)
    assert found is not None
    events: list[list[Any]] = [[], []]
    for each, seen in zip((model, other), events, strict=True):
        generate(each, [1, 2, 3, 4], setting=asked.setting, on_event=seen.append)
    same = [
        a.accepted.tolist() == b.accepted.tolist() and a.tokens.tolist() == b.tokens.tolist()
        for a, b in zip(*events, strict=False)
    ]
    assert all(same[: found.forward])
    assert found.kind in MARGINS
    assert found.margin >= 0
    assert found.noise > 0
    assert (found.tokens[0] != found.tokens[1]) == (found.kind == "token")
    assert found.kind != "token" or found.margin <= 2 * found.noise + 10  # finite: both tokens were scored
    if found.kind == "threshold":
        limits = (asked.setting.threshold, asked.stop.theta)
        assert any((found.confidences[0] >= limit) != (found.confidences[1] >= limit) for limit in limits)
        assert min(abs(found.confidences[0] - limit) for limit in limits) == pytest.approx(found.margin)


def test_tokens_thresholds_and_orders_are_told_apart(model: DiffusionModel) -> None:
    other = disturbed(model, 0.02)
    asked = [request(model, "fast_dllm_baseline", threshold=0.05 * i) for i in range(3, 20)]
    asked += [request(model, name) for name in ("llada_baseline", "accept-jump")]
    asked += [replace(each, prompt=[5, 6, 7 + i]) for i in range(4) for each in asked[-2:]]
    found = [first_divergence(model, other, each) for each in asked]
    assert {"token", "threshold", "order"} <= {each.kind for each in found if each}


def generation(tokens: list[int], **more: Any) -> Generation:
    return Generation(tokens, 4, 1, [32] * 4, [], None, len(tokens), latency=2.0, **more)


def test_the_verdict() -> None:
    certificate = Certificate({"model": "m"}, 3, 0.5, prompts=2, settings=1)
    certificate.results.append(Comparison.of("alp", 0, generation([1, 2, 3]), generation([1, 2, 3]), None))
    assert not certificate.passed
    assert certificate.verdict.startswith("INTERRUPTED: 1 of 1 generations (100.0%)")
    parted = Divergence(2, "token", 0.01, 9, (3, 4), (0.5, 0.4), 0.02)
    certificate.results.append(Comparison.of("alp", 1, generation([1, 2, 3]), generation([1, 2, 4, 5]), parted))
    assert certificate.passed
    assert certificate.results[1].equal_share == 0.5
    assert certificate.verdict.startswith("CERTIFIED: 1 of 2 generations (50.0%) have the reference's tokens")
    assert "Where the 1 others part" in certificate.markdown()
    assert "| alp     |      1 |       2 |        9 | token |   0.01 |  0.02 |  3 / 4 |" in certificate.markdown()
    assert json.loads(json.dumps(certificate.document()))["results"][1]["divergence"]["margin"] == 0.01
    strict = replace(certificate, required=0.9)
    assert not strict.passed
    assert strict.verdict.startswith("NOT CERTIFIED")


def test_the_command_writes_what_can_be_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, prompts = tmp_path / "certificate.json", tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Question: 3+4?\\nAnswer:"}\n{"prompt": "Question: 5+6?\\nAnswer:"}\n')
    words = ["certify", "--device", DEVICE, "--gen_length", "32", "--settings", "fast_dllm_baseline,jump-share"]
    assert main([*words, "--prompts_file", str(prompts), "--out", str(path)]) == 0
    said, written = capsys.readouterr().out, json.loads(path.read_text())
    assert "CERTIFIED: 4 of 4 generations (100.0%)" in said
    assert written["passed"]
    assert written["machine"]["model"] == "tiny"
    assert [each["setting"] for each in written["results"]] == ["fast_dllm_baseline"] * 2 + ["jump-share"] * 2
    assert all(each["same"] and min(each["seconds"]) > 0 for each in written["results"])
    assert main([*words[:-1], "alp", "--prompts", "1", "--require", "1", "--dtype", "float64"]) == 0
    assert "| alp     | 1 of 1 |      100.00% |" in capsys.readouterr().out


def test_less_than_required_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a fast engine that is made to predict something else."""
    from odb_dllm.fast import engine

    judge = engine.judge

    def wrong(*args: Any) -> torch.Tensor:
        made = judge(*args)
        made[0] = (made[0] + 1) % 200 + 3
        return made

    monkeypatch.setattr(engine, "judge", wrong)
    path = tmp_path / "certificate.md"
    words = ["certify", "--device", DEVICE, "--settings", "alp", "--prompts", "2", "--gen_length", "32"]
    assert main([*words, "--out", str(path)]) == 1
    assert "NOT CERTIFIED: 0 of 2" in capsys.readouterr().out
    assert "Where the 2 others part" in path.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--settings", "alps"], "Unknown setting 'alps'"),
        (["--settings", ","], "names no setting"),
        (["--prompts", "0"], "--prompts must be at least 1"),
        (["--prompts", "100000"], "is more than the 1000"),
        (["--prompts_file", "none.txt"], "cannot be read: No such file"),
        (["--prompts_file", "{folder}/empty.txt"], "holds no prompts"),
        (["--prompts_file", "{folder}/wrong.jsonl"], "holds no prompts"),
        (["--require", "98"], "--require must lie between 0 and 1"),
        (["--out", "{folder}"], "cannot be a file"),
        (["--gen_length", "33"], "gen_length 33 must be a multiple"),
        (["--shape", "8b", "--model", "other"], "leave out --model"),
        (["--model", "nowhere"], "Model 'nowhere' is no folder"),
    ],
)
def test_bad_input_comes_before_any_comparison(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "wrong.jsonl").write_text('{"question": "?"}\n')
    assert main(["certify", "--device", "cpu", *(word.format(folder=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_checkpoint(4).write(tmp_path / "model")
    assert main(["certify", "--device", "cpu", "--model", str(folder)]) == 2
    assert "has no tokenizer, and the prompts are text" in capsys.readouterr().err


def test_logits_that_are_no_numbers_are_told(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from odb_dllm.certify import command

    weight = model.network.parts["ff_out"].weight
    monkeypatch.setattr(weight, "data", torch.full_like(weight, float("nan")))
    with pytest.raises(InputError, match=r"cannot be certified: Request 0: the logits at position 4 are NaN"):
        command._generate(model, request(model, "alp"))
