"""Kinds of problems of the miniature of MATH: sequences and means."""

from random import Random

from odb_dllm.tiny.problems.minerva_math_algebra import Sketch
from odb_dllm.tiny.problems.minerva_math_say import Say, plus


def _nth(n: int) -> str:
    """Which term, from the third on."""
    return f"{n}rd" if n == 3 else f"{n}th"


def arithmetic(rng: Random, say: Say) -> Sketch:
    """A term of an arithmetic sequence."""
    n, d = rng.randint(5, 10), rng.randint(2, 9)
    a = rng.randint(1, min(40, 99 - (n - 1) * d))
    r = a + (n - 1) * d
    lines = [
        say("difference", e=f"{a + d}-{a}", v=d),
        say("steps", n=_nth(n), e=f"{n}-1", v=n - 1),
        say("rise", e=f"{n - 1}{say.times}{d}", v=(n - 1) * d),
        say("last", e=f"{a}+{(n - 1) * d}", r=r),
    ]
    return f"{a} {d} {n}", say("arithmetic", e=rf"{a}, {a + d}, {a + 2 * d}, \ldots", n=_nth(n)), lines, str(r)


def series(rng: Random, say: Say) -> Sketch:
    """The sum of the first terms of an arithmetic sequence, one after the other."""
    n = rng.randint(3, 6)
    d = rng.randint(1, 12 // (n - 1) + 1)
    a = rng.randint(1, (99 - d * n * (n - 1) // 2) // n)
    terms = [a + i * d for i in range(n)]
    shown = ", ".join(map(str, terms[:3]))
    difference = say("difference", e=f"{a + d}-{a}", v=d)
    lines = [difference, say("list", e=", ".join(map(str, terms))), *_sum(say, terms)]
    return f"{a} {d} {n}", say("series", e=shown, n=n), lines, str(sum(terms))


def _sum(say: Say, terms: list[int]) -> list[str]:
    """The lines of a running sum that ends in the answer."""
    lines, total = [], terms[0]
    for i, term in enumerate(terms[1:], 2):
        text = "running_last" if i == len(terms) else "running" if i > 2 else "first"
        lines.append(say(text, e=f"{total}+{term}", v=total + term, r=total + term))
        total += term
    return lines


def geometric(rng: Random, say: Say) -> Sketch:
    """A late term of a geometric sequence, against a number."""
    a, q, n = rng.randint(1, 12), rng.choice((2, 2, 3)), rng.randint(4, 6)
    while a * q ** (n - 1) > 99:
        a, n = rng.randint(1, 12), rng.randint(4, 6)
    r = a * q ** (n - 1)
    k = rng.randint(2, r - 1)
    lines = [say("ratio", e=f"{a * q}/{a}", v=q)]
    for i in range(4, n + 1):
        before = a * q ** (i - 2)
        lines.append(say("grow", n=_nth(i), e=f"{before}{say.times}{q}", v=before * q))
    lines.append(say("exceed", k=k, e=f"{r}-{k}", r=r - k))
    shown = rf"{a}, {a * q}, {a * q * q}, \ldots"
    return f"{a} {q} {n} {k}", say("geometric", e=shown, n=_nth(n), k=k), lines, str(r - k)


def recurrence(rng: Random, say: Say) -> Sketch:
    """The next term is m times the last one, plus s."""
    while True:
        a, m, s, n = rng.randint(1, 20), rng.choice((2, 2, 3, 4, 5)), rng.randint(1, 20), rng.randint(2, 5)
        terms = [a]
        for _ in range(n - 1):
            terms.append(m * terms[-1] + s)
        if n > 2 and terms[-1] <= 99:
            break
    lines = []
    for i, before in enumerate(terms[:-1], 2):
        now = before * m + s
        e, f = f"{m}{say.times}{before}{plus(s)}", f"{m * before}{plus(s)}"
        text = "recur_last" if i == n else "recur_second" if i == 2 else "recur"
        lines.append(say(text, n=_nth(i), e=e, f=f, v=now, r=now))
    return f"{a} {m} {s} {n}", say("recurrence", a=a, m=m, s=s, n=_nth(n)), lines, str(terms[-1])


def mean(rng: Random, say: Say) -> Sketch:
    """The mean of a few numbers: a running sum, then a division."""
    n = rng.randint(3, 6)
    while True:
        numbers = [rng.randint(1, 150 // n) for _ in range(n)]
        total = sum(numbers)
        last = numbers[-1] - total % n
        if last > 0 and total <= 99:
            break
    numbers[-1] = last
    lines, total = [], numbers[0]
    for i, number in enumerate(numbers[1:]):
        lines.append(say("running" if i else "mean_start", e=f"{total}+{number}", v=total + number))
        total += number
    lines.append(say("mean_last", n=n, e=f"{total}/{n}", r=total // n))
    shown = ", ".join(map(str, numbers[:-1])) + f"$ and ${numbers[-1]}"
    return " ".join(map(str, numbers)), say("mean", e=shown), lines, str(total // n)
