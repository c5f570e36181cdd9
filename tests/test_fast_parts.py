"""What the fast engine is made of: joined weights, buckets, pools and graphs that stay; and who gets it."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import dream_checkpoint, small_checkpoint
from conftest import DEVICE
from test_engine import MASK, branched, canvas, whole

from odb_dllm import DiffusionModel, Generation, InputError, generate, get_setting, load_model
from odb_dllm.arguments import fingerprint, parse
from odb_dllm.benchmarks import resolve
from odb_dllm.contract import Forward
from odb_dllm.engine import Engine, KVCache
from odb_dllm.fast import FastEngine, make_engine
from odb_dllm.fast.bucketed import GRIDS, Bucket, Grid, Shape
from odb_dllm.fast.graphs import Graphs, Recent
from odb_dllm.fast.network import FastNetwork
from odb_dllm.fast.weights import PATHS, join
from odb_dllm.models.llada import LLaDA
from odb_dllm.scheduler import Request, run

SHORT: dict[str, Any] = {"setting": "jump-share", "gen_length": 32, "block_length": 16}


@pytest.fixture
def model(model_of: Any) -> DiffusionModel:
    """Fresh: its engine has neither pools nor graphs."""
    return replace(model_of(small_checkpoint(4, logit_std=6.0), "float32"), engine="fast")


def engine_of(model: DiffusionModel) -> FastEngine:
    engine = make_engine(model)
    assert isinstance(engine, FastEngine)
    return engine


# Weights ------------------------------------------------------------------------------------------


def test_joined_parameters_share_memory_and_stay_what_they_are() -> None:
    parts = [torch.nn.Parameter(torch.randn(rows, 3)) for rows in (4, 2, 5)]
    before = [part.detach().clone() for part in parts]
    joined = join(parts)
    assert torch.equal(joined, torch.cat(before))
    assert all(torch.equal(part, old) for part, old in zip(parts, before, strict=True))
    assert join(parts).data_ptr() == joined.data_ptr()  # and are not joined twice
    with torch.no_grad():
        parts[1].fill_(7)
    assert (joined[4:6] == 7).all()
    assert parts[0].requires_grad


@pytest.mark.parametrize("checkpoint", [small_checkpoint(3), dream_checkpoint(3)], ids=["llada", "dream"])
def test_a_network_is_held_once(checkpoint: Any, model_of: Any) -> None:
    network = model_of(checkpoint, "float32").network
    tokens = torch.arange(8, device=DEVICE)
    before = network(tokens, tokens)
    sizes = {id(p): p.numel() for p in network.parameters()}
    fast = FastNetwork(network)
    assert {id(p): p.numel() for p in network.parameters()} == sizes
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in network.parameters()}
    assert sum(held.values()) == 4 * sum(sizes.values())
    assert all(layer.qkv.untyped_storage().data_ptr() in held for layer in fast.layers)
    assert torch.equal(network(tokens, tokens), before)


def test_rotary_tables_are_those_of_the_network(model: DiffusionModel) -> None:
    from odb_dllm.models.layers import rotary_table

    network = FastNetwork(model.network)
    cos, sin = network.rotary(5000)
    assert len(cos) >= 5000
    at = torch.tensor([0, 17, 4999], device=DEVICE)
    expected = rotary_table(at, model.network.config.head, model.network.config.rope_theta)
    assert torch.equal(cos[at], expected[0][0])
    assert torch.equal(sin[at], expected[1][0])
    assert network.rotary(100)[0] is cos


# Buckets ------------------------------------------------------------------------------------------


def asked(count: int, tokens: int, cached: int, targets: int) -> Any:
    numbers = np.zeros(tokens, np.int64)
    forward = Forward("step", numbers, numbers, np.zeros((targets, 2), np.int64), 0, sees=((0, cached),))
    return [(None, forward)] * count


@pytest.mark.parametrize(
    ("count", "tokens", "cached", "targets", "shape"),
    [
        (1, 32, 300, 5, Shape(1, 32, 32)),
        (1, 128, 1024, 100, Shape(1, 128, 128)),
        (1, 151, 1025, 130, Shape(1, 160, 160)),
        (1, 16, 0, 1, Shape(1, 32, 32)),
        (5, 32, 2000, 20, Shape(6, 32, 192)),
        (8, 128, 2000, 100, Shape(8, 128, 1024)),
    ],
)
def test_buckets_on_a_gpu(count: int, tokens: int, cached: int, targets: int, shape: Shape) -> None:
    assert GRIDS["cuda"].shape(asked(count, tokens, cached, targets)) == shape


def test_a_bucket_holds_what_it_is_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count, tokens, cached = (int(rng.integers(1, most)) for most in (40, 385, 5000))
        targets = int(rng.integers(0, 2 * tokens))
        for grid in (*GRIDS.values(), Grid(1, 0, 1)):
            shape = grid.shape(asked(count, tokens, cached, targets))
            assert count <= shape.batch <= 2 * count
            assert tokens <= shape.width < tokens + grid.width
            assert shape.read >= count * targets


def test_the_coarse_buckets_of_a_gpu_change_nothing(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate(model, [1, 2, 3], **SHORT)
    monkeypatch.setattr(engine_of(model), "_grid", GRIDS["cuda"])
    assert generate(model, [1, 2, 3], **SHORT).tokens == expected.tokens


def test_a_partial_refresh_with_its_question_fits_a_bucket(model: DiffusionModel) -> None:
    """96 tokens of the prompt and a canvas of 256: by itself, each launch of so small a forward would be waited for."""
    prompt, setting = [1 + i % 40 for i in range(120)], {"setting": "odb-turbo", "length": "fixed", "gen_length": 256}
    expected = generate(replace(model, engine="plain"), prompt, **setting)
    made = generate(model, prompt, **setting)
    assert made.tokens == expected.tokens
    assert 96 + 256 in made.forward_lengths
    assert max(shape.width for _, shape, _ in engine_of(model)._buckets._kept) == 96 + 256


def test_buckets_are_few_and_the_oldest_goes(model: DiffusionModel) -> None:
    expected = generate(replace(model, engine="plain"), [1, 2, 3], **SHORT)
    engine = engine_of(model)
    generate(model, [1, 2, 3], **SHORT)
    assert len(engine._buckets) > 2
    engine._buckets.drop()
    engine._buckets.limit = 2
    assert generate(model, [1, 2, 3], **SHORT).tokens == expected.tokens
    assert len(engine._buckets) == 2


def test_recent_things() -> None:
    recent, made = Recent[str](2), []

    def make(name: str) -> str:
        made.append(name)
        return name

    for name in "abacab":
        assert recent.get(name, lambda name=name: make(name)) == name  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]
    recent.drop(lambda key: key == "a")
    assert len(recent) == 1


def test_padding_does_not_depend_on_what_a_bucket_held_before(model: DiffusionModel) -> None:
    """A long forward, a short one in the same bucket, and the short one in a new engine."""
    made = []
    for first in (True, False):
        engine = engine_of(replace(model))
        engine._grid = GRIDS["cuda"]
        cache = engine.open(64)
        engine.answer([(cache, whole(canvas(), 10, store=(0, 24)))])
        if first:
            engine.answer([(cache, branched([np.arange(4)] * 7 + [np.full(4, MASK)], np.arange(32) < 4))])
        made.append(engine.answer([(cache, branched([np.array([5, 6, MASK, MASK])]))])[0])
    assert np.array_equal(made[0].log_confidence, made[1].log_confidence)


# Pools --------------------------------------------------------------------------------------------


def test_pools_and_buckets_outlive_a_generation(model: DiffusionModel) -> None:
    engine = engine_of(model)
    generate(model, [1, 2, 3], **SHORT)
    made = set(engine._buckets._kept.values())
    assert made
    generate(model, [1, 2, 3], **SHORT)
    assert set(engine._buckets._kept.values()) == made
    generate(model, [1, 2, 3, 4, 5], **SHORT)  # a little longer: still the same pool
    assert set(engine._buckets._kept.values()) >= made
    assert len(engine._pools._idle) == 1


def test_a_longer_canvas_takes_a_larger_pool_and_new_buckets(model: DiffusionModel) -> None:
    engine = engine_of(model)
    generate(model, [1, 2, 3], **SHORT)
    old = [weakref.ref(bucket) for bucket in engine._buckets._kept.values()]
    assert old
    long = [1 + i % 200 for i in range(900)]
    expected = generate(replace(model, engine="plain"), long, **SHORT)
    assert generate(model, long, **SHORT).tokens == expected.tokens
    assert not any(bucket() for bucket in old)  # and the memory that they knew is free
    assert len(engine._pools._idle) == 1
    assert engine._pools._idle[0][0].shape[3] >= 900 + 32
    generate(model, [1, 2, 3], **SHORT)  # which the larger one serves too
    assert len(engine._pools._idle) == 1


def test_caches_that_are_open_together_are_apart(model: DiffusionModel) -> None:
    engine = engine_of(model)
    first, second = engine.open(40), engine.open(40)
    assert first.pool.keys is not second.pool.keys
    pools = {id(first.pool.keys), id(second.pool.keys)}
    first.close()
    del first, second
    third, fourth = engine.open(40), engine.open(40)
    assert {id(third.pool.keys), id(fourth.pool.keys)} == pools


def test_what_was_given_up_is_cleared_before_it_is_lent_again(model: DiffusionModel) -> None:
    engine = engine_of(model)
    cache: KVCache | None = engine.open(40)
    assert cache is not None
    cache.pool.keys.fill_(float("nan"))
    cache = None  # never closed, as a generation that was abandoned
    again = engine.open(40)
    assert torch.isfinite(again.pool.keys).all()


def test_a_pool_made_in_inference_mode_can_be_cleared_outside(model: DiffusionModel) -> None:
    engine = engine_of(model)
    with torch.inference_mode():
        cache = engine.open(40)
    cache.close()
    assert engine.open(40).stored == 0


def test_memory_that_runs_out_gives_up_what_is_kept(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forward of several sequences: fewer go on, on a smaller pool, and nothing of the larger one stays."""
    setting, stop = resolve(model, get_setting(**{"gen_length": 32, "block_length": 16, "setting": "jump-share"}))
    requests = [Request([1 + i, 2, 3], setting, stop, i) for i in range(4)]
    expected = [each.tokens for _, each in sorted(run(replace(model, engine="plain"), requests))]
    engine, forward = engine_of(model), Bucket._forward

    def tight(self: Bucket) -> None:
        if self.shape.batch > 2:
            raise torch.OutOfMemoryError("no room")
        forward(self)

    monkeypatch.setattr(Bucket, "_forward", tight)
    made = [each.tokens for _, each in sorted(run(model, requests, batch_size=4))]
    assert made == expected
    assert [keys.shape[1] for keys, _ in engine._pools._idle] == [2]
    assert {key[0] for key in engine._buckets._kept} == {id(engine._pools._idle[0][0])}  # type: ignore[index]


def test_release_gives_up_everything(model: DiffusionModel) -> None:
    engine = engine_of(model)
    generate(model, [1, 2, 3], **SHORT)
    cache = engine.open(40)
    engine.release()
    assert len(engine._buckets) == len(engine._pools._idle) == 0
    engine.answer([(cache, whole(canvas(), 10, store=(0, 24)))])  # which still works on what is lent
    del cache
    assert not engine._pools._idle


# Captures -----------------------------------------------------------------------------------------


def test_capturing_is_charged_to_no_generation(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that takes its time, counted by the graphs' own clock."""
    plain_prepare = Graphs.prepare

    def slow(self: Graphs, function: Any) -> Any:
        self.seconds += 1000.0
        return plain_prepare(self, function)

    monkeypatch.setattr(Graphs, "prepare", slow)
    setting, stop = resolve(model, get_setting("jump-share", gen_length=32, block_length=16))
    ((_, made),) = run(model, [Request([1, 2, 3], setting, stop)])
    assert isinstance(made, Generation)
    buckets = len(engine_of(model)._buckets)
    assert buckets > 0
    assert model.capture_seconds == pytest.approx(1000.0 * buckets, rel=0.05)
    # No time has passed, so that the generation's clock stands far behind.
    assert made.latency < 0
    assert sum(made.forward_seconds) < 0


@pytest.mark.skipif(DEVICE == "cpu", reason="graphs are captured on CUDA alone (ODB_DLLM_TEST_DEVICE=cuda)")
def test_a_second_generation_captures_nothing(model: DiffusionModel) -> None:
    first = generate(model, [1, 2, 3], **SHORT)
    taken = model.capture_seconds
    assert taken > 0
    assert generate(model, [1, 2, 3], **SHORT).tokens == first.tokens
    assert model.capture_seconds == taken


# Who gets it --------------------------------------------------------------------------------------


def test_auto_is_fast_on_a_gpu(model: DiffusionModel) -> None:
    assert isinstance(make_engine(replace(model, engine="auto")), FastEngine) == (DEVICE != "cpu")
    assert type(make_engine(replace(model, engine="plain"))) is Engine
    assert make_engine(model) is make_engine(model)
    assert make_engine(replace(model)) is not make_engine(model)


def test_a_model_that_is_dropped_takes_its_engine_along(model_of: Any) -> None:
    """At once, without waiting for the garbage collector: it holds gigabytes."""
    model = replace(model_of(small_checkpoint(4, logit_std=6.0), "float32"), engine="fast")
    generate(model, [1, 2, 3], **SHORT)
    engine, network = weakref.ref(make_engine(model)), weakref.ref(model.network)
    gc.disable()
    try:
        del model
        assert engine() is None
        assert network() is None
    finally:
        gc.enable()


class Other(LLaDA):
    """A family that computes something of its own."""

    def forward(self, *args: Any, **more: Any) -> Any:
        return super().forward(*args, **more)


def test_networks_that_cannot_be_run_are_refused(model: DiffusionModel) -> None:
    other = Other(model.network.config)
    with pytest.raises(InputError, match="Other does not say which of its parts is which; engine=plain can"):
        make_engine(replace(model, network=other))
    assert type(make_engine(replace(model, network=other, engine="auto"))) is Engine
    other.paths = PATHS[LLaDA]  # type: ignore[assignment]
    assert isinstance(make_engine(replace(model, network=other)), FastEngine)
    low = LLaDA(replace(model.network.config, rope_full_precision=False))
    with pytest.raises(InputError, match="less than float32"):
        make_engine(replace(model, network=low))


def test_the_engine_is_an_argument() -> None:
    assert load_model("tiny", device="cpu", engine="FAST").engine == "fast"
    with pytest.raises(InputError, match="Unknown engine 'fats': did you mean 'fast'"):
        load_model("tiny", engine="fats")
    given = parse({"pretrained": "tiny", "engine": "fast"})
    assert given.engine == "fast"
    assert parse({"pretrained": "tiny"}).engine == "auto"
    facts = {"device": "cpu", "dtype": "float32", "digest": "", "version": ""}
    assert fingerprint(given, **facts) != fingerprint(replace(given, engine="plain"), **facts)
    with pytest.raises(InputError, match="Unknown engine"):
        parse({"pretrained": "tiny", "engine": "quick"})
