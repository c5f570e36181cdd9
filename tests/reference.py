"""A slow, obvious LLaDA sampler to test the fast one against: dense attention masks, float64, plain loops.

Written from the published rules alone, sharing no code with the package. Words: the *canvas* is the prompt
and G response positions, all masks at first, decoded in *blocks* from left to right. A *refresh* is a forward
over the canvas that fills the K/V cache and is also the block's first unmasking; a *step* feeds the block
(and, without the dual cache, more). A *branch* is one guess at the block among several fed in one step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from reference_network import KV, Network, Prediction


class Row(NamedTuple):
    """One fed token. Rows see their own branch and every shared row."""

    branch: int
    position: int  # true canvas position
    token: int
    shared: bool = False


Predictions = dict[int, Prediction]  # masked position -> its prediction
Branches = Sequence[Predictions]
Drafts = Sequence[tuple[int, int]]  # position, token; the most confident first
Pattern = tuple[int, ...]  # a stop pattern: consecutive token ids
IGNORED = -1  # no token: matches no stop pattern


def ranked(predictions: Predictions) -> list[int]:
    """Masked positions, the most confident first; on equal confidence the lowest position first."""
    return sorted(predictions, key=lambda position: (-predictions[position].log_p, position))


def by_threshold(predictions: Predictions, threshold: float) -> list[int]:
    """Every position at or above the threshold, and always the most confident one."""
    order = ranked(predictions)
    return order[:1] + [p for p in order[1:] if predictions[p].confidence >= threshold]


def by_factor(predictions: Predictions, factor: float) -> list[int]:
    """The positions before the first whose confidence falls below 1 - f/(n + 1), n = its rank."""
    order = ranked(predictions)
    m = len(order)
    limits = [-1.0] + [1 - factor / (n + 1) for n in range(2, m + 1)]
    below = [k for k in range(m) if predictions[order[k]].confidence < limits[k]]
    k = below[0] if below else m - 1
    return order[: k + 1 if k in (0, m - 1) else k]


def quota_of_each_step(masks: int, steps: int) -> list[int]:
    """`masks` spread over `steps`, one more in each of the first `masks % steps`."""
    return [masks // steps + (i < masks % steps) for i in range(steps)]


def first_match(tokens: Sequence[int], patterns: Sequence[Pattern]) -> int | None:
    """Offset of the first whole stop pattern in `tokens`."""
    found = (i for i in range(len(tokens)) for p in patterns if tuple(tokens[i : i + len(p)]) == p)
    return next(found, None)


# Which of the drafts (0 = a, the most confident, 1 = b, ...) each branch has filled in.
ACCEPT_JUMP_BRANCHES = [(), (0,), (1,), (0, 1)]
JUMP_SHARE_BRANCHES = [(), (0,), (1,), (0, 1), (2,), (0, 1, 2), (3,), (0, 1, 2, 3)]
# Accept-jump gives way to jump-share's second stage at or below so many masks, by the branch chosen.
SWITCH_AT = {3: 20, 2: 19, 1: 19, 0: 18}


def takes_of(drafts: Drafts, branches: Branches, threshold: float) -> Callable[[int, int], bool]:
    """takes(i, k): branch i takes the position of draft k, with the drafted token. A branch takes its masked
    positions at or above the threshold and its most confident one. A missing draft is never taken."""
    taken = [{p: branch[p].token for p in by_threshold(branch, threshold)} for branch in branches]
    return lambda i, k: k < len(drafts) and taken[i].get(drafts[k][0]) == drafts[k][1]


def accept_jump_branch(drafts: Drafts, branches: Branches, threshold: float) -> int:
    """The branch chosen among 0, a, b, ab, given the drafts (a alone where one mask is left) and what each
    branch predicts at the positions masked in it."""
    takes = takes_of(drafts, branches, threshold)
    a, b = range(2)
    a1, a2 = takes(0, a), takes(0, b)
    a12, a21 = a1 and takes(1, b), a2 and takes(2, a)
    return 3 if (a1 and a2) or a12 or a21 else 1 if a1 else 2 if a2 else 0


def jump_share_branch(drafts: Drafts, branches: Branches, threshold: float) -> int:
    """The branch chosen among 0, a, b, ab, c, abc, d, abcd; as `accept_jump_branch`, with up to 4 drafts."""
    takes = takes_of(drafts, branches, threshold)
    a, b, c, d = range(4)
    a1, a2, a3, a4 = takes(0, a), takes(0, b), takes(0, c), takes(0, d)
    a12 = (a1 and takes(1, b)) or (a2 and takes(2, a))
    a123 = a3 and (a12 or (takes(4, a) and takes(4, b)))
    a123 = a123 or (a12 and any(takes(i, c) for i in (3, 1, 2)))
    a1234 = a4 and (a123 or (takes(6, a) and takes(6, b) and takes(6, c)) or (a12 and takes(6, c)))
    a1234 = a1234 or (a123 and any(takes(i, d) for i in (1, 2, 3, 4, 5)))
    if a1234 or (a1 and a2 and a3 and a4):
        return 7
    if a123 or (a1 and a2 and a3):
        return 5
    if a12 or (a1 and a2):
        return 3
    return 1 if a1 else 2 if a2 else 4 if a3 else 6 if a4 else 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is asked for, each part switchable alone. ValueError for what is refused."""

    gen_length: int
    block_length: int
    steps: int | None = None  # quota only; gen_length by default
    cache: str = "none"  # none | prefix | dual
    rule: str = "quota"  # quota | threshold | factor | dynamic
    threshold: float = 0.9
    factor: float | None = None
    confidence_alpha: float = 0.0  # dynamic only
    length: str = "fixed"  # fixed | adaptive
    suffix: str = "full"  # full | window
    window_size: int = 0  # tokens
    speculation: str = "none"  # none | accept-jump | jump-share
    early_exit: bool = False
    patterns: tuple[Pattern, ...] = ()  # stop patterns besides EOS
    eos: int | tuple[int, ...]  # if several tokens end a text, the first one fills the canvas
    theta: float = 0.9  # confidence asked of a predicted stop pattern
    eos_guard: bool = False
    mask: int

    def __post_init__(self) -> None:
        blocks, odd = divmod(self.gen_length, self.block_length)
        if odd:
            raise ValueError("gen_length is not a multiple of block_length")
        if self.rule == "quota" and (self.all_steps % blocks or not 0 < self.all_steps <= self.gen_length):
            raise ValueError("steps is not a multiple of the number of blocks, or exceeds gen_length")
        if self.speculation != "none" and (self.cache != "dual" or self.rule != "threshold"):
            raise ValueError("speculation needs the dual cache and the fixed threshold")
        if self.length == "adaptive" and self.suffix == "window":
            raise ValueError("adaptive length needs the whole suffix")

    @property
    def all_steps(self) -> int:
        return self.gen_length if self.steps is None else self.steps

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that count as EOS."""
        return (self.eos,) if isinstance(self.eos, int) else tuple(self.eos)

    @property
    def stops(self) -> tuple[Pattern, ...]:
        """Every stop pattern, EOS among them."""
        return (*((token,) for token in self.ends), *(tuple(pattern) for pattern in self.patterns))


class _Run:
    """One prompt being decoded: the canvas, the K/V stored by the last refresh, and the counts."""

    def __init__(self, network: Network, prompt_ids: Sequence[int], settings: Settings) -> None:
        self.network, self.settings = network, settings
        self.start = len(prompt_ids)  # of the response
        self.canvas = [int(token) for token in prompt_ids] + [settings.mask] * settings.gen_length
        self.end = len(self.canvas)  # only ever shrinks
        self.remaining = settings.gen_length  # as last predicted
        self.found = False  # whether a stop pattern was ever predicted
        self.stored: list[int] = []  # the canvas positions that the cache holds
        self.kv: KV = []
        self.refreshes = 0
        self.forward_lengths: list[int] = []
        self.predicted_lengths: list[int] = []

    def decode(self) -> dict[str, Any]:
        """Block after block, until the canvas ends or a complete block contains a stop pattern."""
        decode_length = None
        s = self.start
        while s < self.extended(s) and decode_length is None:
            e = s + self.settings.block_length
            self.decode_block(s, e)
            offset = first_match(self.canvas[s:e], self.settings.stops) if self.settings.early_exit else None
            if offset is not None:
                self.canvas[e:] = [self.settings.ends[0]] * (len(self.canvas) - e)
                decode_length = s - self.start + offset + 1
            s = e
        lengths, response = self.predicted_lengths, self.canvas[self.start : self.end]
        return {
            "tokens": response,
            "nfe": len(self.forward_lengths),
            "refreshes": self.refreshes,
            "forward_lengths": self.forward_lengths,
            "predicted_lengths": lengths,
            "average_predicted_length": sum(lengths) / len(lengths) if lengths else None,
            "decode_length": len(response) if decode_length is None else decode_length,
        }

    def decode_block(self, s: int, e: int) -> None:
        """A forward over the canvas (a refresh if there is a cache), then steps until [s, e) is complete."""
        adaptive = self.settings.length == "adaptive"
        steps = self.settings.all_steps * (e - s) // self.settings.gen_length
        quotas = iter(quota_of_each_step(e - s, steps) if self.settings.rule == "quota" else [])
        fed = [Row(0, p, self.canvas[p]) for p in self.opened(s, e)]
        has_cache = self.settings.cache != "none"
        (predictions,) = self.forward(fed, self.seen_by_first(fed), range(s, self.end if adaptive else e), has_cache)
        if adaptive:
            self.predict_length(s, [predictions[p] for p in range(s, fed[-1].position + 1)])
        predictions = {p: predictions[p] for p in predictions if p < e}
        self.unmask(predictions, None if has_cache else fed, next(quotas, 0))
        sharing, first = False, True
        while masked := self.masked(s, e):
            if self.settings.speculation == "none":
                self.plain_step(s, e, next(quotas, 0))
                continue
            chosen, predictions = self.speculative_step(s, e, predictions, sharing)
            if self.settings.speculation == "jump-share" and not sharing and not first:
                sharing = len(masked) <= SWITCH_AT[chosen]
            first = False

    def extended(self, s: int) -> int:
        """The canvas's end before the block at `s`."""
        return self.end

    def opened(self, s: int, e: int) -> list[int]:
        """What the first forward of a block feeds."""
        return [*range(e), *self.suffix(e)]

    def seen_by_first(self, fed: Sequence[Row]) -> set[int]:
        """The cached positions that the first forward of a block attends to: a refresh starts afresh."""
        return set()

    def predict_length(self, s: int, predictions: Sequence[Prediction]) -> None:
        """Shrink the canvas to the block of the first stop pattern predicted with every confidence >= theta.
        The guard: EOS is ignored at the first offsets. `predictions` are those of [s, end)."""
        theta, block = self.settings.theta, self.settings.block_length
        guarded = min(128, self.remaining) if self.settings.eos_guard else 0
        tokens = [p.token if p.confidence >= theta else IGNORED for p in predictions]
        tokens[:guarded] = [IGNORED if t in self.settings.ends else t for t in tokens[:guarded]]
        offset = first_match(tokens, self.settings.stops)
        self.found = self.found or offset is not None
        if offset is not None:
            self.remaining = (offset + block) // block * block
            self.end = min(self.end, s + self.remaining)
        self.predicted_lengths.append(self.end - self.start)

    def plain_step(self, s: int, e: int, quota: int) -> None:
        """Feed what the cache leaves to feed, and unmask by the rule."""
        before = range(0 if self.settings.cache == "none" else s, s)
        after = [] if self.settings.cache == "dual" else self.suffix(e)
        fed = [Row(0, p, self.canvas[p]) for p in [*before, *range(s, e), *after]]
        (predictions,) = self.forward(fed, self.seen_by_step(s, e), range(s, e), False)
        self.unmask(predictions, fed, quota)

    def speculative_step(self, s: int, e: int, last: Predictions, sharing: bool) -> tuple[int, Predictions]:
        """Feed the block once per branch, with drafts from the `last` predictions, and go on from the branch
        chosen. With `sharing` only branch 0 feeds the whole block; the others feed its masked positions and
        see branch 0's unmasked tokens. Returns the branch chosen and its predictions."""
        masked = self.masked(s, e)
        layout = JUMP_SHARE_BRANCHES if sharing else ACCEPT_JUMP_BRANCHES
        drafts = [(p, last[p].token) for p in ranked({p: last[p] for p in masked})[: 4 if sharing else 2]]
        filled = [dict(drafts[k] for k in branch if k < len(drafts)) for branch in layout]
        rows = []
        for branch in range(len(layout)):
            for p in masked if sharing and branch > 0 else range(s, e):
                shared = sharing and branch == 0 and p not in masked
                rows.append(Row(branch, p, filled[branch].get(p, self.canvas[p]), shared))
        branches = self.forward(rows, self.seen_by_step(s, e), range(s, e), False)
        choose = jump_share_branch if sharing else accept_jump_branch
        chosen = choose(drafts, branches, self.settings.threshold)
        for p, token in filled[chosen].items():
            self.canvas[p] = token
        self.unmask(branches[chosen], None, 0)
        return chosen, branches[chosen]

    def unmask(self, predictions: Predictions, step_input: Sequence[Row] | None, quota: int) -> None:
        """Turn the masks that the rule accepts into tokens. The dynamic threshold falls with the share of
        masks in `step_input`, which is None on a refresh."""
        rule, threshold = self.settings.rule, self.settings.threshold
        if rule == "dynamic" and step_input is not None:
            ratio = sum(row.token == self.settings.mask for row in step_input) / len(step_input)
            threshold *= 1 - self.settings.confidence_alpha * (1 - ratio)
        if rule == "quota":
            positions = ranked(predictions)[:quota]
        elif rule == "factor":
            positions = by_factor(predictions, self.settings.factor)
        else:
            positions = by_threshold(predictions, threshold)
        for p in positions:
            self.canvas[p] = predictions[p].token

    def keep(self, positions: list[int], kv: KV) -> None:
        """Store what a refresh fed."""
        self.stored, self.kv = positions, kv

    def masked(self, s: int, e: int) -> list[int]:
        """The positions of the block that are still masked."""
        return [p for p in range(s, e) if self.canvas[p] == self.settings.mask]

    def suffix(self, e: int) -> list[int]:
        """Positions after the block that take part at all: every one, or the next few and the last one."""
        near = min(self.end, e + self.settings.window_size) if self.settings.suffix == "window" else self.end
        return [*range(e, near), *([self.end - 1] if near < self.end else [])]

    def seen_by_step(self, s: int, e: int) -> set[int]:
        """The cached positions that a step attends to."""
        dual = self.settings.cache == "dual"
        return {p for p in self.stored if p < s or (dual and e <= p < self.end)}

    def forward(self, rows: list[Row], seen: set[int], targets: range, store: bool) -> list[Predictions]:
        """Feed `rows`, which also attend to the cached positions `seen`. Returns, for every branch, what it
        predicts at its masked positions among `targets`. `store`: a refresh, whose K/V replace the cache."""
        branch, position, token, shared = torch.tensor(rows).T
        sees_fed = (branch[:, None] == branch[None, :]) | shared.bool()[None, :]
        sees_cached = torch.tensor([p in seen for p in self.stored], dtype=torch.bool)
        visible = torch.cat([sees_cached.expand(len(rows), -1), sees_fed], dim=1)
        hidden, kv = self.network.forward(token, position, visible, self.kv)
        self.forward_lengths.append(len(rows))
        self.refreshes += store
        if store:
            self.keep(position.tolist(), kv)
        mask = self.settings.mask
        wanted = [i for i, row in enumerate(rows) if row.token == mask and row.position in targets]
        branches: list[Predictions] = [{} for _ in range(rows[-1].branch + 1)]
        for i, prediction in zip(wanted, self.network.predict(hidden[wanted], mask), strict=True):
            branches[rows[i].branch][rows[i].position] = prediction
        return branches


def generate(network: Network, prompt_ids: Sequence[int], **settings: Any) -> dict[str, Any]:
    """Decode one prompt at temperature 0. Keywords: those of `Settings`; `eos` and `mask` default to the
    checkpoint's. Returns the response canvas at the end, and the counts: `forward_lengths` are the tokens fed
    to each forward, branches included; `average_predicted_length` is None without adaptive length."""
    defaults = {"eos": network.config["eos_token_id"], "mask": network.config["mask_token_id"]}
    return _Run(network, prompt_ids, Settings(**(defaults | settings))).decode()
