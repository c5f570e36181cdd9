"""What is taught when.

Beside answers whose wording cannot be foretold, arithmetic is hardly learnt at all: it is a few tokens of a row, and
masks as while decoding seldom hide a result with all its copies and show what it follows from. Nor is it learnt there
to look up who has what. So a run begins with nothing but drills, in short rows first, where a look-up is learnt much
sooner; then answers are plainly worded, and many are masked from a point on and trained on right behind it, as if
decoded from left to right; some of their wording becomes free only when the problems are understood.
"""

from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Lessons:
    """The lessons at a part of the run."""

    at: float  # this part of the run, from 0 to 1
    short: float  # of the batches are short rows of look-ups
    drills: float  # of the rows of other batches are drills
    look_ups: float  # of these drills are look-ups, others are facts
    points: float  # of the other rows are masked from a point of the answer on
    variety: float  # of the answers' wording, see `problems.problems`


CURRICULUM = (
    Lessons(0.00, short=1.00, drills=1.00, look_ups=0.5, points=0.00, variety=0.0),
    Lessons(0.04, short=1.00, drills=1.00, look_ups=0.5, points=0.00, variety=0.0),
    Lessons(0.05, short=0.30, drills=1.00, look_ups=0.5, points=0.00, variety=0.0),
    Lessons(0.08, short=0.15, drills=1.00, look_ups=0.5, points=0.00, variety=0.0),
    Lessons(0.09, short=0.05, drills=0.25, look_ups=0.4, points=0.50, variety=0.0),
    Lessons(0.30, short=0.00, drills=0.16, look_ups=0.3, points=0.45, variety=0.0),
    Lessons(0.50, short=0.00, drills=0.11, look_ups=0.2, points=0.40, variety=0.0),
    Lessons(0.75, short=0.00, drills=0.07, look_ups=0.2, points=0.35, variety=0.10),
    Lessons(1.00, short=0.00, drills=0.02, look_ups=0.2, points=0.20, variety=0.10),
)


def lessons(at: float) -> Lessons:
    """The lessons at a part of the run, on the straight line between the entries of the curriculum."""
    known = np.array([astuple(each) for each in CURRICULUM]).T
    return Lessons(at, *(float(np.interp(at, known[0], column)) for column in known[1:]))
