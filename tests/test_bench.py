"""odb-dllm bench, small, on the CPU; what it measures must be what the engine runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from odb_dllm import DiffusionModel, InputError, bench, generate
from odb_dllm.bench.batches import measure_batch
from odb_dllm.bench.forwards import STEPS, floor, refresh, step, time_forward
from odb_dllm.bench.generations import few_shot_prompt, measure_run, read_schedule, replay
from odb_dllm.engine import Engine
from odb_dllm.traces import encode, make_trace


@pytest.mark.parametrize("tokens", STEPS)
def test_steps_are_those_of_the_settings(tiny: DiffusionModel, tokens: int) -> None:
    """As many tokens and branches as a setting's step feeds, each seeing the cache."""
    forward, slots = step(tiny, tokens, 64)
    branches = {32: 1, 128: 4, 151: 8}[tokens]
    assert len(forward) == tokens
    assert forward.branch is None if branches == 1 else len(np.unique(forward.branch)) == branches
    assert (forward.shared is not None) == (tokens == 151)
    timing = time_forward(Engine(tiny), forward, slots, repeats=1)
    assert (timing.kind, timing.tokens, timing.cache) == ("step", tokens, 64)
    assert timing.ratio > 0


def test_a_floor_grows_with_its_tokens(tiny: DiffusionModel) -> None:
    assert 0 < floor(tiny, 1, 1) < floor(tiny, 512, 32)


def test_runs_that_fill_the_canvas_and_runs_that_end(tiny: DiffusionModel) -> None:
    assert tiny.tokenizer is not None
    prompt = tiny.tokenizer.encode(
        "Question: Tom has 3 apples and buys 4 more. How many apples does Tom have?\nAnswer:"
    )
    full, short = (measure_run(tiny, prompt, "alp", 128, fills=fills) for fills in (True, False))
    assert (full.tokens, full.refreshes) == (128, 4)
    assert short.tokens < 96
    assert short.refreshes < 4
    assert 0 <= full.host < full.seconds
    assert sum(full.fed) > sum(short.fed)


def test_the_prompt_has_examples_and_a_long_answer(tiny: DiffusionModel) -> None:
    """The length prediction fires, and the answer takes several blocks and steps."""
    prompt = few_shot_prompt(tiny, 600)
    assert len(prompt) == 600
    text = tiny.tokenizer.decode(prompt)
    assert text.count("Question:") == 6
    made = measure_run(tiny, prompt, "alp", 512, fills=False)
    assert 128 < made.tokens < 224
    assert 4 <= made.refreshes < made.nfe
    assert len(few_shot_prompt(tiny, 100)) == 100


def test_a_schedule_is_run_again(tiny: DiffusionModel, tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text('[{"kind": "refresh", "tokens": 96}, {"kind": "step", "tokens": 128, "cache": 64}]')
    assert [(t.kind, t.tokens, t.cache) for t in replay(tiny, read_schedule(path))] == [
        ("refresh", 96, 0),
        ("step", 128, 64),
    ]
    for text, said in (
        ("{", "is no schedule"),
        ('[{"kind": "refresh"}]', "is no schedule"),
        ('[{"kind": "step", "tokens": 33}]', "holds a step of 33 tokens"),
        ('[{"kind": "step", "tokens": 312}]', "holds a step of 312 tokens"),
        ('[{"kind": "step", "tokens": 32, "cache": 10000000000}]', "behind 10000000000"),
        ('[{"kind": "step", "tokens": 32.0}]', "holds a step of 32.0 tokens"),
        ('[{"kind": "refresh", "tokens": 9000}]', "holds a refresh of 9000"),
        ("[]", "is no schedule"),
        ("[" * 100_000, "is no schedule"),
        ('[{"kind": "leap", "tokens": 32}]', "holds a leap"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_schedule(path)
    for name in ("none.json", "none.traces.gz"):
        with pytest.raises(InputError, match="cannot be read"):
            read_schedule(tmp_path / name)


def test_a_traced_sample_is_run_again(tiny: DiffusionModel, tmp_path: Path) -> None:
    assert tiny.tokenizer is not None
    prompt = tiny.tokenizer.encode("Question: what?\nAnswer:")
    made = generate(tiny, prompt, setting="jump-share", gen_length=64, threshold=1.0)
    path = tmp_path / "statistics_x.traces.gz"
    path.write_bytes(encode(make_trace((None, None, 0, 0), made, prompt_tokens=len(prompt))))
    timings = replay(tiny, read_schedule(path))
    assert [t.tokens for t in timings] == made.forward_lengths
    assert {t.kind for t in timings} == {"refresh", "step"}


def test_a_batch_is_as_many_generations(tiny: DiffusionModel) -> None:
    prompt = few_shot_prompt(tiny, 90)
    one, three = (measure_batch(tiny, prompt, "fast_dllm_baseline", 64, size) for size in (1, 3))
    assert (one.size, three.size) == (1, 3)
    assert three.tokens == 3 * one.tokens == 3 * 64
    assert three.refreshes == 3 * one.refreshes == 6
    assert 0 < three.refresh_seconds + three.step_seconds <= three.seconds
    assert three.samples_per_second == 3 / three.seconds


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    words = ["--device", "cpu", "--settings", "jump-share", "--engine", "fast", "--batches", "1,2", "--out", str(path)]
    assert bench.main(words) == 0
    said, written = capsys.readouterr().out, json.loads(path.read_text())
    assert "step (jump-share)" in said
    assert {run["answer"] for run in written["generations"]} == {"fills", "ends"}
    assert written["machine"]["copy_bytes_per_second"] > 0
    assert written["first_token_seconds"] > written["ready_seconds"] > 0  # a process begins before it loads a model
    assert (written["engine"], written["capture_seconds"]) == ("fast", 0.0)  # as there are no graphs on the CPU
    assert all(each["seconds"] > 0 for each in written["forwards"])
    assert [each["size"] for each in written["batches"]] == [1, 2]
    assert (tmp_path / "bench_roofline.pdf").read_bytes().startswith(b"%PDF")


def test_bad_input_comes_before_any_measuring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jump-share"):
        bench.main(["--device", "cpu", "--settings", "jump-shore"])
    for out in (tmp_path / "no" / "where.json", tmp_path):
        with pytest.raises(InputError, match="cannot be a file"):
            bench.main(["--device", "cpu", "--out", str(out)])
    with pytest.raises(InputError, match="--batches takes whole numbers"):
        bench.main(["--device", "cpu", "--batches", "1,x"])
    with pytest.raises(InputError, match="--shape 8b"):
        bench.main(["--device", "cpu", "--dense"])


def test_a_refresh_wants_one_block(tiny: DiffusionModel) -> None:
    forward, slots = refresh(tiny, 100)
    assert (len(forward), len(forward.targets), slots) == (100, 32, 100)


def test_switches_of_all_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--setting_args`` makes a generation of as many steps as are wanted."""
    path = tmp_path / "bench.json"
    words = [
        "--device",
        "cpu",
        "--settings",
        "dual-cache",
        "--setting_args",
        "gen_length=64,steps=16",
        "--out",
        str(path),
    ]
    assert bench.main(words) == 0
    assert [each["nfe"] for each in json.loads(path.read_text())["generations"]] == [16, 16]
    with pytest.raises(InputError, match=r"--setting_args takes fields and values, .* not 'steps'"):
        bench.main(["--setting_args", "steps"])
    with pytest.raises(InputError, match="Unknown setting field 'stepps'"):
        bench.main(["--setting_args", "stepps=3"])


@pytest.mark.parametrize("count", ["0", "-2"])
def test_processes_are_counted_from_one(count: str) -> None:
    with pytest.raises(InputError, match=f"--tensor_parallel must be a whole number of at least 1, not {count}"):
        bench.main(["--tensor_parallel", count, "--device", "nosuch"])  # refused before the device is looked at
