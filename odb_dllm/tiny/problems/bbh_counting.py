"""Object counting: everything listed is gone through by its kind, and added where that is the one asked for."""

import random

from odb_dllm.tiny.problems.bbh_words import Worked, draw, listed, wordings, words

_LARGEST = 40  # no sum is larger
_WORDS = words("no one two three four five six seven eight nine")
ALL = "objects"

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
    "(Let us|We) (count|add up) {kind} (in order|from the start)",
    "(Going|Reading) (forwards|from the left), (look for|find) {kind}",
    "(All|Only) {kind} from (first to last|left to right)",
    "(Only|Just) {kind} count, (in order|from the start)",
)
# A thing is said as in the prompt and behind a space, so that it is the same tokens; then its kind, and what follows.
_COUNTED = wordings(
    "(and|also) {thing}: {kind}, (now|then) {a} + {n} = {s}",
    "(next|then) {thing}: {kind}, giving {a} + {n} = {s}",
    "(with|for) {thing}: {kind}, (that is|which is) {a} + {n} = {s}",
    "{thing}: {kind}, so {a} + {n} = {s}",
)
_LEFT_OUT = wordings(
    "(next|then) {thing}: {kind}, left out",
    "(with|for) {thing}: {kind}, not counted",
    "{thing}: {kind}, none",
)


def _things(table: str) -> list[tuple[str, str]]:
    """Singular, with its article, and plural of every thing."""
    found = []
    for word in words(table):
        one, _, many = word.partition(":")
        found.append((f"{'an' if one[0] in 'aeiou' else 'a'} {one}", many or f"{one}s"))
    return found


THINGS = {kind: _things(words) for kind, words in KINDS.items()}
_KINDS = list(KINDS)
KIND_OF = {thing: kind for kind, things in THINGS.items() for thing in things}


def short(kind: str) -> str:
    """A kind in one word, with which solutions say it."""
    return kind.rpartition(" ")[2]


def numbered(thing: tuple[str, str], n: int) -> str:
    """So many of a thing, as a prompt says it."""
    one, many = thing
    return one if n == 1 else f"{_WORDS[n]} {many}"


def _drawn(rng: random.Random) -> tuple[str, list[tuple[tuple[str, str], int, bool]]]:
    """The kind that is asked for and (thing, how many, whether it counts) for everything listed."""
    number = rng.choices((3, 4, 5, 6, 7, 8), (18, 20, 20, 18, 14, 10))[0]
    kinds = rng.sample(_KINDS, rng.choice((1, 2, 2, 3)))
    others = kinds[1:]
    asked = number if not others else rng.randint(2, number - 1)
    counts = [True] * asked + [False] * (number - asked)
    rng.shuffle(counts)
    pools = {kind: rng.sample(THINGS[kind], number) for kind in kinds}
    items = [
        (
            pools[kinds[0] if counted else rng.choice(others)].pop(),
            rng.randint(1, 9) if rng.random() < 0.6 else 1,
            counted,
        )
        for counted in counts
    ]
    if others and rng.random() < 0.15:
        return ALL, [(thing, n, True) for thing, n, _ in items]
    return kinds[0], items


def make(rng: random.Random, wording: random.Random) -> Worked:
    """Three to eight sorts of things, two or more of them of the kind asked for."""
    kind, items = _drawn(rng)
    while sum(n for _, n, counted in items if counted) > _LARGEST:
        kind, items = _drawn(rng)
    named = [numbered(thing, n) for thing, n, _ in items]
    text = rng.choice(_OPENINGS).draw(rng, things=listed(named), kind=kind)
    parts, total = [draw(wording, _BEGINNING, kind=kind)], 0
    for thing, (listed_thing, n, counts) in zip(named, items, strict=True):
        said = short(kind if counts else KIND_OF[listed_thing])
        slots = {"thing": thing, "kind": said, "n": n, "a": total, "s": total + n}
        parts.append(draw(wording, _COUNTED if counts else _LEFT_OUT, **slots))
        total += n * counts
    shape = " ".join(f"{n}{'+' if counts else '-'}" for _, n, counts in items)
    return Worked(f"{kind} {shape}", text, ["; ".join(parts) + "."], str(total))
