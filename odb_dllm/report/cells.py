"""A cell of the table, one task under one setting: what it asks, its folder, and what is read back from there.

A cell's folder holds

- ``responses_*.db``, ``statistics_*.jsonl`` and ``statistics_*.traces.gz``: answers, their rows and their forwards,
  added as each is finished, from which an interrupted cell goes on; their names tell configurations of the model apart,
- ``results.json``, ``samples.jsonl``: lm-eval's aggregates and its log of every sample,
- ``log.txt``: what was printed meanwhile,
- ``manifest.json``: the configuration, where and when it was run, and hashes of ``results.json`` and ``samples.jsonl``.
  It is written last. A cell without it is not finished, nor is one whose results or samples are not whole.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from odb_dllm.folder_names import folder_name
from odb_dllm.report.documents import Document, Stratum
from odb_dllm.statistics import Row, read_rows
from odb_dllm.traces import Trace, beside, read_traces

MANIFEST, RESULTS, SAMPLES, LOG = "manifest.json", "results.json", "samples.jsonl", "log.txt"
SETTINGS = ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share")
BENCHMARKS = ("gsm8k", "minerva_math", "bbh", "humaneval", "mbpp")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what reading a damaged cell raises
Key = tuple[str, str]  # task, setting
Kept = TypeVar("Kept", Row, Trace)  # what is kept of each sample
MINI = "_mini"  # ends the names of the embedded model's benchmarks
CODE = ("humaneval", "mbpp")  # run what the model wrote
VARIANTS = {"gsm8k_cot": "gsm8k", "humaneval_extract": "humaneval"}  # a benchmark asked or scored in another way


@dataclass(frozen=True)
class Score:
    """Where lm-eval's log has whether a sample is right."""

    metric: str
    filter: str | None = None  # None: any, there being one


SCORES = {
    "gsm8k": Score("exact_match", "strict-match"),
    "minerva_math": Score("exact_match"),
    "bbh": Score("exact_match", "get-answer"),
    "humaneval": Score("pass@1", "create_test"),
    "humaneval_extract": Score("pass@1", "extract"),
    "mbpp": Score("pass_at_1"),
}
MATH_VERIFY = Score("math_verify")
SECOND = {"gsm8k": Score("exact_match", "flexible-extract"), "minerva_math": MATH_VERIFY}  # beside those


@dataclass(frozen=True)
class Cell:
    """What is asked: everything that two results must share to be the same figure."""

    task: str
    setting: str
    model: str
    family: str
    dtype: str
    device: str  # the GPU's name, or cpu
    batch_size: int
    gen_length: int
    block_length: int
    seed: int
    fingerprint: str  # of weights, version and all switches
    data: str  # a hash of the task's documents and of how it asks them
    documents: dict[str, list[int]] = field(default_factory=dict)  # leaf task: indices, sorted
    strata: tuple[Stratum, ...] = ()  # where the documents stand for more than themselves

    @property
    def key(self) -> Key:
        return self.task, self.setting

    def folder(self, out: Path) -> Path:
        return out / "cells" / self.task / folder_name(self.setting)

    @property
    def size(self) -> int:
        return sum(map(len, self.documents.values()))

    @property
    def tag(self) -> str:
        """Ends the names of files that hold answers under this configuration.

        Any limit has the same one, since limits nest. A subset has its own: its rows count within it.
        """
        subset = self.documents if self.strata else None
        decides = json.dumps([self.fingerprint, self.data, subset], sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()[:12]

    def responses(self, out: Path) -> Path:
        return self.folder(out) / f"responses_{self.tag}.db"

    def statistics(self, out: Path) -> Path:
        return self.folder(out) / f"statistics_{self.tag}.jsonl"

    def config(self) -> dict[str, Any]:
        """All fields as JSON gives them back."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class CellResult:
    """What a finished cell holds."""

    cell: Cell
    correct: dict[Document, bool]
    math_verify: dict[Document, bool]  # of the math tasks
    rows: dict[Document, Row]  # without samples that failed
    failures: tuple[str, ...] = ()
    second: dict[Document, bool] = field(default_factory=dict)  # by the second metric, where a task has one
    traces: dict[Document, Trace] = field(default_factory=dict)  # each sample's forwards


def benchmark(task: str) -> str:
    """The published benchmark that a task is, or is a variant or the miniature of."""
    name = task.removesuffix(MINI)
    return VARIANTS.get(name, name)


def score_of(task: str) -> Score:
    """What makes an answer to a task right."""
    return SCORES.get(task) or SCORES[benchmark(task)]


def read_cell(folder: Path) -> CellResult | None:
    """Read a cell's folder; None where it is not finished. Raises one of ``UNREADABLE`` where it is damaged."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    cell = cell_from(manifest["config"])
    check_whole(cell, folder, manifest)
    samples = list(_lines(folder / SAMPLES))
    statistics = folder / f"statistics_{cell.tag}.jsonl"
    return CellResult(
        cell=cell,
        correct=correct(samples, score_of(cell.task)),
        math_verify=correct(samples, MATH_VERIFY),
        rows=by_document(cell, read_rows_of(statistics), samples),
        failures=tuple(manifest.get("failures", ())),
        second=correct(samples, second) if (second := SECOND.get(benchmark(cell.task))) else {},
        traces=by_document(cell, read_traces(beside(statistics)), samples),
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or no JSON
        return None
    return manifest if isinstance(manifest, dict) else None


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of a cell's samples and results, by their files' names."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (SAMPLES, RESULTS)}


def check_whole(cell: Cell, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise one of ``UNREADABLE`` where samples or results are not what the manifest was written with.

    A manifest without hashes is an older one: there the files must be JSON, with a sample for all that is scored.
    """
    if known := manifest.get("files"):
        if damaged := [name for name, found in hashes(folder).items() if found != known[name]]:
            raise ValueError(f"{' and '.join(damaged)} changed after it was finished")
        return
    scores = json.loads((folder / RESULTS).read_text(encoding="utf-8")).get("results", {})
    filters = {(task, key.split(",")[1]) for task in cell.documents for key in scores.get(task, ()) if "," in key}
    asked = {(task, index, name) for task, name in filters for index in cell.documents[task]}
    found = {(sample["task"], sample["doc_id"], sample["filter"]) for sample in _lines(folder / SAMPLES)}
    if lacking := len(asked - found):
        raise ValueError(f"{SAMPLES} lacks {lacking} of {len(asked)} samples")


def is_finished(cell: Cell, out: Path) -> bool:
    """Whether a cell's folder holds what it asks, whole; samples that failed are worth another try."""
    folder = cell.folder(out)
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("config") != cell.config() or manifest.get("failures"):
        return False
    try:
        check_whole(cell, folder, manifest)
    except UNREADABLE:
        return False
    return True


def cell_from(config: Mapping[str, Any]) -> Cell:
    strata = tuple(
        Stratum(each["size"], tuple((task, index) for task, index in each["asked"])) for each in config["strata"]
    )
    return Cell(**{**config, "strata": strata})


def read_rows_of(path: Path) -> list[Row]:
    """The rows of a file, or none where nothing was generated yet."""
    return read_rows(path) if path.is_file() else []


def by_document(cell: Cell, rows: Iterable[Kept], samples: Iterable[Mapping[str, Any]] = ()) -> dict[Document, Kept]:
    """The last row, or trace, of each document that the cell asks.

    A row counts documents within those asked. A document whose answer came from the cache because another has the
    same prompt has that one's row: the same prompt takes the same forwards.
    """
    found: dict[Document, Kept] = {}
    for row in rows:
        indices = cell.documents.get(row.task or "", [])
        if row.doc_id is not None and row.doc_id < len(indices):
            found[row.task or "", indices[row.doc_id]] = row
    prompts: dict[tuple[str, str], Kept] = {}
    absent: dict[Document, tuple[str, str]] = {}
    for sample in samples:
        document, prompt = (sample["task"], sample["doc_id"]), (sample["task"], sample["prompt_hash"])
        if document in found:
            prompts[prompt] = found[document]
        else:
            absent[document] = prompt
    return found | {document: prompts[prompt] for document, prompt in absent.items() if prompt in prompts}


def correct(samples: Iterable[Mapping[str, Any]], score: Score) -> dict[Document, bool]:
    """Whether each document was answered rightly; documents without that score are left out."""
    return {
        (sample["task"], sample["doc_id"]): bool(sample[score.metric])
        for sample in samples
        if score.metric in sample and score.filter in (None, sample["filter"])
    }


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is never seen half written, whatever ends the process or the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
