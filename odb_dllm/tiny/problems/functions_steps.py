"""The bank of small Python functions: operations that follow one another, and words for inputs and outputs."""

from odb_dllm.tiny.problems.functions import LETTERS, family

STRING_STEPS = [
    family("reverse", "reverse {it}", "{x}[::-1]|''.join(reversed({x}))", name="reverse"),
    family("upper", "convert {it} to upper case|turn {it} into upper case", "{x}.upper()", name="upper"),
    family("swap", "swap upper and lower case in {it}", "{x}.swapcase()", name="swap"),
    family("repeat", "repeat {it} {k} times|write {it} {k} times", "({x} * {k})|({k} * {x})", "", range(2, 5)),
    family("first", "keep the first {k} letters of {it}", "{x}[:{k}]|{x}[0:{k}]", "", range(2, 7), "first_{k}"),
    family("last", "keep the last {k} letters of {it}", "{x}[-{k}:]", "", range(2, 7), "last_{k}"),
    family("skip", "drop the first {k} letters of {it}", "{x}[{k}:]", "", range(2, 5), "skip_{k}"),
    family("chop", "drop the last {k} letters of {it}", "{x}[:-{k}]", "", range(2, 5), "chop_{k}"),
    family("end", "add '{k}' at the end of {it}|put '{k}' after {it}", "({x} + '{k}')", "", (*LETTERS, *"-_+*.!")),
    family("start", "add '{k}' in front of {it}|put '{k}' before {it}", "('{k}' + {x})", "", (*LETTERS, *"-_+*.!")),
    family(
        "remove",
        "remove every '{k}' from {it}|delete each '{k}' in {it}",
        "{x}.replace('{k}', '')",
        "",
        LETTERS,
        "remove_{k}",
        edges=lambda k: (k,),
    ),
    family(
        "replace",
        "replace every '{k}' in {it}|replace each '{k}' in {it}",
        "{x}.replace('{k}')",
        "",
        [f"{a}' by '{b}" for i, a in enumerate(LETTERS) for b in LETTERS[i % 2 :: 2] if a != b],
        "replace",
        edges=lambda k: (k[0],),
    ),
]
for _part in STRING_STEPS[-1]:  # in the code the two letters are two arguments
    object.__setattr__(_part, "codes", tuple(code.replace("' by '", "', '") for code in _part.codes))
NUMBER_STEPS = [
    family("plus", "add {k} to {it}|increase {it} by {k}", "({x} + {k})|({k} + {x})", "", range(1, 21), "plus_{k}"),
    family("minus", "subtract {k} from {it}|reduce {it} by {k}", "({x} - {k})", "", range(1, 21), "minus_{k}"),
    family("times", "multiply {it} by {k}", "({x} * {k})|({k} * {x})", "", range(2, 13), "times_{k}"),
    family("square", "square {it}", "({x} ** 2)|({x} * {x})"),
    family("negate", "negate {it}|change the sign of {it}", "(-{x})|(0 - {x})"),
    family("abs", "take the absolute value of {it}", "abs({x})"),
    family("mod", "take {it} modulo {k}", "({x} % {k})", "", range(3, 21), "mod_{k}"),
    family("div", "divide {it} by {k} and round down", "({x} // {k})", "", range(2, 10), "div_{k}"),
    family("atmost", "limit {it} to at most {k}", "min({x}, {k})|min({k}, {x})", "", range(5, 41), "limit"),
    family("atleast", "raise {it} to at least {k}", "max({x}, {k})|max({k}, {x})", "", range(2, 21), "raise"),
]
LIST_STEPS = [
    family("reverse", "reverse {it}", "{x}[::-1]|list(reversed({x}))"),
    family("sort", "sort {it}", "sorted({x})"),
    family("down", "sort {it} in falling order", "sorted({x}, reverse=True)", name="sort_down"),
    family("unique", "remove repeated numbers from {it}", "list(dict.fromkeys({x}))"),
    family("first", "keep the first {k} numbers of {it}", "{x}[:{k}]|{x}[0:{k}]", "", range(2, 5), "first_{k}"),
    family("last", "keep the last {k} numbers of {it}", "{x}[-{k}:]", "", range(2, 5), "last_{k}"),
    family("skip", "drop the first {k} numbers of {it}", "{x}[{k}:]", "", range(2, 4), "skip_{k}"),
    family("chop", "drop the last {k} numbers of {it}", "{x}[:-{k}]", "", range(2, 4), "chop_{k}"),
    family("end", "append {k} to {it}|add {k} at the end of {it}", "({x} + [{k}])", "", range(21), "end_{k}"),
    family("start", "put {k} in front of {it}", "([{k}] + {x})", "", range(21), "start_{k}"),
    family("repeat", "repeat {it} {k} times", "({x} * {k})|({k} * {x})", "", range(2, 4), "repeat_{k}"),
]

WORDS = """ant apple arm art bag ball banana band bean bear bed bell bird boat bone book bread bus cake camp car card
cat chair city cloud coat coin cold corn cup dance desk dog door drum duck ear egg eye farm fish flag food
forest fox frog game garden gate goat gold grass hall hand hat hill home horse ice idea ink iron island jam
key king kite lake lamp leaf lemon light lion map milk moon mouse mud music nail nest night noon nose nut
oak ocean oil onion orange owl paint paper park pen pet piano pie pig plane plum pond pot queen rain ring
river road rock roof rose sail salt sand sea seed ship shoe snow soap sock song star stone sun table tea
tent tiger toe town train tree up van wall water wheel wind wolf wood yard zoo"""
LABELS = """low high small big red blue green short long yes no left right hot cold warm old new fast slow dark light
near far good bad full open odd rare top"""
