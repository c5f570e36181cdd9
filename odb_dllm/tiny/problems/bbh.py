"""Four of BIG-Bench Hard's subtasks in small: a chain of thought, then ``So the answer is ...``.

What a solution computes follows from the prompt alone; how it says so is drawn apart from it.
"""

import random
from collections.abc import Callable
from functools import partial

from odb_dllm.tiny.problems import bbh_boolean, bbh_counting, bbh_dates, bbh_tracking
from odb_dllm.tiny.problems.bbh_words import Worked
from odb_dllm.tiny.problems.problem import Draw, Problem

Make = Callable[[random.Random, random.Random], Worked]  # from the generator of what is asked and that of wordings
_SEPARATORS = ("\n", " ")  # between the steps of one solution


def _draw(make: Make, rng: random.Random, wording: random.Random) -> Problem:
    """A worked problem in the benchmark's format."""
    worked = make(rng, wording)
    solution = wording.choice(_SEPARATORS).join([*worked.steps, f"So the answer is {worked.target}."])
    document = {"input": worked.text, "target": worked.target, "solution": solution}
    return Problem(worked.key, f"Q: {worked.text}\nA: Let's think step by step.\n", solution, document)


DRAWS: dict[str, Draw] = {
    "boolean_expressions": partial(_draw, bbh_boolean.make),
    "object_counting": partial(_draw, bbh_counting.make),
    "date_understanding": partial(_draw, bbh_dates.make),
    "tracking_shuffled_objects": partial(_draw, bbh_tracking.make),
}
