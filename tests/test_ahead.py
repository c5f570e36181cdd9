"""``ahead=n``: a block's last masks are decided by the next block's refresh."""

from typing import Any

import numpy as np
import pytest
from checkpoints import dream_checkpoint
from reference_beyond import generate as reference_generate
from reference_network import Network
from test_beyond import FIELDS, checkpoint_of, draw_case, watched
from test_sampler import EOS, answer, drive, preset

from odb_dllm import InputError, generate, get_setting

CASES = 40


def draw(index: int) -> tuple[dict[str, Any], list[int], list[tuple[int, ...]]]:
    """Settings, prompt and stop patterns of a case."""
    rng, case = np.random.default_rng(20_000 + index), draw_case(index)
    case |= {"ahead": int(rng.choice([1, 2, 3, 30])), "early_exit": bool(rng.integers(4))}
    patterns = [tuple(rng.integers(0, 128, size=rng.integers(1, 3)).tolist()) for _ in range(rng.integers(0, 4))]
    return case, checkpoint_of(index).prompt(index, int(rng.choice([0, 1, 7, 30]))).tolist(), patterns


@pytest.mark.parametrize("index", range(CASES))
def test_like_the_reference(index: int, model_of: Any) -> None:
    (case, prompt, patterns), checkpoint = draw(index), checkpoint_of(index)
    network = Network(checkpoint.weights, checkpoint.config)
    expected = reference_generate(network, prompt, patterns=tuple(patterns), **case)
    result = generate(model_of(checkpoint), prompt, setting="fast_dllm_baseline", stop=patterns, **case)
    assert {field: getattr(result, field) for field in FIELDS} == {field: expected[field] for field in FIELDS}


@pytest.mark.parametrize("setting", ["fast_dllm_baseline", "alp", "accept-jump", "jump-share", "jump-share-exact"])
@pytest.mark.parametrize("refresh", ["full", "response", "window:32"])
def test_every_position_is_decided_once(setting: str, refresh: str, model_of: Any) -> None:
    checkpoint = checkpoint_of(2)
    asked = {"setting": setting, "refresh": refresh, "ahead": 2, "gen_length": 96, "early_exit": False}
    seen = watched(model_of(checkpoint), checkpoint.prompt(2, 20).tolist(), length="fixed", **asked)
    decided = np.concatenate([each.accepted for each in seen])
    assert sorted(decided.tolist()) == list(range(20, 20 + 96))
    late = [(each.accepted < each.block[0]).sum() for each in seen]
    assert all(each.kind == "refresh" for each, count in zip(seen, late, strict=True) if count)
    assert 0 < max(late) <= 2
    assert all((np.diff(each.accepted) > 0).all() for each in seen)


def test_one_leftover_saves_a_forward_a_block() -> None:
    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return 3, 0.95 if offset % 8 < 7 else 0.5

    plain, _, _ = drive(preset("fast_dllm_baseline"), oracle)
    ahead, forwards, events = drive(preset("fast_dllm_baseline", ahead=1), oracle)
    assert ahead.tokens == plain.tokens
    assert [each.kind for each in events] == ["refresh"] * 4 + ["step"], "the last block has no next one"
    assert plain.nfe - ahead.nfe == 3
    assert [each.accepted.tolist() for each in events[:3]] == [
        [3, 4, 5, 6, 7, 8, 9],
        [10, 11, 12, 13, 14, 15, 16, 17],
        [18, 19, 20, 21, 22, 23, 24, 25],
    ]
    assert [(each.block, each.accepted) for each in ahead.passes] == [(0, 7), (1, 8), (2, 8), (3, 8), (3, 1)]
    assert forwards[1].tokens[10] == forwards[1].tokens[11], "the leftover is fed as a mask"


def test_a_stop_pattern_ends_its_block_first() -> None:
    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return (EOS if offset == 4 else 3), 0.95 if offset % 8 < 7 else 0.5

    result, _, events = drive(preset("fast_dllm_baseline", early_exit=True, ahead=1), oracle)
    assert [each.kind for each in events] == ["refresh", "step"]
    assert result.decode_length == 5


def test_an_end_among_the_leftovers_ends_the_generation() -> None:
    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return (EOS if offset == 7 else 3), 0.5 if offset == 7 else 0.95

    result, _, events = drive(preset("alp", ahead=1), oracle)
    assert [each.kind for each in events] == ["refresh", "refresh"]
    assert events[-1].accepted.tolist() == [10]
    assert result.tokens == [3] * 7 + [EOS] * 25
    assert (result.decode_length, result.predicted_lengths) == (8, [32])
    assert result.passes[-1].accepted == 1


def test_the_length_is_predicted_from_the_new_block_on() -> None:
    """The leftover is an unsure EOS, the one predicted behind it a sure one."""
    tokens = {7: 9, 12: EOS}

    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return tokens.get(offset, 3), 0.5 if offset == 7 else 0.95

    result, _, _ = drive(preset("alp", ahead=1), oracle)
    assert result.predicted_lengths == [16, 16]
    assert result.decode_length == 13
    assert result.tokens[7] == 9


@pytest.mark.parametrize("length", ["fixed", "adaptive"])
@pytest.mark.parametrize("refresh", ["full", "response", "window:0"])
def test_shifted_predictions(length: str, refresh: str, model_of: Any) -> None:
    """Dream: the row before a leftover is fed."""
    checkpoint = dream_checkpoint(3, logit_std=4.0, vocab_size=128, mask_token_id=126, eos_token_id=127)
    asked = {"setting": "fast_dllm_baseline", "gen_length": 64, "block_length": 16, "refresh": refresh}
    model = model_of(checkpoint)
    plain = generate(model, [1, 2, 3], length=length, **asked)
    for ahead in (1, 3, 16):
        seen = watched(model, [1, 2, 3], length=length, ahead=ahead, **asked)
        made = generate(model, [1, 2, 3], length=length, ahead=ahead, **asked)
        assert 126 not in made.tokens
        assert made.nfe <= plain.nfe
        assert sorted(np.concatenate([e.accepted for e in seen]).tolist()) == list(range(3, 3 + len(made.tokens)))


def test_it_changes_nothing_where_blocks_leave_nothing() -> None:
    plain, ahead = (drive(preset("alp", ahead=n), answer({}))[0] for n in (0, 5))
    assert plain == ahead


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ahead": -1}, "ahead must be a finite number of at least 0, not -1"),
        ({"ahead": 1.5}, "ahead must be a whole number, not 1.5"),
        ({"ahead": True}, "ahead must be a whole number, not True"),
        ({"ahead": 1, "cache": "prefix"}, "ahead=1 needs cache=dual"),
        ({"ahead": 1, "cache": "none"}, "ahead=1 needs cache=dual"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        get_setting("fast_dllm_baseline", **asked)
