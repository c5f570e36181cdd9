"""The bank of small Python functions: conditions, maps, reductions and operations that are put together to programs.

In code ``{x}`` stands for the name of an item and ``{k}`` for the part's own constant; ``|`` separates forms that mean
the same. All of a part's constants are filled in when this module is imported.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, eq=False)
class Part:
    """A condition, a map or an operation, with its constant filled in."""

    key: str
    name: str  # in names of functions
    says: tuple[str, ...]
    codes: tuple[str, ...]
    also: tuple[str, ...] = ()  # condition: the code of its contrary; map: what to do with "them"
    verb: str = ""  # condition: what an item does that meets it
    adjective: bool = False  # condition: whether `says` stands before the noun
    edges: tuple[Any, ...] = ()  # items that tell the constant from its neighbours


Family = list[Part]  # one part with each of its constants
Edges = Callable[[Any], tuple[Any, ...]]


@cache
def compiled(code: str, names: str = "x") -> Callable[..., Any]:
    """The function of an expression over ``{x}``."""
    function: Callable[..., Any] = eval(f"lambda {names}: {code.replace('{x}', 'x')}")
    return function


def family(
    key: str,
    says: str,
    codes: str,
    also: str = "",
    ks: Iterable[Any] = ("",),
    name: str = "",
    verb: str = "",
    adjective: bool = False,
    edges: Edges = lambda k: (),
) -> Family:
    def forms(text: str, k: Any) -> tuple[str, ...]:
        return tuple(text.replace("{k}", str(k)).split("|")) if text else ()

    parts = []
    for k in ks:
        verbs = forms(verb or f"is {says}", k)
        named = (name or key).replace("{k}", str(k))
        shown = f"{key} {k}".strip()
        args = forms(says, k), forms(codes, k), forms(also, k), verbs[0], adjective, edges(k)
        parts.append(Part(shown, named, *args))
    return parts


LETTERS = "abcdefghiklmnoprstuw"
_ABOVE: Edges = lambda k: (k, k + 1)  # noqa: E731
_BELOW: Edges = lambda k: (k - 1, k)  # noqa: E731
_TIMES: Edges = lambda k: (k, 2 * k, 3 * k, k + 1)  # noqa: E731
_ITSELF: Edges = lambda k: (k, k)  # noqa: E731


def number_conditions(largest: int) -> list[Family]:
    """Conditions on numbers with constants up to `largest`."""
    ks, divisors = range(1, largest + 1), range(3, min(10, largest + 1))
    return [
        family("even", "even", "{x} % 2 == 0|not {x} % 2", "{x} % 2 != 0|{x} % 2 == 1", adjective=True),
        family("odd", "odd", "{x} % 2 == 1|{x} % 2 != 0", "{x} % 2 == 0|not {x} % 2", adjective=True),
        family(
            "above",
            "greater than {k}|above {k}|larger than {k}",
            "{x} > {k}|{k} < {x}",
            "{x} <= {k}|not {x} > {k}",
            ks,
            "above_{k}",
            edges=_ABOVE,
        ),
        family(
            "below",
            "less than {k}|below {k}|smaller than {k}",
            "{x} < {k}|{k} > {x}",
            "{x} >= {k}|not {x} < {k}",
            ks,
            "below_{k}",
            edges=_BELOW,
        ),
        family(
            "from",
            "not less than {k}|not below {k}",
            "{x} >= {k}|{k} <= {x}",
            "{x} < {k}|not {x} >= {k}",
            ks,
            "from_{k}",
            edges=_BELOW,
        ),
        family(
            "upto",
            "not greater than {k}|not above {k}",
            "{x} <= {k}|{k} >= {x}",
            "{x} > {k}|not {x} <= {k}",
            ks,
            "up_to_{k}",
            edges=_ABOVE,
        ),
        family(
            "by",
            "divisible by {k}",
            "{x} % {k} == 0|not {x} % {k}",
            "{x} % {k} != 0|{x} % {k} > 0",
            divisors,
            "by_{k}",
            edges=_TIMES,
        ),
        family(
            "notby",
            "not divisible by {k}",
            "{x} % {k} != 0|{x} % {k} > 0",
            "{x} % {k} == 0|not {x} % {k}",
            divisors,
            "not_by_{k}",
            edges=_TIMES,
        ),
        family(
            "not",
            "different from {k}|other than {k}",
            "{x} != {k}|{k} != {x}",
            "{x} == {k}|{k} == {x}",
            ks,
            "not_{k}",
            edges=_ITSELF,
        ),
    ]


SIGNS = [
    family("positive", "positive", "{x} > 0|0 < {x}", "{x} <= 0|not {x} > 0", adjective=True, edges=lambda k: (0, 1)),
    family("negative", "negative", "{x} < 0|0 > {x}", "{x} >= 0|not {x} < 0", adjective=True, edges=lambda k: (0, -1)),
]
NUMBER_MAPS = [
    family("square", "squared", "{x} * {x}|{x} ** 2", "square them|square each", name="squares"),
    family("cube", "cubed", "{x} ** 3|{x} * {x} * {x}", "cube them|cube each", name="cubes"),
    family("double", "doubled", "{x} * 2|2 * {x}|{x} + {x}", "double them|double each", name="doubles"),
    family("negate", "negated", "-{x}|0 - {x}", "negate them|change the sign of each", name="negated"),
    family("plus", "increased by {k}|plus {k}", "{x} + {k}|{k} + {x}", "add {k} to each", range(1, 21), "plus_{k}"),
    family("minus", "reduced by {k}|minus {k}", "{x} - {k}", "subtract {k} from each", range(1, 21), "minus_{k}"),
    family(
        "times", "multiplied by {k}|times {k}", "{x} * {k}|{k} * {x}", "multiply each by {k}", range(3, 13), "times_{k}"
    ),
    family("mod", "modulo {k}", "{x} % {k}", "take each modulo {k}", range(3, 11), "mod_{k}"),
    family("div", "divided by {k} and rounded down", "{x} // {k}", "divide each by {k} and round down", range(2, 9)),
]
CHAR_CONDITIONS = [
    family("vowel", "that are vowels", "{x} in 'aeiou'", "{x} not in 'aeiou'", verb="is a vowel"),
    family(
        "digit", "that are digits", "{x}.isdigit()", "not {x}.isdigit()", verb="is a digit", edges=lambda k: (*"370",)
    ),
    family("upper", "upper-case", "{x}.isupper()", "not {x}.isupper()", adjective=True, edges=lambda k: (*"BKT",)),
    family("lower", "lower-case", "{x}.islower()", "not {x}.islower()", adjective=True, edges=lambda k: (*"BKT",)),
    family(
        "is",
        "equal to '{k}'",
        "{x} == '{k}'|'{k}' == {x}",
        "{x} != '{k}'|'{k}' != {x}",
        LETTERS,
        "equal_{k}",
        edges=lambda k: (k, k, k),
    ),
    family(
        "isnot",
        "other than '{k}'|different from '{k}'",
        "{x} != '{k}'|'{k}' != {x}",
        "{x} == '{k}'|'{k}' == {x}",
        LETTERS,
        "not_{k}",
        edges=lambda k: (k, k, k),
    ),
    *(
        family(
            key,
            "found in '{k}'|contained in '{k}'" if key == "in" else "not found in '{k}'|not contained in '{k}'",
            f"{{x}} {'in' if key == 'in' else 'not in'} '{{k}}'",
            f"{{x}} {'not in' if key == 'in' else 'in'} '{{k}}'",
            [a + b + c for i, a in enumerate(LETTERS) for b in LETTERS[i + 1 :: 3] for c in "ymvxz"],
            f"{key}_{{k}}",
            edges=lambda k: (*k,),
        )
        for key in ("in", "notin")
    ),
]
CHAR_MAPS = [
    family("toupper", "in upper case", "{x}.upper()", "convert each to upper case", name="in_upper"),
    family("repeat", "written {k} times", "{x} * {k}|{k} * {x}", "write each {k} times", range(2, 8), "times_{k}"),
    family("after", "followed by '{k}'", "{x} + '{k}'", "put '{k}' after each", (*LETTERS, *"-_+*.!"), name="marked"),
    family("before", "preceded by '{k}'", "'{k}' + {x}", "put '{k}' before each", (*LETTERS, *"-_+*.!"), name="marked"),
]
WORD_CONDITIONS = [
    family(
        "longer",
        "longer than {k} letters|of more than {k} letters",
        "len({x}) > {k}|{k} < len({x})",
        "len({x}) <= {k}|not len({x}) > {k}",
        range(2, 7),
        "longer_{k}",
    ),
    family(
        "shorter",
        "shorter than {k} letters|of fewer than {k} letters",
        "len({x}) < {k}|{k} > len({x})",
        "len({x}) >= {k}|not len({x}) < {k}",
        range(3, 8),
        "shorter_{k}",
    ),
    family(
        "size",
        "with exactly {k} letters|of {k} letters",
        "len({x}) == {k}|{k} == len({x})",
        "len({x}) != {k}|{k} != len({x})",
        range(2, 8),
        "of_{k}",
        verb="has {k} letters",
    ),
    family(
        "starts",
        "starting with '{k}'|that start with '{k}'",
        "{x}.startswith('{k}')|{x}[0] == '{k}'",
        "not {x}.startswith('{k}')|{x}[0] != '{k}'",
        LETTERS,
        "from_{k}",
        verb="starts with '{k}'",
    ),
    family(
        "ends",
        "ending in '{k}'|that end in '{k}'",
        "{x}.endswith('{k}')|{x}[-1] == '{k}'",
        "not {x}.endswith('{k}')|{x}[-1] != '{k}'",
        "degklmnoprstwy",
        "ending_{k}",
        verb="ends in '{k}'",
    ),
    family(
        "has",
        "containing '{k}'|that contain '{k}'",
        "'{k}' in {x}|{x}.count('{k}') > 0",
        "'{k}' not in {x}|{x}.count('{k}') == 0",
        LETTERS,
        "with_{k}",
        verb="contains '{k}'",
    ),
    family(
        "lacks",
        "without '{k}'|without the letter '{k}'",
        "'{k}' not in {x}|{x}.count('{k}') == 0",
        "'{k}' in {x}|{x}.count('{k}') > 0",
        LETTERS,
        "without_{k}",
        verb="lacks '{k}'",
    ),
]
WORD_MAPS = [
    family("toupper", "in upper case", "{x}.upper()", "convert each to upper case", name="in_upper"),
    family("title", "with a capital letter", "{x}.capitalize()|{x}.title()", "capitalize them", name="titles"),
    family("reverse", "reversed", "{x}[::-1]", "reverse them|reverse each", name="reversed"),
    family("head", "cut to {k} letters", "{x}[:{k}]", "cut each to {k} letters", range(2, 6), "heads"),
    family("after", "followed by '{k}'", "{x} + '{k}'", "put '{k}' after each", (*LETTERS, *"-_+*.!"), name="marked"),
    family("before", "preceded by '{k}'", "'{k}' + {x}", "put '{k}' before each", (*LETTERS, *"-_+*.!"), name="marked"),
]
WORD_LENGTHS = family("length", "", "len({x})", "take their lengths|take the length of each", name="sizes")
