"""``odb-dllm data check``: what a folder of benchmark data holds, set against what was published."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from odb_dllm.errors import InputError
from odb_dllm.tasks.documents import entries

SHOWN = 5  # flaws of one file that are listed; the rest is counted

GSM8K = {"question": str, "answer": str}
MATH = {"problem": str, "level": str, "type": str, "solution": str, "subject": str}
BBH = {"input": str, "target": str}
HUMANEVAL = {"task_id": str, "prompt": str, "entry_point": str, "canonical_solution": str, "test": str}
MBPP = {"text": str, "code": str, "task_id": int, "test_setup_code": str, "test_list": list}

MATH_SUBJECTS = {
    "algebra": 1187,
    "counting_and_probability": 474,
    "geometry": 479,
    "intermediate_algebra": 903,
    "number_theory": 540,
    "prealgebra": 871,
    "precalculus": 546,
}
BBH_SUBTASKS = {
    "boolean_expressions": 250,
    "causal_judgement": 187,
    "date_understanding": 250,
    "disambiguation_qa": 250,
    "dyck_languages": 250,
    "formal_fallacies": 250,
    "geometric_shapes": 250,
    "hyperbaton": 250,
    "logical_deduction_five_objects": 250,
    "logical_deduction_seven_objects": 250,
    "logical_deduction_three_objects": 250,
    "movie_recommendation": 250,
    "multistep_arithmetic_two": 250,
    "navigate": 250,
    "object_counting": 250,
    "penguins_in_a_table": 146,
    "reasoning_about_colored_objects": 250,
    "ruin_names": 250,
    "salient_translation_error_detection": 250,
    "snarks": 178,
    "sports_understanding": 250,
    "temporal_sequences": 250,
    "tracking_shuffled_objects_five_objects": 250,
    "tracking_shuffled_objects_seven_objects": 250,
    "tracking_shuffled_objects_three_objects": 250,
    "web_of_lies": 250,
    "word_sorting": 250,
}


@dataclass(frozen=True)
class Source:
    """One file as it was published."""

    file: str  # relative to the folder of data
    keys: Mapping[str, type]  # that every document has
    parts: Mapping[str, int]  # split, subtask or subject: its number of documents
    by: str | None = None  # the key whose value names a document's part, where there are several
    field: str | None = None  # of a JSON file, the key that holds its documents; None for JSON Lines


BENCHMARKS = {
    "gsm8k": (
        Source("gsm8k/train.jsonl", GSM8K, {"train": 7473}),
        Source("gsm8k/test.jsonl", GSM8K, {"test": 1319}),
    ),
    "math": (Source("math/test.jsonl", MATH, MATH_SUBJECTS, by="subject"),),
    "bbh": tuple(
        Source(f"bbh/{name}.json", BBH, {name: count}, field="examples") for name, count in BBH_SUBTASKS.items()
    ),
    "humaneval": (Source("humaneval/test.jsonl", HUMANEVAL, {"test": 164}),),
    "mbpp": tuple(
        Source(f"mbpp/{split}.jsonl", MBPP, {split: count})
        for split, count in (("prompt", 10), ("test", 500), ("validation", 90), ("train", 374))
    ),
}


@dataclass
class Found:
    """What there is of one benchmark."""

    expected: dict[str, int] = field(default_factory=dict)  # part: documents published
    documents: dict[str, int] = field(default_factory=dict)  # part: sound documents found
    missing: list[str] = field(default_factory=list)  # files
    flaws: list[str] = field(default_factory=list)  # sentences with file and line

    @property
    def complete(self) -> bool:
        return not self.missing and not self.flaws


def survey(folder: Path) -> dict[str, Found]:
    """Read every file of every benchmark; raise ``InputError`` where ``folder`` is none."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder: it must hold gsm8k/train.jsonl and the like.")
    return {name: _benchmark(folder, sources) for name, sources in BENCHMARKS.items()}


def _benchmark(folder: Path, sources: tuple[Source, ...]) -> Found:
    found = Found()
    for source in sources:
        found.expected |= source.parts
        counts: Counter[str] = Counter()
        if os.path.lexists(folder / source.file):
            counts, flaws = _read(folder / source.file, source)
            found.flaws += [f"{source.file}{flaw}" for flaw in flaws[:SHOWN]]
            if len(flaws) > SHOWN:
                found.flaws.append(f"{source.file}: {len(flaws) - SHOWN:,} more flaws")
            found.flaws += [
                f"{source.file}: {counts[part]:,} sound documents of {part}, and {published:,} were published"
                for part, published in source.parts.items()
                if counts[part] != published
            ]
        else:
            found.missing.append(source.file)
        found.documents |= {part: counts[part] for part in source.parts}
    return found


def _read(path: Path, source: Source) -> tuple[Counter[str], list[str]]:
    """Sound documents per part, and flaws, to be read after the file's name."""
    counts: Counter[str] = Counter()
    flaws = []
    if not path.is_file():  # neither folders nor pipes, which would never end
        return counts, [": no file that can be read"]
    try:
        for place, document, flaw in entries(path, source.field):
            flaw = flaw or "; ".join(_lacks(document, source))
            if flaw:
                flaws.append(f", {place}: {flaw}")
            else:
                counts[document[source.by] if source.by else next(iter(source.parts))] += 1
    except OSError as error:
        flaws.append(f": cannot be read ({error.strerror})")
    return counts, flaws


def _lacks(document: dict[str, Any], source: Source) -> Iterator[str]:
    """What is wrong with one document's keys."""
    absent = [repr(key) for key in source.keys if document.get(key) is None]
    if absent:
        yield f"no {', '.join(absent)}"
    for key, kind in source.keys.items():
        value = document.get(key)
        if value is not None and not isinstance(value, kind):
            yield f"{key!r} is {type(value).__name__}, not {kind.__name__}"
    if source.by and isinstance(part := document.get(source.by), str) and part not in source.parts:
        yield f"{source.by} {part!r} is unknown"


def describe(found: Mapping[str, Found]) -> str:
    """A line per benchmark, and one below it for each thing that is missing or flawed."""
    width = max(map(len, found))
    lines = []
    for name, each in found.items():
        state = "complete" if each.complete else "incomplete" if any(each.documents.values()) else "missing"
        lines.append(f"{name:{width}}  {state:10}  {_counted(each)}")
        troubles = [*(f"{file}: missing" for file in each.missing), *each.flaws]
        lines += [f"{'':{width}}  {trouble}" for trouble in troubles]
    complete = sum(each.complete for each in found.values())
    return "\n".join([*lines, f"{complete} of {len(found)} benchmarks are complete"])


def _counted(found: Found) -> str:
    there, expected = sum(found.documents.values()), sum(found.expected.values())
    total = f"{there:,} documents" if there == expected else f"{there:,} of {expected:,} documents"
    if len(found.expected) == 1:
        return total
    if len(found.expected) > 10:  # too many for a line; what is wrong with any of them is told below
        return f"{total} in {sum(map(bool, found.documents.values()))} of {len(found.expected)} subtasks"
    return f"{total}: " + ", ".join(f"{part} {count:,}" for part, count in found.documents.items())


def check(args: argparse.Namespace) -> int:
    """The verb; returns 0 where all is complete, 1 where something is missing or flawed."""
    if not args.folder:
        raise InputError("No folder of data: name it, or set DATA_DIR.")
    found = survey(Path(args.folder).expanduser())
    if args.json:
        print(json.dumps({name: {"complete": each.complete, **asdict(each)} for name, each in found.items()}, indent=2))
    else:
        print(describe(found))
    return 0 if all(each.complete for each in found.values()) else 1


def add_verbs(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``data check`` to a command."""
    verbs = subparsers.add_parser("data", prog="odb-dllm data", help="Check local benchmark data").add_subparsers(
        required=True, metavar="verb"
    )
    help = "Say what a folder of benchmark data holds and what it lacks"
    parser = verbs.add_parser("check", help=help, description=f"{help}; exit code 0 if it is complete, 1 if not.")
    parser.add_argument("folder", nargs="?", default=os.environ.get("DATA_DIR"), help="default: $DATA_DIR")
    parser.add_argument("--json", action="store_true", help="print the counts of every part as JSON")
    parser.set_defaults(func=check)
