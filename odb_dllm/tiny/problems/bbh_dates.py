"""Date understanding: one to four changes of a date by days, weeks, months or years."""

import random
from dataclasses import dataclass

from odb_dllm.tiny.problems.bbh_words import Worked, upper_first, wordings, words

MONTHS = words("January February March April May June July August September October November December")
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEARS = (1980, 2029)  # of the date that is given
_UNITS, _UNIT_WEIGHTS = ("day", "week", "month", "year"), (50, 18, 17, 15)
_MOST = {"day": 28, "week": 4, "month": 11, "year": 6}  # so that days cross one month's end at most
_LONGEST = 255  # characters of the changes of one solution, at most 160 tokens
_EVENTS = words(
    "concert party exam wedding match trip meeting fair race visit lesson parade picnic play contest market dinner "
    "dance film talk"
)

_GIVEN = {
    0: wordings("Today is {date}.", "It is {date} today.", "(The date|The day) today is {date}."),
    1: wordings("Yesterday was {date}.", "It was {date} yesterday."),
    -1: wordings("Tomorrow is {date}.", "It is {date} tomorrow."),
}
_LATER = wordings(
    "What is the date {span} from today in MM/DD/YYYY?",
    "What is the date {span} (later|from now) in MM/DD/YYYY?",
    "(Which|What) date comes {span} later, in MM/DD/YYYY?",
)
_EARLIER = wordings(
    "What was the date {span} ago in MM/DD/YYYY?",
    "What is the date {span} (before today|earlier) in MM/DD/YYYY?",
    "(Which|What) date was {span} ago, in MM/DD/YYYY?",
)
_NEIGHBOR = {
    1: wordings("What is the date tomorrow in MM/DD/YYYY?", "(Which|What) date is tomorrow, in MM/DD/YYYY?"),
    -1: wordings("What was the date yesterday in MM/DD/YYYY?", "(Which|What) date was yesterday, in MM/DD/YYYY?"),
}
_FIRST_EVENT = {
    1: wordings("The {event} is {span} from (today|now).", "The {event} is in {span}."),
    -1: wordings("The {event} was {span} ago.", "The {event} took place {span} ago."),
}
_NEXT_EVENT = {
    1: wordings(
        "The {event} (comes|is) {span} after the {before}.", "{Span} after the {before} (comes|is) the {event}."
    ),
    -1: wordings(
        "The {event} (comes|is) {span} before the {before}.", "{Span} before the {before} (comes|is) the {event}."
    ),
}
_WHICH_EVENT = wordings(
    "What is the date of the {event} in MM/DD/YYYY?", "(Which|What) date is the {event}, in MM/DD/YYYY?"
)

_WRITTEN = wordings(
    "{words} (is written|is) {date}.", "(We write|Write) {words} as {date}.", "In (digits|numbers), {words} is {date}."
)
_PLACES = {
    None: wordings("(Now|Then),", "(So|Here),", "For (that|this),"),
    "today": wordings("For today,", "Today:", "(To get|To find) today,"),
}
_EVENT_PLACES = wordings("(For|As for) the {event},", "The {event}:", "(To get|To find) the {event},")
_WEEKS = wordings("{span} = {n} days, (and|so)", "(with|as) {span} = {n} days,")
_SUM = wordings("the {part} (is|becomes) {a} {sign} {n} = {r}", "{a} {sign} {n} = {r} is the {part}")
_AFTER_END = wordings(
    "{a} + {n} = {s}, (but|while) {length}, (and|so) {s} - {l} = {r}",
    "{a} + {n} = {s}, (and|now) {length}, (leaving|giving) {s} - {l} = {r}",
)
_BEFORE_START = wordings(
    "{a} - {n} is (below|under) 1, (but|while) {length}, (and|so) {a} + {l} = {s}, {s} - {n} = {r}",
    "{a} is (too little|not enough) to take {n} from, (but|and) {length}: {a} + {l} = {s}, {s} - {n} = {r}",
)
_LENGTH = wordings("{month} has {l} days", "there are {l} days in {month}")
_FEBRUARY = wordings(
    "{year} is {a} leap year and February has {l} days", "in {year}, {a} leap year, February has {l} days"
)
_YEAR_LENGTH = wordings("(a|one) year has 12 months", "there are 12 months")
_RESULT = wordings(", so it is {date}.", ", which (gives|makes) {date}.", ", (giving|making) {date}.", ": {date}.")


@dataclass(frozen=True)
class Day:
    """A date."""

    year: int
    month: int
    day: int

    def __str__(self) -> str:
        return f"{self.month:02}/{self.day:02}/{self.year}"

    def words(self) -> str:
        return f"{MONTHS[self.month - 1]} {self.day}, {self.year}"

    def months_on(self, months: int) -> "Day":
        """The same day of another month."""
        years, month = divmod(self.month - 1 + months, 12)
        return Day(self.year + years, month + 1, self.day)


@dataclass(frozen=True)
class Change:
    """So many units later (sign 1) or earlier (-1)."""

    unit: str
    number: int
    sign: int

    def span(self) -> str:
        if self.number == 1:
            return f"one {self.unit}"
        return f"{self.number} {self.unit}s"


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _length(year: int, month: int) -> int:
    return 29 if month == 2 and _leap(year) else _LENGTHS[month - 1]


def _by_days(wording: random.Random, date: Day, n: int, sign: int) -> tuple[Day, str]:
    """The date n days on, at most a month, and how it is found."""
    day, start = date.day + sign * n, Day(date.year, date.month, 1)
    border = start if sign > 0 else start.months_on(-1)  # the month whose end may be crossed
    length = _length(border.year, border.month)
    if 1 <= day <= (length if sign > 0 else 31):
        said = wording.choice(_SUM).draw(wording, part="day", a=date.day, n=n, sign="+" if sign > 0 else "-", r=day)
        return Day(date.year, date.month, day), said
    leap = "a" if _leap(border.year) else "no"
    known = wording.choice(_FEBRUARY if border.month == 2 else _LENGTH).draw(
        wording, month=MONTHS[border.month - 1], year=border.year, a=leap, l=length
    )
    return _over(wording, start.months_on(sign), date.day, n, sign, length, known)


def _over(wording: random.Random, there: Day, a: int, n: int, sign: int, length: int, known: str) -> tuple[Day, str]:
    """The day of the month `there` that n days or months on reach, past an end, and how it is found."""
    result, between = (a + n - length, a + n) if sign > 0 else (a + length - n, a + length)
    said = wording.choice(_AFTER_END if sign > 0 else _BEFORE_START)
    slots = {"a": a, "n": n, "s": between, "l": length, "length": known, "r": result}
    return Day(there.year, there.month, result), said.draw(wording, **slots)


def _by_months(wording: random.Random, date: Day, n: int, sign: int) -> tuple[Day, str]:
    """The date n months on, at most a year, and how it is found."""
    after = date.months_on(sign * n)
    if after.year == date.year:
        slots = {"part": "month", "a": date.month, "n": n, "sign": "+" if sign > 0 else "-", "r": after.month}
        return after, wording.choice(_SUM).draw(wording, **slots)
    known = wording.choice(_YEAR_LENGTH).draw(wording)
    return after, _over(wording, after, date.month, n, sign, 12, known)[1]


def _step(wording: random.Random, date: Day, change: Change, place: str) -> tuple[Day, str]:
    """The date after a change, and the step that finds it."""
    n, sign = change.number, change.sign
    if change.unit == "year":
        after = date.months_on(12 * sign * n)
        slots = {"part": "year", "a": date.year, "n": n, "sign": "+" if sign > 0 else "-", "r": after.year}
        said = wording.choice(_SUM).draw(wording, **slots)
    elif change.unit == "month":
        after, said = _by_months(wording, date, n, sign)
    elif change.unit == "week":
        after, said = _by_days(wording, date, 7 * n, sign)
        said = f"{wording.choice(_WEEKS).draw(wording, span=change.span(), n=7 * n)} {said}"
    else:
        after, said = _by_days(wording, date, n, sign)
    return after, upper_first(f"{place} {said}{wording.choice(_RESULT).draw(wording, date=after)}")


def _date(rng: random.Random) -> Day:
    year, month = rng.randint(*_YEARS), rng.randint(1, 12)
    return Day(year, month, rng.randint(1, _length(year, month)))


def _change(rng: random.Random) -> Change:
    unit = rng.choices(_UNITS, _UNIT_WEIGHTS)[0]
    return Change(unit, rng.randint(1, _MOST[unit]), rng.choice((1, 1, -1)))


def _asked(rng: random.Random, changes: list[Change], events: list[str]) -> list[str]:
    """The sentences that tell of the changes and ask for the date in the end."""
    first = changes[0]
    if not events:
        if first.unit == "day" and first.number == 1:
            return [rng.choice(_NEIGHBOR[first.sign]).draw(rng)]
        return [rng.choice(_LATER if first.sign > 0 else _EARLIER).draw(rng, span=first.span())]
    told = [rng.choice(_FIRST_EVENT[first.sign]).draw(rng, event=events[0], span=first.span())]
    for change, before, event in zip(changes[1:], events, events[1:], strict=False):
        slots = {"event": event, "before": before, "span": change.span(), "Span": upper_first(change.span())}
        told.append(rng.choice(_NEXT_EVENT[change.sign]).draw(rng, **slots))
    return [*told, rng.choice(_WHICH_EVENT).draw(rng, event=events[-1])]


def _solved(
    wording: random.Random, given: Day, today: int, changes: list[Change], events: list[str]
) -> tuple[Day, list[str]] | None:
    """The date in the end and the steps to it; None where a date on the way does not exist or it is too far."""
    date, steps = given, []
    if today:
        date, step = _step(wording, date, Change("day", 1, today), wording.choice(_PLACES["today"]).draw(wording))
        steps.append(step)
    for i, change in enumerate(changes):
        event = events[i] if events else None
        place = wording.choice(_EVENT_PLACES if event else _PLACES[None]).draw(wording, event=event)
        date, step = _step(wording, date, change, place)
        if date.day > _length(date.year, date.month):
            return None
        steps.append(step)
    return (date, steps) if sum(map(len, steps)) <= _LONGEST else None


def make(rng: random.Random, wording: random.Random) -> Worked:
    """A date that is given, today's relation to it, and one to three changes from there."""
    solved = None
    while solved is None:
        given, today = _date(rng), rng.choice((0, 0, 0, 0, 1, -1))
        changes = [_change(rng) for _ in range(rng.choices((1, 2, 3), (66, 21, 13))[0])]
        if today and changes[0] == Change("day", 1, -today):
            continue  # it asks for the date that is given
        events = rng.sample(_EVENTS, len(changes)) if len(changes) > 1 or rng.random() < 0.2 else []
        solved = _solved(wording, given, today, changes, events)
    date, steps = solved
    in_words = rng.random() < 0.3
    if in_words:
        steps.insert(0, wording.choice(_WRITTEN).draw(wording, words=given.words(), date=given))
    told = rng.choice(_GIVEN[today]).draw(rng, date=given.words() if in_words else given)
    key = " ".join([f"{given} {today}", *(f"{c.sign * c.number}{c.unit}" for c in changes)])
    return Worked(key, " ".join([told, *_asked(rng, changes, events)]), steps, str(date))
