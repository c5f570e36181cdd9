"""``speculation=auto``: the tokens are those without it whatever is drafted; what is drafted follows its cost."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import dream_checkpoint, small_checkpoint
from test_beyond import checkpoint_of

from odb_dllm import Generation, InputError, generate, get_setting
from odb_dllm.arguments import parse
from odb_dllm.bench.forwards import Timing
from odb_dllm.benchmarks import resolve
from odb_dllm.costs import EVERY_TOKEN, H200, Budget, Points, StepCosts, read_costs
from odb_dllm.drafting import MOST, PRIOR, Drafter, likeliest, outcome_of
from odb_dllm.scheduler import Request, run

FLAT: Points = ((1, 1.0), (2, 1.0))
CURVES = {"flat": FLAT, "h200": H200, "steep": EVERY_TOKEN, "stairs": ((64, 1.0), (65, 1.4), (128, 1.4), (129, 9.0))}
SAME = ("tokens", "refreshes", "predicted_lengths", "decode_length")


def same(made: Generation) -> list[Any]:
    return [getattr(made, name) for name in SAME]


# What comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize(
    "more",
    [{}, {"refresh": "response", "threshold": 0.6}, {"grow": 64, "ahead": 2}, {"refresh": "window:32", "ahead": 1}],
    ids=["plain", "response", "grow", "window"],
)
def test_nothing_is_lost(curve: str, index: int, more: dict[str, Any], model_of: Any) -> None:
    checkpoint = checkpoint_of(index)
    model, prompt = model_of(checkpoint), checkpoint.prompt(index, 30).tolist()
    asked = {"setting": "alp", "gen_length": 96, "theta": 0.3, **more}
    plain = generate(model, prompt, **asked)
    auto = generate(model, prompt, speculation="auto", costs=CURVES[curve], **asked)
    exact = generate(model, prompt, speculation="exact", **asked)
    assert same(auto) == same(plain) == same(exact)
    assert auto.nfe <= plain.nfe
    assert sum(each.accepted for each in auto.passes) == sum(each.accepted for each in plain.passes)
    if curve == "steep":
        assert auto.passes == plain.passes


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_nothing_is_lost_in_float32_whatever_the_batch(engine: str, model_of: Any) -> None:
    model = replace(model_of(small_checkpoint(4, logit_std=6.0), "float32"), engine=engine)
    requests = {}
    for name in ("none", "auto"):
        setting = get_setting("alp", speculation=name, costs=H200, gen_length=64, early_exit=False, length="fixed")
        setting, stop = resolve(model, setting)
        requests[name] = [Request([3 + index, 5, 7][: 1 + index % 3], setting, stop, index) for index in range(10)]
    plain = dict(run(model, requests["none"]))
    for batch_size in (1, 3, 10):
        made = dict(run(model, requests["auto"], batch_size=batch_size))
        for index, each in made.items():
            assert isinstance(each, Generation)
            assert same(each) == same(plain[index])  # type: ignore[arg-type]
            together = zip(each.passes, each.batches, strict=True)
            assert all(of.branches == 1 for of, sequences in together if sequences >= 8), (
                "256 tokens are no longer free"
            )
        branched = sum(of.branches > 1 for each in made.values() for of in each.passes)  # type: ignore[union-attr]
        assert branched > 0 or batch_size == 10


def test_shifted_predictions(model_of: Any) -> None:
    model = model_of(dream_checkpoint(3, logit_std=4.0, vocab_size=128, mask_token_id=126, eos_token_id=127))
    asked = {"setting": "fast_dllm_baseline", "gen_length": 64, "block_length": 16}
    plain = generate(model, [1, 2, 3], **asked)
    auto = generate(model, [1, 2, 3], speculation="auto", costs=FLAT, **asked)
    assert same(auto) == same(plain)
    assert auto.nfe < plain.nfe


def test_free_branches_save_more_forwards_than_four_do(model_of: Any) -> None:
    nfe = Counter[str]()
    for index in range(6):
        checkpoint = checkpoint_of(index)
        model, prompt = model_of(checkpoint), checkpoint.prompt(index, 30).tolist()
        for name in ("none", "exact", "auto"):
            asked = {"speculation": name, "costs": FLAT, "gen_length": 128}
            nfe[name] += generate(model, prompt, setting="fast_dllm_baseline", **asked).nfe
    assert nfe["auto"] < nfe["exact"] < nfe["none"], nfe


def test_a_cpu_drafts_nothing_by_itself(model_of: Any) -> None:
    checkpoint = checkpoint_of(0)
    model, prompt = model_of(checkpoint), checkpoint.prompt(0, 30).tolist()
    made = generate(model, prompt, setting="alp", speculation="auto", gen_length=64)
    assert (max(each.branches for each in made.passes) == 1) == (model.device.type == "cpu")


# What is drafted -------------------------------------------------------------------------------------


def size(sequences: int, counts: dict[Any, float] | None = None, costs: Points = H200) -> int:
    drafter = Drafter(Budget(StepCosts(costs), lambda: sequences), 32)
    drafter.counts.update(counts or {})
    return len(drafter.layout(30))


def test_more_sequences_draft_less() -> None:
    sizes = [size(sequences) for sequences in (1, 2, 4, 8, 32)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= 4
    assert sizes[-2:] == [1, 1]


def test_drafts_that_never_come_true_are_given_up() -> None:
    assert size(1, {None: 1000}) == 1
    assert size(1, {(0,): 1000}) > 5
    assert size(1, {(0,): 1000}, EVERY_TOKEN) == 1
    assert size(1, costs=FLAT) == MOST


def test_what_comes_true_is_what_is_drafted() -> None:
    drafter = Drafter(Budget(), 32)
    for _ in range(100):
        drafter.note((1,))
    assert drafter.layout(30)[:3] == ((), (1,), (1, 2))
    assert drafter.layout(2) == ((), (1,))
    assert drafter.layout(1) == ((),), "one mask leaves nothing to guess"
    assert PRIOR[(1,)] < 100, "the prior is nobody else's"


@pytest.mark.parametrize("seed", range(20))
def test_the_steps_expected_are_those_of_a_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = [(0,), (1,), (0, 1), (2,), (0, 2), (3,)]
    chances = dict(zip(outcomes, rng.dirichlet(np.ones(7)).round(2).tolist(), strict=False))
    masks = int(rng.integers(1, 10))
    layout, steps = likeliest(tuple(chances.items()), masks)
    assert layout[0] == ()
    assert len(set(layout)) == len(layout) == len(steps) <= MOST
    assert all(len(state) < masks and max(state, default=0) < masks for state in layout)

    def walk(state: tuple[int, ...], fed: tuple[tuple[int, ...], ...]) -> float:
        if state not in fed:
            return 0.0
        rest = [draft for draft in range(masks) if draft not in state]
        taken = [(sorted([*state, *(rest[i] for i in o)]), p) for o, p in chances.items() if max(o) < len(rest)]
        return 1.0 + sum(p * walk(tuple(after), fed) for after, p in taken)

    assert [walk((), layout[: n + 1]) for n in range(len(layout))] == pytest.approx(steps)


def test_outcomes() -> None:
    drafts, drafted, block = np.array([4, 1, 6]), np.array([9, 8, 7]), np.zeros(8, np.int64)
    block[[4, 1, 6, 2]] = 9, 8, 7, 5

    def outcome(held: tuple[int, ...], *positions: int, tokens: Any = block) -> Any:
        return outcome_of(held, np.isin(np.arange(8), positions), tokens, drafts, drafted)

    assert outcome((), 4) == (0,)
    assert outcome((), 1) == (1,)
    assert outcome((), 1, 4) == (0, 1)
    assert outcome((0,), 6) == (1,), "ranks are those among the drafts not yet held"
    assert outcome((), 2) is None, "no draft"
    assert outcome((), 4, 2) is None, "more than drafts"
    assert outcome((), 4, tokens=np.where(block == 9, 3, block)) is None, "with another token"


# What it costs ---------------------------------------------------------------------------------------


def test_costs_between_and_beyond_what_was_measured() -> None:
    costs = StepCosts(((32, 4.0), (64, 5.0), (128, 9.0)))
    assert [costs.milliseconds(n) for n in (1, 32, 48, 64, 96, 128, 256)] == [4.0, 4.0, 4.5, 5.0, 7.0, 9.0, 17.0]
    assert Budget(costs, lambda: 4).milliseconds(32) == 9.0
    assert StepCosts().milliseconds(128) == 4.44


def bench_file(folder: Path) -> Path:
    """As ``odb-dllm bench --out`` writes it: a floor at all numbers of tokens, and some steps above it."""
    floors = {1: 0.004, 32: 0.004, 64: 0.0045, 128: 0.005, 256: 0.007}
    timings = [
        Timing("step", tokens, cache, floors.get(tokens, 0.0055) + over, floors.get(tokens, 0.0055))
        for tokens, cache, over in ((32, 300, 0.001), (32, 2048, 0.003), (128, 300, 0.004), (160, 300, 0.004))
    ]
    timings.append(Timing("refresh", 300, 0, 0.02, 0.01))
    figures = {"floor_seconds": floors, "forwards": [asdict(each) for each in timings]}
    path = folder / "bench.json"
    path.write_text(json.dumps(figures))
    return path


def test_costs_of_a_machine(tmp_path: Path) -> None:
    points = read_costs(str(bench_file(tmp_path)))
    assert points is not None
    assert [tokens for tokens, _ in points] == [1, 32, 64, 128, 160, 256]
    assert [time for _, time in points] == pytest.approx([6.0, 6.0, 7.1666667, 9.0, 9.5, 11.0])
    arguments = parse({"pretrained": "tiny", "setting": "alp", "speculation": "auto", "costs": bench_file(tmp_path)})
    assert arguments.setting.costs == points == read_costs(points), "the setting holds the figures, not the file"
    assert read_costs([(64, 5.0), (32, 6)]) == ((32, 6.0), (64, 6.0)), "more tokens never cost less"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("no json", "holds no measured steps"),
        ("[]", "holds no measured steps"),
        ('{"floor_seconds": 0.5, "forwards": []}', "holds no measured steps"),
        ('{"floor_seconds": {"32": 0.1, "64": 0.2}, "forwards": []}', "holds no measured steps"),
        ('{"floor_seconds": {"32": NaN, "64": 0.2}, "forwards": []}', "holds no measured steps"),
    ],
)
def test_files_that_are_no_costs(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        get_setting("alp", speculation="auto", costs=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        *(5, True, [], [1, 2], {1: 2}, [(32, 4.0)], [(32, 4.0), (32, 5.0)]),
        *([(first, 1.0), (2, 1.0)] for first in (0, 1.5, True, "a")),
        *([(1, first), (2, 1.0)] for first in (-1.0, 0, float("nan"), "a", None)),
    ],
)
def test_values_that_are_no_costs(given: Any) -> None:
    with pytest.raises(InputError, match=r"costs must be a file .* or two or more pairs"):
        get_setting("alp", speculation="auto", costs=given)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"speculation": "auto", "cache": "prefix"}, "speculation=auto needs cache=dual"),
        ({"speculation": "auto", "threshold": None}, "speculation=auto needs the fixed threshold"),
        ({"speculation": "auto", "temperature": 0.5}, "speculation=auto needs temperature 0"),
        ({"speculation": "auto", "refresh": "window:31"}, "speculation=auto needs refresh=window:32 or more"),
        ({"speculation": "exact", "refresh": "window:0"}, "speculation=exact needs refresh=window:32 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        get_setting("fast_dllm_baseline", **asked)
