"""A miniature of the MATH benchmark: small algebra, number theory and fractions, in lm-eval's minerva_math format.

The solution is worked in steps of one small computation each, boxes the answer as MATH does, and ends in the sentence
that lm-eval reads the answer from. The sentences are in `minerva_math_words.py`, the kinds of problems in the others.
"""

import re
from itertools import accumulate
from random import Random

from odb_dllm.tiny.problems import minerva_math_algebra as algebra
from odb_dllm.tiny.problems import minerva_math_numbers as numbers
from odb_dllm.tiny.problems import minerva_math_sequences as sequences
from odb_dllm.tiny.problems.minerva_math_say import Say
from odb_dllm.tiny.problems.problem import Problem

WEIGHTS = {  # how often each kind is drawn; less where there are few different problems
    algebra.shift: 10,
    algebra.missing: 9,
    algebra.plug: 9,
    algebra.scaled: 5,
    algebra.two_step: 6,
    algebra.then_value: 4,
    algebra.both_sides: 5,
    algebra.bracket: 5,
    algebra.substitute: 5,
    algebra.quadratic: 4,
    algebra.cubic: 4,
    algebra.line_system: 5,
    algebra.sum_difference: 5,
    algebra.expand: 4,
    algebra.collect: 6,
    algebra.chain: 8,
    algebra.order: 4,
    algebra.brackets: 4,
    sequences.arithmetic: 3,
    sequences.series: 2,
    sequences.geometric: 3,
    sequences.recurrence: 3,
    sequences.mean: 4,
    numbers.euclid: 6,
    numbers.lcm: 1,
    numbers.lights: 3,
    numbers.remainder: 4,
    numbers.product_remainder: 4,
    numbers.factorise: 0.5,
    numbers.prime_sums: 3,
    numbers.divisor_counts: 4,
    numbers.divisors: 4,
    numbers.units_product: 6,
    numbers.units_power: 2,
    numbers.digit_sum: 6,
    numbers.to_base: 2,
    numbers.from_base: 2,
    numbers.reduce: 4,
    numbers.same_bottom: 6,
    numbers.unlike: 4,
    numbers.multiply: 4,
    numbers.divide: 4,
    numbers.fraction_of: 4,
}
LONGEST = 450  # characters of a solution, about 190 tokens
LARGEST = 99  # number
LONG_NUMBERS = (numbers.digit_sum, numbers.to_base, numbers.from_base)  # are read digit by digit
_KINDS, _UP_TO = list(WEIGHTS), list(accumulate(WEIGHTS.values()))


def prompt(problem: str) -> str:
    """A problem as lm-eval's minerva_math asks it."""
    return f"Problem:\n{problem}\n\nSolution:"


def _fits(text: str, final: str, long_numbers: bool) -> bool:
    """Whether the numbers are small, and the answer is reduced, which takes primes up to 23 alone."""
    small = long_numbers or max(map(int, re.findall(r"\d+", text)), default=0) <= LARGEST
    return small and not re.fullmatch(r"\\frac\{(\d+)\}\{\1\}", final)


def draw(rng: Random, wording: Random) -> Problem:
    """A problem of any kind, in wordings that the generator chooses."""
    while True:
        kind = rng.choices(_KINDS, cum_weights=_UP_TO)[0]
        key, problem, lines, final = kind(rng, Say(wording))
        worked = (" " if wording.random() < 0.5 else "\n").join(lines)
        solution = f"{worked}\nFinal Answer: The final answer is ${final}$. I hope it is correct."
        if len(solution) <= LONGEST and _fits(problem + solution, final, kind in LONG_NUMBERS):
            document = {"problem": problem, "solution": solution}
            return Problem(f"{kind.__name__} {key}", prompt(problem), f" {solution}", document)
