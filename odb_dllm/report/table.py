"""The table: a line per task and setting with every figure, and how it is written."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Protocol

from odb_dllm.report.cells import SETTINGS, Cell, CellResult, Key
from odb_dllm.report.documents import Document
from odb_dllm.report.paired import Difference, difference, wilson
from odb_dllm.report.published import published
from odb_dllm.statistics import Row, markdown

VANILLA, FAST = "llada_baseline", "fast_dllm_baseline"
VANILLAS = (VANILLA, "dream_baseline")  # whose forwards are fixed
NONE = "–"
Results = Mapping[Key, CellResult]


@dataclass(frozen=True)
class Line:
    """One line of the table; None where there is no such figure. Lengths are in tokens, means per sample."""

    task: str
    setting: str
    n: int | None = None
    correct: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None  # of the 95 % interval (Wilson)
    accuracy_high: float | None = None
    math_verify: float | None = None
    math_verify_low: float | None = None
    math_verify_high: float | None = None
    speedup_over_vanilla: float | None = None
    speedup_over_fast_dllm: float | None = None
    seconds: float | None = None  # generating all documents
    seconds_estimated: bool | None = None  # from a subset by prompt length
    timed: int | None = None  # documents whose time was taken
    nfe: float | None = None
    refreshes: float | None = None
    steps: float | None = None
    tokens_per_forward: float | None = None
    predicted_length: float | None = None
    effective_length: float | None = None
    tokens: float | None = None
    tokens_per_second: float | None = None
    failures: int | None = None
    published_accuracy: float | None = None
    published_speedup_over_vanilla: float | None = None
    published_speedup_over_fast_dllm: float | None = None


def table(asked: Iterable[Key], results: Results, family: str | None = None, gen_length: int = 1024) -> list[Line]:
    """A line for every cell asked, those without a result included."""
    return [_line(key, results, published(family, *key, gen_length) or {}) for key in asked]


def _line(key: Key, results: Results, paper: Mapping[str, Any]) -> Line:
    task, setting = key
    said: dict[str, Any] = {
        "published_accuracy": _ratio(paper.get("accuracy"), 100),
        "published_speedup_over_vanilla": paper.get("speedup_over_vanilla"),
        "published_speedup_over_fast_dllm": paper.get("speedup_over_fast_dllm"),
    }
    if (result := results.get(key)) is None:
        return Line(task, setting, **said)
    return Line(
        task,
        setting,
        **_accuracy(result),
        speedup_over_vanilla=speedup(results.get((task, VANILLA)), result),
        speedup_over_fast_dllm=speedup(results.get((task, FAST)), result),
        seconds=seconds(result),
        seconds_estimated=bool(result.cell.strata),
        timed=len(result.rows),
        **_means(list(result.rows.values())),
        failures=len(result.failures),
        **said,
    )


def _accuracy(result: CellResult) -> dict[str, Any]:
    count, right = len(result.correct), sum(result.correct.values())
    low, high = wilson(right, count)
    found = {"n": count, "correct": right, "accuracy": _ratio(right, count), "accuracy_low": low, "accuracy_high": high}
    if verified := result.math_verify:
        low, high = wilson(sum(verified.values()), len(verified))
        share = _ratio(sum(verified.values()), len(verified))
        found |= {"math_verify": share, "math_verify_low": low, "math_verify_high": high}
    return found


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    def total(name: str) -> float:
        return sum(getattr(row, name) for row in rows)

    predicted = [row.average_predicted_length for row in rows if row.average_predicted_length is not None]
    return {
        **{name: _ratio(total(name), len(rows)) for name in ("nfe", "refreshes", "steps", "tokens")},
        "tokens_per_forward": _ratio(total("decode_length"), total("nfe")),
        "predicted_length": _ratio(sum(predicted), len(predicted)),
        "effective_length": _ratio(total("decode_length"), len(rows)),
        "tokens_per_second": _ratio(total("tokens"), total("wall_seconds")),
    }


def wall(result: CellResult) -> dict[Document, float]:
    """Wall seconds of each document."""
    return {document: row.wall_seconds for document, row in result.rows.items()}


def seconds(result: CellResult) -> float:
    """Wall time of generating all documents."""
    return whole(result.cell, wall(result))


def whole(cell: Cell, values: Mapping[Document, float]) -> float:
    """What documents add up to; of a subset, their means in each stratum for the whole of that."""
    if not cell.strata:
        return sum(values.values())
    total = 0.0
    for stratum in cell.strata:
        known = [values[document] for document in stratum.asked if document in values]
        total += stratum.size * sum(known) / max(1, len(known))
    return total


def size(cell: Cell, values: Mapping[Document, float]) -> int:
    """The documents that ``whole`` is of."""
    return sum(stratum.size for stratum in cell.strata) if cell.strata else len(values)


@dataclass(frozen=True)
class Ratio:
    """Of what two cells took."""

    value: float
    items: int  # documents that were compared
    estimated: bool  # one of the two being a subset that stands for all documents


def ratio(slow: Cell, above: Mapping[Document, float], fast: Cell, below: Mapping[Document, float]) -> Ratio | None:
    """Ratio of the sums over the documents that both have; or of all, where one's subset stands for the other's."""
    if (slow.strata or fast.strata) and size(slow, above) == size(fast, below):
        value = _ratio(whole(slow, above), whole(fast, below))
        return None if value is None else Ratio(value, min(len(above), len(below)), True)
    common = above.keys() & below.keys()
    value = _ratio(sum(above[each] for each in common), sum(below[each] for each in common))
    return None if value is None else Ratio(value, len(common), False)


def speedup(slow: CellResult | None, result: CellResult) -> float | None:
    """Ratio of total wall times; samples that failed in one count in neither."""
    made = None if slow is None else ratio(slow.cell, wall(slow), result.cell, wall(result))
    return made.value if made else None


class Measured(Protocol):
    """What has an accuracy, its interval and a published one."""

    @property
    def accuracy_low(self) -> float | None: ...
    @property
    def accuracy_high(self) -> float | None: ...
    @property
    def published_accuracy(self) -> float | None: ...


def outside(line: Measured) -> bool | None:
    """Whether the interval of our accuracy excludes the published one; None where there are not both."""
    low, high, theirs = line.accuracy_low, line.accuracy_high, line.published_accuracy
    return None if low is None or high is None or theirs is None else not low <= theirs <= high


def pairs(asked: Iterable[Key], results: Results, against: str = VANILLA) -> list[tuple[Key, Difference]]:
    """Every setting's difference to another on the same documents."""
    found = []
    for task, setting in asked:
        ours, theirs = results.get((task, setting)), results.get((task, against))
        if setting != against and ours and theirs and (made := difference(ours.correct, theirs.correct)):
            found.append(((task, setting), made))
    return found


def disorder(task: str, results: Results) -> list[str]:
    """Where NFE do not fall in the order of the settings, the last two of which may be equal; a sentence each."""
    known = [(name, result) for name in SETTINGS if (result := results.get((task, name)))]
    said = []
    for (before, slow), (after, fast) in pairwise(known):
        common: set[Document] = set(slow.rows) & set(fast.rows)
        above, below = (sum(of.rows[document].nfe for document in common) for of in (slow, fast))
        if not common or above > below or (above == below and (before, after) == SETTINGS[-2:]):
            continue
        mean = [f"{total / len(common):.2f}" for total in (above, below)]
        said.append(f"{task}: {after} takes {mean[1]} NFE, which is not below the {mean[0]} of {before}.")
    return said


# Writing ---------------------------------------------------------------------------------------------------


def to_csv(lines: Sequence[Line]) -> str:
    """Every figure, in full precision; empty where there is none."""
    return write_csv([f.name for f in fields(Line)], (asdict(line) for line in lines))


def write_csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows below a head of their fields' names; empty where there is none."""
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def to_markdown(lines: Sequence[Line]) -> str:
    """The papers' layout, with the published figures beside ours where there are any."""
    heads = ["task", "setting", "n", "accuracy", "95 % interval", "speed-up over llada / fast_dllm", "NFE"]
    heads += ["tokens/forward", "predicted length", "effective length", "seconds"]
    papers = any(line.published_accuracy is not None for line in lines)
    if papers:
        heads += ["published accuracy", "published speed-up"]
    written = []
    for line in lines:
        estimated = "~" if line.seconds_estimated else ""
        cells = [
            line.task,
            line.setting,
            text(line.n, "d"),
            text(line.accuracy, ".1%"),
            interval(line.accuracy_low, line.accuracy_high),
            ratios(line.speedup_over_vanilla, line.speedup_over_fast_dllm),
            text(line.nfe, ".2f"),
            text(line.tokens_per_forward, ".2f"),
            text(line.predicted_length, ".1f"),
            text(line.effective_length, ".1f"),
            estimated + text(line.seconds, ".1f"),
        ]
        if papers:
            theirs = line.published_speedup_over_vanilla, line.published_speedup_over_fast_dllm
            cells += [text(line.published_accuracy, ".2%"), ratios(*theirs)]
        written.append(cells)
    return markdown([heads, *written])


def pairs_to_markdown(made: Sequence[tuple[Key, Difference]]) -> str:
    return markdown(pairs_to_rows(made))


def pairs_to_rows(made: Sequence[tuple[Key, Difference]]) -> list[list[str]]:
    heads = ["task", "setting", "items", "difference", "95 % interval", "gained", "lost", "McNemar p"]
    return [
        heads,
        *(
            [
                *key,
                str(each.items),
                f"{each.value:+.1%}",
                interval(each.low, each.high, "+.1%"),
                str(each.gained),
                str(each.lost),
                f"{each.p:.3g}",
            ]
            for key, each in made
        ),
    ]


def interval(low: float | None, high: float | None, form: str = ".1%") -> str:
    return NONE if low is None or high is None else f"{low:{form}} – {high:{form}}"


def flag(value: bool | None) -> str:
    return NONE if value is None else ("yes" if value else "no")


def text(value: float | None, form: str) -> str:
    """A figure as people read it."""
    return NONE if value is None else format(value, form)


def ratios(*values: float | None) -> str:
    """Ratios beside each other."""
    return " / ".join(NONE if value is None else f"{value:.2f}x" for value in values)


def _ratio(above: float | None, below: float) -> float | None:
    return above / below if above is not None and below else None
