"""Sentences in wordings that a random generator chooses, and the LaTeX of small expressions."""

import re
from random import Random
from typing import Any, Union

from odb_dllm.tiny.problems.minerva_math_words import MACROS, TEXTS

_Tree = list[Union[str, "_Choice"]]  # texts and choices, in order
_Choice = list["_Tree"]


def _parse(text: str) -> _Tree:
    """The tree of a text with ``[x|y]`` choices; its leaves are format strings."""
    while "@" in text:
        text = re.sub(r"@(\w+)", lambda match: f"[{MACROS[match[1]]}]", text)
    stack: list[_Choice] = [[[]]]
    for token in re.findall(r"[][|]|[^][|]+", f"[{text}]"):
        if token == "[":
            stack.append([[]])
        elif token == "|":
            stack[-1].append([])
        elif token == "]":
            choice = stack.pop()
            stack[-1][-1].append(choice)
        else:
            stack[-1][-1].append(re.sub(r"<(\w+)>", r"{\1}", token.replace("{", "{{").replace("}", "}}")))
    return stack[0][0]


_TREES: dict[str, _Tree] = {}  # parsed when first said, so that importing is quick


class Say:
    """Says the sentences of one problem; the sign of multiplication is chosen once."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.times = r"\cdot " if rng.random() < 0.5 else r"\times "

    def __call__(self, text: str, **slots: Any) -> str:
        if (tree := _TREES.get(text)) is None:
            tree = _TREES.setdefault(text, _parse(TEXTS[text]))
        parts: list[str] = []
        self._walk(tree, parts)
        said = "".join(parts)
        end = "?" if "what is" in said.lower() else "."
        said = said.format(x=self.times, end=end, **slots)
        return said[0].upper() + said[1:]

    def _walk(self, tree: _Tree, parts: list[str]) -> None:
        for part in tree:
            if isinstance(part, str):
                parts.append(part)
            else:
                self._walk(part[int(self._rng.random() * len(part))], parts)


def linear(factor: int, name: str) -> str:
    """A multiple of a name: ``3x``, ``x``, ``-x``."""
    return {1: name, -1: f"-{name}"}.get(factor, f"{factor}{name}")


def plus(number: int) -> str:
    """A number as it is added: ``+3`` or ``-3``."""
    return f"+{number}" if number >= 0 else str(number)


def polynomial(coefficients: list[int], name: str) -> str:
    """A polynomial from its coefficients, the highest first; terms of zero are left out."""
    text = ""
    for power, factor in zip(range(len(coefficients) - 1, -1, -1), coefficients, strict=True):
        if factor:
            word = name if power == 1 else f"{name}^{power}"
            term = linear(factor, word) if power else str(factor)
            text += f"+{term}" if text and factor > 0 else term
    return text or "0"


def fraction(top: int, bottom: int) -> str:
    """A fraction, or a whole number where the denominator is one."""
    return str(top) if bottom == 1 else rf"\frac{{{top}}}{{{bottom}}}"
