"""The sampler driven by hand: predictions are made up, so that each rule shows by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from odb_dllm import Event, Generation, InputError, Setting, get_setting
from odb_dllm.contract import Forward, Prediction
from odb_dllm.sampler import NonFiniteLogits, capacity, sample
from odb_dllm.stopping import StopRule

MASK, EOS, END, PAIR = 99, 2, 7, (5, 6)
PROMPT = np.array([1, 1, 1])
STOP = StopRule(patterns=((EOS,), (END,), PAIR), eos=(EOS,), theta=0.8)
Oracle = Callable[[int, int, int], tuple[int, float]]  # (forward, branch, response offset) -> token, confidence


def drive(setting: Setting, oracle: Oracle, stop: StopRule = STOP) -> tuple[Generation, list[Forward], list[Event]]:
    """Run a sampler against made-up predictions."""
    events: list[Event] = []
    forwards: list[Forward] = []
    sampler = sample(PROMPT, setting, stop, MASK, watch=events.append)
    forward = next(sampler)
    while True:
        made = [oracle(len(forwards), int(b), int(p) - len(PROMPT)) for b, p in forward.targets]
        forwards.append(forward)
        token = np.array([t for t, _ in made], np.int64)
        confidence = np.array([c for _, c in made], np.float64)
        try:
            forward = sampler.send(Prediction(token, np.log(confidence), np.isfinite(confidence)))
        except StopIteration as finished:
            return finished.value, forwards, events


def answer(tokens: dict[int, int], sure: float = 0.95) -> Oracle:
    """The same sure prediction in every forward: token 3 but at some offsets."""
    return lambda forward, branch, offset: (tokens.get(offset, 3), sure)


def preset(name: str, **more: Any) -> Setting:
    return get_setting(name, **({"gen_length": 32, "block_length": 8} | more))


@pytest.mark.parametrize(("found", "length"), [(0, 8), (7, 8), (8, 16), (15, 16), (16, 24), (31, 32)])
def test_predicted_lengths_are_whole_blocks(found: int, length: int) -> None:
    result, _, events = drive(preset("alp", early_exit=False), answer({found: END}))
    assert len(result.tokens) == length
    assert result.predicted_lengths == [length] * (length // 8)
    assert result.average_predicted_length == length
    assert result.decode_length == length  # no early exit: all of the canvas
    assert [e.predicted_length for e in events] == result.predicted_lengths


def test_the_canvas_shrinks_and_never_grows() -> None:
    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return (END if offset == (20, 28)[min(forward, 1)] else 3), 0.95

    result, forwards, _ = drive(preset("alp"), oracle)
    assert result.predicted_lengths == [24, 24, 24]
    assert [len(f) for f in forwards] == [3 + 32, 3 + 24, 3 + 24]


def test_an_unsure_stop_pattern_predicts_nothing_but_ends_the_generation() -> None:
    result, _, _ = drive(preset("alp", threshold=0.5), answer({3: END}, sure=0.7))
    assert result.predicted_lengths == [32]
    assert result.tokens == [3, 3, 3, END, 3, 3, 3, 3] + [EOS] * 24
    assert result.decode_length == 4
    assert result.nfe == 1


def test_tokens_after_the_match_stay_in_its_block() -> None:
    result, _, _ = drive(preset("alp"), answer({10: PAIR[0], 11: PAIR[1]}))
    assert result.tokens == [3] * 10 + [*PAIR] + [3] * 4
    assert result.decode_length == 11


def test_a_stop_pattern_across_a_block_border() -> None:
    """It is predicted, since prediction looks at the whole response, but not written within any one block."""
    result, _, _ = drive(preset("alp"), answer({7: PAIR[0], 8: PAIR[1]}))
    assert result.predicted_lengths[0] == 8  # the pattern begins in block 0
    assert result.decode_length == 8
    whole, _, _ = drive(preset("alp", length="fixed"), answer({7: PAIR[0], 8: PAIR[1]}))
    assert whole.decode_length == 32
    assert whole.tokens[6:10] == [3, *PAIR, 3]


def test_a_stop_pattern_that_the_canvas_cuts_off() -> None:
    result, _, _ = drive(preset("alp"), answer({31: PAIR[0]}))
    assert result.predicted_lengths == [32] * 4
    assert result.decode_length == 32


def test_the_eos_guard_counts_from_the_block_and_binds_prediction_alone() -> None:
    guarded = StopRule(STOP.patterns, STOP.eos, theta=0.8, eos_guard=True)
    setting = preset("alp", gen_length=192, block_length=32)
    result, _, _ = drive(setting, answer({150: EOS}), guarded)
    # Block 0 sees EOS at 150 >= 128. From block 1 on it lies at offset 118, which is guarded: the length stays.
    assert result.predicted_lengths == [160] * 5
    early, _, _ = drive(setting, answer({40: EOS}), guarded)
    assert early.predicted_lengths == [192, 192]
    assert early.decode_length == 41


def test_a_block_that_is_complete_after_its_refresh_takes_no_step() -> None:
    result, forwards, _ = drive(preset("fast_dllm_baseline"), answer({}))
    assert [f.kind for f in forwards] == ["refresh"] * 4
    assert (result.nfe, result.refreshes) == (4, 4)


WINDOW = {"window_size": 4, "confidence_alpha": 0.0}


def unsure(forward: int, branch: int, offset: int) -> tuple[int, float]:
    """Nothing reaches a threshold: one token a forward, from the left."""
    return 3, 0.5 - offset / 1000


@pytest.mark.parametrize(
    ("name", "more", "fed"),
    [
        ("llada_baseline", {}, [35] * 32),
        ("parallel", {}, [35] * 32),
        ("prefix-cache", {}, [35, *[32] * 7, 35, *[24] * 7, 35, *[16] * 7, 35, *[8] * 7]),
        ("fast_dllm_baseline", {}, [35, *[8] * 7] * 4),
        ("dual-cache", {"steps": 8}, [35, 8] * 4),
        # window 4 after the block and the last position, where they are left
        ("streaming", WINDOW, [16, *[13] * 7, 24, *[13] * 7, 32, *[13] * 7, 35, *[8] * 7]),
        ("accept-jump", {"length": "fixed"}, None),
    ],
)  # fmt: skip
def test_tokens_fed(name: str, more: dict[str, Any], fed: list[int] | None) -> None:
    result, forwards, _ = drive(preset(name, early_exit=False, **more), unsure)
    assert result.forward_lengths == [len(f) for f in forwards]
    if fed is not None:
        assert result.forward_lengths == fed
    assert result.nfe == len(fed or forwards)
    assert result.refreshes == sum(f.kind == "refresh" for f in forwards)
    assert result.refreshes == (0 if name in ("llada_baseline", "parallel") else 4)


def test_what_steps_see() -> None:
    setting = preset("streaming", window_size=4, confidence_alpha=0.0, early_exit=False)
    _, forwards, _ = drive(setting, unsure)
    assert forwards[0].positions.tolist() == [*range(15), 34]
    assert forwards[0].store == (0, 3)
    assert forwards[1].positions.tolist() == [*range(3, 15), 34]
    assert forwards[1].sees == ((0, 3),)
    _, forwards, _ = drive(preset("fast_dllm_baseline", cache="dual", suffix="window", window_size=4), unsure)
    assert forwards[1].positions.tolist() == [*range(3, 11)]
    assert forwards[1].sees == ((0, 3), (11, 15), (34, 35))
    assert forwards[-1].sees == ((0, 27),)


def test_accept_jump_feeds_four_copies_to_the_last_mask() -> None:
    def oracle(forward: int, branch: int, offset: int) -> tuple[int, float]:
        return 3 + forward, 0.5 - offset / 1000  # never the drafted token: branch 0, one token a step

    _, forwards, events = drive(preset("accept-jump", gen_length=8, length="fixed"), oracle)
    assert [len(f) for f in forwards] == [8 + 3, *[32] * 7]
    last = forwards[-1]
    masked = (last.tokens.reshape(4, 8) == MASK).sum(axis=1)
    assert masked.tolist() == [1, 0, 1, 0]  # b is missing: branch 2 is x, branch 3 is x + a
    assert [e.branch for e in events] == [None, *[0] * 7]
    assert [len(e.drafts) for e in events] == [0, *[2] * 6, 1]


def test_drafts_that_hold_are_jumped_over() -> None:
    """The model repeats itself, never surely: branch 0 takes a, branch 1 takes b, branch 3 takes one more."""
    result, _, events = drive(preset("accept-jump", gen_length=8, length="fixed"), unsure)
    assert [e.branch for e in events] == [None, 3, 3, 1]  # one mask is left: there is no b
    assert [e.accepted.tolist() for e in events] == [[3], [4, 5, 6], [7, 8, 9], [10]]
    assert events[-1].masks_left == 0
    assert result.tokens == [3] * 8


def test_jump_share_switches_after_its_second_step() -> None:
    result, forwards, events = drive(preset("jump-share", gen_length=32, block_length=32, length="fixed"), unsure)
    layouts = [None if f.branch is None else int(f.branch.max()) + 1 for f in forwards]
    masks = [int((f.tokens[:32] == MASK).sum()) for f in forwards[1:]]
    # Branch 3 three a step: 31, 28, 25, 22, 19 <= 20 masks went into a step, so the next one is of stage 2.
    assert masks[:6] == [31, 28, 25, 22, 19, 16]
    assert layouts[:7] == [None, 4, 4, 4, 4, 4, 8]
    assert len(forwards[6]) == 32 + 7 * 16
    assert events[6].branch == 7  # a, b, c and d hold, and branch 7 takes one more
    assert len(events[6].accepted) == 5
    assert result.tokens == [3] * 32


def test_stage_two_shares_what_branch_0_has_decided() -> None:
    _, forwards, _ = drive(preset("jump-share", gen_length=32, block_length=32, length="fixed"), unsure)
    forward = forwards[6]
    assert forward.shared is not None
    assert forward.branch is not None
    assert forward.shared[:32].sum() == 16
    assert not forward.shared[32:].any()
    assert (forward.tokens[forward.shared] != MASK).all()
    for branch in range(1, 8):
        positions = forward.positions[forward.branch == branch]
        assert positions.tolist() == forward.positions[:32][forward.tokens[:32] == MASK].tolist()


def test_the_first_step_of_a_block_never_switches() -> None:
    small = preset("jump-share", gen_length=16, block_length=16, length="fixed")
    _, forwards, _ = drive(small, unsure)
    assert [None if f.branch is None else int(f.branch.max()) + 1 for f in forwards][:4] == [None, 4, 4, 8]


def test_a_rule_that_takes_nothing_still_ends() -> None:
    setting = Setting(gen_length=16, block_length=8, rule=lambda score, moment: np.zeros(len(score), bool))
    assert drive(setting, unsure)[0].nfe == 16


def test_a_rule_must_speak_for_every_mask() -> None:
    plain = Setting(gen_length=16, block_length=8, rule=lambda score, moment: [True] * len(score))  # type: ignore[arg-type]
    assert drive(plain, unsure)[0].nfe == 2
    short = Setting(gen_length=16, block_length=8, rule=lambda score, moment: np.array([True]))
    with pytest.raises(InputError, match="each of 8 masks"):
        drive(short, unsure)


def test_logits_that_are_no_numbers_stop_the_sampler() -> None:
    with pytest.raises(NonFiniteLogits, match=r"position 5 .* \(forward 1\)"):
        drive(preset("llada_baseline"), lambda forward, branch, offset: (3, np.nan if offset == 2 else 0.5))


@pytest.mark.parametrize(
    "name", ["llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share", "streaming"]
)
def test_events_tell_every_token(name: str) -> None:
    more = {"window_size": 4, "confidence_alpha": 0.1} if name == "streaming" else {}
    result, forwards, events = drive(preset(name, **more), unsure)
    assert [e.fed for e in events] == result.forward_lengths
    assert [e.kind for e in events] == [f.kind for f in forwards]
    assert [e.forward for e in events] == list(range(result.nfe))
    written = np.concatenate([e.accepted for e in events])
    assert sorted(written.tolist()) == list(range(3, 35))
    assert all(len(e.tokens) == len(e.accepted) == len(e.confidence) for e in events)
    assert all(((e.confidence > 0) & (e.confidence <= 1)).all() for e in events)


def test_capacity_holds_the_branches() -> None:
    assert capacity(preset("llada_baseline"), 10) == 0
    assert capacity(preset("prefix-cache"), 10) == 42
    assert capacity(preset("accept-jump"), 10) == 42 + 32
    assert capacity(preset("jump-share"), 10) == 42 + 8 + 7 * 8
    assert capacity(get_setting("jump-share"), 1000) == 2024 + 32 + 7 * 20
