"""Which drafts are worth their time: those that yield most decoder steps per millisecond, by what came true so far.

A guess is a set of drafts that the block may hold some steps from now. The threshold rule takes the most confident mask
and whatever else reaches the threshold, so the next state is mostly "the first draft too", now and then "the second
one" or "the first two". How often each of these comes true is counted, and nothing else. A draft's confidence is not
asked: it is below the threshold, older than the last tokens, and the surer the first draft was, the less often it comes
true alone, since then others reach the threshold with it.
"""

from collections import Counter
from functools import cache, lru_cache

from odb_dllm.contract import Bools, Ints
from odb_dllm.costs import Budget
from odb_dllm.speculation import Layout

MOST = 8  # branches
Outcome = tuple[int, ...] | None  # the drafts that a step took, by rank among those not yet held; None: anything else
GRAIN = 0.04  # chances are rounded to this, so that few layouts are ever made and what is rare is no guess
# What is believed before anything was counted, as if so many steps had been seen.
PRIOR: dict[Outcome, float] = {(0,): 5.0, (1,): 1.5, (0, 1): 0.5, None: 5.0}


class Drafter:
    """Chooses each step's branches for one generation, from counts of what its steps did."""

    def __init__(self, budget: Budget, block_length: int) -> None:
        self.budget, self.block_length = budget, block_length
        self.counts = Counter(PRIOR)

    def note(self, outcome: Outcome) -> None:
        """Count what a step took."""
        self.counts[outcome] += 1

    def layout(self, masks: int) -> Layout:
        """The drafts that each branch of a block with so many masks holds; ((),) where none is worth its time."""
        total = sum(self.counts.values())
        chances = {outcome: round(n / total / GRAIN) * GRAIN for outcome, n in self.counts.items() if outcome}
        layout, steps = likeliest(tuple(each for each in sorted(chances.items()) if each[1]), min(masks, MOST + 1))
        costs = (self.budget.milliseconds(count * self.block_length) for count in range(1, len(layout) + 1))
        rates = [each / cost for each, cost in zip(steps, costs, strict=True)]
        return layout[: 1 + rates.index(max(rates))]


@lru_cache(maxsize=2**12)
def likeliest(chances: tuple[tuple[tuple[int, ...], float], ...], masks: int) -> tuple[Layout, list[float]]:
    """The states of a block that are worth most to guess, and the steps expected of one forward that feeds the first n.

    A state is the drafts that it holds, with a mask left to predict. It yields a step where it is visited: behind (),
    which always is, or behind another that is fed. Each is chosen for the steps that it adds to those before it.

    Args:
        chances: of each outcome.
        masks: in the block; more than ``MOST`` make no difference.
    """
    drafts = min(masks, MOST)
    visits: dict[tuple[int, ...], float] = {}  # of each state that is fed
    within: dict[tuple[int, ...], float] = {(): 1.0}  # visits of each that is one step behind those, if it were fed

    @cache
    def following(state: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
        rest = [draft for draft in range(drafts) if draft not in state]
        after = [
            (tuple(sorted((*state, *(rest[rank] for rank in outcome)))), chance)
            for outcome, chance in chances
            if outcome[-1] < len(rest)
        ]
        return [each for each in after if len(each[0]) < masks]

    def worth(state: tuple[int, ...]) -> float:
        """Steps of a visit."""
        return 1.0 + sum(chance * worth(after) for after, chance in following(state) if after in visits)

    def visit(state: tuple[int, ...], times: float) -> None:
        visits[state] += times
        for after, chance in following(state):
            if after in visits:
                visit(after, times * chance)
            else:
                within[after] = within.get(after, 0.0) + times * chance

    steps: list[float] = []
    while within and len(visits) < MOST:
        state = max(within, key=lambda each: within[each] * worth(each))
        visits[state] = 0.0
        visit(state, within.pop(state))
        steps.append(sum(visits.values()))
    return tuple(visits), steps


def outcome_of(held: tuple[int, ...], taken: Bools, tokens: Ints, drafts: Ints, draft_tokens: Ints) -> Outcome:
    """What a branch that holds some drafts took: drafts alone, with the tokens drafted, or anything else.

    Args:
        held: the drafts that it holds.
        taken: bool [B].
        tokens: predicted by the branch [B].
        drafts: offsets of all drafts [d], the most confident first.
        draft_tokens: [d].
    """
    right = taken[drafts] & (tokens[drafts] == draft_tokens)
    rest = [draft for draft in range(len(drafts)) if draft not in held]
    outcome = tuple(rank for rank, draft in enumerate(rest) if right[draft])
    return outcome if len(outcome) == taken.sum() else None
