"""What comes after the papers: partial refreshes, short canvases, lossless speculation, prediction by EOS mass."""

from typing import Any

import numpy as np
import pytest
from checkpoints import Checkpoint, small_checkpoint
from reference_beyond import generate as reference_generate
from reference_network import Network

from odb_dllm import DiffusionModel, InputError, generate, get_setting
from odb_dllm.contract import Event
from odb_dllm.stopping import StopRule, first_mass

CASES = 48
FIELDS = ("tokens", "nfe", "refreshes", "forward_lengths", "predicted_lengths", "decode_length")


def checkpoint_of(index: int) -> Checkpoint:
    boost, std = (0.8, 1.0, 1.3)[index % 3], (4.0, 8.0, 14.0)[index % 3]
    return small_checkpoint(index % 8, vocab_size=128, mask=126, eos=127, special_boost=boost, logit_std=std)


REFRESHES = (
    *("full", "response", "response:1", "response:9", "response:40"),
    *("every:1", "every:2", "every:3", "window:0", "window:5", "window:30"),
)


def draw_case(index: int) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    block, blocks = int(rng.choice([4, 8, 16, 24])), int(rng.integers(2, 7))
    return {
        "block_length": block,
        "gen_length": block * blocks,
        "refresh": REFRESHES[index % len(REFRESHES)],
        "grow": None if rng.integers(2) else block * int(rng.integers(1, blocks + 1)),
        "speculation": str(rng.choice(["none", "accept-jump", "jump-share"])),
        "length": str(rng.choice(["fixed", "adaptive"])),
        "early_exit": bool(rng.integers(2)),
        "rule": "threshold",
        "threshold": float(rng.choice([0.1, 0.4, 0.7, 0.9])),
        "theta": float(rng.choice([0.3, 0.6, 0.9])),
        "eos_guard": bool(rng.integers(2)),
    }


@pytest.mark.parametrize("index", range(CASES))
def test_like_the_reference(index: int, model_of: Any) -> None:
    case, rng, checkpoint = draw_case(index), np.random.default_rng(10_000 + index), checkpoint_of(index)
    prompt = checkpoint.prompt(index, int(rng.choice([0, 1, 7, 30]))).tolist()
    patterns = [tuple(rng.integers(0, 128, size=rng.integers(1, 3)).tolist()) for _ in range(rng.integers(0, 4))]
    network = Network(checkpoint.weights, checkpoint.config)
    expected = reference_generate(network, prompt, patterns=tuple(patterns), **case)
    result = generate(model_of(checkpoint), prompt, setting="fast_dllm_baseline", stop=patterns, **case)
    assert {field: getattr(result, field) for field in FIELDS} == {field: expected[field] for field in FIELDS}


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("threshold", [0.5, 0.9])
@pytest.mark.parametrize("more", [{}, {"refresh": "response"}, {"grow": 64}], ids=["plain", "response", "grow"])
def test_lossless_speculation_changes_the_number_of_forwards_alone(
    index: int, threshold: float, more: dict[str, Any], model_of: Any
) -> None:
    checkpoint = checkpoint_of(index)
    model, prompt = model_of(checkpoint), checkpoint.prompt(index, 30).tolist()
    asked = {"gen_length": 128, "threshold": threshold, "theta": 0.3, **more}
    plain = generate(model, prompt, setting="alp", **asked)
    exact = generate(model, prompt, setting="jump-share-exact", **asked)
    assert exact.tokens == plain.tokens
    assert exact.predicted_lengths == plain.predicted_lengths
    assert exact.refreshes == plain.refreshes
    assert exact.nfe <= plain.nfe


def test_lossless_speculation_saves_forwards(model_of: Any) -> None:
    checkpoint = checkpoint_of(3)
    counts = {
        name: generate(model_of(checkpoint), checkpoint.prompt(3, 30).tolist(), setting=name, gen_length=128).nfe
        for name in ("alp", "jump-share-exact")
    }
    assert counts["jump-share-exact"] < 0.7 * counts["alp"], counts


def watched(model: DiffusionModel, prompt: list[int], **asked: Any) -> list[Event]:
    seen: list[Event] = []
    generate(model, prompt, on_event=seen.append, **asked)
    return seen


@pytest.mark.parametrize(
    ("refresh", "fed"),
    [
        ("full", [40 + 96, 40 + 96, 40 + 96]),
        ("response", [40 + 96, 96, 96]),
        ("response:0", [40 + 96, 96, 96]),
        ("response:8", [40 + 96, 8 + 96, 8 + 96]),
        ("response:99", [40 + 96, 40 + 96, 40 + 96]),
        ("every:2", [40 + 96, 96, 40 + 96]),
        ("window:16", [40 + 96, 16 + 32 + 16, 16 + 32]),
    ],
)
def test_what_a_refresh_feeds_and_sees(refresh: str, fed: list[int], model_of: Any) -> None:
    checkpoint = checkpoint_of(0)
    prompt = checkpoint.prompt(0, 40).tolist()
    asked = {"setting": "fast_dllm_baseline", "gen_length": 96, "refresh": refresh}
    refreshes = [e for e in watched(model_of(checkpoint), prompt, **asked) if e.kind == "refresh"]
    assert [e.fed for e in refreshes] == fed
    assert [e.fed + e.cached for e in refreshes] == [40 + 96] * 3, "all of the canvas is fed or seen"


def test_a_canvas_that_begins_short_stays_ahead(model_of: Any) -> None:
    checkpoint = checkpoint_of(0)
    prompt = checkpoint.prompt(0, 10).tolist()
    seen = watched(model_of(checkpoint), prompt, setting="fast_dllm_baseline", gen_length=128, block_length=16, grow=48)
    ends = {e.block[0] - 10: e.end - 10 for e in seen}
    assert ends == {0: 48, 16: 64, 32: 80, 48: 96, 64: 112, 80: 128, 96: 128, 112: 128}


def test_the_mass_of_eos_ends_an_answer() -> None:
    rule = StopRule(patterns=((9,),), eos=(9, 8), theta=0.9)

    def found(tokens: list[int], confidence: list[float]) -> int | None:
        return first_mass(np.array(tokens), np.array(confidence), rule)

    assert found([1, 9, 9, 9], [1, 1, 1, 1]) == 1
    assert found([1, 9, 8, 9], [1, 1, 1, 1]) == 1, "the end of a turn is an end"
    assert found([9, 1, 9, 9], [1, 1, 1, 1]) == 2, "an EOS in the middle of an answer is none"
    assert found([1, 9, 9, 9], [1, 0.5, 1, 1]) == 2, "0.83 from the first on"
    assert found([1, 9, 9, 9], [1, 0.85, 0.95, 0.95]) == 1, "one sure suffix makes up for a doubtful EOS"
    assert found([1, 2, 3, 4], [1, 1, 1, 1]) is None
    assert found([], []) is None


def test_mass_needs_no_task(tiny: DiffusionModel) -> None:
    prompt = tiny.tokenizer.encode(
        "Question: Tom has 3 apples and buys 4 more. How many apples does Tom have?\nAnswer:"
    )
    plain = generate(tiny, prompt, setting="alp", task="gsm8k", gen_length=256)
    mass = generate(tiny, prompt, setting="alp", length="mass", gen_length=256)
    text, same = (tiny.tokenizer.decode(each.tokens, skip_special_tokens=True) for each in (plain, mass))
    assert text.strip() == same.strip() != ""
    assert mass.predicted_lengths[-1] < 256


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"refresh": "half"}, "refresh must be full, response, response:n, every:k"),
        ({"refresh": "every:0"}, "refresh must be"),
        ({"refresh": "response:-1"}, "refresh must be"),
        ({"refresh": "response", "cache": "prefix"}, "needs cache=dual"),
        ({"grow": 33}, "multiple of block_length 32"),
        ({"grow": -32}, "multiple of block_length 32"),
        ({"length": "mass", "suffix": "window"}, "needs suffix=full"),
        ({"speculation": "exact", "temperature": 0.5}, "needs temperature 0"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        get_setting("fast_dllm_baseline", **asked)


def test_a_canvas_that_begins_longer_than_it_ends_is_whole(model_of: Any) -> None:
    checkpoint = checkpoint_of(0)
    asked = {"setting": "alp", "gen_length": 64, "theta": 0.3}
    whole = generate(model_of(checkpoint), checkpoint.prompt(0, 10).tolist(), **asked)
    assert generate(model_of(checkpoint), checkpoint.prompt(0, 10).tolist(), **asked, grow=1024).tokens == whole.tokens
