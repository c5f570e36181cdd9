"""Bare equations in the notations of the benchmarks: a dense lesson in arithmetic for the beginning of the training."""

import random

LARGEST = 99
SHAPES = {
    "+": ("{a}+{b}=<<{a}+{b}={c}>>{c}\n", "{a} + {b} = {c}. ", "${a}+{b}={c}$, "),
    "-": ("{a}-{b}=<<{a}-{b}={c}>>{c}\n", "{a} - {b} = {c}. ", "${a}-{b}={c}$, "),
    "*": ("{a}*{b}=<<{a}*{b}={c}>>{c}\n", "${a}\\cdot {b}={c}$, ", "${a}\\times {b}={c}$, "),
    "/": ("{a}/{b}=<<{a}/{b}={c}>>{c}\n", "${a}/{b}={c}$, "),
}
_CHANCES = {"+": 0.35, "-": 0.35, "*": 0.18, "/": 0.12}


def equation(rng: random.Random) -> tuple[str, int, int, int]:
    """(operator, a, b, c) with a op b = c, all between 0 and ``LARGEST``."""
    operator = rng.choices(list(_CHANCES), list(_CHANCES.values()))[0]
    if operator in "+-":
        c = rng.randint(0, LARGEST)
        a = rng.randint(0, c)
        return ("+", a, c - a, c) if operator == "+" else ("-", c, a, c - a)
    a = rng.randint(1, 20)
    b = rng.randint(1, LARGEST // a)
    return ("*", a, b, a * b) if operator == "*" else ("/", a * b, a, b)


def drill(rng: random.Random, characters: int) -> tuple[str, list[tuple[int, int]]]:
    """A text of at least so many characters, and the spans of the results in it."""
    text, spans = "", []
    while len(text) < characters:
        operator, a, b, c = equation(rng)
        left, *rest = rng.choice(SHAPES[operator]).split("{c}")
        text += left.format(a=a, b=b)
        for part in rest:
            spans.append((len(text), len(text) + len(str(c))))
            text += str(c) + part
    return text, spans
