"""The reference sampler against the runs recorded from the published implementations, and by hand."""

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import golden_checkpoint, small_checkpoint
from reference import Network, Prediction, accept_jump_branch, by_factor, generate, jump_share_branch

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "llada.json").read_text())

ADAPTIVE = {"cache": "dual", "rule": "threshold", "length": "adaptive", "early_exit": True}
SETTINGS: dict[str, dict[str, Any]] = {  # the rule of the others follows from a case's threshold and factor
    "llada_baseline": {"cache": "none"},
    "parallel": {"cache": "none"},
    "prefix-cache": {"cache": "prefix"},
    "fast_dllm_baseline": {"cache": "dual"},
    "alp": ADAPTIVE,
    "accept-jump": ADAPTIVE | {"speculation": "accept-jump"},
    "jump-share": ADAPTIVE | {"speculation": "jump-share"},
    "streaming": {"cache": "prefix", "rule": "dynamic", "suffix": "window", "early_exit": True},
}

# Stop patterns besides EOS; theta of LLaDA-Instruct and of LLaDA-1.5; whether early EOS is ignored.
TASKS: dict[str | None, tuple[tuple[tuple[int, ...], ...], float, float, bool]] = {
    "gsm8k": (((17188,),), 0.93, 0.90, True),
    "minerva_math": (((38649,),), 0.80, 0.85, False),
    "bbh": (((48,), (198, 198)), 0.80, 0.80, False),
    "humaneval": (tuple((198, token) for token in (2439, 1413, 2, 7442, 371, 3384)), 0.85, 0.85, False),
    "mbpp": (((103193,),), 0.90, 0.90, True),
    None: ((), 0.90, 0.90, False),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The matrices are tiny: more threads only wait for each other, for minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def arguments(case: dict[str, Any]) -> dict[str, Any]:
    """The reference's keywords for a golden case."""
    patterns, theta_instruct, theta_1_5, guard = TASKS[case.get("task")]
    threshold, factor = case["threshold"], case.get("factor")
    rule = "threshold" if threshold is not None else "factor" if factor is not None else "quota"
    return {
        "gen_length": case["gen_length"],
        "block_length": case["block_length"],
        "steps": case["steps"],
        "rule": rule,
        "threshold": threshold,
        "factor": factor,
        "patterns": patterns,
        "theta": theta_1_5 if case["model"] == "llada_1_5" else theta_instruct,
        "eos_guard": guard,
        "window_size": case.get("window", 0),
        "confidence_alpha": case.get("alpha", 0.0),
    } | SETTINGS[case["setting"]]


@lru_cache(maxsize=2)
def golden_network(seed: int, special_boost: float, logit_std: float) -> Network:
    checkpoint = golden_checkpoint(seed, special_boost, logit_std)
    return Network(checkpoint.weights, checkpoint.config)


def run_golden(case: dict[str, Any], **changes: Any) -> dict[str, Any]:
    key = case["seed"], case["special_boost"], case.get("logit_std", 14.0)
    prompt = golden_checkpoint(*key).prompt(case["seed"], case["prompt_len"])
    return generate(golden_network(*key), prompt.tolist(), **(arguments(case) | changes))


def differences(case: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """The recorded fields that the result does not reproduce exactly."""
    names = {"avg_predict_length": "average_predicted_length"}
    names |= {name: name for name in ("tokens", "nfe", "forward_lengths", "decode_length")}
    return [name for name in names if name in case and case[name] != result[names[name]]]


@pytest.mark.parametrize(
    "case", GOLDENS, ids=[f"{case['setting']}-{case.get('task', '')}-{case['seed']}" for case in GOLDENS]
)
def test_reproduces_the_published_runs(case: dict[str, Any]) -> None:
    assert differences(case, run_golden(case)) == []


# ---- acceptance, on hand-made predictions ----------------------------------------------------------------

A, B, C, D = range(4)  # the drafts: position k, token 10 + k
SURE, UNSURE = math.log(0.95), math.log(0.5)
OTHER = 4  # a masked position that no draft names, always the most confident


def branches(count: int, taken: dict[int, set[int]], drafts: int = 4) -> list[dict[int, Prediction]]:
    """Predictions of `count` branches: branch i takes the drafts `taken[i]` and refuses the others."""
    result = []
    for i in range(count):
        predictions = {k: Prediction(10 + k, SURE if k in taken.get(i, set()) else UNSURE) for k in range(drafts)}
        result.append(predictions | {OTHER: Prediction(99, math.log(0.99))})
    return result


def drafts(count: int) -> list[tuple[int, int]]:
    return [(k, 10 + k) for k in range(count)]


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ({}, 0),
        ({0: {A}}, 1),
        ({0: {B}}, 2),
        ({0: {A, B}}, 3),
        ({0: {A}, 1: {B}}, 3),
        ({0: {B}, 2: {A}}, 3),
        ({0: {A}, 2: {A}}, 1),  # branch 2 filled b in, which 0 refuses: its consent to a is worth nothing
        ({0: {B}, 1: {B}}, 2),
        ({1: {B}, 2: {A}}, 0),
    ],
)
def test_accept_jump_branch(taken: dict[int, set[int]], chosen: int) -> None:
    assert accept_jump_branch(drafts(2), branches(4, taken, 2), 0.9) == chosen


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ({}, 0),
        ({0: {A}}, 1),
        ({0: {B}}, 2),
        ({0: {C}}, 4),
        ({0: {D}}, 6),
        ({0: {C, D}}, 4),
        ({0: {A, C}}, 1),
        ({0: {A, B}}, 3),
        ({0: {A}, 1: {B}}, 3),
        ({0: {B}, 2: {A}}, 3),
        ({0: {A, B, C}}, 5),
        ({0: {A, C}, 1: {B}}, 5),
        ({0: {C}, 4: {A, B}}, 5),
        ({0: {C}, 4: {A}}, 4),
        ({0: {A}, 1: {B, C}}, 5),
        ({0: {B}, 2: {A, C}}, 5),
        ({0: {A}, 1: {B}, 2: {C}}, 5),  # any of branches 3, 1, 2, once a and b are accepted
        ({0: {A}, 1: {B}, 3: {C}}, 5),
        ({0: {A, B}, 3: {C}}, 3),  # a12 asks for branch 1 or 2, not for branch 0 alone
        ({0: {A, B, C, D}}, 7),
        ({0: {D}, 6: {A, B, C}}, 7),
        ({0: {D}, 6: {A, B}}, 6),
        ({0: {A, D}, 1: {B}, 6: {C}}, 7),
        ({0: {A, D}, 1: {B}, 6: {A}}, 3),
        ({0: {A, D}, 1: {B}, 3: {C}}, 7),
        *[({0: {A}, 1: {B}, 3: {C}} | {i: {D}}, 7) for i in (2, 4, 5)],
        ({0: {A}, 1: {B}, 3: {C, D}}, 7),
        ({0: {A}, 1: {B, D}, 3: {C}}, 7),
        ({0: {A}, 1: {B}, 3: {C}, 6: {D}, 7: {D}}, 5),
        ({0: {A, B, C}, 5: {D}}, 5),
    ],
)
def test_jump_share_branch(taken: dict[int, set[int]], chosen: int) -> None:
    assert jump_share_branch(drafts(4), branches(8, taken), 0.9) == chosen


def test_a_branch_takes_its_most_confident_position_and_only_the_drafted_token() -> None:
    unsure = [{A: Prediction(10, UNSURE), B: Prediction(11, UNSURE - 1)} for _ in range(4)]
    assert accept_jump_branch(drafts(2), unsure, 0.9) == 1
    changed = [{A: Prediction(77, SURE), B: Prediction(11, UNSURE)} for _ in range(4)]
    assert accept_jump_branch(drafts(2), changed, 0.9) == 0


def test_missing_drafts_are_never_accepted() -> None:
    everything = {i: {A, B, C, D} for i in range(8)}
    for count, chosen in [(1, 1), (2, 3), (3, 5), (4, 7)]:
        assert jump_share_branch(drafts(count), branches(8, everything), 0.9) == chosen
    assert accept_jump_branch(drafts(1), branches(4, everything), 0.9) == 1


def test_factor_rule() -> None:
    def accepted(*confidences: float) -> int:
        return len(by_factor({i: Prediction(0, math.log(c)) for i, c in enumerate(confidences)}, 1.0))

    assert accepted(0.1) == 1
    assert accepted(0.1, 0.1, 0.1) == 1  # limits -1, 2/3, 3/4, 4/5
    assert accepted(0.9, 0.7, 0.1, 0.1) == 2
    assert accepted(0.9, 0.9, 0.9, 0.9) == 4
    assert accepted(0.9, 0.9, 0.9, 0.1) == 4  # the very last one is accepted all the same


# ---- the network and every combination, on small checkpoints ---------------------------------------------


@lru_cache(maxsize=4)
def small_network(seed: int, **shape: Any) -> Network:
    checkpoint = small_checkpoint(seed, **shape)
    return Network(checkpoint.weights, checkpoint.config)


@pytest.mark.parametrize("n_active", [None, 40])
def test_predictions_are_those_of_the_whole_softmax(n_active: int | None) -> None:
    """All-zero vocabulary rows are counted, not computed; the mask weighs in but is never predicted."""
    checkpoint = small_checkpoint(5, n_active=n_active, mask=3)
    network = small_network(5, n_active=n_active, mask=3)
    hidden = torch.randn(6, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    head = torch.tensor(checkpoint.weights["model.transformer.ff_out.weight"], dtype=torch.float64)
    logits = network.norm(hidden, network.w["ln_f"]) @ head.T
    for token in (3, *logits.argmax(-1).tolist()):  # any token as the mask, the most likely ones among them
        for row, prediction in zip(logits, network.predict(hidden, token), strict=True):
            best = max((i for i in range(len(row)) if i != token), key=lambda i: (row[i], -i))
            assert prediction.token == best
            assert prediction.log_p == pytest.approx(float(row.log_softmax(-1)[best]), abs=1e-12)


COMBINATIONS = [
    {"cache": cache, "rule": rule, "length": length, "suffix": suffix, "speculation": speculation}
    for cache, rule, length, suffix, speculation in product(
        ("none", "prefix", "dual"),
        ("quota", "threshold", "factor", "dynamic"),
        ("fixed", "adaptive"),
        ("full", "window"),
        ("none", "accept-jump", "jump-share"),
    )
]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: "-".join(c.values()))
def test_every_combination_completes_or_is_refused(combination: dict[str, str]) -> None:
    checkpoint, network = small_checkpoint(11, logit_std=8.0), small_network(11, logit_std=8.0)
    refused = (combination["length"] == "adaptive" and combination["suffix"] == "window") or (
        combination["speculation"] != "none" and (combination["cache"] != "dual" or combination["rule"] != "threshold")
    )
    settings = {"gen_length": 24, "block_length": 8, "steps": 12, "factor": 1.0, "window_size": 4}
    settings |= {"confidence_alpha": 0.3, "patterns": ((int(checkpoint.active[7]),),), "theta": 0.3}
    prompt = checkpoint.prompt(11, 9).tolist()
    if refused:
        with pytest.raises(ValueError, match="needs"):
            generate(network, prompt, **settings, **combination)
        return
    result = generate(network, prompt, **settings, **combination)
    visited = len(result["tokens"]) // 8
    assert checkpoint.config["mask_token_id"] not in result["tokens"]
    assert result["nfe"] == len(result["forward_lengths"])
    assert result["refreshes"] == (0 if combination["cache"] == "none" else visited)
    assert len(result["predicted_lengths"]) == (visited if combination["length"] == "adaptive" else 0)
    assert result["decode_length"] == len(result["tokens"])


def test_steps_must_fit_the_blocks() -> None:
    network = small_network(11, logit_std=8.0)
    for bad in ({"steps": 13}, {"steps": 48}, {"steps": 0}, {"gen_length": 20}):
        with pytest.raises(ValueError, match="multiple"):
            generate(network, [1, 2], **({"gen_length": 24, "block_length": 8} | bad))
