"""What a sampler asks of the engine, what it gets back, and what it tells those who watch.

Everything that the settings do is one request, answered again and again: feed these tokens, let them see those
cached positions, tell me the predictions here. The sampler knows nothing of devices and batches, the engine
nothing of settings.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Range = tuple[int, int]  # [first, one past the last)
Score = Literal["confidence", "margin", "entropy"]


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn; the noise depends on the seed, the sequence and the forward (and the position) alone.

    ``top_p`` keeps the smallest set of tokens whose probability exceeds it, ``top_k`` then so many of them.
    """

    temperature: float  # 0: the arg-max, of what the two below leave
    seed: int
    sequence: int
    forward: int
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: logits = un + (scale + 1) * (logits - un), un being those for ``tokens``."""

    tokens: Ints  # [n], the fed tokens without their condition
    scale: float


@dataclass(frozen=True)
class Forward:
    """One forward pass over some tokens of one sequence.

    Fed tokens i and j see each other when they are of the same branch, or when j is ``shared`` (only tokens of
    branch 0 may be). Cached positions in ``sees`` are seen by every fed token.
    """

    kind: Literal["refresh", "step"]
    tokens: Ints  # [n]
    positions: Ints  # [n], true canvas positions, ascending within a branch
    targets: Ints  # [t, 2], (branch, position) pairs whose prediction is wanted
    end: int  # canvas end: whatever is cached at or past it is dropped
    sees: tuple[Range, ...] = ()  # ranges of cached positions, ascending and apart from the fed ones
    store: Range | None = None  # keep the K/V of fed positions in this range; needs a single branch
    # [p], tokens of [0, p) whose K/V this forward finds in the cache, where there were none: those that the tokens have
    # when they see each other alone. The engine computes them, or remembers them from another sequence.
    prefix: Ints | None = None
    branch: Ints | None = None  # [n]; None: all are of branch 0
    shared: Bools | None = None  # [n]; None: none is
    draw: Draw | None = None  # None: arg-max of the plain logits
    guidance: Guidance | None = None
    labels: Ints | None = None  # [t]; score these tokens instead of predicting any
    score: Score = "confidence"  # what Prediction.score is

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Prediction:
    """One row per target of the Forward, in its order."""

    token: Ints  # [t]
    log_confidence: Floats  # [t], natural log of the softmax probability of ``token``
    finite: Bools  # [t], False where the logits held NaN or infinity
    # [t], by which positions are ranked, higher first: the log confidence (where None too), the margin between the
    # two most probable tokens minus 1, or the negative entropy in nats.
    score: Floats | None = None

    @property
    def confidence(self) -> Floats:
        return np.exp(self.log_confidence)

    @property
    def rank(self) -> Floats:
        """The score, which is the log confidence where no other was asked for."""
        return self.log_confidence if self.score is None else self.score

    def __getitem__(self, rows: Bools) -> "Prediction":
        return Prediction(self.token[rows], self.log_confidence[rows], self.finite[rows], self.rank[rows])


@dataclass(frozen=True)
class Event:
    """One forward of one sequence as seen from outside: what it fed and what came of it."""

    kind: Literal["refresh", "step"]
    sequence: int  # which generation; in generate() the index of its prompt
    forward: int  # index of this forward in its generation, from 0
    block: Range  # canvas positions of the current block
    end: int  # canvas end after this forward
    fed: int  # tokens fed, branches included
    cached: int  # cached positions seen
    accepted: Ints  # canvas positions decided by this forward, ascending
    tokens: Ints  # what they became
    confidence: Floats  # softmax probability of each where it was last predicted
    masks_left: int  # in the block, after this forward
    drafts: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # drafted positions, most confident first
    branch: int | None = None  # the branch chosen, where there were several
    predicted_length: int | None = None  # canvas end minus prompt, where this forward predicted a length


class Pass(NamedTuple):
    """One forward of one sequence in numbers; a generation keeps those of all its forwards."""

    kind: Literal["refresh", "step"]
    fed: int  # tokens, branches included
    cached: int  # cached positions seen
    read: int  # predictions asked for: rows of the vocabulary head
    block: int  # index of the block, from 0
    length: int  # response length after this forward: canvas end minus prompt
    accepted: int  # positions decided by it
    branches: int  # fed; 1 without speculation
    drafts: int = 0  # offered, held by some of the branches
    chosen: int = 0  # the branch that was gone on with
