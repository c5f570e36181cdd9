"""Takes the program out of an answer to HumanEval: the code, as much of it as parses, what the entry point needs.

1. The code is the first fenced block, or the whole text where there is none; a block that is never closed ends
   with the text.
2. It is cut, line by line from the end, to the longest prefix that parses with ``ast``. Where that does not define the
   entry point, the code continues the prompt, and both together are cut.
3. Kept of prompt and code are the imports, the entry point, the prompt's own helpers (which its tests may call), and
   every statement at the top level that binds a name which what is kept reads: functions, classes and constants,
   and whatever those read in turn. Examples, prints, tests and ``if __name__`` go.

Nothing here raises, whatever the answer, and nothing of it is run.
"""

import ast
import re
import symtable
import warnings
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

# An opening fence at the start of a line, then everything up to a closing one or the end.
BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
# What ast and symtable raise on text that is no program, the last three where it is nested too deeply or too large.
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def extract(prompt: str, answer: str, entry_point: str) -> str:
    """Return the program that an answer to a HumanEval prompt stands for.

    Args:
        prompt: imports, helpers, and the entry point's head and docstring.
        answer: the text; either a continuation of the prompt, or a function of its own, fenced or not.
        entry_point: the function's name.

    Returns:
        Its source. Where neither prompt nor answer defines the entry point, all that parses, to fail its tests.
    """
    prompt, answer = (text.replace("\r\n", "\n").replace("\r", "\n") for text in (prompt, answer))
    code = block(answer)
    alone = longest_prefix(code)
    source = f"{prompt}\n{alone}" if entry_point in definitions(alone) else longest_prefix(prompt + code)
    return needed(source, entry_point, definitions(prompt))


def block(text: str) -> str:
    """The first fenced block of a text, or the text."""
    found = BLOCK.search(text)
    return found[1] if found else text


def longest_prefix(code: str) -> str:
    """As many lines of the code as parse; the empty text where not even the first one does."""
    lines = code.split("\n")
    prefixes = ("\n".join(lines[:count]) for count in range(len(lines), 0, -1))
    return next((prefix for prefix in prefixes if parse(prefix) is not None), "")


def parse(code: str) -> ast.Module | None:
    """The code's tree; None where it is no program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in an answer's strings
        try:
            return ast.parse(code)
        except UNREADABLE:
            return None


def definitions(code: str) -> set[str]:
    """The functions and classes at the top level."""
    tree = parse(code)
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return {node.name for node in tree.body if isinstance(node, kinds)} if tree else set()


def needed(source: str, entry_point: str, helpers: AbstractSet[str] = frozenset()) -> str:
    """The imports, and the statements that entry point and helpers need; all where nothing binds the entry point."""
    tree = parse(source)
    if tree is None:
        return source
    lines = source.split("\n")
    texts = [text_of(node, lines) for node in tree.body]
    binds = [set() if is_main(node) else bound(node) for node in tree.body]
    if not any(entry_point in names for names in binds):
        return source
    kept = {i for i, node in enumerate(tree.body) if isinstance(node, (ast.Import, ast.ImportFrom))}
    new = wanted = {entry_point, *helpers}
    while new:
        reached = {i for i, names in enumerate(binds) if names & new} - kept
        kept |= reached
        new = {name for i in reached for name in read(texts[i])} - wanted
        wanted = wanted | new
    first = {i for i in kept if getattr(tree.body[i], "module", None) == "__future__"}  # which Python wants first
    return "\n\n".join(dict.fromkeys(texts[i] for i in [*sorted(first), *sorted(kept - first)])) + "\n"


def text_of(node: ast.stmt, lines: list[str]) -> str:
    """The whole lines that a statement is on, decorators included."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def is_main(node: ast.stmt) -> bool:
    """Whether a statement is an ``if __name__ == ...``, which runs what is not asked for."""
    names = ast.walk(node.test) if isinstance(node, ast.If) else iter(())
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in names)


def bound(node: ast.AST) -> set[str]:
    """The names that a statement binds or changes at its own level: not within functions, classes, comprehensions."""
    names: set[str] = set()
    left = [node]
    while left:  # and no recursion, since expressions may be nested deeper than Python's stack
        each = left.pop()
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(each.name)
        elif isinstance(each, ast.alias):
            names.add((each.asname or each.name).split(".")[0])
        elif not isinstance(each, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                names.add(each.id)
            if isinstance(each, (ast.Attribute, ast.Subscript)) and isinstance(each.ctx, ast.Store):  # table[0] = 1
                names |= {name.id for name in ast.walk(each.value) if isinstance(name, ast.Name)}
            left += ast.iter_child_nodes(each)
    return names


def read(text: str) -> set[str]:
    """The global names that a statement reads, functions within it included; local ones are not among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return set(_read(symtable.symtable(text, "answer", "exec")))
        except UNREADABLE:  # what parses may still not compile, such as a return outside of a function
            tree = parse(text)
            return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else set()


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for each in table.get_symbols():
        if (each.is_referenced() and (top or each.is_global())) or each.is_declared_global():
            yield each.get_name()
    for child in table.get_children():
        yield from _read(child)
