"""Kinds of problems of the miniature of MATH: equations, polynomials, systems, sequences and plain arithmetic.

A kind is a function of the random generator and the one that says sentences; it gives the numbers that tell its
problems apart, the question, the lines of the solution and the final answer. No number is above 99.
"""

from collections.abc import Callable
from random import Random

from odb_dllm.tiny.problems.minerva_math_say import Say, linear, plus, polynomial

Sketch = tuple[str, str, list[str], str]  # numbers, question, lines, final answer
Kind = Callable[[Random, Say], Sketch]
NAMES = "xyzntkabm"


def shift(rng: Random, say: Say) -> Sketch:
    """x + a = c or x - a = c."""
    v, form, a = rng.choice(NAMES), rng.randrange(4), rng.randint(2, 49)
    x = rng.randint(a + 1, 99) if form == 1 else rng.randint(-9, 50)
    c = x - a if form == 1 else x + a
    e = (f"{v}+{a}={c}", f"{v}-{a}={c}", f"{a}+{v}={c}", f"{c}={v}+{a}")[form]
    text, e_last = ("put_last", f"{c}+{a}") if form == 1 else ("take_last", f"{c}-{a}")
    return f"{form} {a} {c}", say("solve", v=v, e=e), [say(text, a=a, l=v, e=e_last, r=x)], str(x)


def missing(rng: Random, say: Say) -> Sketch:
    """What must be added to a number to get another."""
    a = rng.randint(2, 90)
    c = rng.randint(a + 2, 99)
    return f"{a} {c}", say("missing", a=a, c=c), [say("short", e=f"{c}-{a}", r=c - a)], str(c - a)


def plug(rng: Random, say: Say) -> Sketch:
    """x + b, b + x, x - b or b - x at x."""
    v, a, form = rng.choice(NAMES), rng.randint(2, 60), rng.randrange(4)
    b = rng.randint(2, 99 - a) if form < 2 else rng.randint(2, a) if form == 2 else rng.randint(a, 99)
    e = (f"{v}+{b}", f"{b}+{v}", f"{v}-{b}", f"{b}-{v}")[form]
    r = (a + b, a + b, a - b, b - a)[form]
    line = say("insert_short", p=v, a=a, e=e.replace(v, str(a)), r=r)
    return f"{form} {a} {b}", say("at", e=e, p=v, a=a), [line], str(r)


def scaled(rng: Random, say: Say) -> Sketch:
    """a x = c or x / a = c, and the value of x + k or x - k."""
    v, a = rng.choice(NAMES), rng.randint(2, 9)
    if rng.random() < 0.5:
        x = rng.randint(2, min(20, 99 // a))
        c = a * x
        form, e, line = "*", f"{a}{v}={c}", say("part", a=a, l=v, e=f"{c}/{a}", v=x)
    else:
        c = rng.randint(2, min(20, 99 // a))
        x = a * c
        form, e, line = "/", rf"\frac{{{v}}}{{{a}}}={c}", say("multiply", a=a, l=v, e=f"{a}{say.times}{c}", v=x)
    k = rng.randint(2, 99 - x) if x < 12 or (x < 97 and rng.random() < 0.5) else -rng.randint(2, x - 1)
    last = say("insert", w=f"{v}{plus(k)}", e=f"{x}{plus(k)}", r=x + k)
    return f"{form} {a} {c} {k}", say("value", w=f"{v}{plus(k)}", e=e), [line, last], str(x + k)


def _two_step(rng: Random) -> tuple[str, int, int, int, int]:
    """name, a, x, b, c with a x + b = c."""
    a = rng.randint(2, 9)
    x = rng.randint(2, min(15, 90 // a))
    b = rng.randint(1, 99 - a * x) if rng.random() < 0.5 else -rng.randint(1, a * x - 1)
    return rng.choice(NAMES), a, x, b, a * x + b


def _undo(say: Say, v: str, a: int, b: int, c: int, last: bool) -> list[str]:
    """The lines that solve a v + b = c."""
    m = c - b
    x = m // a
    lines = []
    if b:
        text = "take" if b > 0 else "put"
        if a == 1:
            return [say(f"{text}{'_last' if last else ''}", a=abs(b), l=v, e=f"{c}{plus(-b)}", v=x, r=x)]
        lines.append(say(text, a=abs(b), l=linear(a, v), e=f"{c}{plus(-b)}", v=m))
    return [*lines, say("part_last" if last else "part", a=a, l=v, e=f"{m}/{a}", v=x, r=x)]


def two_step(rng: Random, say: Say) -> Sketch:
    """a x + b = c."""
    v, a, x, b, c = _two_step(rng)
    e = f"{a}{v}{plus(b)}={c}"
    return f"{a} {b} {c}", say("solve", v=v, e=e), _undo(say, v, a, b, c, last=True), str(x)


def then_value(rng: Random, say: Say) -> Sketch:
    """a x + b = c, and the value of p x + q."""
    v, a, x, b, c = _two_step(rng)
    p = rng.randint(2, 9)
    while p * x > 90:
        p = rng.randint(2, 9)
    q = rng.randint(1, 99 - p * x) if rng.random() < 0.5 else -rng.randint(1, p * x - 1)
    w, f, r = f"{p}{v}{plus(q)}", f"{p * x}{plus(q)}", p * x + q
    lines = [*_undo(say, v, a, b, c, last=False), say("insert_two", w=w, e=f"{p}{say.times}{x}{plus(q)}", f=f, r=r)]
    return f"{a} {b} {c} {p} {q}", say("value", w=w, e=f"{a}{v}{plus(b)}={c}"), lines, str(r)


def both_sides(rng: Random, say: Say) -> Sketch:
    """a x + b = c x + d with a above c."""
    v, x, k, c = rng.choice(NAMES), rng.randint(2, 12), rng.randint(1, 6), rng.randint(1, 7)
    b = rng.randint(1, 30) if rng.random() < 0.5 else -rng.randint(1, k * x - 1)
    d, a = k * x + b, k + c
    first = say("drop", a=linear(c, v), e=f"{linear(k, v)}{plus(b)}={d}")
    question = say("solve", v=v, e=f"{a}{v}{plus(b)}={linear(c, v)}{plus(d)}")
    return f"{a} {b} {c} {d}", question, [first, *_undo(say, v, k, b, d, last=True)], str(x)


def bracket(rng: Random, say: Say) -> Sketch:
    """a (x + b) + d = c."""
    v, a, s = rng.choice(NAMES), rng.randint(2, 9), rng.randint(3, 12)
    s = min(s, 90 // a)
    b = rng.randint(1, s - 1) if rng.random() < 0.5 else -rng.randint(1, 9)
    d = rng.choice((0, 1, -1)) * rng.randint(1, 9 + (a * s < 70) * 20)
    d = d if a * s + d > 0 else -d
    c, inner = a * s + d, f"{v}{plus(b)}"
    e = f"{a}({inner}){plus(d) if d else ''}={c}"
    lines = [*_undo(say, f"({inner})", a, d, c, last=False)]
    lines[-1] = lines[-1].replace(f"({inner})", inner)
    return f"{a} {b} {c} {d}", say("solve", v=v, e=e), [*lines, *_undo(say, v, 1, b, s, last=True)], str(s - b)


def substitute(rng: Random, say: Say) -> Sketch:
    """a p + b q at p and q."""
    p, q = sorted(rng.sample(NAMES, 2))
    a, b, x, y = (rng.randint(2, 9) for _ in range(4))
    if a * x + b * y > 99:
        a, x = rng.randint(2, 3), rng.randint(2, 6)
    if minus := (b * y < a * x and rng.random() < 0.5):
        b = -b
    lines = [
        say("term_first", e=f"{a}{say.times}{x}", v=a * x),
        say("term_next", e=f"{abs(b)}{say.times}{y}", v=abs(b) * y),
        say("last" if minus else "sum_last", e=f"{a * x}{plus(b * y)}", r=a * x + b * y),
    ]
    return f"{a} {b} {x} {y}", say("at_two", e=f"{a}{p}{plus(b)}{q}", p=p, q=q, a=x, b=y), lines, str(a * x + b * y)


def quadratic(rng: Random, say: Say) -> Sketch:
    """a x^2 + b x + c at a number, term by term."""
    v = rng.choice(NAMES)
    while True:
        a, b, c, k = rng.choice((1, 1, 2, 3, 4)), rng.randint(-5, 9), rng.randint(-20, 30), rng.randint(2, 9)
        part, value = a * k * k + b * k, a * k * k + b * k + c
        if b and c and a * k * k < 99 and 0 < part < 99 and 0 < value < 99:
            break
    lines = [say("square", e=f"{k}^2", v=k * k)]
    if a > 1:
        lines.append(say("term_first", e=f"{a}{say.times}{k * k}", v=a * k * k))
    if abs(b) > 1:
        lines.append(say("term_next", e=f"{abs(b)}{say.times}{k}", v=abs(b) * k))
    lines.append(say("sum_next" if b > 0 else "next", e=f"{a * k * k}{plus(b * k)}", v=part))
    lines.append(say("last", e=f"{part}{plus(c)}", r=value))
    return f"{a} {b} {c} {k}", say("at_one", e=polynomial([a, b, c], v), p=v, a=k), lines, str(value)


def cubic(rng: Random, say: Say) -> Sketch:
    """A cubic at a number, from the innermost bracket outwards."""
    v = rng.choice("xyztn")
    while True:
        a, b, c, d, k = *(rng.randint(1, 5) for _ in range(3)), rng.randint(1, 20), rng.randint(2, 4)
        b, c = b * rng.choice((1, -1)), c * rng.choice((1, -1))
        first = a * k + b
        second = first * k + c
        value = second * k + d
        if first > 0 and second > 0 and value <= 99:
            break
    inner = f"({linear(a, v)}{plus(b)}){v}{plus(c)}"
    lines = [say("nested", e=f"({inner}){v}{plus(d)}")]
    for text, m, n, total in (
        ("inside", a, b, first),
        ("outward", first, c, second),
        ("outward_last", second, d, value),
    ):
        lines.append(say(text, e=f"{m}{say.times}{k}{plus(n)}", f=f"{m * k}{plus(n)}", v=total, r=total))
    return f"{a} {b} {c} {d} {k}", say("at_one", e=polynomial([a, b, c, d], v), p=v, a=k), lines, str(value)


def line_system(rng: Random, say: Say) -> Sketch:
    """y = x + a and p x + q y = s, by substitution."""
    u, v = rng.choice(("xy", "ab", "mn", "pq", "st"))
    p, q, x, a = rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 9), rng.randint(1, 9)
    y = x + a
    while p * x + q * y > 99:
        p, q = rng.randint(1, 4), rng.randint(1, 4)
    s, ask = p * x + q * y, rng.random() < 0.4
    e, f = f"{v}={u}+{a}", f"{linear(p, u)}+{linear(q, v)}={s}"
    opened = f"{linear(p, u)}+{linear(q, u)}+{q * a}={s}"
    lines = [say("plug", e=e, f=f"{linear(p, u)}+{q if q > 1 else ''}({u}+{a})={s}")]
    if q > 1:
        lines.append(say("plug_out", e=opened))
    lines += [say("plug_like", e=f"{linear(p + q, u)}+{q * a}={s}"), *_undo(say, u, p + q, q * a, s, last=ask)]
    if not ask:
        lines.append(say("insert", w=v, e=f"{x}+{a}", r=y))
    w = u if ask else v
    return f"{p} {q} {a} {s} {ask}", say("system", e=e, f=f, w=w), lines, str(x if ask else y)


def sum_difference(rng: Random, say: Say) -> Sketch:
    """x + y = s and x - y = d."""
    u, v = rng.choice(("xy", "ab", "mn", "pq", "st"))
    y = rng.randint(1, 24)
    x = rng.randint(y + 1, 49)
    s, d, ask = x + y, x - y, rng.random() < 0.4
    lines = [say("add_both", p=u, e=f"{s}+{d}", v=2 * x)]
    lines.append(say("half_last" if ask else "half", p=u, e=f"{2 * x}/2", v=x, r=x))
    if not ask:
        lines.append(say("insert", w=v, e=f"{s}-{x}", r=y))
    question = say("system", e=f"{u}+{v}={s}", f=f"{u}-{v}={d}", w=u if ask else v)
    return f"{s} {d} {ask}", question, lines, str(x if ask else y)


def _times(sign: str, left: str, right: str) -> str:
    """A product of two terms, the second in brackets where it is negative."""
    return f"{left}{sign}{f'({right})' if right[0] == '-' else right}"


def expand(rng: Random, say: Say) -> Sketch:
    """(p x + a)(q x + b)."""
    v, p, q = rng.choice(NAMES), rng.choice((1, 1, 2, 3, 4)), rng.choice((1, 1, 2, 3))
    a, b = (rng.randint(1, 9) * rng.choice((1, 1, -1)) for _ in range(2))
    outer, inner, x = p * b, a * q, say.times
    r = polynomial([p * q, outer + inner, a * b], v)
    lines = [
        say("expand_square", p=f"{v}^2", e=_times(x, linear(p, v), linear(q, v)), v=linear(p * q, f"{v}^2")),
        say("expand_outer", e=_times(x, linear(p, v), str(b)), v=linear(outer, v)),
        say("expand_inner", e=_times(x, str(a), linear(q, v)), v=linear(inner, v)),
        say("expand_last", e=_times(x, str(a), str(b)), v=a * b),
    ]
    if outer + inner:
        middle = linear(inner, v)
        e = linear(outer, v) + (middle if inner < 0 else f"+{middle}")
        lines.append(say("expand_middle", e=e, v=linear(outer + inner, v)))
    question = say("expand", e=f"({linear(p, v)}{plus(a)})({linear(q, v)}{plus(b)})")
    return f"{p} {a} {q} {b}", question, [*lines, say("answer", r=r)], r


def collect(rng: Random, say: Say) -> Sketch:
    """a x + b + c x + d in simplest form."""
    v, a, b = rng.choice(NAMES), rng.randint(2, 20), rng.randint(1, 40)
    c = rng.randint(2, 20) if rng.random() < 0.5 else -rng.randint(1, a - 1)
    d = rng.randint(1, 40) * rng.choice((1, -1))
    d = d + (b + d == 0)
    d = d or 1
    more = f"+{linear(c, v)}" if c > 0 else linear(c, v)
    r = polynomial([a + c, b + d], v)
    lines = [
        say("collect_terms", p=v, e=f"{linear(a, v)}{more}", v=linear(a + c, v)),
        say("collect_numbers", e=f"{b}{plus(d)}", v=b + d),
        say("answer", r=r),
    ]
    return f"{a} {b} {c} {d}", say("collect", e=f"{linear(a, v)}+{b}{more}{plus(d)}"), lines, r


def chain(rng: Random, say: Say) -> Sketch:
    """Additions and subtractions from left to right."""
    total = rng.randint(5, 60)
    shown, steps = str(total), []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 5))):
        up = total < 15 or (total < 75 and rng.random() < 0.5)
        change = rng.randint(2, min(40, 99 - total)) if up else -rng.randint(2, min(40, total))
        steps.append((f"{total}{plus(change)}", total + change))
        shown, total = shown + plus(change), total + change
    lines = [say("next" if i else "first", e=e, v=v) for i, (e, v) in enumerate(steps[:-1])]
    lines.append(say("last" if lines else "short", e=steps[-1][0], r=total))
    return shown, say("evaluate", e=shown), lines, str(total)


def order(rng: Random, say: Say) -> Sketch:
    """Products before sums: n + a b - c d or a b + c d - n, with one or both products."""
    x, r = say.times, 0
    while not 0 < r <= 99:
        a, b, c, d, n = *(rng.randint(2, 9) for _ in range(4)), rng.randint(2, 60)
        two = rng.random() < 0.5
        minus = c * d if two else c
        start, sign = (a * b, "-") if two and a * b > minus else (n, "+")
        r = a * b - minus if sign == "-" else n + a * b - minus
        if sign == "+" and n + a * b > 99:
            r = 0
    shown = f"{c}{x}{d}" if two else str(c)
    lines = [say("product", e=f"{a}{x}{b}", v=a * b)]
    if two:
        lines.append(say("other", e=f"{c}{x}{d}", v=minus))
    if sign == "-":
        lines.append(say("last", e=f"{start}-{minus}", r=r))
        return f"{a} {b} {c} {d}", say("evaluate", e=f"{a}{x}{b}-{shown}"), lines, str(r)
    lines += [say("next", e=f"{n}+{a * b}", v=n + a * b), say("last", e=f"{n + a * b}-{minus}", r=r)]
    return f"{n} {a} {b} {shown.replace(x, ' ')}", say("evaluate", e=f"{n}+{a}{x}{b}-{shown}"), lines, str(r)


def brackets(rng: Random, say: Say) -> Sketch:
    """a (b + c) + n or a (b - c) + n."""
    a, inner = rng.randint(2, 9), rng.randint(2, 9)
    b = rng.randint(1, inner - 1) if rng.random() < 0.5 else inner + rng.randint(2, 30)
    inside, n = f"{b}{plus(inner - b)}", rng.randint(1, 99 - a * inner)
    lines = [
        say("bracket", e=inside, v=inner),
        say("next", e=f"{a}{say.times}{inner}", v=a * inner),
        say("last", e=f"{a * inner}+{n}", r=a * inner + n),
    ]
    return f"{a} {inside} {n}", say("evaluate", e=f"{a}{say.times}({inside})+{n}"), lines, str(a * inner + n)
