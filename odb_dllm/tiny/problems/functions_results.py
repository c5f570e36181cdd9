"""The bank of small Python functions: what a function makes of the items that it has chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Reduction:
    """What becomes of the items: ``{P}`` is "the even numbers in the list", ``{Q}`` the same without "the", ``{M}``
    how each is mapped; ``{a}`` is the accumulator, ``{v}`` a value, ``{g}`` a generator, ``{t}`` its part from the
    item's name on, ``{s}`` a sequence."""

    key: str
    names: Sequence[str]
    sentences: Sequence[str]
    noun: str  # "" where it is never one of two results
    tail: str  # after "Take the even numbers in the list, square them and"
    accumulators: Sequence[str]
    start: str  # also what is returned after a loop that returns early
    updates: Sequence[str]
    inline: Sequence[str]
    whole: Sequence[str]
    run: Callable[[list[Any]], Any]
    hint: str  # of the result, with {item}
    end: str = "{a}"


def _count(values: list[Any]) -> dict[Any, int]:
    return {value: values.count(value) for value in dict.fromkeys(values)}


def _product(values: list[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def _extreme(key: str, adjective: str, sign: str, by: str = "") -> Reduction:
    builtin, way = ("max" if sign == ">" else "min"), (", key=len" if by else "")
    left, right = ("len({v})", "len({a})") if by else ("{v}", "{a}")
    function = max if sign == ">" else min
    return Reduction(
        key,
        (adjective, f"find_{adjective}") if by else (adjective, builtin),
        (f"Return the {adjective} of {{P}}{{M}}, or None if there are none.", f"Find the {adjective} of {{P}}{{M}}."),
        f"the {adjective} of {{P}}{{M}}" if not by else "",
        f"return the {adjective}|find the {adjective}",
        ("best", adjective, "result", "top") if not by else ("best", adjective, "result", "chosen"),
        "None",
        (f"if {{a}} is None or {left} {sign} {right}:\n    {{a}} = {{v}}",),
        (f"{builtin}(({{g}}){way}, default=None)",),
        (f"{builtin}({{s}}{way}, default=None)", f"{builtin}({{s}}{way}) if {{s}} else None"),
        (lambda v: function(v, key=len, default=None)) if by else (lambda v: function(v, default=None)),
        "{item} | None",
    )


SUM = Reduction(
    "sum",
    ("sum", "total", "add"),
    ("Return the sum of {P}{M}.", "Add up {P}{M}.", "Compute the sum of {P}{M}."),
    "the sum of {P}{M}",
    "return their sum|add them up",
    ("total", "result", "acc", "sum_so_far"),
    "0",
    ("{a} += {v}", "{a} = {a} + {v}"),
    ("sum({g})", "sum([{g}])"),
    ("sum({s})",),
    sum,
    "int",
)
PRODUCT = Reduction(
    "product",
    ("product", "multiply"),
    ("Return the product of {P}{M}.", "Multiply {P}{M}, with each other.", "Compute the product of {P}{M}."),
    "the product of {P}{M}",
    "return their product|multiply them with each other",
    ("total", "result", "acc", "product"),
    "1",
    ("{a} *= {v}", "{a} = {a} * {v}"),
    (),
    (),
    _product,
    "int",
)
COUNT = Reduction(
    "count",
    ("count", "number", "how_many"),
    ("Return the number of {Q}.", "Count {P}.", "Find how many {Q} there are."),
    "the number of {Q}",
    "count them",
    ("count", "total", "found", "result"),
    "0",
    ("{a} += 1", "{a} = {a} + 1"),
    ("len([{g}])", "sum(1 for {t})"),
    ("len({s})",),
    len,
    "int",
)
LIST = Reduction(
    "list",
    ("get", "list", "keep", "collect"),
    ("Return a list of {P}{M}.", "Collect {P}{M}, in a list.", "Make a list of {P}{M}."),
    "the list of {P}{M}",
    "return them as a list|put them in a list",
    ("result", "out", "kept", "found"),
    "[]",
    ("{a}.append({v})", "{a} += [{v}]"),
    ("[{g}]",),
    ("{s}",),
    list,
    "list[{item}]",
)
FIRST = Reduction(
    "first",
    ("first", "find_first"),
    ("Return the first of {P}, or None if there are none.", "Find the first of {P}."),
    "",
    "",
    (),
    "None",
    ("return {v}",),
    ("next(({g}), None)",),
    ("{s}[0] if {s} else None",),
    lambda values: values[0] if values else None,
    "{item} | None",
)
LAST = Reduction(
    "last",
    ("last", "find_last"),
    ("Return the last of {P}, or None if there are none.", "Find the last of {P}."),
    "",
    "",
    ("result", "last", "found", "latest"),
    "None",
    ("{a} = {v}",),
    (),
    ("{s}[-1] if {s} else None",),
    lambda values: values[-1] if values else None,
    "{item} | None",
)
COUNTS = Reduction(
    "counts",
    ("count_each", "how_often", "tally"),
    ("Count how often each of {P} occurs.", "Return a dictionary with the number of times that each of {P} occurs."),
    "",
    "",
    ("counts", "result", "times", "seen"),
    "{}",
    ("{a}[{v}] = {a}.get({v}, 0) + 1", "if {v} not in {a}:\n    {a}[{v}] = 0\n{a}[{v}] += 1"),
    (),
    (),
    _count,
    "dict[{item}, int]",
)
ANY = Reduction(
    "any",
    ("any", "has", "some"),
    ("Check whether any {one} {V}.", "Tell whether at least one {one} {V}.", "Return True if some {one} {V}."),
    "",
    "",
    ("found", "result", "seen"),
    "False",
    ("return True", "{a} = True"),
    ("any({c} for {x} in {s})",),
    (),
    any,
    "bool",
)
ALL = Reduction(
    "all",
    ("all", "every", "only"),
    ("Check whether every {one} {V}.", "Tell whether each {one} {V}.", "Return True if every {one} {V}."),
    "",
    "",
    ("fine", "result", "good"),
    "True",
    ("return False", "{a} = False"),
    ("all({c} for {x} in {s})",),
    (),
    all,
    "bool",
)
LARGEST, SMALLEST = _extreme("max", "largest", ">"), _extreme("min", "smallest", "<")
LONGEST, SHORTEST = _extreme("longest", "longest", ">", "len"), _extreme("shortest", "shortest", "<", "len")


def _joined(key: str, separator: str, how: str) -> Reduction:
    return Reduction(
        key,
        ("join", "string_of", "text_of"),
        (f"Join {{P}}{{M}}, {how}.", f"Return a string of {{P}}{{M}}, {how}."),
        "",
        f"join them {how}",
        ("result", "out", "text_out", "joined") if not separator else ("parts", "kept", "out", "result"),
        "[]" if separator else "''",
        ("{a}.append({v})", "{a} += [{v}]") if separator else ("{a} += {v}", "{a} = {a} + {v}"),
        (f"'{separator}'.join({{g}})", f"'{separator}'.join([{{g}}])"),
        (f"'{separator}'.join({{s}})",),
        separator.join,
        "str",
        f"'{separator}'.join({{a}})" if separator else "{a}",
    )


STRING = _joined("string", "", "with nothing in between")
JOINS = [_joined(f"join {s}", s, f"with '{s}' in between") for s in ("-", "_", "+", "/", ":", "*", "=", "&")]
