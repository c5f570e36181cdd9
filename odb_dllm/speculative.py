"""Decoding a block by speculation: several drafts verified in one step (ODB-dLLM, arXiv 2511.21759, section 3.3)."""

from collections.abc import Generator
from typing import Any

import numpy as np

from odb_dllm import speculation as spec
from odb_dllm.canvas import Canvas, Opened, accept, around, ask, draw_of, opens_one, plain_step, unfinished
from odb_dllm.contract import Bools, Floats, Forward, Ints, Prediction, Range
from odb_dllm.drafting import MOST, Drafter, outcome_of


def speculative(canvas: Canvas, block: Range, opened: Opened) -> Generator[Forward, Prediction, None]:
    """Accept-jump and jump-share: verify several drafts in one step (ODB-dLLM section 3.3)."""
    start = block[0]
    token, score = _first(canvas, block, opened)  # [B], as last predicted by a branch that was chosen
    layout, first = spec.JUMP, True
    while unfinished(canvas, block):
        masked = canvas.is_masked(block)
        drafts = spec.draft_order(score, masked, 2 if layout is spec.JUMP else 4)
        drafted = token[drafts]
        branches = spec.fill_branches(canvas.tokens[slice(*block)], drafts, drafted, layout)
        open_ = branches == canvas.mask
        forward = branched_step(canvas, block, branches, open_, masked, layout)
        tokens, scores, taken = yield from _judged(canvas, forward, open_, token, score)
        verdicts = spec.draft_verdicts(taken, tokens, drafts, drafted)
        chosen = spec.choose_jump(verdicts) if layout is spec.JUMP else spec.choose_share(verdicts)

        # A draft that the chosen branch holds is decided with the confidence it was drafted with.
        token, score = tokens[chosen], scores[chosen]
        decided = taken[chosen] | (masked & ~open_[chosen])
        _decide(canvas, block, forward, decided, token, score, drafts=start + drafts, branch=chosen)
        may_switch = canvas.setting.speculation == "jump-share" and layout is spec.JUMP and not first
        if may_switch and np.count_nonzero(masked) <= spec.SWITCH_AT[chosen]:
            layout = spec.SHARE
        first = False


def exact(
    canvas: Canvas, block: Range, opened: Opened, drafter: Drafter | None = None
) -> Generator[Forward, Prediction, None]:
    """Speculation without loss: only what a decoder without branches would have produced, step by step.

    The branches are guesses at the block's next states. Where what branch 0 takes makes one of them, that one's
    predictions are those of the following step, which is then had for nothing; and so on. A drafter says what is
    guessed, and learns what came true; without one, four branches are fed as accept-jump does.
    """
    token, score = _first(canvas, block, opened)
    while unfinished(canvas, block):
        masked = canvas.is_masked(block)
        drafts = spec.draft_order(score, masked, 2 if drafter is None else MOST)
        layout = spec.JUMP if drafter is None else drafter.layout(int(np.count_nonzero(masked)))
        drafted = token[drafts]
        branches = spec.fill_branches(canvas.tokens[slice(*block)], drafts, drafted, layout)
        open_, alone = branches == canvas.mask, len(layout) == 1
        forward = plain_step(canvas, block) if alone else branched_step(canvas, block, branches, open_, masked, layout)
        tokens, scores, taken = yield from _judged(canvas, forward, open_, token, score)
        state, token, score = canvas.tokens[slice(*block)], tokens[0].copy(), scores[0].copy()
        chosen: int | None = 0
        while chosen is not None:
            last, now = chosen, taken[chosen]
            if drafter is not None and open_[last].sum() > 1:
                drafter.note(outcome_of(layout[last], now, tokens[last], drafts, drafted))
            state[now] = tokens[last][now]
            token[open_[last]], score[open_[last]] = tokens[last][open_[last]], scores[last][open_[last]]
            guessed = unfinished(canvas, block)
            chosen = next((i for i, guess in enumerate(branches) if guessed and (guess == state).all()), None)
        held = drafts[: 1 + max(max(each, default=-1) for each in layout)]
        more = {} if alone else {"drafts": block[0] + held, "branch": last}
        _decide(canvas, block, forward, masked & (state != canvas.mask), token, score, **more)


def _first(canvas: Canvas, block: Range, opened: Opened) -> tuple[Ints, Floats]:
    """Unmask by threshold after the refresh; the tokens and log confidences [B] that were predicted."""
    assert canvas.setting.threshold is not None
    forward, prediction = opened
    token, score = prediction.token, prediction.log_confidence
    taken = spec.taken_by(score[None], np.ones((1, len(score)), bool), canvas.setting.threshold)[0]
    if opens_one(canvas, forward):
        taken = np.arange(len(score)) == 0
    _decide(canvas, block, forward, taken, token, score)
    return token, score


def _judged(
    canvas: Canvas, forward: Forward, open_: Bools, token: Ints, score: Floats
) -> Generator[Forward, Prediction, tuple[Ints, Floats, Bools]]:
    """Feed branches whose masks are ``open_``: each one's tokens and log confidences and what it takes, [branches, B].

    Where a branch predicts nothing, it has the ``token`` and ``score`` [B] from before.
    """
    assert canvas.setting.threshold is not None
    prediction = yield from ask(canvas, forward)
    tokens, scores = token[None].repeat(len(open_), axis=0), score[None].repeat(len(open_), axis=0)
    tokens[open_], scores[open_] = prediction.token, prediction.log_confidence
    return tokens, scores, spec.taken_by(scores, open_, canvas.setting.threshold)


def _decide(
    canvas: Canvas, block: Range, forward: Forward, decided: Bools, token: Ints, score: Floats, **more: Any
) -> None:
    """Write a block's decided tokens, of all that were predicted [B]."""
    (at,) = decided.nonzero()
    accept(canvas, block, forward, block[0] + at, token[at], np.exp(score[at]), **more)


def branched_step(
    canvas: Canvas, block: Range, branches: Ints, open_: Bools, masked: Bools, layout: spec.Layout
) -> Forward:
    """A step that feeds several branches of the block (dual cache).

    Args:
        open_: their masks, [branches, B].
        masked: the block's, [B].
    """
    fed = np.ones(branches.shape, bool)
    shared = None
    if layout is spec.SHARE:  # only branch 0 feeds what is decided already, and lends it to the others
        own = spec.own_positions(masked, canvas.shift)
        fed[1:] = own
        shared = np.zeros(spec.fed_tokens(len(own), int(np.count_nonzero(own)), layout), np.bool_)
        shared[: len(own)] = ~own
    branch, offset = fed.nonzero()
    wanted_branch, wanted = open_.nonzero()
    return Forward(
        "step",
        tokens=branches[branch, offset],
        positions=block[0] + offset,
        targets=np.array([wanted_branch, block[0] + wanted]).T,
        end=canvas.end,
        sees=around(canvas, block),
        branch=branch,
        shared=shared,
        draw=draw_of(canvas),
    )
