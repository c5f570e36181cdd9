"""Object counting: everything listed is gone through, and added where it is of the kind that is asked for."""

import random

from odb_dllm.tiny.problems.bbh_words import Worked, listed, upper_first, wordings, words

_LARGEST = 40  # no sum is larger
_WORDS = words("no one two three four five six seven eight nine")
_ALL = "objects"

# A thing is its singular, and its plural where that is not just with an s.
KINDS = {
    "fruits": "apple banana plum pear lemon orange grape kiwi melon mango peach:peaches cherry:cherries lime fig date",
    "vegetables": "carrot onion potato:potatoes cabbage leek pepper pumpkin beet radish:radishes turnip cucumber bean",
    "animals": "dog cat cow goat duck horse rabbit snail frog pig hen donkey fish:fish mouse:mice sheep:sheep",
    "musical instruments": "piano violin flute drum trumpet harp guitar cello banjo tuba organ horn fiddle clarinet",
    "pieces of furniture": "chair table bed couch:couches stool desk sofa bench:benches shelf:shelves cabinet wardrobe",
    "tools": "hammer saw wrench:wrenches drill shovel rake axe file chisel ladder spade screwdriver",
    "clothes": "shirt coat hat scarf:scarves jacket sock glove sweater dress:dresses skirt belt cap tie vest",
    "vehicles": "car bus:buses truck van bicycle boat train tractor scooter taxi ship tram wagon",
}

_OPENINGS = wordings(
    "I (have|own|see|found) {things}. How many {kind} (are there|are these|does that make)?",
    "I have {things}. How many {kind} do I have?",
    "You (see|have|find) {things}. How many {kind} is that?",
)
_BEGINNING = wordings(
    "(Let us|We) (count|add up) the {kind} (in order|from the start).",
    "(Going|Reading) (forwards|from the left), (look for|find) the {kind}.",
    "(The|All) {kind} from (first to last|left to right).",
    "(Only|Just) {kind} count, (in order|from the start).",
)
_FIRST = wordings(
    "(We start|It starts) with {n} {thing}.",
    "{Thing} (first|to begin): {n}.",
    "(First|Initially) {n} {thing}.",
    "{n} {thing} (at first|to start).",
)
_ADDED = wordings(
    "(Then|Next) {n} {thing}: {a} + {n} = {s}.",
    "(Adding|Counting) {n} {thing} (gives|makes) {a} + {n} = {s}.",
    "{Thing} (next|now): {a} + {n} = {s}.",
    "(With|After) {n} {thing} it is {a} + {n} = {s}.",
    "{a} + {n} = {s} (with|counting) the {thing}.",
    "{n} (more|further) {thing}: {a} + {n} = {s}.",
)
_LEFT_OUT = wordings(
    "(Not|Without) the {thing}.",
    "(Nothing|None) for the {thing}.",
    "{Thing} (left out|skipped).",
    "{Thing}: (none|no).",
)


def _things(table: str) -> list[tuple[str, str]]:
    """Singular, with its article, and plural of every thing."""
    found = []
    for word in words(table):
        one, _, many = word.partition(":")
        found.append((f"{'an' if one[0] in 'aeiou' else 'a'} {one}", many or f"{one}s"))
    return found


_THINGS = {kind: _things(words) for kind, words in KINDS.items()}
_KINDS = list(KINDS)


def _drawn(rng: random.Random) -> tuple[str, list[tuple[tuple[str, str], int, bool]]]:
    """The kind that is asked for and (thing, how many, whether it counts) for everything listed."""
    number = rng.choices((3, 4, 5, 6, 7, 8), (18, 20, 20, 18, 14, 10))[0]
    kinds = rng.sample(_KINDS, rng.choice((1, 2, 2, 3)))
    others = kinds[1:]
    asked = number if not others else rng.randint(2, number - 1)
    counts = [True] * asked + [False] * (number - asked)
    rng.shuffle(counts)
    pools = {kind: rng.sample(_THINGS[kind], number) for kind in kinds}
    items = [
        (
            pools[kinds[0] if counted else rng.choice(others)].pop(),
            rng.randint(1, 9) if rng.random() < 0.6 else 1,
            counted,
        )
        for counted in counts
    ]
    if others and rng.random() < 0.15:
        return _ALL, [(thing, n, True) for thing, n, _ in items]
    return kinds[0], items


def make(rng: random.Random, wording: random.Random) -> Worked:
    """Three to eight sorts of things, two or more of them of the kind asked for."""
    kind, items = _drawn(rng)
    while sum(n for _, n, counted in items if counted) > _LARGEST:
        kind, items = _drawn(rng)
    named = [one if n == 1 else f"{_WORDS[n]} {many}" for (one, many), n, _ in items]
    text = rng.choice(_OPENINGS).draw(rng, things=listed(named), kind=kind)
    steps, total = [wording.choice(_BEGINNING).draw(wording, kind=kind)], 0
    for (one, many), n, counts in items:
        thing = one.partition(" ")[2] if n == 1 else many
        slots = {"n": n, "thing": thing, "Thing": upper_first(thing), "a": total, "s": total + n}
        said = (_ADDED if total else _FIRST) if counts else _LEFT_OUT
        steps.append(wording.choice(said).draw(wording, **slots))
        total += n * counts
    shape = " ".join(f"{n}{'+' if counts else '-'}" for _, n, counts in items)
    return Worked(f"{kind} {shape}", text, steps, str(total))
