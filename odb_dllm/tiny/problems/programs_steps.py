"""Programs that change a value step by step or choose between results, with the methods of those in ``programs``."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from odb_dllm.tiny.problems.functions import Part, compiled
from odb_dllm.tiny.problems.programs import Lines, pick_name

_CHAINED = re.compile(r"\w\(\{x\}")
_IN_PLACE = re.compile(r"\(\{x\} ([-+*%]|//) (\d+|'.')\)")


@dataclass(frozen=True, eq=False)
class Chain:
    """Operations on one value, one after the other."""

    noun: str
    params: Sequence[str]
    hint: str
    steps: tuple[Part, ...]

    @property
    def key(self) -> str:
        return f"{self.noun}: {', '.join(step.key for step in self.steps)}"

    @property
    def hints(self) -> tuple[str, str]:
        return self.hint, self.hint

    def run(self, argument: Any) -> Any:
        for step in self.steps:
            argument = compiled(step.codes[0])(argument)
        return argument

    def without_a_part(self) -> "list[Chain]":
        return [replace(self, steps=tuple(s for s in self.steps if s is not one)) for one in self.steps]

    def name(self, rng: random.Random) -> str:
        first, last = self.steps[0].name, self.steps[-1].name
        return rng.choice((f"{first}_{self.noun}", f"change_{self.noun}", f"{first}_{last if first != last else 'it'}"))

    def text(self, rng: random.Random) -> str:
        said = [rng.choice(step.says) for step in self.steps]
        told = [said[0].replace("{it}", f"the {self.noun}"), *(s.replace("{it}", "it") for s in said[1:])]
        then = rng.choice((", then ", "; then "))
        text = (
            f"{then.join(told)} and return the result." if len(said) < 2 else f"{then.join(told)}; return the result."
        )
        return text[0].upper() + text[1:]

    def styles(self) -> list[str]:
        return ["last", "fresh", "chain", "steps"]

    def body(self, rng: random.Random, p: str, style: str = "") -> Lines:
        style = style or rng.choice(self.styles())
        if style == "chain":
            code = p
            for step in self.steps:
                form = rng.choice([c for c in step.codes if c.count("{x}") == 1])
                code = form.replace("{x}", _bare(code) if _CHAINED.search(form) else code)
            return [f"return {_bare(code)}"]
        taken = {p}
        name = p if rng.random() < 0.3 else pick_name(rng, ("result", "out", "new", "changed"), taken)
        lines: Lines = []
        value = p
        if name != p and rng.random() < 0.3:
            lines, value = [f"{name} = {p}"], name
        for step in self.steps:
            form = rng.choice(step.codes)
            if style == "fresh":
                name = pick_name(rng, ("result", "out", "new", "changed", "value", "current", "a", "b", "c"), taken)
            short = _IN_PLACE.fullmatch(form)
            if short and value == name and rng.random() < 0.5:
                lines.append(f"{name} {short[1]}= {short[2]}")
            else:
                lines.append(f"{name} = {_bare(form.replace('{x}', value))}")
            value = name
        if style == "last" and lines[-1].startswith(f"{name} = "):
            return [*lines[:-1], f"return {lines[-1].split(' = ', 1)[1]}"]
        return [*lines, f"return {name}"]


def _bare(code: str) -> str:
    """An expression without the brackets around it; those of the bank are around all of it where it begins with one."""
    depth = 0
    for i, character in enumerate(code):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return code[1:-1] if i == len(code) - 1 and code[0] == "(" else code
    return code


@dataclass(frozen=True, eq=False)
class Choice:
    """One of several results, by conditions on a number."""

    conditions: tuple[Part, ...]
    results: tuple[str | Part, ...]  # one more: that for all other numbers
    params: Sequence[str] = ("n", "x", "num", "number", "value")

    @property
    def key(self) -> str:
        results = [r if isinstance(r, str) else r.key for r in self.results]
        return f"choice: {', '.join([c.key for c in self.conditions] + results)}"

    @property
    def hints(self) -> tuple[str, str]:
        return "int", "str" if isinstance(self.results[0], str) else "int"

    def run(self, argument: Any) -> Any:
        for condition, result in zip(self.conditions, self.results, strict=False):
            if compiled(condition.codes[0])(argument):
                return self._value(result, argument)
        return self._value(self.results[-1], argument)

    @staticmethod
    def _value(result: str | Part, argument: Any) -> Any:
        return result if isinstance(result, str) else compiled(result.codes[0])(argument)

    def without_a_part(self) -> "list[Choice]":
        tests, results = self.conditions, self.results
        less = [Choice(tests[:i] + tests[i + 1 :], results[:i] + results[i + 1 :]) for i in range(len(tests))]
        return [*less, Choice(tests[:-1], results[:-1])]

    def name(self, rng: random.Random) -> str:
        return f"{rng.choice(('choose', 'pick', 'decide', 'find'))}_{rng.choice(self.conditions).name}"

    def text(self, rng: random.Random) -> str:
        says = [f"'{r}'" if isinstance(r, str) else f"the number {rng.choice(r.says)}" for r in self.results]
        tests = [c.verb if c.adjective else f"is {rng.choice(c.says)}" for c in self.conditions]
        parts = [
            f"{says[0]} if the number {tests[0]}",
            *(f"{s} if it {t}" for s, t in zip(says[1:], tests[1:], strict=False)),
        ]
        joined = rng.choice((", else ", "; otherwise ")).join([*parts, says[-1]])
        return f"Return {joined}."

    def styles(self) -> list[str]:
        return ["name", "elif", "if"]

    def body(self, rng: random.Random, p: str, style: str = "") -> Lines:
        style = style or rng.choice(self.styles())
        tests = [rng.choice(c.codes).replace("{x}", p) for c in self.conditions]
        values = [f"'{r}'" if isinstance(r, str) else rng.choice(r.codes).replace("{x}", p) for r in self.results]
        name = rng.choice([n for n in ("result", "answer", "out", "chosen") if n != p])
        give = f"{name} = " if style == "name" else "return "
        lines: Lines = []
        for i, (test, value) in enumerate(zip(tests, values, strict=False)):
            lines += [f"{'elif' if i and style != 'if' else 'if'} {test}:", f"    {give}{value}"]
        last = f"{give}{values[-1]}"
        if style == "name":
            return [*lines, "else:", f"    {last}", f"return {name}"]
        return [*lines, "else:", f"    {last}"] if style == "elif" and rng.random() < 0.5 else [*lines, last]
