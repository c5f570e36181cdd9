"""Programs that filter, map and reduce: what each asks for, what it computes, and the many ways to write it.

``text`` and ``body`` draw from the rng what does not change the result: wording, style and names.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from odb_dllm.tiny.problems.functions import Part, compiled
from odb_dllm.tiny.problems.functions_results import Reduction

Lines = list[str]


@dataclass(frozen=True, eq=False)
class Source:
    """Where the items come from."""

    key: str
    noun: str
    place: str
    params: Sequence[str]
    items: Sequence[str]
    code: str  # what a loop goes over, with {p} for the parameter
    hint: str  # of the parameter
    item: str  # hint of an item
    read: Callable[[Any], list[Any]]  # the items of an argument


def _indent(lines: Lines) -> Lines:
    return ["    " + line for line in lines]


def pick_name(rng: random.Random, names: Sequence[str], taken: set[str]) -> str:
    """A name that is not taken; it is from now on."""
    name = rng.choice([n for n in names if n not in taken])
    taken.add(name)
    return name


def _fill(text: str, **values: str) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Filter, map and reduce."""

    source: Source
    conditions: tuple[Part, ...]
    map: Part | None
    reduction: Reduction

    @property
    def key(self) -> str:
        parts = [self.source.key, *sorted(c.key for c in self.conditions), self.map.key if self.map else "-"]
        return ", ".join([*parts, self.reduction.key])

    @property
    def params(self) -> Sequence[str]:
        return self.source.params

    @property
    def hints(self) -> tuple[str, str]:
        item = "int" if self.map and self.map.key == "length" else self.source.item
        return self.source.hint, self.reduction.hint.replace("{item}", item)

    def run(self, argument: Any) -> Any:
        """The result; computed apart from any of the texts."""
        tests = [compiled(c.codes[0]) for c in self.conditions]
        items = self.source.read(argument)
        if self.reduction.key in ("any", "all"):
            return self.reduction.run([all(test(i) for test in tests) for i in items])
        values = [i for i in items if all(test(i) for test in tests)]
        if self.map:
            values = [*map(compiled(self.map.codes[0]), values)]
        return self.reduction.run(values)

    def without_a_part(self) -> "list[Pipeline]":
        """The same program less one of its parts."""
        shorter = [tuple(c for c in self.conditions if c is not one) for one in self.conditions]
        if self.reduction.key in ("any", "all"):
            shorter = [s for s in shorter if s]
        rivals = [replace(self, conditions=conditions) for conditions in shorter]
        return [*rivals, replace(self, map=None)] if self.map and self.map.key != "length" else rivals

    def name(self, rng: random.Random) -> str:
        parts = [c.name for c in self.conditions] + ([self.map.name] if self.map else [])
        return f"{rng.choice(self.reduction.names)}_{rng.choice(parts or [self.source.noun])}"

    def _words(self, rng: random.Random) -> dict[str, str]:
        source = self.source
        adjectives: list[str] = []
        others: list[str] = []
        for c in self.conditions:
            (adjectives if c.adjective else others).append(
                c.says[0] if len(self.conditions) > 1 else rng.choice(c.says)
            )
        after = f" {' and '.join(others)}" if others else ""
        if source.key == "range" and after:
            after = f" that are{after}"
        first = source.key != "digits" and "that" not in after  # whether the conditions stand before the place
        where = f"{after} {source.place}" if first else f" {source.place}{after}"
        items = " ".join([*adjectives, source.noun]) + where
        each = f", each {rng.choice(self.map.says)}" if self.map and self.map.says else ""
        one = f"{source.noun[:-1]} {source.place}"
        return {
            "P": f"the {items}",
            "Q": items,
            "M": each,
            "one": one,
            "V": " and ".join(c.verb for c in self.conditions),
        }

    def text(self, rng: random.Random) -> str:
        words, reduction = self._words(rng), self.reduction
        if reduction.tail and rng.random() < 0.35:
            first = f", {rng.choice(self.map.also)}" if self.map else ""
            return f"Take {words['P']}{first} and {rng.choice(reduction.tail.split('|'))}."
        text = _fill(rng.choice(reduction.sentences), **self._measured(words))
        return text if words["M"] else text.replace(", in a list", " in a list").replace(", with each", " with each")

    def as_noun(self, rng: random.Random) -> str:
        return _fill(self.reduction.noun, **self._measured(self._words(rng)))

    def _measured(self, words: dict[str, str]) -> dict[str, str]:
        lengths = self.map is not None and self.map.key == "length"
        return words | {"P": f"the lengths of {words['P']}"} if lengths else words

    def body(self, rng: random.Random, p: str, style: str = "") -> Lines:
        lines, result = self.lines(rng, p, {p}, style)
        note = []
        if rng.random() < 0.25:
            noun, place = self.source.noun, self.source.place
            note = [
                rng.choice((f"# go through the {noun} {place}", f"# look at the {noun} one by one", f"# all {noun}"))
            ]
        return [*note, *lines, f"return {result}"]

    def styles(self) -> list[str]:
        """The ways in which it can be written, the plainest last."""
        return [*(["named", "steps"] if self._listed() else []), *(["inline"] if self.reduction.inline else []), "loop"]

    def _listed(self) -> bool:
        return self.reduction.key not in ("any", "all")

    def lines(self, rng: random.Random, p: str, taken: set[str], style: str = "") -> tuple[Lines, str]:
        """Its statements, and the expression that is the result."""
        style = style or rng.choice([*self.styles(), "loop"])
        x = pick_name(rng, self.source.items, taken)
        tests = [rng.choice(c.codes).replace("{x}", x) for c in self.conditions]
        value = rng.choice(self.map.codes).replace("{x}", x) if self.map else x
        over = self.source.code.replace("{p}", p)
        if style == "loop":
            return self._loop(rng, x, over, tests, value, taken)
        if style == "inline":
            test = " and ".join(tests)
            some = f"{x} in {over}" + (f" if {test}" if test else "")
            code = rng.choice(self.reduction.inline)
            code = _fill(code, g=f"{value} for {some}", t=some, c=test, x=x, s=over)
            if rng.random() < 0.3:
                a = pick_name(rng, self.reduction.accumulators or ("result", "found", "out"), taken)
                return [f"{a} = {code}"], a
            return [], code
        stages = [(tests, value)] if style == "named" else [(tests, x)] * bool(tests) + [([], value)] * (value != x)
        return self._stages(rng, x, over, stages, taken)

    def _stages(
        self, rng: random.Random, x: str, over: str, stages: list[tuple[Lines, str]], taken: set[str]
    ) -> tuple[Lines, str]:
        """A list for each stage, and the reduction of the last."""
        lines: Lines = []
        for tests, value in stages:
            names = ("kept", "chosen", "selected", "some") if value == x else ("values", "mapped", "new", "changed")
            kept = pick_name(rng, names, taken)
            if len(stages) == 1 or rng.random() < 0.5:
                lines.append(f"{kept} = [{value} for {x} in {over}{' if ' if tests else ''}{' and '.join(tests)}]")
            else:
                inner = _guarded(tests, [f"{kept}.append({value})"])
                lines += [f"{kept} = []", f"for {x} in {over}:", *_indent(inner)]
            over = kept
        if self.reduction.whole:
            return lines, rng.choice(self.reduction.whole).replace("{s}", over)
        more, result = self._loop(rng, x, over, [], x, taken, plain=True)
        return lines + more, result

    def _loop(
        self, rng: random.Random, x: str, over: str, tests: Lines, value: str, taken: set[str], plain: bool = False
    ) -> tuple[Lines, str]:
        reduction = self.reduction
        update = rng.choice(reduction.updates)
        against = [rng.choice(c.also).replace("{x}", x) for c in self.conditions] if tests else []
        if reduction.key == "all":
            tests, against = [" or ".join(against)], [" and ".join(tests)]
        inner: Lines = []
        if value != x and "{v}" in update and (update.count("{v}") > 1 or "* {v}" in update or rng.random() < 0.25):
            y = pick_name(rng, ("value", "new", "y", "changed"), taken)
            inner, value = [f"{y} = {value}"], y
        early = update.startswith("return")
        a = "" if early else pick_name(rng, reduction.accumulators, taken)
        inner += _fill(update, a=a, v=value).split("\n")
        start = [] if early else [f"{a} = {reduction.start}"]
        head, last = [f"for {x} in {over}:"], []  # type: tuple[Lines, Lines]
        way = rng.random() if not plain else 1.0
        if over.startswith("range(1, ") and way < 0.3:
            start, head = [*start, f"{x} = 1"], [f"while {x} <= {over[9:-5]}:"]
            last = [f"{x} += 1"]
        elif over.isidentifier() and way < 0.15:
            i = pick_name(rng, ("i", "j", "k"), taken)
            head, inner = [f"for {i} in range(len({over})):"], inner
            first = [f"{x} = {over}[{i}]"]
            return [*start, *head, *_indent(first + _guarded(tests, inner))], reduction.start if early else self._end(a)
        if tests and not last and reduction.key != "all" and rng.random() < 0.2:
            for one in reversed(against):
                inner = [f"if {one}:", "    continue", *inner]
            tests = []
        elif len(tests) > 1 and rng.random() < 0.5:
            tests, inner = tests[:1], _guarded(tests[1:], inner)
        lines = [*start, *head, *_indent(_guarded(tests, inner) + last)]
        return lines, reduction.start if early else self._end(a)

    def _end(self, a: str) -> str:
        return self.reduction.end.replace("{a}", a)


def _guarded(tests: Lines, inner: Lines) -> Lines:
    return [f"if {' and '.join(tests)}:", *_indent(inner)] if tests else inner


@dataclass(frozen=True, eq=False)
class Several:
    """The results of two or three pipelines over the same items."""

    parts: tuple[Pipeline, ...]

    @property
    def key(self) -> str:
        return "; ".join(part.key for part in self.parts)

    @property
    def params(self) -> Sequence[str]:
        return self.parts[0].params

    @property
    def hints(self) -> tuple[str, str]:
        return self.parts[0].hints[0], "tuple"

    def run(self, argument: Any) -> Any:
        return tuple([part.run(argument) for part in self.parts])

    def without_a_part(self) -> "list[Several]":
        return [self.put(i, rival) for i, part in enumerate(self.parts) for rival in part.without_a_part()]

    def put(self, index: int, part: Pipeline) -> "Several":
        return Several((*self.parts[:index], part, *self.parts[index + 1 :]))

    def name(self, rng: random.Random) -> str:
        taken: set[str] = set()
        return "_and_".join([pick_name(rng, part.reduction.names, taken) for part in self.parts[:2]])

    def text(self, rng: random.Random) -> str:
        *others, last = [part.as_noun(rng) for part in self.parts]
        how_many = ("a pair", "two results") if len(others) == 1 else ("a triple", "three results")
        return f"Return {rng.choice(how_many)}: {'; '.join(others)}; {rng.choice(('and', 'then'))} {last}."

    def styles(self) -> list[str]:
        return ["mixed", "inline", "loop"]

    def body(self, rng: random.Random, p: str, style: str = "") -> Lines:
        style = style or rng.choice(self.styles())
        taken, lines, results = {p}, [], []  # type: tuple[set[str], Lines, Lines]
        for part in self.parts:
            own = rng.choice(("loop", "inline", "named")) if style == "mixed" else style
            more, result = part.lines(rng, p, taken, own if own in part.styles() else "loop")
            lines += more
            if not result.isidentifier() and (not more or rng.random() < 0.5):
                name = pick_name(rng, part.reduction.accumulators, taken)
                lines, result = [*lines, f"{name} = {result}"], name
            results.append(result)
        return [*lines, f"return {', '.join(results)}"]
