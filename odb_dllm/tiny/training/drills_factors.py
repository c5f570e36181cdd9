"""How many prime factors a number has, the smallest, and what is left without it.

The count says how many steps a trial division takes, which parallel decoding settles before their results stand there.
"""

import random

from odb_dllm.tiny.problems.minerva_math_numbers import FACTORS
from odb_dllm.tiny.training.marks import marked

_COMPOSITE_SHARE = 0.7  # of the numbers, more than by chance
_COMPOSITE = [n for n, found in FACTORS.items() if len(found) > 1]


def factors(rng: random.Random, characters: int) -> str:
    """One number after the other; of a prime, 1 is left."""
    text = ""
    while len(text) < characters:
        n = rng.choice(_COMPOSITE if rng.random() < _COMPOSITE_SHARE else list(FACTORS))
        first, count = FACTORS[n][0], len(FACTORS[n])
        text += f"${n}$: {marked(count)} primes, by ${marked(first)}$ to ${marked(n // first)}$. "
    return text
