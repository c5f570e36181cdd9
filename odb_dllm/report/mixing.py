"""What the runs of one table must share, without which they are refused; and which of several equal ones is taken."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from odb_dllm.errors import InputError
from odb_dllm.report.runs import Run

DIGITS = 12  # of a hash, for people


def configuration(run: Run) -> Iterator[tuple[str, Any]]:
    """How a table's runs must all have been made, by name; None where a run did not write it down."""
    cell = run.result.cell
    yield "weights", run.weights
    for name in ("dtype", "gen_length", "block_length"):
        yield name, getattr(cell, name)
    yield "chat template", None if run.chat_template is None else ("applied" if run.chat_template else "none")
    yield "seed", run.setting.get("seed", cell.seed) if run.setting.get("temperature") else None
    for leaf, shots in run.shots.items():
        yield f"shots of {leaf}", shots


def asked(run: Run) -> Iterator[tuple[str, Any]]:
    """What was asked, by name: hashes of the task and of each document, text and prompt."""
    cell = run.result.cell
    yield f"documents and prompts of {cell.task}", cell.data or None
    for (leaf, index), sample in run.samples.items():
        yield f"text and prompt of document {index} of {leaf}", sample.hashes


def refuse_mixed(runs: Iterable[Run], free: Collection[str] = ()) -> None:
    """Raise ``InputError`` where two runs differ in what a table holds equal; ``free``: what this one does not."""
    known: dict[str, tuple[Run, Any]] = {}
    for run in runs:
        for name, value in (*configuration(run), *asked(run)):
            if value is None or name in free:
                continue
            first, other = known.setdefault(name, (run, value))
            if other != value:
                raise InputError(
                    f"One table cannot hold both {first.folder} and {run.folder}: {name} is {short(other)} in the one "
                    f"and {short(value)} in the other."
                )


def short(value: Any) -> str:
    """A value for people; hashes cut."""
    parts = [str(part) for part in (value if isinstance(value, tuple) else (value,))]
    return "/".join(part[:DIGITS] if len(part) >= 32 else part for part in parts)


def other_versions(runs: Iterable[Run]) -> str:
    """A sentence where several versions of this package made the runs."""
    found = sorted({run.version for run in runs if run.version})
    return f"Several versions of odb_dllm made these runs: {' and '.join(found)}." if len(found) > 1 else ""


def taken(runs: Sequence[Run], key: Any) -> tuple[list[Run], list[str]]:
    """Of runs with the same key the one with most documents, the last one to end among those; a sentence on each."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    best, said = [], []
    for group in groups.values():
        *others, last = sorted(group, key=lambda run: (len(run.result.correct), ended(run)))
        best.append(last)
        said += [_compared(last, other) for other in others]
    return best, said


def ended(run: Run) -> datetime:
    """When a run ended; long ago where it did not write that down."""
    try:
        found = datetime.fromisoformat(str(run.manifest.get("end")))
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _compared(taken: Run, other: Run) -> str:
    """Why one run is taken and not another, and whether they say the same."""
    cell, count = taken.result.cell, len(taken.result.correct)
    fewer = len(other.result.correct)
    why = "ended later" if fewer == count else f"has {count} documents where that has {fewer}"
    common = taken.samples.keys() & other.samples.keys()
    changed = sum(taken.samples[each].answer != other.samples[each].answer for each in common)
    texts = f"{changed} of their {len(common)} common answers differ" if changed else "their answers are the same"
    return f"{cell.task} {cell.setting}: {taken.folder} is taken, which {why}, and not {other.folder}; {texts}."
