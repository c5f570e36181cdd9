"""Boolean expressions: every operation is named and evaluated, operands first, from left to right."""

import random

from odb_dllm.tiny.problems.bbh_words import Worked, wordings

_OPERATORS, _WEIGHTS = (2, 3, 4, 5, 6, 7), (12, 22, 22, 20, 14, 10)  # how many an expression has
_DEEPEST = 2  # brackets inside brackets
_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"
_BINDING = {"or": 1, "and": 2, "not": 3}

_FIRST = wordings(
    "(First|To begin), {x} = {e} = {v}.",
    "(Let|Take) {x} = {e}, (which|this) is {v}.",
    "(We start with|We begin with) {x} = {e} = {v}.",
    "{x} is {e}, (so|hence) {x} = {v}.",
)
_PLAIN = wordings(
    "(Then|Next|Now), {x} = {e} = {v}.",
    "(Let|Take) {x} = {e}, (which|this) is {v}.",
    "(Further|Also), {x} = {e} = {v}.",
    "{x} is {e}, (so|hence) {x} = {v}.",
)
_PLUGGED = wordings(
    "(Then|Next|Now), {x} = {e} = {s} = {v}.",
    "(Let|Take) {x} = {e}, (which|this) is {s} = {v}.",
    "{x} is {e}, (so|hence) {x} = {s} = {v}.",
    "{x} (becomes|means) {e}, that is {s}, (thus|hence) {v}.",
)
_LAST = wordings(
    "(Finally|At last), (all|everything) is {e} = {s} = {v}.",
    "(The whole|The rest) is {e}, (which|this) is {s} = {v}.",
    "(What remains|What is left) is {e}, (so|thus) {s} = {v}.",
)

# An operand is a value, or an operator with its operands.
Tree = bool | tuple["str", "Tree"] | tuple["str", "Tree", "Tree"]


def _tree(rng: random.Random, operators: int) -> Tree:
    """A random expression of so many operators."""
    if not operators:
        return rng.random() < 0.5
    if rng.random() < 0.3:
        return "not", _tree(rng, operators - 1)
    left = int(rng.random() * operators)
    return rng.choice(("and", "or")), _tree(rng, left), _tree(rng, operators - 1 - left)


def _shown(tree: Tree, needs: int, rng: random.Random) -> tuple[str, int]:
    """The expression as text and how deep its brackets go; `needs` is how strongly it must bind without brackets."""
    if isinstance(tree, bool):
        return str(tree), 0
    operator, *operands = tree
    binding = _BINDING[operator]
    if operator == "not":
        text, depth = _shown(operands[0], binding, rng)
        text = f"not {text}"
    else:
        (left, deep), (right, deeper) = (_shown(t, binding + i, rng) for i, t in enumerate(operands))
        text, depth = f"{left} {operator} {right}", max(deep, deeper)
    if binding < needs or (needs and operator != "not" and rng.random() < 0.5):
        return f"( {text} )", depth + 1
    return text, depth


class _Solution:
    """The steps of one solution, as they are found."""

    def __init__(self, wording: random.Random, tree: Tree, operators: int) -> None:
        self.wording, self.operators, self.steps = wording, operators, list[str]()
        pool = [*_LETTERS]
        self.letters = [pool.pop(int(wording.random() * len(pool))) for _ in range(operators)]
        self.value = self._walk(tree)[1]

    def _walk(self, tree: Tree) -> tuple[str, bool]:
        """The name of a part and its value; a value is its own name."""
        if isinstance(tree, bool):
            return str(tree), tree
        operator, *rest = tree
        operands = [self._walk(operand) for operand in rest]
        names, values = [name for name, _ in operands], [value for _, value in operands]
        result = not values[0] if operator == "not" else all(values) if operator == "and" else any(values)
        self._say(operator, names, [str(value) for value in values], result)
        return self.letters[len(self.steps) - 1], result

    def _say(self, operator: str, names: list[str], values: list[str], result: bool) -> None:
        e, s = (f"not {x[0]}" if operator == "not" else f"{x[0]} {operator} {x[1]}" for x in (names, values))
        done = len(self.steps)
        if not done:
            said = _FIRST
        elif done == self.operators - 1:
            said = _LAST
        else:
            said = _PLAIN if names == values else _PLUGGED
        self.steps.append(self.wording.choice(said).draw(self.wording, x=self.letters[done], e=e, s=s, v=result))


def make(rng: random.Random, wording: random.Random) -> Worked:
    """An expression of two to seven operators."""
    operators = rng.choices(_OPERATORS, _WEIGHTS)[0]
    depth = _DEEPEST + 1
    while depth > _DEEPEST:
        tree = _tree(rng, operators)
        text, depth = _shown(tree, 0, rng)
    solution = _Solution(wording, tree, operators)
    return Worked(text, f"{text} is", solution.steps, str(solution.value))
