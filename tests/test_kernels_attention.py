"""Attention over a pool of keys and values, against sums over who sees what, token by token, in float64."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import DEVICE
from kernels import NO_TRITON, assert_near, both, each_dtype, generator, ints, module, random
from torch import Tensor

from odb_dllm.kernels import RANGES, View

Range = tuple[int, int]


@dataclass(frozen=True)
class Fed:
    """A sequence of a batch."""

    row: int
    ranges: tuple[Range, ...]
    slots: tuple[int, ...]
    branch: tuple[int, ...] = ()  # (): all 0
    shared: tuple[int, ...] = ()  # (): none

    def __len__(self) -> int:
        return len(self.slots)

    def sees(self, token: int) -> list[int]:
        """Slots that a fed token sees."""
        branch, shared = self.branch or [0] * len(self), self.shared or [0] * len(self)
        fed = [self.slots[j] for j in range(len(self)) if branch[j] == branch[token] or shared[j]]
        return [slot for first, last in self.ranges for slot in range(first, last)] + fed


def plain_step(row: int, prompt: int, block: int, suffix: int) -> Fed:
    """A step of a dual cache: everything before and after the block is cached, the block takes its true slots."""
    end = prompt + block
    return Fed(row, ((0, prompt), (end, end + suffix)), tuple(range(prompt, end)))


def jump_share(row: int, prompt: int, masked: int, suffix: int) -> Fed:
    """Eight branches of a block of 32: branch 0 feeds it all and lends what is decided, the others their masks."""
    branch = [0] * 32 + [each for each in range(1, 8) for _ in range(masked)]
    decided = [1] * (32 - masked) + [0] * masked * 8
    end = prompt + 32 + suffix
    return Fed(
        row, ((0, prompt), (prompt + 32, end)), tuple(range(end, end + len(branch))), tuple(branch), tuple(decided)
    )


def accept_jump(row: int, prompt: int, block: int) -> Fed:
    """Four branches that each feed the whole block."""
    branch = tuple(each for each in range(4) for _ in range(block))
    return Fed(row, ((0, prompt),), tuple(range(prompt, prompt + 4 * block)), branch)


def view_of(batch: list[Fed], max_cached: int = 300) -> View:
    width = max(map(len, batch))

    def padded(values: tuple[int, ...], fill: int) -> list[int]:
        return [*values, *[fill] * (width - len(values))]

    return View(
        rows=ints([each.row for each in batch]),
        ranges=ints([[*each.ranges, *[(0, 0)] * (RANGES - len(each.ranges))] for each in batch]),
        fed=ints([padded(each.slots, -1) for each in batch]),
        branch=ints([padded(each.branch, 0) for each in batch]),
        shared=ints([padded(each.shared, 0) for each in batch]),
        max_cached=max_cached,
    )


def truth_of(q: Tensor, keys: Tensor, values: Tensor, batch: list[Fed]) -> Tensor:
    """float64 [b * w, H * h]; zeros for padding."""
    _, heads, head = q.shape
    width, group = max(map(len, batch)), heads // keys.shape[1]
    out = torch.zeros(len(batch), width, heads, head, dtype=torch.float64, device=q.device)
    wide_q = q.double().unflatten(0, (len(batch), width))
    for i, fed in enumerate(batch):
        k, v = (part[fed.row].double().repeat_interleave(group, dim=0) for part in (keys, values))  # [H, S, h]
        for token in range(len(fed)):
            seen = torch.tensor(fed.sees(token), device=q.device)
            weight = ((k[:, seen] @ wide_q[i, token, :, :, None])[..., 0] / math.sqrt(head)).softmax(dim=-1)
            out[i, token] = (weight[:, None] @ v[:, seen])[:, 0]
    return out.flatten(2).flatten(0, 1)


LAYOUTS = {
    "one token that sees itself": [Fed(0, (), (3,))],
    "a refresh": [Fed(1, (), tuple(range(40)))],
    "a step": [plain_step(1, 37, 32, 81)],
    "a long cache": [plain_step(0, 250, 7, 20)],
    "four ranges, slots in no order": [Fed(2, ((3, 20), (90, 91), (100, 180), (200, 203)), (50, 2, 299, 181, 20))],
    "empty ranges between others": [Fed(0, ((7, 7), (10, 75), (0, 0), (80, 99)), (8, 9))],
    "accept-jump": [accept_jump(0, 40, 8)],
    "jump-share": [jump_share(1, 50, 5, 9)],
    "sequences of different lengths": [plain_step(2, 130, 4, 0), Fed(0, (), (0,)), plain_step(1, 3, 19, 200)],
    "branches beside none": [jump_share(2, 10, 2, 3), plain_step(0, 64, 32, 64), accept_jump(1, 0, 3)],
    "four ranges of a few slots": [Fed(2, ((0, 1), (5, 8), (20, 22), (30, 37)), (40, 3))],
    "ranges of a tile, one less and one more": [Fed(0, ((0, 64), (70, 133), (140, 205), (206, 270)), (280, 69, 281))],
    "fed tokens of several tiles": [replace(accept_jump(1, 40, 33), ranges=((0, 3), (9, 9), (11, 40)))],
    "nothing cached": [jump_share(0, 0, 6, 0), accept_jump(2, 0, 20), Fed(1, (), (7, 5, 6))],
    "a sequence of padding alone": [plain_step(0, 10, 5, 3), Fed(1, (), ()), Fed(2, ((3, 90),), (100,))],
}
SHAPES = {"all heads": (3, 3, 32), "grouped": (7, 1, 16), "odd head": (2, 1, 24)}


@both
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("heads", "kv_heads", "head"), SHAPES.values(), ids=SHAPES)
def test_attend(kernels: str, layout: list[Fed], heads: int, kv_heads: int, head: int) -> None:
    check(kernels, layout, heads, kv_heads, head)


@both
@each_dtype
def test_attend_with_the_heads_of_dream(kernels: str, dtype: torch.dtype) -> None:
    check(kernels, [plain_step(0, 100, 5, 70), Fed(1, ((3, 9),), (12,))], 28, 4, 128, dtype)


@both
@pytest.mark.parametrize("seed", range(6))
def test_attend_to_anything(kernels: str, seed: int) -> None:
    numbers = generator("layout", seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=numbers))

    batch = []
    for row in torch.randperm(3, generator=numbers)[: draw(1, 4)].tolist():
        slots = torch.randperm(100, generator=numbers)[: draw(1, 90)].add(200).tolist()
        edges = sorted(draw(0, 201) for _ in range(2 * RANGES))
        branch = [draw(0, 4) for _ in slots]
        batch.append(
            Fed(
                row,
                tuple(zip(edges[::2], edges[1::2], strict=True)),
                tuple(slots),
                tuple(branch),
                tuple(int(each == 0 and draw(0, 2) == 1) for each in branch),
            )
        )
    check(kernels, batch, 4, 2, 16)


def check(
    kernels: str,
    batch: list[Fed],
    heads: int,
    kv_heads: int,
    head: int,
    dtype: torch.dtype = torch.float32,
    **more: object,
) -> None:
    seed = generator(batch, heads, head, dtype)
    tokens = len(batch) * max(map(len, batch))
    q = 2 * random(seed, tokens, heads, head, dtype=dtype)
    keys, values = (random(seed, 3, kv_heads, 300, head, dtype=dtype) for _ in range(2))
    found = module(kernels).attend(q, keys, values, view_of(batch), **more)
    assert found.shape == (tokens, heads * head)
    assert found.dtype == dtype
    truth = truth_of(q, keys, values, batch)
    assert found[(truth == 0).all(dim=-1)].eq(0).all()
    assert_near(found, truth, roundings=20 if dtype == torch.float32 else 2, scale=1.0)


CUTS = [(16, 16, 1), (64, 128, 1), (32, 64, 2), (32, 32, 3), (64, 64, 4), (128, 64, 16), (64, 128, 8)]


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
@pytest.mark.parametrize(("queries", "keys", "splits"), CUTS)
def test_fused_attention_is_the_same_however_it_is_cut(queries: int, keys: int, splits: int) -> None:
    from odb_dllm.kernels.fused.tiles import AttentionTile

    tile = AttentionTile(queries, keys, splits, warps=4, stages=2)
    check("fused", [jump_share(0, 90, 3, 40), plain_step(1, 5, 30, 2)], 1, 1, 32, torch.float16, tile=tile)


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
@pytest.mark.parametrize("splits", [3, 16])
@pytest.mark.parametrize(
    "layout",
    [
        "one token that sees itself",
        "four ranges of a few slots",
        "nothing cached",
        "a sequence of padding alone",
        "ranges of a tile, one less and one more",
    ],
)
def test_fused_attention_with_splits_that_have_nothing_to_do(layout: str, splits: int) -> None:
    from odb_dllm.kernels.fused.tiles import AttentionTile

    check("fused", LAYOUTS[layout], 2, 1, 16, tile=AttentionTile(64, 64, splits, warps=4, stages=3))


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
@pytest.mark.parametrize(("tokens", "splits"), [(32, 4), (128, 4), (160, 2)])
def test_fused_attention_takes_the_tiles_that_were_fastest(tokens: int, splits: int) -> None:
    from odb_dllm.kernels.fused import tiles

    chosen = tiles.attention(tokens, 512 + tokens, 32, torch.bfloat16, processors=132)  # LLaDA-8B on an H200
    assert chosen == tiles.AttentionTile(64, 64, splits, warps=4, stages=3)


@both
@pytest.mark.parametrize("max_cached", [0, 64, 100_000])
def test_the_expected_length_of_the_cache_changes_nothing(kernels: str, max_cached: int) -> None:
    batch = [plain_step(0, 100, 6, 20)]
    seed = generator(max_cached)
    q = random(seed, 6, 2, 32)
    keys, values = (random(seed, 1, 2, 130, 32) for _ in range(2))
    found = module(kernels).attend(q, keys, values, view_of(batch, max_cached))
    assert_near(found, truth_of(q, keys, values, batch), roundings=20, scale=1.0)


@both
def test_large_scores_do_not_overflow(kernels: str) -> None:
    batch = [plain_step(0, 30, 3, 40)]
    seed = generator("large")
    q = 300 * random(seed, 3, 1, 32)
    keys, values = 300 * random(seed, 1, 1, 80, 32), random(seed, 1, 1, 80, 32)
    found = module(kernels).attend(q, keys, values, view_of(batch))
    torch.testing.assert_close(found.double(), truth_of(q, keys, values, batch), rtol=1e-2, atol=1e-2)


@both
def test_numbers_that_are_not_finite_come_through_where_they_are_seen(kernels: str) -> None:
    batch = [plain_step(0, 40, 3, 0), plain_step(1, 40, 2, 0)]
    seed = generator("nan")
    q = random(seed, 6, 2, 32)
    keys, values = (random(seed, 2, 2, 60, 32) for _ in range(2))
    whole = module(kernels).attend(q, keys, values, view_of(batch))
    for broken in (keys, values):
        broken[0, :, 17] = math.nan
        found = module(kernels).attend(q, keys, values, view_of(batch))
        assert found[:3].isnan().all()
        assert found[3:].equal(whole[3:])
        broken[0, :, 17] = 1.0
    q[1] = math.nan
    q[5] = math.inf  # padding
    found = module(kernels).attend(q, keys, values, view_of(batch))
    assert found[1].isnan().all()
    assert found[5].eq(0).all()
    assert found[[0, 2, 3, 4]].isfinite().all()


@pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)
def test_fused_attention_never_reads_what_nobody_sees() -> None:
    batch = [replace(jump_share(0, 50, 2, 9), ranges=((0, 50), (60, 71)))]
    seed = generator("unseen")
    q = random(seed, len(batch[0]), 2, 32)
    keys, values = (random(seed, 2, 2, 300, 32) for _ in range(2))
    whole = module("fused").attend(q, keys, values, view_of(batch))
    unseen = torch.ones(300, dtype=torch.bool, device=DEVICE)
    unseen[[slot for token in range(len(batch[0])) for slot in batch[0].sees(token)]] = False
    for part in (keys, values):
        part[1] = part[0, :, unseen] = math.nan
    assert module("fused").attend(q, keys, values, view_of(batch)).equal(whole)


@both
def test_no_sequences(kernels: str) -> None:
    empty = View(
        ints([]), *(torch.empty(0, *shape, dtype=torch.int32, device=DEVICE) for shape in [(4, 2), *[(5,)] * 3]), 9
    )
    keys = torch.zeros(2, 2, 8, 32, device=DEVICE)
    assert module(kernels).attend(torch.empty(0, 2, 32, device=DEVICE), keys, keys, empty).shape == (0, 64)
