"""Small Python functions to write, in the formats of HumanEval and MBPP.

Both tasks draw from one bank. The tests of a problem tell the program from those that lack one of its parts or have
another constant or reduction in its place, so a program that passes them understood the text.
"""

import random
from collections.abc import Sequence

from odb_dllm.tiny.problems.code_programs import Program, draw_program
from odb_dllm.tiny.problems.code_tests import draw_tests
from odb_dllm.tiny.problems.problem import Draw, Problem
from odb_dllm.tiny.problems.programs_steps import Choice

_LONGEST_ANSWER, _LONGEST_PROMPT = 560, 425  # characters


def drawn(
    rng: random.Random, choices: Sequence[int], count: int, empty: float = 0.0
) -> tuple[Program, list[tuple[str, str]]]:
    """A program and `count` tests of it, with one of an empty input in a share `empty` of all programs.

    choices: how many conditions a choice may have; one with more than two gets six tests.
    """
    while True:
        program = draw_program(rng, choices)
        many = isinstance(program, Choice) and len(program.conditions) > 2
        tests = draw_tests(rng, program, 6 if many else count, rng.random() < empty)
        if tests is not None:
            return program, tests


def body(wording: random.Random, program: Program, p: str) -> str:
    """The statements of a function with the parameter `p`."""
    return "".join(f"    {line}\n" for line in program.body(wording, p))


def _humaneval(rng: random.Random, wording: random.Random) -> Problem:
    program, tests = drawn(rng, (1, 2, 3, 4, 4), rng.choice((4, 5, 5)), 0.6)
    name, p = program.name(rng), rng.choice(program.params)
    takes, gives = program.hints
    shown = [test for test in tests if test[1] != "None"][: rng.choice((1, 2))]
    examples = "".join(f"    >>> {name}({given})\n    {output}\n" for given, output in shown)
    between = rng.choice(("\n", "\n\n"))
    prompt = f'def {name}({p}: {takes}) -> {gives}:\n    """{program.text(rng)}{between}{examples}    """\n'
    checks = "".join(f"    assert candidate({given}) == {output}\n" for given, output in tests)
    solution = body(wording, program, p)
    document = {
        "task_id": f"mini/{rng.randrange(10**6)}",
        "prompt": prompt,
        "canonical_solution": solution,
        "test": f"def check(candidate):\n{checks}",
        "entry_point": name,
    }
    return Problem(program.key, prompt, solution[:-1], document)


def _mbpp(rng: random.Random, wording: random.Random) -> Problem:
    program, tests = drawn(rng, (1, 2, 2, 2), 3)
    name, p = program.name(rng), wording.choice(program.params)
    text = program.text(rng)
    text = f"Write a function to {text[0].lower()}{text[1:]}"
    asserts = [f"assert {name}({given}) == {output}" for given, output in tests]
    lines = "\n".join(asserts)
    prompt = (
        f"You are an expert Python programmer, and here is your task: {text} "
        f"Your code should pass these tests:\n\n{lines}\n[BEGIN]\n"
    )
    code = f"def {name}({p}):\n{body(wording, program, p)[:-1]}"
    document = {"task_id": rng.randrange(10**6), "text": text, "code": code, "test_list": asserts}
    return Problem(program.key, prompt, f"{code}\n[DONE]", document)


def _short(draw: Draw, rng: random.Random, wording: random.Random) -> Problem:
    while True:
        problem = draw(rng, wording)
        if len(problem.answer) <= _LONGEST_ANSWER and len(problem.prompt) <= _LONGEST_PROMPT:
            return problem


def draw_humaneval(rng: random.Random, wording: random.Random) -> Problem:
    """A signature and a docstring with examples; the body is asked for."""
    return _short(_humaneval, rng, wording)


def draw_mbpp(rng: random.Random, wording: random.Random) -> Problem:
    """A sentence and three tests; the whole function is asked for."""
    return _short(_mbpp, rng, wording)
