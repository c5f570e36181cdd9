"""The rules by themselves, on numbers made by hand: unmasking, stop patterns, drafts and branches."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from reference import Prediction as ReferencePrediction
from reference import accept_jump_branch, jump_share_branch

from odb_dllm import Setting
from odb_dllm import speculation as spec
from odb_dllm.stopping import StopRule, first_match, first_predicted
from odb_dllm.unmasking import RULES, Moment


def unmask(rule: str, confidence: list[float], **more: object) -> list[int]:
    """Offsets that a rule unmasks."""
    setting = Setting(gen_length=32, rule=rule, threshold=0.9, factor=1.0, confidence_alpha=0.5)
    moment = replace(Moment(setting, step=0, block_masks=32, refresh=False, masked_share=0.5), **more)  # type: ignore[arg-type]
    return np.flatnonzero(RULES[rule](np.log(confidence), moment)).tolist()


def test_quota_spreads_masks_and_takes_the_most_confident() -> None:
    setting = Setting(gen_length=32, block_length=32, steps=5)
    taken = [int(RULES["quota"](np.zeros(32), Moment(setting, step, 32, False, 1.0)).sum()) for step in range(5)]
    assert taken == [7, 7, 6, 6, 6]
    assert unmask("quota", [0.1, 0.9, 0.2]) == [1]  # steps = G: one a step


def test_equal_confidences_take_the_lowest_position() -> None:
    assert unmask("quota", [0.5, 0.5, 0.5]) == [0]
    assert unmask("threshold", [0.2, 0.5, 0.5]) == [1]


def test_threshold_takes_all_that_reach_it_and_always_the_best() -> None:
    assert unmask("threshold", [0.9, 0.95, 0.89]) == [0, 1]
    assert unmask("threshold", [0.1, 0.3, 0.2]) == [1]


@pytest.mark.parametrize(
    ("confidence", "taken"),
    [
        ([0.5], [0]),  # one mask
        ([0.99, 0.2], [0]),  # the second of two is below 1 - 1/3: k = 1 = m - 1, so both
        ([0.99, 0.7, 0.2], [0, 1]),  # k = 2 = m - 1: the failing last is accepted all the same
        ([0.99, 0.9, 0.2, 0.1], [0, 1]),  # k = 2: the first two
        ([0.99, 0.1, 0.1, 0.1], [0]),  # k = 1
        ([0.99, 0.99, 0.99, 0.99], [0, 1, 2, 3]),  # none fails
    ],
)
def test_factor(confidence: list[float], taken: list[int]) -> None:
    limits = [-1.0] + [1 - 1 / (n + 1) for n in range(2, len(confidence) + 1)]
    k = next((i for i, (c, limit) in enumerate(zip(confidence, limits, strict=True)) if c < limit), len(limits) - 1)
    count = k + 1 if k in (0, len(confidence) - 1) else k
    assert unmask("factor", confidence) == list(range(count))
    if len(confidence) > 2 and k != len(confidence) - 1:
        assert unmask("factor", confidence) == taken


def test_dynamic_threshold_sinks_with_the_share_of_masks_but_not_on_a_refresh() -> None:
    # 0.9 * (1 - 0.5 * (1 - 0.5)) = 0.675
    assert unmask("dynamic", [0.68, 0.67, 0.99]) == [0, 2]
    assert unmask("dynamic", [0.68, 0.67, 0.99], refresh=True) == [2]
    assert unmask("dynamic", [0.68, 0.67, 0.99], masked_share=1.0) == [2]


EOS, PAIR = 2, (5, 6)
RULE = StopRule(patterns=((EOS,), PAIR, (7,)), eos=(EOS,), theta=0.8, eos_guard=False)


def predicted(tokens: list[int], unsure: tuple[int, ...] = (), guard: bool = False, horizon: int = 1024) -> int | None:
    confidence = np.full(len(tokens), 0.9)
    confidence[list(unsure)] = 0.79
    return first_predicted(np.array(tokens), confidence, replace(RULE, eos_guard=guard), horizon)


def test_stop_patterns_are_predicted_with_every_token_sure() -> None:
    assert predicted([1, 1, 5, 6, 2]) == 2
    assert predicted([1, 1, 5, 6, 2], unsure=(3,)) == 4
    assert predicted([1, 1, 5, 6, 2], unsure=(3, 4)) is None
    assert predicted([1, 5, 1, 6]) is None
    assert predicted([1, 1, 5]) is None  # half a pattern at the end
    assert predicted([]) is None


def test_the_eos_guard_overlooks_eos_alone_up_to_the_horizon() -> None:
    tokens = [1] * 200
    tokens[10] = EOS
    assert predicted(tokens) == 10
    assert predicted(tokens, guard=True) is None
    assert predicted(tokens, guard=True, horizon=10) == 10
    assert predicted(tokens, guard=True, horizon=11) is None
    tokens[128] = EOS
    assert predicted(tokens, guard=True) == 128
    tokens[20] = 7
    assert predicted(tokens, guard=True) == 20  # another pattern is not guarded


def test_written_stop_patterns() -> None:
    assert first_match([1, 5, 6, 2], RULE.patterns) == 1
    assert first_match([1, 5], RULE.patterns) is None
    assert first_match([], RULE.patterns) is None
    assert first_match([2, 7], RULE.patterns) == 0


def test_drafts_are_the_most_confident_in_order() -> None:
    score = np.array([-0.5, -0.1, -0.1, -3.0, -0.01])
    masked = np.array([True, True, True, True, False])
    assert spec.draft_order(score, masked, 4).tolist() == [1, 2, 0, 3]
    assert spec.draft_order(score, masked, 2).tolist() == [1, 2]
    assert spec.draft_order(score, masked & (score > -0.2), 4).tolist() == [1, 2]


def test_branches_hold_their_drafts() -> None:
    block, drafts, tokens = np.array([9, 0, 0, 0]), np.array([2, 1]), np.array([7, 8])
    assert spec.fill_branches(block, drafts, tokens, spec.JUMP).tolist() == [
        [9, 0, 0, 0],
        [9, 0, 7, 0],
        [9, 8, 0, 0],
        [9, 8, 7, 0],
    ]
    one = spec.fill_branches(block, drafts[:1], tokens[:1], spec.SHARE)
    assert one[2].tolist() == [9, 0, 0, 0]  # a missing draft is left out
    assert one[7].tolist() == [9, 0, 7, 0]


def test_a_branch_takes_what_reaches_the_threshold_and_its_best() -> None:
    score = np.log([[0.95, 0.2, 0.9], [0.3, 0.2, 0.1], [0.99, 0.1, 0.1]])
    masked = np.array([[True, True, True], [True, True, False], [False, False, False]])
    assert spec.taken_by(score, masked, 0.9).tolist() == [
        [True, False, True],
        [True, False, False],
        [False, False, False],
    ]


def takes(branches: int, *pairs: tuple[int, str]) -> np.ndarray:
    """``takes(8, (0, "a"), (1, "b"))``: branch 0 takes a, branch 1 takes b."""
    table = np.zeros((branches, 4), bool)
    for branch, letter in pairs:
        table[branch, "abcd".index(letter)] = True
    return table


@pytest.mark.parametrize(
    ("pairs", "branch"),
    [
        ([], 0),
        ([(0, "a")], 1),
        ([(0, "b")], 2),
        ([(0, "a"), (0, "b")], 3),
        ([(0, "a"), (1, "b")], 3),
        ([(0, "b"), (2, "a")], 3),
        ([(1, "b")], 0),
        ([(2, "a")], 0),
        ([(0, "a"), (2, "a")], 1),
        ([(0, "b"), (1, "b")], 2),
    ],
)
def test_accept_jump_table(pairs: list[tuple[int, str]], branch: int) -> None:
    assert spec.choose_jump(takes(4, *pairs)) == branch


ABC = [(0, "a"), (1, "b"), (3, "c")]  # A123


@pytest.mark.parametrize(
    ("pairs", "branch"),
    [
        ([], 0),
        ([(0, "a")], 1),
        ([(0, "b")], 2),
        ([(0, "c")], 4),
        ([(0, "d")], 6),
        ([(0, "c"), (0, "d")], 4),
        ([(0, "a"), (0, "c"), (0, "d")], 1),
        # two drafts
        ([(0, "a"), (0, "b")], 3),
        ([(0, "a"), (1, "b")], 3),
        ([(0, "b"), (2, "a")], 3),
        ([(1, "b"), (2, "a")], 0),
        # three drafts
        ([(0, "a"), (0, "b"), (0, "c")], 5),
        ([(0, "c"), (0, "a"), (1, "b")], 5),  # A3 and A12
        ([(0, "c"), (4, "a"), (4, "b")], 5),  # A3, and 4 takes a and b
        ([(0, "c"), (4, "a")], 4),
        (ABC, 5),  # A12, and 3 takes c
        ([(0, "a"), (1, "b"), (1, "c")], 5),  # A12, and 1 takes c
        ([(0, "b"), (2, "a"), (2, "c")], 5),  # A12, and 2 takes c
        ([(0, "a"), (1, "b"), (6, "c")], 3),  # 6 does not count for three
        # four drafts
        ([(0, "a"), (0, "b"), (0, "c"), (0, "d")], 7),
        ([*ABC, (0, "d")], 7),  # A4 and A123
        ([(0, "d"), (6, "a"), (6, "b"), (6, "c")], 7),  # A4, and 6 takes a, b, c
        ([(0, "d"), (6, "a"), (6, "b")], 6),
        ([(0, "d"), (0, "a"), (1, "b"), (6, "c")], 7),  # A4, A12, and 6 takes c
        *(([*ABC, (i, "d")], 7) for i in (1, 2, 3, 4, 5)),  # A123, and any of 1..5 takes d
        ([*ABC, (6, "d")], 5),
        ([(0, "a"), (0, "b"), (0, "c"), (1, "d")], 5),  # three by branch 0 alone are not A123
    ],
)
def test_jump_share_table(pairs: list[tuple[int, str]], branch: int) -> None:
    assert spec.choose_share(takes(8, *pairs)) == branch


def as_reference(table: np.ndarray, layout: spec.Layout) -> tuple[list, list]:
    """Predictions by which each branch takes exactly the drafts of ``table``; position 9 is its best."""
    drafts = [(position, 100 + position) for position in range(4)]
    branches = []
    for row, held in zip(table, layout, strict=True):
        open_ = [j for j in range(4) if j not in held]
        branch = {j: ReferencePrediction(100 + j, np.log(0.95 if row[j] else 0.1)) for j in open_}
        branches.append(branch | {9: ReferencePrediction(1, np.log(0.99))})
    return drafts, branches


def test_tables_agree_with_the_reference_on_every_kind_of_verdict() -> None:
    """All verdicts for accept-jump, 20,000 random ones for jump-share."""
    for bits in itertools.product([False, True], repeat=4):
        table = takes(4)
        table[0, :2], table[1, 1], table[2, 0] = bits[:2], bits[2], bits[3]
        drafts, branches = as_reference(table, spec.JUMP)
        assert spec.choose_jump(table) == accept_jump_branch(drafts[:2], branches, 0.9)
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        table = rng.random((8, 4)) < rng.choice([0.3, 0.5, 0.7])
        for row, held in zip(table, spec.SHARE, strict=True):
            row[list(held)] = False
        drafts, branches = as_reference(table, spec.SHARE)
        assert spec.choose_share(table) == jump_share_branch(drafts, branches, 0.9)
