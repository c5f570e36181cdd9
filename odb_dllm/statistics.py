"""Speed and length statistics: the one place that defines them.

Per sample (``Row``), with seconds in float and lengths in tokens:

- ``tokens``: generated tokens before the first EOS or stop pattern; prompt and padding excluded.
- ``text_tokens``: tokens of the answer's text after it was cut at the task's ``until`` strings.
- ``canvas_tokens``: the whole response canvas at the end, EOS fill included.
- ``non_eos_tokens``: all tokens of that canvas but EOS, whatever follows the answer included.
- ``decode_length``: the effective length: up to the stop pattern where the generation ended early, else the
  canvas.
- ``nfe``: forwards, = ``refreshes`` + ``steps``; ``fed_tokens``: tokens that those forwards were fed,
  branches included.
- ``tokens_per_forward``: decode length / NFE.
- ``average_predicted_length``: mean over the blocks visited; None without adaptive length.
- ``latency``: admission to finish. ``seconds``: time of the forwards, synchronised with the device, each
  shared out among the sequences of its batch by tokens fed; = ``refresh_seconds`` + ``step_seconds``. A prefix that
  documents share (``prefix=shared``) is computed in the wall time alone.
- ``wall_seconds``: wall time of the process since its previous sample; those of all samples add up to the run's, also
  where several runs, the earlier ones interrupted, made them. Of several processes at work, each has its own.

In total (``Totals``) every rate is a ratio of sums, so neither ``--limit`` nor one short answer skews it:
``tokens_per_second`` = all tokens / wall time, ``tokens_per_forward`` = all decode lengths / all forwards.
``wall_seconds`` is the synchronised wall time of generating, refreshes and the sampler's own work included;
loading, tokenising and scoring are not. A task's share of it is its share of the forward seconds. Of several processes
at work side by side, the longest wall time is the run's.
"""

import json
import logging
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from odb_dllm import traces
from odb_dllm.errors import InputError
from odb_dllm.stopping import first_match
from odb_dllm.traces import Trace

if TYPE_CHECKING:
    from odb_dllm.generation import Generation

T = TypeVar("T")
logger = logging.getLogger(__name__)
UNFINISHED = "statistics_unfinished_"  # begins the name of a file of rows until its run has ended


@dataclass(frozen=True)
class Row:
    """One generated sample; the fields are defined at the top of this file."""

    task: str | None
    doc_id: int | None
    index: int  # of the request within its document
    repeat: int  # 0 for the first time that a request was answered
    prompt_tokens: int
    tokens: int
    text_tokens: int
    canvas_tokens: int
    decode_length: int
    predicted_lengths: list[int]
    average_predicted_length: float | None
    nfe: int
    refreshes: int
    steps: int
    fed_tokens: int
    tokens_per_forward: float
    latency: float
    seconds: float
    refresh_seconds: float
    step_seconds: float
    wall_seconds: float = 0.0
    non_eos_tokens: int = 0
    rank: int = 0  # of the process that generated it


@dataclass(frozen=True)
class Failure:
    """A sample without a result."""

    task: str | None
    doc_id: int | None
    index: int
    repeat: int
    error: str


@dataclass(frozen=True)
class Totals:
    """What many rows come to; None where there is nothing to divide by."""

    samples: int
    tokens: int
    text_tokens: int
    canvas_tokens: int
    non_eos_tokens: int
    prompt_tokens: int
    fed_tokens: int
    nfe: int
    refreshes: int
    steps: int
    wall_seconds: float
    seconds: float
    refresh_seconds: float
    step_seconds: float
    tokens_per_second: float | None
    text_tokens_per_second: float | None
    canvas_tokens_per_second: float | None
    non_eos_tokens_per_second: float | None
    tokens_per_forward: float | None
    nfe_per_sample: float | None
    tokens_per_sample: float | None
    effective_length: float | None  # mean decode length
    predicted_length: float | None  # mean over the samples that have one
    latency_mean: float | None
    latency_p50: float | None
    latency_p95: float | None


def make_row(
    key: tuple[str | None, int | None, int, int],
    generation: "Generation",
    *,
    prompt_tokens: int,
    text_tokens: int,
    patterns: Sequence[Sequence[int]],
    eos: Sequence[int] = (),
) -> Row:
    """Return the row of one generation.

    Args:
        key: (task, doc id, index, repeat).
        generation: what the scheduler gave.
        prompt_tokens: length of the prompt.
        text_tokens: tokens of the final text.
        patterns: the task's stop patterns, EOS among them.
        eos: ids that count as EOS.
    """
    end = first_match(generation.tokens, patterns)
    return Row(
        *key,
        prompt_tokens=prompt_tokens,
        tokens=len(generation.tokens) if end is None else end,
        text_tokens=text_tokens,
        canvas_tokens=len(generation.tokens),
        decode_length=generation.decode_length,
        predicted_lengths=list(generation.predicted_lengths),
        average_predicted_length=generation.average_predicted_length,
        nfe=generation.nfe,
        refreshes=generation.refreshes,
        steps=generation.nfe - generation.refreshes,
        fed_tokens=sum(generation.forward_lengths),
        tokens_per_forward=generation.decode_length / generation.nfe,
        latency=generation.latency,
        seconds=generation.seconds,
        refresh_seconds=generation.refresh_seconds,
        step_seconds=generation.step_seconds,
        non_eos_tokens=sum(token not in eos for token in generation.tokens),
    )


def total(rows: Sequence[Row], wall_seconds: float | None = None) -> Totals:
    """Add up ``rows``; without a wall time (rows from a file), the forward seconds stand in for it."""

    def add(name: str) -> Any:
        return sum(getattr(row, name) for row in rows)

    seconds = float(add("seconds"))
    wall = seconds if wall_seconds is None else wall_seconds
    predicted = [row.average_predicted_length for row in rows if row.average_predicted_length is not None]
    latencies = [row.latency for row in rows]
    p50, p95 = np.percentile(latencies, [50, 95]).tolist() if rows else (None, None)
    return Totals(
        samples=len(rows),
        **{name: add(name) for name in ("tokens", "text_tokens", "canvas_tokens", "non_eos_tokens")},
        **{name: add(name) for name in ("prompt_tokens", "fed_tokens")},
        **{name: add(name) for name in ("nfe", "refreshes", "steps")},
        wall_seconds=wall,
        seconds=seconds,
        refresh_seconds=float(add("refresh_seconds")),
        step_seconds=float(add("step_seconds")),
        tokens_per_second=_ratio(add("tokens"), wall),
        text_tokens_per_second=_ratio(add("text_tokens"), wall),
        canvas_tokens_per_second=_ratio(add("canvas_tokens"), wall),
        non_eos_tokens_per_second=_ratio(add("non_eos_tokens"), wall),
        tokens_per_forward=_ratio(add("decode_length"), add("nfe")),
        nfe_per_sample=_ratio(add("nfe"), len(rows)),
        tokens_per_sample=_ratio(add("tokens"), len(rows)),
        effective_length=_ratio(add("decode_length"), len(rows)),
        predicted_length=_ratio(sum(predicted), len(predicted)),
        latency_mean=_ratio(sum(latencies), len(rows)),
        latency_p50=p50,
        latency_p95=p95,
    )


def total_by_task(rows: Sequence[Row], wall_seconds: float) -> dict[str, Totals]:
    """Totals of each task by name; the wall time is shared out by forward seconds."""
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row.task or "", []).append(row)
    everything = sum(row.seconds for row in rows)

    def share(of: list[Row]) -> float:
        return wall_seconds * (_ratio(sum(row.seconds for row in of), everything) or len(of) / len(rows))

    return {task: total(of, share(of)) for task, of in tasks.items()}


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


COLUMNS: tuple[tuple[str, str, str], ...] = (  # heading, field, format
    ("samples", "samples", "d"),
    ("tokens/s", "tokens_per_second", ".2f"),
    ("tokens", "tokens_per_sample", ".1f"),
    ("NFE", "nfe_per_sample", ".1f"),
    ("tokens/forward", "tokens_per_forward", ".2f"),
    ("effective length", "effective_length", ".1f"),
    ("predicted length", "predicted_length", ".1f"),
    ("seconds", "wall_seconds", ".1f"),
    ("in refreshes", "refresh_seconds", ".1f"),
    ("in steps", "step_seconds", ".1f"),
    ("latency p50", "latency_p50", ".2f"),
    ("latency p95", "latency_p95", ".2f"),
)


def table(named: dict[str, Totals], title: str = "Speed") -> str:
    """Return totals as a Markdown table, one line per name; means are per sample, times in seconds."""
    lines = [[title, *(heading for heading, _, _ in COLUMNS)]]
    for name, totals in named.items():
        values = ((getattr(totals, field), spec) for _, field, spec in COLUMNS)
        lines.append([name, *("-" if value is None else format(value, spec) for value, spec in values)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return plain text as an aligned Markdown table; the first line is its head, the first column goes left."""
    lines = [[_escaped(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def write(cells: Iterable[str]) -> str:
        padded = (cell.rjust(widths[i]) if i else cell.ljust(widths[i]) for i, cell in enumerate(cells))
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|"
    return "\n".join([write(lines[0]), rule, *map(write, lines[1:])])


def _escaped(cell: str) -> str:
    """A cell in one line whose text is taken neither for the end of the cell, nor for HTML, nor for an escape."""
    return re.sub(r"[|<]|\\(?=[!-/:-@\[-`{-~])", r"\\\g<0>", " ".join(cell.splitlines()))


class Writer:
    """Appends records to a file, each in one system call as it comes: a killed run leaves whole ones."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.error: OSError | None = None  # after which no more is written
        self._file: FileIO | None = None

    def write(self, record: bytes) -> None:
        """Append one record; the file and its folder are made by the first one, which must succeed."""
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = FileIO(self.path, "a")
            except OSError as error:
                raise InputError(f"Cannot write statistics to {self.path}: {error.strerror}.") from error
        if self.error is None:
            try:
                self._file.write(record)
            except OSError as error:  # a full disk ends the file, not the run
                logger.error("Statistics stop at %s: %s.", self.path, error.strerror)
                self.error = error

    def remove(self) -> None:
        """Remove the file, all of which is elsewhere now; the next record begins another."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)


class Recorder:
    """Collects the rows of a run and the wall time that generating them took."""

    def __init__(self, path: str | Path | None = None, rank: int = 0) -> None:
        """Begin with nothing.

        Args:
            path: a JSONL file that gets every row as it comes, its trace going beside it; None for none.
            rank: of this process among those of the run; all but the first write to a file of their own.
        """
        if path is not None and rank:
            path = Path(path).with_name(f"{Path(path).stem}_rank{rank}{Path(path).suffix}")
        self.rank = rank
        self.rows: list[Row] = []
        self.failures: list[Failure] = []
        self.wall_seconds = 0.0
        self.elsewhere: dict[int, float] = {}  # wall seconds of other processes whose rows are here
        self._writer = None if path is None else Writer(path)
        self._tracer = None if path is None else Writer(traces.beside(path))
        self._told = 0.0  # wall seconds of the rows so far

    def timed(self, results: Iterator[T]) -> Iterator[T]:
        """Pass results on; the time that each takes to come is wall time, the caller's in between is not."""
        while True:
            started = time.perf_counter()
            try:
                result = next(results)
            except StopIteration:
                return
            finally:
                self.wall_seconds += time.perf_counter() - started
            yield result

    def add(self, row: Row, trace: Trace | None = None) -> None:
        row = replace(row, wall_seconds=self.wall_seconds - self._told, rank=self.rank)
        self._told = self.wall_seconds
        self.rows.append(row)
        if self._tracer and trace:  # first: a row says that its sample is done
            self._tracer.write(traces.encode(trace))
        if self._writer:
            self._writer.write(_line(row))

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        if self._writer:
            self._writer.write(_line(failure))

    def complaints(self) -> list[str]:
        """What went wrong, a sentence each: samples that failed, rows that could not be written."""
        said = []
        if self.failures:
            first = self.failures[0]
            everything = len(self.failures) + len(self.rows)
            said.append(
                f"{len(self.failures)} of {everything} samples failed and count as empty answers, the first being "
                f"document {first.doc_id} of {first.task}: {first.error}"
            )
        for writer in self.writers:
            if writer.error:
                said.append(f"The statistics in {writer.path} are incomplete: {writer.error.strerror}.")
        return said

    @property
    def writers(self) -> list[Writer]:
        return [writer for writer in (self._writer, self._tracer) if writer]

    def totals(self) -> Totals:
        return total(self.rows, max([self.wall_seconds, *self.elsewhere.values()]))

    def by_task(self) -> dict[str, Totals]:
        return total_by_task(self.rows, self.totals().wall_seconds)

    def by_process(self) -> list[Totals]:
        """Totals of each process in the order of their ranks, over its own wall time."""
        walls = {self.rank: self.wall_seconds, **self.elsewhere}
        return [total([row for row in self.rows if row.rank == rank], walls[rank]) for rank in sorted(walls)]


def _line(record: Row | Failure) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"


def read_rows(path: str | Path) -> list[Row]:
    """Read back a JSONL file; failures and what is no row, such as a line cut short, are left out."""
    return list(_rows(Path(path).read_text(encoding="utf-8", errors="replace").splitlines()))


def _rows(lines: Iterable[str]) -> Iterable[Row]:
    known = {f.name for f in fields(Row)}
    required = {f.name for f in fields(Row) if f.default is MISSING}
    numbers = {f.name for f in fields(Row) if f.type in (int, float)}
    for line in lines:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not isinstance(values, dict) or not required <= values.keys():
            continue
        if all(_is_number(values[name]) for name in numbers & values.keys()):
            yield Row(**{name: value for name, value in values.items() if name in known})


def _is_number(value: object) -> bool:
    """Whether a count or a time can be one: seconds may be a little below zero by the clock, but not -1 forwards."""
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, int) and value >= 0
