"""The miniature of MATH: its problems, derived again from their text, and its task as lm-eval runs it."""

import math
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import count, islice
from typing import Any

import pytest

from odb_dllm import tasks
from odb_dllm.tiny.problems import minerva_math
from odb_dllm.tiny.problems.problem import Problem

FINAL = re.compile(r"\nFinal Answer: The final answer is \$(.*)\$\. I hope it is correct\.\Z")
KINDS = {kind.__name__ for kind in minerva_math.WEIGHTS}
DRAWN = 6_000


def draws(seed: int) -> Iterator[Problem]:
    rng = random.Random(seed)
    return (minerva_math.draw(rng, rng) for _ in count())


@cache
def drawn() -> list[Problem]:
    return list(islice(draws(1), DRAWN))


def kind(problem: Problem) -> str:
    return problem.key.split()[0]


def final(problem: Problem) -> str:
    match = FINAL.search(problem.answer)
    assert match, problem.answer
    return match[1]


def value(latex: str, **names: int | Fraction) -> Fraction:
    """The value of a LaTeX expression."""
    text = re.sub(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", latex)
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\\(?:cdot|times) ?", "*", text).replace(r"\div ", "/").replace("^", "**")
    text = re.sub(r"(?<=[\dA-Za-z)])(?=[A-Za-z(])", "*", text)
    text = re.sub(r"\b([sdf])\*(?=\()", r"\1", text)  # functions
    text = re.sub(r"(?<!\*\*)\b\d+", r"Fraction(\g<0>)", text)
    assert "\\" not in text, latex
    functions = {"s": lambda n: sum(primes(n)), "d": divisors}
    return Fraction(eval(text, {"Fraction": Fraction, **functions, **names}))


def maths(text: str) -> list[str]:
    return re.findall(r"\$([^$]*)\$", text)


def integers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def primes(n: int | Fraction) -> list[int]:
    n, found = int(n), []
    while n > 1:
        p = next(p for p in range(2, n + 1) if n % p == 0)
        found.append(p)
        n //= p
    return found


def divisors(n: int | Fraction) -> int:
    return sum(n % k == 0 for k in range(1, int(n) + 1))


def solved(equation: str) -> dict[str, Fraction]:
    """The solution of a linear equation in one letter."""
    (name,) = set(re.findall(r"(?<![\\a-z])[a-z](?![a-z])", equation))
    left, right = equation.split("=")
    at = [value(left, **{name: n}) - value(right, **{name: n}) for n in (0, 1)]
    return {name: -at[0] / (at[1] - at[0])}


def system(problem: str) -> dict[str, Fraction]:
    """The small whole numbers that fulfil both equations."""
    first, second = (m for m in maths(problem) if "=" in m)
    names = sorted(set(re.findall("[a-z]", first)))
    sides = [equation.split("=") for equation in (first, second)]

    def misses(x: int, y: int) -> list[Fraction]:
        at: Any = {names[0]: x, names[1]: y}
        return [value(left, **at) - value(right, **at) for left, right in sides]

    (p, q), (px, qx), (py, qy) = misses(0, 0), misses(1, 0), misses(0, 1)
    a, b, c, d = px - p, py - p, qx - q, qy - q
    det = a * d - b * c
    return {names[0]: (-p * d + b * q) / det, names[1]: (-a * q + c * p) / det}


def known(problem: Problem) -> dict[str, Fraction]:
    """What the letters in a problem stand for; any number where it is an identity."""
    text, name = problem.document["problem"], kind(problem)
    if name in ("shift", "scaled", "two_step", "then_value", "both_sides", "bracket"):
        return solved(next(m for m in maths(text) if "=" in m))
    if name in ("line_system", "sum_difference"):
        return system(text)
    if name == "plug":
        return {m[0]: Fraction(int(m[2:])) for m in maths(text) if "=" in m}
    return {letter: Fraction(7) for letter in "xyzntkabm"}


def sequence(problem: str) -> tuple[list[int], int]:
    """The first terms of a sequence, and which one is asked for."""
    terms = next(integers(m) for m in maths(problem) if "," in m)
    asked = re.search(r"(\d+)(?:rd|th) term|first \$?(\d+)\$? terms", problem)
    assert asked, problem
    return terms, int(asked[1] or asked[2])


def expected(problem: Problem) -> Fraction | str:
    """The answer to a problem, from its text."""
    text, name = problem.document["problem"], kind(problem)
    asked, numbers = maths(text), integers(text)
    if name in ("shift", "two_step", "both_sides", "bracket"):
        return next(iter(known(problem).values()))
    if name in ("scaled", "then_value", "line_system", "sum_difference"):
        return value(next(m for m in asked if "=" not in m), **known(problem))
    if name in ("substitute", "plug", "quadratic", "cubic"):
        at = {m[0]: int(m[2:]) for m in asked if re.fullmatch(r"[a-z]=\d+", m)}
        if asked[0].startswith("f("):
            (at[asked[0][2]],) = integers(asked[1])
        return value(next(m.split("=")[-1] for m in asked if not re.fullmatch(r"[a-z]=\d+", m)), **at)
    if name in ("chain", "order", "brackets", "same_bottom", "unlike", "multiply", "divide", "reduce"):
        return value(asked[0])
    if name == "missing":
        return Fraction(numbers[1] - numbers[0])
    if name in ("arithmetic", "geometric", "series"):
        terms, n = sequence(text)
        a, b = terms[:2]
        if name == "geometric":
            return Fraction(a) * Fraction(b, a) ** (n - 1) - numbers[-1]
        return Fraction(a + (n - 1) * (b - a) if name == "arithmetic" else sum(a + i * (b - a) for i in range(n)))
    if name == "recurrence":
        term, factor, more, n = numbers
        for _ in range(n - 1):
            term = factor * term + more
        return Fraction(term)
    if name == "mean":
        return Fraction(sum(numbers), len(numbers))
    if name in ("euclid", "lcm"):
        return Fraction((math.gcd if name == "euclid" else math.lcm)(*numbers))
    if name == "lights":
        return Fraction(numbers[0] + math.lcm(*numbers[1:]))
    if name == "remainder":
        return Fraction(numbers[0] % numbers[1])
    if name == "product_remainder":
        return Fraction(numbers[0] * numbers[1] % numbers[2])
    if name in ("prime_sums", "divisor_counts"):
        return Fraction(sum(sum(primes(n)) if name == "prime_sums" else divisors(n) for n in numbers))
    if name == "divisors":
        (product,) = asked
        return Fraction(math.prod(c + 1 for c in Counter(primes(value(product))).values()))
    if name in ("units_product", "units_power"):
        return value(asked[0]) % 10
    if name == "digit_sum":
        return Fraction(numbers[0] % 9 if len(numbers) > 1 else sum(map(int, str(numbers[0]))))
    if name == "to_base":
        n, base = numbers
        return next(Fraction(k) for k in count() if set(str(k)) <= set("0123456"[:base]) and int(str(k), base) == n)
    if name == "from_base":
        digits, base = asked[0].split("_")
        return Fraction(int(digits, int(base)))
    if name == "fraction_of":
        share = next(m for m in asked if "frac" in m)
        k, whole = numbers[0], numbers[-1]
        if text.startswith("Take") or "and add" in text:
            k, whole = numbers[-1], numbers[-2]
        return value(share) * whole + k
    if name == "factorise":
        powers = sorted(Counter(primes(numbers[0])).items())
        return r"\cdot ".join(f"{p}^{n}" if n > 1 else str(p) for p, n in powers)
    raise AssertionError(f"no rule for {name}")


def test_the_same_seed_draws_the_same() -> None:
    assert list(islice(draws(3), 50)) == list(islice(draws(3), 50))
    assert next(draws(3)) != next(draws(4))
    program = "from odb_dllm.tiny.problems import minerva_math as m; import random; r = random.Random(3); "
    program += "print([m.draw(r, r) for _ in range(50)])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(list(islice(draws(3), 50)))


def test_every_answer_is_right() -> None:
    assert {kind(p) for p in drawn()} == KINDS
    for problem in drawn():
        answer, want = final(problem), expected(problem) if kind(problem) not in ("expand", "collect") else None
        if want is None:  # an expression: equal at more points than its degree, and with each power once
            (asked,) = maths(problem.document["problem"])[-1:]
            for n in range(-3, 4):
                at: Any = dict.fromkeys("xyzntkabm", n)
                assert value(asked, **at) == value(answer, **at), problem
            powers = [re.sub(r"\d*([a-z]|$)", r"\1", term, count=1) for term in re.findall(r"[^+-]+", answer)]
            assert len(set(powers)) == len(powers), problem
        elif isinstance(want, str):
            assert answer == want, problem
        else:
            shown = rf"\frac{{{want.numerator}}}{{{want.denominator}}}" if want.denominator > 1 else str(want.numerator)
            assert answer == shown, problem


def test_every_equation_is_true() -> None:
    equations = 0
    for problem in drawn():
        worked = FINAL.sub("", problem.document["solution"])
        names = known(problem)
        for shown in maths(worked):
            sides = [value(side, **names) for side in shown.split("=")] if "=" in shown else []
            assert len(set(sides)) <= 1, (shown, problem)
            equations += bool(sides)
        assert worked.count(rf"\boxed{{{final(problem)}}}") == worked.count(r"\boxed") == 1
    assert equations > 2 * DRAWN


def test_numbers_are_small() -> None:
    for problem in drawn():
        digits_only = kind(problem) in ("digit_sum", "to_base", "from_base")
        assert digits_only or max(integers(problem.prompt + problem.answer)) <= 99, problem


def test_text_is_tidy() -> None:
    for problem in drawn():
        document = problem.document
        assert problem.prompt == f"Problem:\n{document['problem']}\n\nSolution:"
        assert problem.answer == f" {document['solution']}"
        text = problem.prompt + problem.answer
        assert not re.search(r"  | \n|\$\$|[<>@|\[\]]|\.\.|,[.:,]|\b(\w+) \1\b|[^.?!:$]\n[A-Z]", document["problem"]), (
            text
        )
        assert not re.search(r"  | \n|\n\n|\$\$|[<>@|\[\]]|\.\.|,[.:,]", document["solution"]), text
        assert text.count("$") % 2 == 0, text
        assert document["problem"][-1] in ".?", text
        sentences = re.split(r"(?<=[.?])[ \n]", f"{document['problem']} {document['solution']}")
        assert all(s[0].isupper() or s[0] == "$" for s in sentences), text
        question = bool(re.search(r"(?:What|How|By how|At which|[Ww]hat is)[^.]*\Z", document["problem"]))
        assert question == (document["problem"][-1] == "?"), text


def test_keys() -> None:
    keys: dict[str, str] = {}
    for problem in islice(draws(2), 40_000):
        assert keys.setdefault(problem.prompt, problem.key) == problem.key
    assert len(set(keys.values())) > 30_000


def test_wordings_vary_for_one_problem() -> None:
    numbers, say = minerva_math.numbers, minerva_math.Say

    class Fixed(random.Random):  # the same numbers, whatever the wording
        def choice(self, seq: Any) -> Any:
            return 84 if 84 in seq else super().choice(seq)

    rng = Fixed(1)
    told = [numbers.factorise(rng, say(rng)) for _ in range(200)]
    assert {key for key, *_ in told} == {"84"}
    assert {answer for *_, answer in told} == {r"2^2\cdot 3\cdot 7"}
    assert len({question for _, question, *_ in told}) > 3
    assert len({" ".join(lines) for _, _, lines, _ in told}) > 190


def test_lengths_spread() -> None:
    lengths = sorted(len(p.answer) for p in drawn())
    assert lengths[0] < 120
    assert lengths[DRAWN // 4] < 180 < lengths[DRAWN // 2] < 260 < lengths[9 * DRAWN // 10] < 400
    assert lengths[-1] <= minerva_math.LONGEST + 1
    assert max(len(p.prompt) for p in drawn()) < 300


@pytest.fixture(scope="module")
def task() -> Any:
    for package in ("lm_eval", "sympy", "math_verify", "antlr4"):
        pytest.importorskip(package)
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks.EMBEDDED), include_defaults=False)
    return manager.load(["minerva_math_mini"])["tasks"]["minerva_math_mini"]


def scored(task: Any, problem: Problem, answer: str) -> dict[str, int]:
    from datasets import Dataset

    (doc,) = task.config.process_docs(Dataset.from_list([problem.document]))
    return task.process_results(doc, [answer])


def test_lm_eval_scores_the_solutions(task: Any) -> None:
    for problem in drawn()[:200]:
        right, answer = final(problem), problem.answer
        assert scored(task, problem, answer) == {"exact_match": 1, "math_verify": 1}, problem
        wrong = right + "+1" if re.search("[a-z]", right) and "frac" not in right else right + "3"
        wrong = right.replace("}{", "7}{") if "frac" in right else wrong
        wrong = right + r"\cdot 5" if "cdot" in right else wrong
        said = answer.replace(rf"\boxed{{{right}}}", rf"\boxed{{{wrong}}}").replace(
            f"is ${right}$. I", f"is ${wrong}$. I"
        )
        assert scored(task, problem, said) == {"exact_match": 0, "math_verify": 0}, (wrong, problem)


def test_lm_eval_asks_as_the_generator_does(task: Any) -> None:
    docs = list(task.test_docs())
    shot = next(iter(task.training_docs()))
    assert len(docs) == 1000
    assert len({doc["problem"] for doc in docs}) == 1000
    assert len(list(task.training_docs())) == 8
    for shots in (0, 1):
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(1234)
        task.build_all_requests(limit=3)
        shown = f"{minerva_math.prompt(shot['problem'])} {shot['solution']}\n\n" if shots else ""
        asked = [instance.args[0] for instance in task.instances]
        assert asked == [shown + minerva_math.prompt(doc["problem"]) for doc in docs[:3]]
        assert task.instances[0].args[1]["until"] == ["Problem:"]


def test_task_settings(task: Any) -> None:
    assert task.config.num_fewshot == 1
    expected = {"version": 1.0, "stop": ["Problem:"], "theta": 0.9, "eos_guard": False}
    assert expected.items() <= task.config.metadata.items()


def test_missing_package_is_named(task: Any) -> None:
    program = """
import sys
sys.modules["math_verify"] = None
from odb_dllm import tasks
with tasks.local_data(None) as local:
    manager = tasks.make_manager(["minerva_math_mini"], local, [], {})
    tasks.check(manager, ["minerva_math_mini"], local, unsafe_allowed=False)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "'minerva_math_mini' needs sympy, math_verify and antlr4-python3-runtime 4.11" in run.stderr
    assert run.stderr.rstrip().endswith("pip install sympy math_verify antlr4-python3-runtime==4.11")
