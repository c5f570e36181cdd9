"""The table: a line per task and setting with every figure, and how it is written."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from odb_dllm.report.cells import SETTINGS, CellResult, Key
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


def seconds(result: CellResult) -> float:
    """Wall time of generating all documents; of a subset, its mean times in each stratum for the whole of that."""
    if not result.cell.strata:
        return sum(row.wall_seconds for row in result.rows.values())
    whole = 0.0
    for stratum in result.cell.strata:
        times = [result.rows[document].wall_seconds for document in stratum.asked if document in result.rows]
        whole += stratum.size * sum(times) / max(1, len(times))
    return whole


def speedup(slow: CellResult | None, result: CellResult) -> float | None:
    """Ratio of total wall times; samples that failed in one count in neither."""
    if slow is None:
        return None
    if slow.cell.strata or result.cell.strata:
        return _ratio(seconds(slow), seconds(result))
    common = slow.rows.keys() & result.rows.keys()
    above, below = (sum(of.rows[document].wall_seconds for document in common) for of in (slow, result))
    return _ratio(above, below)


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
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Line)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(line) for line in lines)
    return text.getvalue()


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
            _text(line.n, "d"),
            _text(line.accuracy, ".1%"),
            f"{line.accuracy_low:.1%} – {line.accuracy_high:.1%}" if line.accuracy is not None else NONE,
            _ratios(line.speedup_over_vanilla, line.speedup_over_fast_dllm),
            _text(line.nfe, ".2f"),
            _text(line.tokens_per_forward, ".2f"),
            _text(line.predicted_length, ".1f"),
            _text(line.effective_length, ".1f"),
            estimated + _text(line.seconds, ".1f"),
        ]
        if papers:
            theirs = line.published_speedup_over_vanilla, line.published_speedup_over_fast_dllm
            cells += [_text(line.published_accuracy, ".2%"), _ratios(*theirs)]
        written.append(cells)
    return markdown([heads, *written])


def pairs_to_markdown(made: Sequence[tuple[Key, Difference]]) -> str:
    heads = ["task", "setting", "items", "difference", "95 % interval", "gained", "lost", "McNemar p"]
    return markdown(
        [
            heads,
            *(
                [
                    *key,
                    str(each.items),
                    f"{each.value:+.1%}",
                    f"{each.low:+.1%} – {each.high:+.1%}",
                    str(each.gained),
                    str(each.lost),
                    f"{each.p:.3g}",
                ]
                for key, each in made
            ),
        ]
    )


def _text(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _ratios(*values: float | None) -> str:
    return " / ".join(NONE if value is None else f"{value:.2f}x" for value in values)


def _ratio(above: float | None, below: float) -> float | None:
    return above / below if above is not None and below else None
