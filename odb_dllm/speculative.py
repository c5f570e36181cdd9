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
    token, score = _first(canvas, block, opened)  # [B], of the branch that was chosen last
    layout, first = spec.JUMP, True
    while unfinished(canvas, block):
        masked = canvas.is_masked(block)
        drafts = spec.draft_order(score, masked, 2 if layout is spec.JUMP else 4)
        draft_tokens, draft_score = token[drafts], score[drafts]
        branches = spec.fill_branches(canvas.tokens[slice(*block)], drafts, draft_tokens, layout)
        forward = branched_step(canvas, block, branches, layout)
        tokens, scores, open_, taken = yield from _judged(canvas, forward, branches)
        verdicts = spec.draft_verdicts(taken, tokens, drafts, draft_tokens)
        chosen = spec.choose_jump(verdicts) if layout is spec.JUMP else spec.choose_share(verdicts)

        # A draft that the chosen branch holds is decided with the confidence it was drafted with.
        token, score = tokens[chosen].copy(), scores[chosen].copy()
        token[drafts], score[drafts] = (
            np.where(open_[chosen, drafts], token[drafts], draft_tokens),
            np.where(open_[chosen, drafts], score[drafts], draft_score),
        )
        decided = taken[chosen] | (masked & ~open_[chosen])
        _decide(canvas, block, forward, decided, token, score, drafts=start + drafts, branch=chosen)
        may_switch = canvas.setting.speculation == "jump-share" and layout is spec.JUMP and not first
        if may_switch and masked.sum() <= spec.SWITCH_AT[chosen]:
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
        layout = spec.JUMP if drafter is None else drafter.layout(int(masked.sum()))
        drafted = token[drafts]
        branches = spec.fill_branches(canvas.tokens[slice(*block)], drafts, drafted, layout)
        alone = len(layout) == 1
        forward = plain_step(canvas, block) if alone else branched_step(canvas, block, branches, layout)
        tokens, scores, open_, taken = yield from _judged(canvas, forward, branches)
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
    canvas: Canvas, forward: Forward, branches: Ints
) -> Generator[Forward, Prediction, tuple[Ints, Floats, Bools, Bools]]:
    """Feed branches: each one's tokens and log confidences, what is open and what it takes, all [branches, B]."""
    assert canvas.setting.threshold is not None
    prediction = yield from ask(canvas, forward)
    open_ = branches == canvas.mask
    tokens, scores = np.full(open_.shape, -1), np.full(open_.shape, -np.inf)
    tokens[open_], scores[open_] = prediction.token, prediction.log_confidence
    return tokens, scores, open_, spec.taken_by(scores, open_, canvas.setting.threshold)


def _decide(
    canvas: Canvas, block: Range, forward: Forward, decided: Bools, token: Ints, score: Floats, **more: Any
) -> None:
    """Write a block's decided tokens, of all that were predicted [B]."""
    positions = block[0] + np.flatnonzero(decided)
    accept(canvas, block, forward, positions, token[decided], np.exp(score[decided]), **more)


def branched_step(canvas: Canvas, block: Range, branches: Ints, layout: spec.Layout) -> Forward:
    """A step that feeds several branches of the block (dual cache)."""
    own = spec.own_positions(canvas.is_masked(block), canvas.shift)
    fed = np.ones(branches.shape, bool)
    shared = None
    if layout is spec.SHARE:  # only branch 0 feeds what is decided already, and lends it to the others
        fed[1:] = own
        shared = np.concatenate([~own, np.zeros(int(fed[1:].sum()), bool)])
    branch, offset = np.nonzero(fed)
    assert len(offset) == spec.fed_tokens(len(own), int(own.sum()), layout)
    wanted_branch, wanted = np.nonzero(branches == canvas.mask)
    return Forward(
        "step",
        tokens=branches[fed],
        positions=block[0] + offset,
        targets=np.stack([wanted_branch, block[0] + wanted], axis=1),
        end=canvas.end,
        sees=around(canvas, block),
        branch=branch,
        shared=shared,
        draw=draw_of(canvas),
    )
