"""Bare equations in the notations of the benchmarks."""

import random
from math import lcm

from odb_dllm.tiny.training.marks import marked

LARGEST = 99
_PART_SHARE = 0.4  # of the results of two digits show one of these, as they do when the other is decoded first
SHAPES = {
    "+": ("{a}+{b}=<<{a}+{b}={c}>>{c}\n", "{a} + {b} = {c}. ", "${a}+{b}={c}$, ", "${a}x+{b}x={c}x$, "),
    "-": (
        "{a}-{b}=<<{a}-{b}={c}>>{c}\n",
        "{a} - {b} = {c}. ",
        "${a}-{b}={c}$, ",
        "${a}x-{b}x={c}x$, ",
        "$-{b}+{a}={c}$, ",
        "$-{b}x+{a}x={c}x$, ",
        "${b}-{a}=-{c}$, ",
    ),
    "*": ("{a}*{b}=<<{a}*{b}={c}>>{c}\n", "${a}\\cdot {b}={c}$, ", "${a}\\times {b}={c}$, "),
    "/": ("{a}/{b}=<<{a}/{b}={c}>>{c}\n", "${a}/{b}={c}$, ", "${a}={b}\\cdot {c}$, ", "${a}={b}\\times {c}$, "),
    "//": ("${a}$ by ${b}$: ${a}-{c}\\times {b}$, ", "${a}$ by ${b}$: ${a}-{c}\\cdot {b}$, "),
    "prime": ("${a}$: ${c}$, ",),
    "lcm": ("${a}$, ${b}$: ${c}$, ",),
    "common": ("$\\frac{{{a}}}{{{b}}}$, by ${c}$, ",),
}
_CHANCES = {"+": 0.22, "-": 0.26, "*": 0.16, "/": 0.11, "//": 0.13, "prime": 0.02, "lcm": 0.04, "common": 0.06}


def smallest_factor(*numbers: int) -> int:
    """The smallest number above one that divides them all, or one."""
    return next((d for d in range(2, min(numbers) + 1) if not any(n % d for n in numbers)), 1)


def equation(rng: random.Random) -> tuple[str, int, int, int]:
    """(operator, a, b, c), all between 0 and ``LARGEST``, where c is a op b: "//" is rounded down, "prime" the smallest
    prime factor of a, "common" that of both, "lcm" their least common multiple."""
    operator = rng.choices(list(_CHANCES), list(_CHANCES.values()))[0]
    if operator in "+-":
        c = rng.randint(0, LARGEST)
        a = rng.randint(0, c)
        return ("+", a, c - a, c) if operator == "+" else ("-", c, a, c - a)
    if operator == "//":
        a = rng.randint(4, LARGEST)
        b = rng.randint(2, a // 2)
        return "//", a, b, a // b
    if operator == "prime":
        a = rng.randint(2, LARGEST)
        return "prime", a, a, smallest_factor(a)
    if operator == "common":
        k = rng.choice((1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
        a, b = sorted((k * rng.randint(1, LARGEST // k), k * rng.randint(1, LARGEST // k)))
        return "common", a, b, smallest_factor(a, b)
    if operator == "lcm":
        a = b = LARGEST
        while lcm(a, b) > LARGEST or a == b:
            k = rng.randint(1, 12)
            a, b = k * rng.randint(1, 9), k * rng.randint(2, 9)
        return "lcm", a, b, lcm(a, b)
    a = rng.randint(1, 20)
    b = rng.randint(1, LARGEST // a)
    return ("*", a, b, a * b) if operator == "*" else ("/", a * b, a, b)


def _hidden(rng: random.Random, number: int) -> str:
    """The number marked, or one digit of it."""
    digits = str(number)
    if len(digits) == 1 or rng.random() >= _PART_SHARE:
        return marked(digits)
    return f"{marked(digits[0])}{digits[1]}" if rng.random() < 0.5 else f"{digits[0]}{marked(digits[1])}"


def equations(rng: random.Random, characters: int) -> str:
    """Equations one after the other, each result marked, whole or in part, in the same way wherever it stands."""
    text = ""
    while len(text) < characters:
        operator, a, b, c = equation(rng)
        text += rng.choice(SHAPES[operator]).format(a=a, b=b, c=_hidden(rng, c))
    return text
