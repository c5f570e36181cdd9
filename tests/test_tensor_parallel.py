"""One model over several processes: the tokens of one process alone, and no process that stays behind."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import broken_loads
import pytest
import test_goldens
import test_goldens_dream
import torch
from checkpoints import Checkpoint, dream_checkpoint, small_checkpoint
from conftest import DEVICE

from odb_dllm import DiffusionModel, Event, Generation, InputError, NonFiniteLogits, generate, load_model
from odb_dllm.arguments import fingerprint, parse
from odb_dllm.engine import Engine, Pool
from odb_dllm.likelihood import log_likelihood
from odb_dllm.lm_eval_model import ODBDiffusionLM
from odb_dllm.models.loading import blank_network
from odb_dllm.presets import get_setting
from odb_dllm.scheduler import Request, run
from odb_dllm.stopping import StopRule
from odb_dllm.tensor_parallel.group import Group, check_machine

pytestmark = pytest.mark.skipif(
    DEVICE != "cpu" and torch.cuda.device_count() < 2, reason="two ranks need two GPUs, and there are fewer"
)
QUESTION = "Question: Paul has 3 apples and buys 4 more. How many apples does Paul have?\nAnswer:"
SHARED: dict[str, Any] = {"device": DEVICE, "dtype": "float32", "tensor_parallel": 2}


@pytest.fixture(scope="module")
def alone() -> DiffusionModel:
    return load_model("tiny", device=DEVICE, dtype="float32")


@pytest.fixture(scope="module")
def shared() -> Iterator[DiffusionModel]:
    """The embedded model, whose 8 heads two ranks share."""
    model = load_model("tiny", **SHARED)
    yield model
    model.close()


@pytest.fixture
def prompt(alone: DiffusionModel) -> list[int]:
    assert alone.tokenizer is not None
    return list(alone.tokenizer.encode(QUESTION))


def followers(model: DiffusionModel) -> list[int]:
    """Process ids."""
    assert model.group is not None
    return [follower.process.pid for follower in model.group.followers]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition: Any, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


# Same tokens --------------------------------------------------------------------------------------

LLADA_GOLDENS = [(test_goldens, "float32", case) for case in test_goldens.CASES if case["seed"] in (14, 21, 30)]
DREAM_GOLDENS = [(test_goldens_dream, "float64", c) for c in test_goldens_dream.CASES if c["seed"] in (3, 21)]


@pytest.mark.parametrize(
    ("goldens", "dtype", "case"),
    LLADA_GOLDENS + DREAM_GOLDENS,
    ids=lambda value: value["seed"] if isinstance(value, dict) else getattr(value, "__name__", value),
)
def test_goldens_of_two_ranks(goldens: Any, dtype: str, case: dict[str, Any], tmp_path: Path) -> None:
    made = []

    def model_of(checkpoint: Checkpoint, dtype: str) -> DiffusionModel:
        made.append(load_model(checkpoint.write(tmp_path), **SHARED | {"dtype": dtype}))
        return made[0]

    goldens.test_golden(case, dtype, model_of)
    made[0].close()


@pytest.mark.parametrize(
    "options",
    [
        {"setting": "jump-share", "task": "gsm8k"},
        {"setting": "accept-jump"},
        {"setting": "streaming"},
        {"setting": "prefix-cache-parallel", "block_length": 16},
        {"setting": "dream_baseline", "alg": "entropy", "temperature": 0.5, "top_p": 0.9, "seed": 3, "steps": 16},
        {"setting": "parallel", "cfg_scale": 0.5},
    ],
    ids=lambda options: options["setting"],
)
def test_the_embedded_model_says_the_same(
    options: dict[str, Any], alone: DiffusionModel, shared: DiffusionModel, prompt: list[int]
) -> None:
    expected, made = (generate(model, prompt, **{"gen_length": 64} | options) for model in (alone, shared))
    assert made.tokens == expected.tokens
    assert made.forward_lengths == expected.forward_lengths


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_batches(
    engine: str, alone: DiffusionModel, shared: DiffusionModel, prompt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        Request(prompt[: 4 + 5 * i], get_setting(name, gen_length=32), StopRule((), (1,)), i)
        for i, name in enumerate(("jump-share", "fast_dllm_baseline", "alp", "jump-share", "parallel"))
    ]
    texts = []
    for model in (alone, shared):
        monkeypatch.setattr(model, "engine", engine)
        results = dict(run(model, requests, batch_size=3))
        assert all(isinstance(each, Generation) for each in results.values())
        texts.append([results[i].tokens for i in range(5)])  # type: ignore[union-attr]
    assert texts[0] == texts[1]


def test_likelihoods(alone: DiffusionModel, shared: DiffusionModel, prompt: list[int]) -> None:
    (expected, greedy), made = (log_likelihood(model, prompt, [40, 41, 42], mc_num=8) for model in (alone, shared))
    assert made == (pytest.approx(expected, rel=1e-5), greedy)


def test_a_failed_sequence_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    """NaN in a row of any rank's cache would spoil the next sequence that gets it."""
    checkpoint = small_checkpoint(1)
    weights = {name: array.copy() for name, array in checkpoint.weights.items()}
    weights["model.transformer.wte.weight"][5] = float("nan")
    folder = Checkpoint(checkpoint.config, weights, checkpoint.active, checkpoint.special).write(tmp_path)
    setting, stop = get_setting("fast_dllm_baseline", gen_length=32), StopRule((), (255,))
    requests = [Request([1, 2, 3, *more], setting, stop) for more in ([5], [])]
    texts = []
    for model in (load_model(folder, device=DEVICE, dtype="float32"), load_model(folder, **SHARED)):
        results = dict(run(model, requests))
        assert isinstance(results[0], NonFiniteLogits)
        assert isinstance(results[1], Generation)
        texts.append(results[1].tokens)
        model.close()
    assert texts[0] == texts[1]


# Ends ---------------------------------------------------------------------------------------------


def test_closing_ends_the_followers(tmp_path: Path) -> None:
    model = load_model(small_checkpoint(1).write(tmp_path), **SHARED)
    (pid,) = followers(model)
    assert is_running(pid)
    generate(model, [1, 2, 3], gen_length=32)
    folder = model.group.peers.folder
    assert folder.is_dir()
    model.close()
    assert not is_running(pid)
    assert not folder.exists()
    model.close()
    with pytest.raises(InputError, match="was closed"):
        generate(model, [1, 2, 3], gen_length=32)


def test_closing_gives_up_graphs(tmp_path: Path) -> None:
    """NCCL waits with leaving for the last graph that holds a sum of it."""
    model = load_model(small_checkpoint(1).write(tmp_path), **SHARED)
    model.engine = "fast"
    generate(model, [1, 2, 3], gen_length=32)
    buckets = model.group.local.fast_engine._buckets
    assert len(buckets) > 0
    model.close()
    assert len(buckets) == 0


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_a_model_that_is_forgotten_ends_its_followers(engine: str, tmp_path: Path) -> None:
    model = load_model(small_checkpoint(1).write(tmp_path), **SHARED)
    model.engine = engine
    generate(model, [1, 2, 3], gen_length=32)
    (pid,) = followers(model)
    del model
    gc.collect()
    assert not is_running(pid)


@pytest.mark.parametrize("after", [None, 3])
def test_a_killed_follower_is_one_sentence(after: int | None, tmp_path: Path) -> None:
    model = load_model(small_checkpoint(1).write(tmp_path), **SHARED)
    (pid,) = followers(model)

    def watch(event: Event) -> None:
        if event.forward == after:
            os.kill(pid, signal.SIGKILL)

    if after is None:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(
        InputError, match=r"Rank 1 of 2 that share .* was ended by SIGKILL: load the model again"
    ) as error:
        generate(model, [1, 2, 3], gen_length=64, setting="llada_baseline", on_event=watch)
    assert "\n" not in str(error.value)
    assert not is_running(pid)
    with pytest.raises(InputError, match="load the model again"):
        generate(model, [1, 2, 3], gen_length=32)


def test_a_follower_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"Rank 1 of 2 that share .* ended with exit code 1"):
        load_model(small_checkpoint(1).write(tmp_path), **SHARED)


def test_a_follower_that_cannot_load_says_why(tmp_path: Path) -> None:
    model = load_model(small_checkpoint(1).write(tmp_path), device=DEVICE)
    with pytest.raises(InputError, match=r"^The disk of this rank is gone\.$"):
        Group.start(model, 2, broken_loads.nothing)


def test_a_follower_whose_forward_fails_says_why(tmp_path: Path) -> None:
    whole = load_model(small_checkpoint(1).write(tmp_path), device=DEVICE, dtype="float32")
    model = replace(whole, network=blank_network(whole.config), engine="plain")
    model.group = Group.start(model, 2, broken_loads.wrong_norm)
    with pytest.raises(InputError, match=r"Rank 1 of 2 failed: RuntimeError.*size of tensor"):
        generate(model, [1, 2, 3], gen_length=32)


def test_too_little_memory_for_caches(
    shared: DiffusionModel, alone: DiffusionModel, prompt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks give the caches up, and fewer generations run at a time."""
    pool, asked = Engine.pool, []

    def scarce(engine: Engine, rows: int, slots: int) -> Pool:
        asked.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError
        return pool(engine, rows, slots)

    setting, stop = get_setting("jump-share", gen_length=32), StopRule((), (1,))
    requests = [Request(prompt[: 9 + i], setting, stop, i) for i in range(4)]
    expected = dict(run(alone, requests))
    monkeypatch.setattr(Engine, "pool", scarce)
    monkeypatch.setattr(shared, "engine", "plain")
    results = dict(run(shared, requests, batch_size=4))
    assert asked == [4, 2]
    assert [results[i].tokens for i in range(4)] == [expected[i].tokens for i in range(4)]  # type: ignore[union-attr]


def test_too_little_memory_in_a_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(small_checkpoint(1).write(tmp_path), **SHARED)

    model.engine = "plain"

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Engine, "_score", fail)
    with pytest.raises(InputError, match=f"Memory on {DEVICE} does not suffice for its part of a model that 2 ranks"):
        generate(model, [1, 2, 3], gen_length=32)


RANK_0 = """
import sys
from odb_dllm import generate, load_model
model = load_model(sys.argv[1], device=sys.argv[2], dtype="float32", tensor_parallel=3)
print(*[follower.process.pid for follower in model.group.followers], model.group.peers.folder, flush=True)
if sys.argv[3] == "busy":
    while True:
        generate(model, [1, 2, 3], gen_length=256, setting="llada_baseline")
"""


@pytest.mark.parametrize(("state", "number"), [("busy", signal.SIGKILL), ("ends", None)])
def test_no_follower_outlives_rank_0(state: str, number: signal.Signals | None, tmp_path: Path) -> None:
    if DEVICE != "cpu":
        pytest.skip("three ranks on the CPU say enough")
    folder = small_checkpoint(1).write(tmp_path)
    command = [sys.executable, "-c", RANK_0, str(folder), DEVICE, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rank_0:
        assert rank_0.stdout is not None
        *pids, meeting = rank_0.stdout.readline().split()
        assert len(pids) == 2
        if number is not None:
            time.sleep(0.3)  # somewhere in a forward
            rank_0.send_signal(number)
        assert rank_0.wait(60) == (0 if number is None else -number)
    assert wait_for(lambda: not any(is_running(int(pid)) for pid in pids))
    assert not Path(meeting).exists()


def test_an_interrupt_leaves_the_ranks_in_step(
    shared: DiffusionModel, alone: DiffusionModel, prompt: list[int]
) -> None:
    """Ctrl-C waits for the end of a forward: the next one finds both ranks where they were."""
    stopped = 0
    for delay in (0.05, 0.11, 0.17, 0.23):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                generate(shared, prompt, gen_length=64, setting="llada_baseline")
        except KeyboardInterrupt:
            stopped += 1
    assert stopped == 4
    expected, made = (generate(model, prompt, gen_length=64) for model in (alone, shared))
    assert made.tokens == expected.tokens


def test_the_network_alone_is_refused(shared: DiffusionModel) -> None:
    """Else it would wait for a follower that waits for a call."""
    with pytest.raises(RuntimeError, match="the other ranks take part in what engine_of"):
        shared.network(torch.zeros(4, dtype=torch.long, device=DEVICE), torch.arange(4, device=DEVICE))


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        (0, "tensor_parallel must be a whole number of at least 1, not 0"),
        (-2, "whole number"),
        (1.5, "whole number"),
        (True, "whole number"),
        ("2", "whole number"),
        (5, "tensor_parallel=5 exceeds the model's 4 attention heads"),
        (3, "at most the model's 2 key-value heads, or a multiple of them"),
    ],
)
def test_refusals_before_any_weight_is_read(ranks: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dream_checkpoint(1).config))  # and no weights
    with pytest.raises(InputError, match=words) as caught:
        load_model(tmp_path, device="cpu", tensor_parallel=ranks)
    assert "\n" not in str(caught.value)


def test_other_launchers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE=2 says that a launcher has started several"):
        load_model("tiny", device="cpu", tensor_parallel=2)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    check_machine(2, torch.device("cuda", 1))
    with pytest.raises(InputError, match="needs the GPUs cuda:1 to cuda:3, and 3 are usable"):
        check_machine(3, torch.device("cuda", 1))
    with pytest.raises(InputError, match="needs the GPUs cuda:0 to cuda:3"):
        check_machine(4, torch.device("cuda", 0))


def test_model_arguments() -> None:
    arguments = parse({"pretrained": "tiny", "tensor_parallel": "2"})
    assert arguments.tensor_parallel == 2
    about: dict[str, Any] = {"device": "cpu", "dtype": "float32", "digest": "x", "version": "1"}
    assert fingerprint(arguments, **about) != fingerprint(parse({"pretrained": "tiny"}), **about)
    for value in ("0", "two", "1.5", "None"):
        with pytest.raises(InputError, match="tensor_parallel must be a whole number of at least 1"):
            parse({"pretrained": "tiny", "tensor_parallel": value})


def test_the_adapter_loads_and_tells_it(prompt: list[int], alone: DiffusionModel) -> None:
    with pytest.raises(InputError, match="tensor_parallel=9 exceeds"):
        ODBDiffusionLM(pretrained="tiny", device="cpu", tensor_parallel=9)
    adapter = ODBDiffusionLM(pretrained="tiny", device=DEVICE, dtype="float32", tensor_parallel=2)
    assert adapter.get_model_info()["odb_dllm"]["tensor_parallel"] == 2
    assert len(followers(adapter.model)) == 1
    assert generate(adapter.model, prompt, gen_length=32).tokens == generate(alone, prompt, gen_length=32).tokens
    adapter.model.close()
