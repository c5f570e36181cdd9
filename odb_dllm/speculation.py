"""Speculation inside a block: accept-jump (4 branches) and jump-share (4, then 8 branches).

ODB-dLLM (arXiv 2511.21759) section 3.3. Drafts a, b, c, d are the most confident positions still masked, with the
tokens predicted there. A branch is the block with some of the drafts filled in; a branch *takes* a masked position
when it would unmask it by itself. Which branch is chosen follows from which branches take which drafts.
"""

from functools import lru_cache

import numpy as np

from odb_dllm.contract import Bools, Floats, Ints

Layout = tuple[tuple[int, ...], ...]

# The drafts that each branch fills in: 0 = a, 1 = b, 2 = c, 3 = d.
JUMP: Layout = ((), (0,), (1,), (0, 1))
SHARE: Layout = ((), (0,), (1,), (0, 1), (2,), (0, 1, 2), (3,), (0, 1, 2, 3))
# Stage 2 begins when at most this many masks went into a stage-1 step, by the branch that it chose.
SWITCH_AT = (18, 19, 19, 20)


def choose_jump(takes: Bools) -> int:
    """Return the branch to go on with, of the four in ``JUMP``.

    ``takes`` [branches, drafts]: branch i takes draft j's position with draft j's token. False for drafts that
    there are not, and for drafts that the branch already holds.
    """
    a, b = 0, 1
    a1, a2 = takes[0, a], takes[0, b]
    a12 = a1 and takes[1, b]
    a21 = a2 and takes[2, a]
    if (a1 and a2) or a12 or a21:
        return 3
    return 1 if a1 else 2 if a2 else 0


def choose_share(takes: Bools) -> int:
    """Return the branch to go on with, of the eight in ``SHARE``; ``takes`` [8, 4] as in ``choose_jump``."""
    a, b, c, d = range(4)
    a1, a2, a3, a4 = (bool(takes[0, draft]) for draft in (a, b, c, d))
    a12 = (a1 and takes[1, b]) or (a2 and takes[2, a])
    a123 = (a3 and (a12 or (takes[4, a] and takes[4, b]))) or (a12 and takes[[3, 1, 2], c].any())
    a1234 = (a4 and (a123 or (takes[6, a] and takes[6, b] and takes[6, c]) or (a12 and takes[6, c]))) or (
        a123 and takes[1:6, d].any()
    )
    if a1234 or (a1 and a2 and a3 and a4):
        return 7
    if a123 or (a1 and a2 and a3):
        return 5
    if a12 or (a1 and a2):
        return 3
    return 1 if a1 else 2 if a2 else 4 if a3 else 6 if a4 else 0


def draft_order(score: Floats, masked: Bools, count: int) -> Ints:
    """Offsets of the ``count`` most confident masked positions, the most confident first; fewer where there are."""
    (offsets,) = masked.nonzero()
    return offsets[np.argsort(-score[offsets], kind="stable")[:count]]


def fill_branches(block: Ints, drafts: Ints, tokens: Ints, layout: Layout) -> Ints:
    """Return the branches [n, B]: copies of ``block`` [B] with each one's drafts (offsets and tokens) filled in.

    A layout's drafts that there are not are left out.
    """
    branches = block[None].repeat(len(layout), axis=0)
    branch, held = _filled(layout, len(drafts))
    branches[branch, drafts[held]] = tokens[held]
    return branches


@lru_cache(maxsize=2**10)
def _filled(layout: Layout, count: int) -> tuple[Ints, Ints]:
    """Each branch and draft that it fills in, where there are so many drafts, int64 [f] each."""
    pairs = [(branch, draft) for branch, drafts in enumerate(layout) for draft in drafts if draft < count]
    return np.array([branch for branch, _ in pairs], np.int64), np.array([draft for _, draft in pairs], np.int64)


def taken_by(score: Floats, masked: Bools, threshold: float) -> Bools:
    """Which masked positions each branch takes, [n, B]: those that reach the threshold, and its most confident."""
    reach = (np.exp(score) >= threshold) & masked
    best = np.where(masked, score, -np.inf).argmax(axis=1)
    (rows,) = masked.any(axis=1).nonzero()
    reach[rows, best[rows]] = True
    return reach


def draft_verdicts(taken: Bools, token: Ints, drafts: Ints, tokens: Ints) -> Bools:
    """Which drafts each branch takes with the drafted token, [n, 4]; False for drafts that there are not."""
    takes = np.zeros((len(taken), 4), bool)
    takes[:, : len(drafts)] = taken.take(drafts, axis=1) & (token.take(drafts, axis=1) == tokens)
    return takes


def own_positions(masked: Bools, shift: int) -> Bools:
    """Offsets that each of stage 2's branches feeds by itself, [B]: its masks and the rows that predict them."""
    own = masked.copy()
    own[: len(own) - shift] |= masked[shift:]
    return own


def fed_tokens(block_length: int, own: int, layout: Layout) -> int:
    """Tokens that a step feeds: whole copies; in stage 2, the block and each branch's ``own`` positions."""
    if layout is not SHARE:
        return len(layout) * block_length
    return block_length + (len(SHARE) - 1) * own
