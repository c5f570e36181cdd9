# ruff: noqa: E501 (an answer is easier to read in one line)
"""What is taken out of an answer to HumanEval, on many shapes of answers; it never raises, and keeps what is needed."""

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odb_dllm.protocols.extraction import block, bound, extract, longest_prefix, needed, read

PROMPT = 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Add them."""\n'
OWN = "def total(xs):\n    return sum(xs)\n"
SHARED = Path(__file__).parents[2] / "shared" / "data"


def program(answer: str, prompt: str = PROMPT, entry_point: str = "total") -> dict[str, Any]:
    """The names of the extracted program after it ran; the answers here are our own."""
    names: dict[str, Any] = {}
    exec(compile(extract(prompt, answer, entry_point), "answer", "exec"), names)
    return names


ANSWERS = {
    "continuation": "    return sum(xs)\n",
    "continuation without a last newline": "    return sum(xs)",
    "continuation, then another function": "    return sum(xs)\n\n\ndef other(:\n",
    "continuation, then prose": "    return sum(xs)\n\nThis adds the numbers up, isn't it?\n",
    "continuation, then examples": "    return sum(xs)\n\nprint(total([1]))\nassert total([1]) == 2\n",
    "continuation in a fence": "```python\n    return sum(xs)\n```\n",
    "function": OWN,
    "fenced": f"```python\n{OWN}```",
    "fenced without a language": f"```\n{OWN}\n```",
    "fenced in another case": f"```Python3\n{OWN}\n```",
    "never closed": f"```python\n{OWN}",
    "cut in the midst of a line": f"```python\n{OWN}\nassert total([1, 2",
    "cut in the midst of a string": f'{OWN}\ndef more():\n    """And',
    "prose before and after": f"Here is the function:\n\n```python\n{OWN}```\n\nIt adds up.\n",
    "several blocks": f"```python\n{OWN}```\nor\n```python\ndef total(xs):\n    return 0\n```",
    "line ends of another system": f"```python\r\n{OWN}```".replace("\n", "\r\n"),
    "helper": "def add(a, b):\n    return a + b\n\ndef total(xs):\n    s = 0\n    for x in xs:\n        s = add(s, x)\n    return s\n",
    "helper after it": "def total(xs):\n    return helper(xs)\n\ndef helper(xs):\n    return sum(xs)\n",
    "helpers of helpers": "def a(x):\n    return b(x)\ndef b(x):\n    return sum(x)\ndef total(xs):\n    return a(xs)\n",
    "nested function": "def total(xs):\n    def inner(ys):\n        return sum(ys) if ys else 0\n    return inner(xs)\n",
    "import": "import functools\n\ndef total(xs):\n    return functools.reduce(lambda a, b: a + b, xs, 0)\n",
    "import of a name": "from math import fsum as add\n\ndef total(xs):\n    return int(add(xs))\n",
    "import if it is there": "try:\n    from nowhere import f\nexcept ImportError:\n    f = sum\n\ndef total(xs):\n    return f(xs)\n",
    "constant": "START: int = 0\n\ndef total(xs):\n    return sum(xs, START)\n",
    "constants of constants": "A, B = 1, 1\nSTART = A - B\n\ndef total(xs):\n    return sum(xs, START)\n",
    "constant that is changed": "T = [9]\nT[0] = 0\nT[0] += 0\n\ndef total(xs):\n    return sum(xs, T[0])\n",
    "class": "class Sum:\n    def of(self, xs):\n        return add(xs)\n\ndef add(xs):\n    return sum(xs)\n\ndef total(xs):\n    return Sum().of(xs)\n",
    "decorator": "import functools\n\ndef plain(f):\n    @functools.wraps(f)\n    def g(xs):\n        return f(xs)\n    return g\n\n@plain\ndef total(xs):\n    return sum(xs)\n",
    "default argument": "START = 0\n\ndef total(xs, start=START):\n    return sum(xs, start)\n",
    "annotation": "Numbers = list\n\ndef total(xs: Numbers) -> int:\n    return sum(xs)\n",
    "assigned": "def add(xs):\n    return sum(xs)\n\ntotal = add\n",
    "asynchronous helper": "async def f():\n    pass\n\ndef total(xs):\n    f\n    return sum(xs)\n",
    "future import": "from __future__ import annotations\n\ndef total(xs: Unknown):\n    return sum(xs)\n",
    "main": f"{OWN}\nif __name__ == '__main__':\n    total = None\n    print(total([1]))\n",
    "input": f"xs = int(input())\n{OWN}\nprint(total(xs))\n",
    "examples that fail": f"{OWN}\nprint(total(1))\nresult = 1 / 0\n",
    "two statements in a line": "import os; START = 0\n\ndef total(xs): return sum(xs, START)\n",
    "recursion": "def total(xs):\n    return xs[0] + total(xs[1:]) if xs else 0\n",
    "global": "COUNT = 0\n\ndef total(xs):\n    global COUNT\n    COUNT += 1\n    return sum(xs)\n",
    "comprehension": "KEYS = [0]\n\ndef total(xs):\n    return sum([x + k for k in KEYS for x in xs])\n",
    "odd escapes": "def total(xs):\n    '\\d'\n    return sum(xs)\n",
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
def test_the_program_does_what_the_answer_says(answer: str) -> None:
    total = program(answer)["total"]
    assert [total(xs) for xs in ([], [1, 2, 3])] == [0, 6]


def test_only_what_is_needed_is_kept() -> None:
    unneeded = "UNUSED = open('file')\n\ndef unused():\n    return total([])\n\nclass Unused:\n    pass\n"
    answer = f"import os\nX = 1\n{unneeded}\ndef total(xs):\n    local = X\n    return local\n\nlocal = total([])\nprint(1)\n"
    text = extract(PROMPT, answer, "total")
    assert [ast.unparse(node).split("\n")[0] for node in ast.parse(text).body] == [
        "from typing import List",
        "def total(xs: List[int]) -> int:",
        "import os",
        "X = 1",
        "def total(xs):",
    ]


def test_helpers_of_the_prompt_stay() -> None:
    prompt = "import math\n\ndef poly(x):\n    return math.floor(x)\n\ndef root(x):\n    '''Find it.'''\n"
    assert program("    return poly(x)\n", prompt, "root")["root"](1.5) == 1
    assert program("```python\ndef root(x):\n    return poly(x) + 1\n```", prompt, "root")["root"](1.5) == 2


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("", PROMPT),
        ("I do not know.\n", PROMPT),
        ("def other(xs):\n    return 1\n", PROMPT),
        ("```\n```", PROMPT),
        ("def total(xs:\n    return 1\n", PROMPT),
    ],
)
def test_without_an_answer_the_prompt_is_left_to_fail(answer: str, kept: str) -> None:
    assert ast.dump(ast.parse(extract(PROMPT, answer, "total"))) == ast.dump(ast.parse(kept))


def test_a_missing_entry_point_leaves_all_that_parses() -> None:
    assert extract("", "x = 1\ny = 2\n!", "total") == "x = 1\ny = 2"
    assert extract("", "?", "total") == ""
    assert extract("import os\n", "print(os)", "") == "import os\nprint(os)"


def test_parts() -> None:
    assert block("a\n```\nb\n```\n```\nc\n```") == "b\n"
    assert block("a ``` b") == "a ``` b"
    assert longest_prefix("x = 1\n\nif x:\n    y = (\n") == "x = 1\n"
    assert needed("x = (", "x") == "x = ("
    assert bound(ast.parse("for i, j in x:\n    k = [l for l in x]\nwith a as b: import c.d as e, f.g")) == set(
        "ijkbef"
    )
    assert read("def f(a, b=c):\n    d = e\n    return [g + d for h in a]") == set("ceg")
    assert read("return x") == {"x"}


FRAGMENTS = st.sampled_from(
    ["```", "```python\n", "\n", "    ", "def total(xs):", "return ", "sum(xs)", "import os", "(", ")", '"""', "'", "\\",
     "class A:", "@", "lambda: ", "if __name__", "global x", "x = 1", "\x00", "\r", "\x0c", "\ud800", "é", "#", ";", "*",
     "async ", "await x", "yield", "f'{x!r}'", "match x:", "    case _: pass", ":=", "nonlocal y", "\t", "\u2028"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=30).map("".join)),
    st.sampled_from([PROMPT, "", "def total(", "x = 1"]),
)
def test_it_never_raises(answer: str, prompt: str) -> None:
    text = extract(prompt, answer, "total")
    assert isinstance(text, str)
    if prompt in (PROMPT, ""):
        ast.parse(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAGMENTS, max_size=20).map("".join))
def test_nothing_longer_parses(code: str) -> None:
    lines, kept = code.split("\n"), longest_prefix(code)
    prefixes = ["\n".join(lines[:count]) for count in range(len(lines) + 1)]
    for longer in prefixes[prefixes.index(kept) + 1 :]:
        if longer:
            with pytest.raises((SyntaxError, ValueError)):
                ast.parse(longer)


@pytest.mark.parametrize(
    "answer",
    [
        "(" * 100_000,
        "-" * 100_000 + "1",
        "x = " + "+".join("1" * 20_000),
        "x" + ".y" * 20_000 + " = 1",
        "f" + "()" * 20_000,
        "lambda: " * 5_000 + "1",
        "x = " + "9" * 10_000,
        "[" * 90 + "]" * 90,
        "\n".join(" " * i + "if 1:" for i in range(120)),
        "\n" * 2_000 + "(",
    ],
    ids=lambda answer: answer[:5],
)
def test_answers_beyond_measure(answer: str) -> None:
    assert isinstance(extract(PROMPT, answer, "total"), str)
    assert isinstance(extract(PROMPT, f"{OWN}\n{answer}", "total"), str)


# The real problems -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems() -> list[dict[str, Any]]:
    file = Path(os.environ.get("DATA_DIR") or SHARED) / "humaneval" / "test.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}: set DATA_DIR")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_every_published_solution_passes_in_any_shape(problems: list[dict[str, Any]]) -> None:
    if sys.platform != "linux":
        pytest.skip("the sandbox needs Linux")
    from odb_dllm.sandbox.code_eval import CodeEval

    shapes = {
        "continued": lambda p: p["canonical_solution"] + "\nprint(1 / 0)\n\nAnd so on",
        "whole": lambda p: f"{p['prompt']}{p['canonical_solution']}",
        "fenced": lambda p: (
            f"Sure:\n```python\n{p['prompt']}{p['canonical_solution']}\nx = {p['entry_point']}(1, 2)\n```\nSo"
        ),
    }
    made = list(shapes.values())
    helped = (32, 38, 50)  # their prompts have helpers, some of which only the tests call
    chosen = [made[0 if i in helped else i % 3] for i in range(len(problems))]
    programs = [[extract(p["prompt"], make(p), p["entry_point"])] for make, p in zip(chosen, problems, strict=True)]
    tests = [f"{p['test']}\ncheck({p['entry_point']})" for p in problems]
    _, results = CodeEval().compute(predictions=programs, references=tests, k=[1])
    failed = [
        (problems[i]["task_id"], outcome["result"]) for i, [(_, outcome)] in results.items() if not outcome["passed"]
    ]
    assert failed == []
