"""Kinds of problems of the miniature of MATH: number theory and fractions; see `minerva_math_algebra.py`."""

from math import gcd, prod
from random import Random

from odb_dllm.tiny.problems.minerva_math_algebra import Sketch
from odb_dllm.tiny.problems.minerva_math_say import Say, fraction


def _division(say: Say, a: int, b: int) -> tuple[str, int]:
    """A division with remainder as an equation's left side, and the remainder: ``47-3*14=47-42``."""
    q = a // b
    return (f"{a}-{b}", a - b) if q == 1 else (f"{a}-{q}{say.times}{b}={a}-{q * b}", a % b)


def euclid(rng: Random, say: Say) -> Sketch:
    """The greatest common divisor of two numbers, by Euclid's algorithm."""
    g = rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12))
    b = g * rng.randint(2, 60 // g)
    a = g * rng.randint(b // g + 1, 99 // g)
    key, question = f"{a} {b}", say("gcd", a=a, b=b)
    lines: list[str] = []
    while b:
        e, rest = _division(say, a, b)
        lines.append(say("gcd_next" if lines else "gcd_first", a=a, b=b, e=e, v=rest))
        a, b = b, rest
    return key, question, [*lines, say("gcd_last", r=a, c="divisor" if "divisor" in question else "factor")], str(a)


def _lcm(rng: Random, say: Say, most: int) -> tuple[int, int, int, list[str]]:
    """Two numbers, their least common multiple, and the lines that find it among the multiples of the larger."""
    a, b = 9, 11
    while a * b // gcd(a, b) > most or b // gcd(a, b) > 8 or b % a == 0:
        g = rng.randint(1, 12)
        a, b = sorted((g * rng.randint(1, 9), g * rng.randint(2, 9)))
    goal, lines, m = a * b // gcd(a, b), [], b
    for i in range(2, goal // b + 1):
        lines.append(say("lcm_no", m=m, a=a))
        m = i * b
        if m < goal:
            lines.append(say("lcm_next", e=f"{i}{say.times}{b}", m=m))
    pair = (a, b) if rng.random() < 0.5 else (b, a)
    lines.append(say("lcm_times", a=a, b=b, i=goal // b, m=goal, j=goal // a))
    return *pair, goal, lines


def lcm(rng: Random, say: Say) -> Sketch:
    """The least common multiple of two numbers."""
    a, b, r, lines = _lcm(rng, say, 99)
    return f"{a} {b}", say("lcm", a=a, b=b), [*lines, say("answer", r=r)], str(r)


def lights(rng: Random, say: Say) -> Sketch:
    """When two lights that blink regularly next do so together."""
    a, b, m, lines = _lcm(rng, say, 90)
    s = rng.randint(1, 99 - m)
    lines = [say("lcm_goal", a=a, b=b), *lines, say("last", e=f"{s}+{m}", r=s + m)]
    return f"{s} {a} {b}", say("lights", s=s, a=a, b=b, u=rng.choice(("second", "minute"))), lines, str(s + m)


def remainder(rng: Random, say: Say) -> Sketch:
    """The remainder of a division."""
    b = rng.randint(3, 20)
    a = rng.randint(b + 1, 99)
    q = a // b
    lines = [say("fit", a=a, b=b, e=f"{q}{say.times}{b}", v=q * b), say("left", e=f"{a}-{q * b}", r=a % b)]
    return f"{a} {b}", say("remainder", a=a, b=b), lines, str(a % b)


def product_remainder(rng: Random, say: Say) -> Sketch:
    """The remainder of a product, from those of its factors."""
    m = rng.randint(3, 9)
    a, b = rng.randint(m + 1, 50), rng.randint(m + 1, 50)
    lines = [say("rest", a=n, b=m, e=_division(say, n, m)[0], v=n % m) for n in (a, b)]
    both = (a % m) * (b % m)
    rests = f"{a % m}{say.times}{b % m}"
    if both < m:
        lines += [say("rests", e=rests, v=both), say("answer", r=both)]
    else:
        lines += [
            say("rests", e=rests, v=both),
            say("rest_last", a=both, b=m, e=_division(say, both, m)[0], r=both % m),
        ]
    return f"{a} {b} {m}", say("product_rest", a=a, c=b, b=m), lines, str(both % m)


def prime_factors(n: int) -> list[int]:
    """The prime factors of a number from 2 to 99, in order."""
    found = []
    for p in (2, 3, 5, 7):
        while n % p == 0 and n > p:
            found.append(p)
            n //= p
    return [*found, n]


FACTORS = {n: prime_factors(n) for n in range(2, 100)}
_EASY = [n for n, found in FACTORS.items() if 2 <= len(found) <= 5]
_PAIRED = [n for n, found in FACTORS.items() if 1 <= len(found) <= 4 and n > 3]


def _powers(primes: list[int]) -> str:
    """A product of powers: ``2^2\\cdot 3``; the same sign always, as it may be graded."""
    counts = [(p, primes.count(p)) for p in sorted(set(primes))]
    return r"\cdot ".join(str(p) if count == 1 else f"{p}^{count}" for p, count in counts)


def _trial(say: Say, n: int) -> list[str]:
    """The lines of a trial division."""
    lines = []
    for p in FACTORS[n][:-1]:
        lines.append(say("split", a=n, p=p, e=f"{p}{say.times}{n // p}"))
        n //= p
    return [*lines, say("prime", a=n)]


def factorise(rng: Random, say: Say) -> Sketch:
    """The prime factorization of a number."""
    n = rng.choice(_EASY)
    r = _powers(FACTORS[n])
    return str(n), say("factorise", a=n), [*_trial(say, n), say("answer", r=r)], r


def prime_sums(rng: Random, say: Say) -> Sketch:
    """The sums of the prime factors of two numbers, added."""
    a, b = rng.choice(_PAIRED), rng.choice(_PAIRED)
    while sum(FACTORS[a] + FACTORS[b]) > 99 or len(FACTORS[a] + FACTORS[b]) > 6:
        a, b = rng.choice(_PAIRED), rng.choice(_PAIRED)
    lines, sums = [], []
    for n in (a, b):
        found = FACTORS[n]
        sums.append(sum(found))
        shown = "+".join(map(str, found))
        last = say("s_of", a=n, e=shown, v=sum(found)) if len(found) > 1 else say("s_prime", a=n)
        lines += [*_trial(say, n), last]
    lines.append(say("last", e=f"{sums[0]}+{sums[1]}", r=sum(sums)))
    return f"{a} {b}", say("prime_sums", a=a, b=b), lines, str(sum(sums))


def divisor_counts(rng: Random, say: Say) -> Sketch:
    """The numbers of divisors of two numbers, added."""
    a, b = rng.choice(_PAIRED), rng.choice(_PAIRED)
    while len(FACTORS[a] + FACTORS[b]) > 5:
        a, b = rng.choice(_PAIRED), rng.choice(_PAIRED)
    lines, counts = [], []
    for n in (a, b):
        found = FACTORS[n]
        more = [found.count(p) + 1 for p in sorted(set(found))]
        counts.append(prod(more))
        lines += _trial(say, n)
        if len(found) == 1:
            lines.append(say("d_prime", a=n))
            continue
        lines.append(say("powers", a=n, e=_powers(found).replace(r"\cdot ", say.times)))
        e = say.times.join(map(str, more))
        lines.append(
            say("d_of", a=n, e=e, v=prod(more))
            if len(more) > 1
            else say("d_power", a=n, e=f"{more[0] - 1}+1", v=more[0])
        )
    lines.append(say("last", e=f"{counts[0]}+{counts[1]}", r=sum(counts)))
    return f"{a} {b}", say("d_sums", a=a, b=b), lines, str(sum(counts))


def divisors(rng: Random, say: Say) -> Sketch:
    """The number of divisors of a product of powers."""
    primes = sorted(rng.sample((2, 3, 5, 7, 11, 13), rng.choice((2, 2, 3))))
    while True:
        exponents = [rng.randint(1, 9 if len(primes) == 2 else 4) for _ in primes]
        more = [e + 1 for e in exponents]
        if prod(more) <= 99:
            break
    shown = r"\cdot ".join(f"{p}^{e}" if e > 1 else str(p) for p, e in zip(primes, exponents, strict=True))
    lines = [
        say("exponents", e=_and(exponents)),
        say("raised", e=_and(more)),
    ]
    total = more[0]
    for i, each in enumerate(more[1:], 2):
        text = "count_last" if i == len(more) else "product"
        lines.append(say(text, e=f"{total}{say.times}{each}", v=total * each, r=total * each))
        total *= each
    return shown.replace(r"\cdot ", " "), say("divisors", e=shown), lines, str(total)


def _and(numbers: list[int]) -> str:
    """Numbers as a list within dollar signs."""
    return "$, $".join(map(str, numbers[:-1])) + f"$ and ${numbers[-1]}"


def units_product(rng: Random, say: Say) -> Sketch:
    """The last digit of a product."""
    numbers = [rng.randint(12, 99) for _ in range(rng.choice((2, 2, 3, 4)))]
    while any(n % 10 < 2 for n in numbers):
        numbers = [rng.randint(12, 99) for _ in numbers]
    last = _units(say, numbers)
    return " ".join(map(str, numbers)), say("units_product", e=say.times.join(map(str, numbers))), *last


def units_power(rng: Random, say: Say) -> Sketch:
    """The last digit of a power, one factor after the other."""
    a, n = rng.randint(2, 99), rng.randint(3, 7)
    while a % 10 in (0, 1, 5, 6):
        a = rng.randint(2, 99)
    return f"{a} {n}", say("units_product", e=f"{a}^{n}"), *_units(say, [a] * n)


def _units(say: Say, factors: list[int]) -> tuple[list[str], str]:
    """The lines that find the last digit of a product, and that digit."""
    unit = factors[0] % 10
    lines = [say("units_start", a=factors[0], d=unit)]
    for factor in factors[1:]:
        d = factor % 10
        after = unit * d
        lines.append(say("ends", d=d, e=f"{unit}{say.times}{d}", v=after, u=after % 10))
        unit = after % 10
    return [*lines, say("answer", r=unit)], str(unit)


def digit_sum(rng: Random, say: Say) -> Sketch:
    """The sum of the digits of a number, or its remainder by nine."""
    digits = [rng.randint(1, 9) for _ in range(rng.choice((3, 4, 5, 6)))]
    number, total, nines = "".join(map(str, digits)), digits[0], rng.random() < 0.5
    lines = [say("nines_why")] if nines else []
    for i, digit in enumerate(digits[1:], 2):
        text = "running_last" if i == len(digits) and not nines else "running" if i > 2 else "first"
        lines.append(say(text, e=f"{total}+{digit}", v=total + digit, r=total + digit))
        total += digit
    if not nines:
        return number, say("digits", a=number), lines, str(total)
    if total > 8:
        lines.append(say("rest_last", a=total, b=9, e=_division(say, total, 9)[0], r=total % 9))
    else:
        lines.append(say("answer", r=total))
    return f"{number} 9", say("nines", a=number), lines, str(total % 9)


def to_base(rng: Random, say: Say) -> Sketch:
    """A number in another base, by repeated division."""
    b = rng.choice((2, 2, 3, 4, 5, 6, 7))
    n = rng.randint(b + 1, 63 if b == 2 else 99)
    left, digits, lines = n, "", []
    while left:
        q, d = divmod(left, b)
        lines.append(say("divide", a=left, b=b, e=_division(say, left, b)[0], v=d) if q else say("below", a=left))
        left, digits = q, f"{d}{digits}"
    return f"{n} {b}", say("to_base", a=n, b=b), [*lines, say("upwards", r=digits)], digits


def from_base(rng: Random, say: Say) -> Sketch:
    """A number of another base in base ten, digit by digit."""
    b = rng.choice((2, 2, 3, 4, 5, 6, 7))
    n = rng.randint(b + 1, 99)
    left = n
    digits: list[int] = []
    while left:
        left, d = divmod(left, b)
        digits.insert(0, d)
    total, lines = digits[0], [say("leading", v=digits[0])]
    for i, d in enumerate(digits[1:], 2):
        text = "digit_last" if i == len(digits) else "digit"
        e, f = f"{b}{say.times}{total}+{d}", f"{b * total}+{d}"
        total = b * total + d
        lines.append(say(text, d=d, e=e, f=f, v=total, r=total))
    return f"{n} {b}", say("from_base", a="".join(map(str, digits)), b=b), lines, str(n)


def _reduced(say: Say, top: int, bottom: int) -> tuple[list[str], str]:
    """The lines that bring a fraction to lowest terms and say the answer, and that."""
    lines = []
    for p in (2, 3, 5, 7, 11, 13, 17, 19, 23):
        while top % p == 0 and bottom % p == 0:
            top, bottom = top // p, bottom // p
            lines.append(say("cancel", p=p, e=rf"\frac{{{top * p}}}{{{bottom * p}}}={fraction(top, bottom)}"))
    r = fraction(top, bottom)
    return [*lines, say("answer" if lines or bottom == 1 else "lowest", r=r)], r


def _proper(rng: Random, most: int) -> tuple[int, int]:
    """A fraction below one, in lowest terms."""
    while True:
        bottom = rng.randint(2, most)
        top = rng.randint(1, bottom - 1)
        if gcd(top, bottom) == 1:
            return top, bottom


def reduce(rng: Random, say: Say) -> Sketch:
    """A fraction to lowest terms."""
    top, bottom = _proper(rng, 33)
    k = rng.choice([k for k in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 24) if k * bottom <= 99])
    top, bottom = k * top, k * bottom
    return f"{top} {bottom}", say("reduce", e=fraction(top, bottom)), *_reduced(say, top, bottom)


def same_bottom(rng: Random, say: Say) -> Sketch:
    """The sum or the difference of two fractions with the same denominator."""
    n = rng.randint(3, 40)
    a, b = rng.randint(1, n - 1), rng.randint(1, n - 1)
    sign = "-" if a > b and rng.random() < 0.5 else "+"
    top = a + b if sign == "+" else a - b
    lines = [say("numerators", e=f"{a}{sign}{b}", v=top), say("fraction_is", e=rf"\frac{{{top}}}{{{n}}}")]
    last, r = _reduced(say, top, n)
    return f"{a} {sign} {b} {n}", say("fraction", e=f"{fraction(a, n)}{sign}{fraction(b, n)}"), [*lines, *last], r


def unlike(rng: Random, say: Say) -> Sketch:
    """The sum or the difference of two fractions with different denominators."""
    (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    while m == n or m * n // gcd(m, n) > 60:
        (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    common = m * n // gcd(m, n)
    p, q = a * (common // m), b * (common // n)
    sign = "-" if p > q and rng.random() < 0.5 else "+"
    lines = [say("common", v=common)]
    for top, bottom in ((a, m), (b, n)):
        if (k := common // bottom) > 1:
            f = rf"\frac{{{top}{say.times}{k}}}{{{bottom}{say.times}{k}}}"
            lines.append(say("widen", e=fraction(top, bottom), f=f, v=rf"\frac{{{top * k}}}{{{common}}}"))
    top = p + q if sign == "+" else p - q
    lines += [say("numerators", e=f"{p}{sign}{q}", v=top), say("fraction_is", e=rf"\frac{{{top}}}{{{common}}}")]
    last, r = _reduced(say, top, common)
    return f"{a} {m} {sign} {b} {n}", say("fraction", e=f"{fraction(a, m)}{sign}{fraction(b, n)}"), [*lines, *last], r


def _product(say: Say, a: int, m: int, b: int, n: int) -> tuple[list[str], str]:
    """The lines of a product of two fractions, and the answer."""
    lines = [say("numerators", e=f"{a}{say.times}{b}", v=a * b), say("bottoms", e=f"{m}{say.times}{n}", v=m * n)]
    last, r = _reduced(say, a * b, m * n)
    return [*lines, say("fraction_is", e=rf"\frac{{{a * b}}}{{{m * n}}}"), *last], r


def multiply(rng: Random, say: Say) -> Sketch:
    """The product of two fractions."""
    (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    while m * n > 99:
        (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    question = say("fraction", e=f"{fraction(a, m)}{say.times}{fraction(b, n)}")
    return f"{a} {m} {b} {n}", question, *_product(say, a, m, b, n)


def divide(rng: Random, say: Say) -> Sketch:
    """The quotient of two fractions."""
    (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    while m * b > 99 or a * n > 99 or b < 2:
        (a, m), (b, n) = _proper(rng, 12), _proper(rng, 12)
    lines, r = _product(say, a, m, n, b)
    question = say("fraction", e=rf"{fraction(a, m)}\div {fraction(b, n)}")
    return f"{a} {m} {b} {n}", question, [say("flip", a=fraction(b, n), e=fraction(n, b)), *lines], r


def fraction_of(rng: Random, say: Say) -> Sketch:
    """A number more than a fraction of another."""
    (top, bottom), most = _proper(rng, 9), 12
    one = rng.randint(2, min(most, 99 // bottom))
    n, part = one * bottom, one * top
    k = rng.randint(1, 99 - part)
    share = fraction(1, bottom)
    lines = [say("of_one", e=share, a=n, f=f"{n}/{bottom}", v=one)]
    if top > 1:
        lines.append(say("of_many", m=top, e=f"{top}{say.times}{one}", v=part))
    lines.append(say("last", e=f"{part}+{k}", r=part + k))
    return f"{top} {bottom} {n} {k}", say("of", e=fraction(top, bottom), a=n, k=k), lines, str(part + k)
