"""What each forward of a sample fed, took and gave: a record beside every row of statistics, compressed.

The file of a run's traces stands beside that of its rows: ``statistics_X.jsonl`` has ``statistics_X.traces.gz``. Each
sample is a gzip member of its own, written in one piece, so what a killed run leaves can be read.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from odb_dllm.contract import Pass

if TYPE_CHECKING:
    from odb_dllm.generation import Generation

SUFFIX = ".traces.gz"
LETTERS = {"refresh": "r", "step": "s"}
_KINDS = {letter: kind for kind, letter in LETTERS.items()}
_NUMBERS = Pass._fields[1:]
_MEMBER = b"\x1f\x8b\x08"  # begins every gzip member


@dataclass(frozen=True)
class Trace:
    """The forwards of one sample."""

    task: str | None
    doc_id: int | None
    index: int  # of the request within its document
    repeat: int
    prompt_tokens: int
    passes: tuple[Pass, ...]
    seconds: tuple[float, ...]  # of each forward, shared out by tokens fed
    batches: tuple[int, ...]  # sequences that were in each


def make_trace(key: tuple[str | None, int | None, int, int], generation: "Generation", *, prompt_tokens: int) -> Trace:
    """The trace of a generation; ``key`` as in ``statistics.make_row``."""
    timed = (tuple(generation.forward_seconds), tuple(generation.batches))
    return Trace(*key, prompt_tokens, tuple(generation.passes), *timed)


def beside(rows: str | Path) -> Path:
    """The file of traces that belongs to a file of rows."""
    return Path(rows).with_suffix(SUFFIX)


def encode(trace: Trace) -> bytes:
    """One gzip member: a line of JSON, a list per column; seconds in whole microseconds."""
    values = {f.name: getattr(trace, f.name) for f in fields(Trace) if f.name != "passes"}
    values["seconds"] = [round(1e6 * seconds) for seconds in trace.seconds]
    values["kind"] = "".join(LETTERS[each.kind] for each in trace.passes)
    for name in _NUMBERS:
        values[name] = [getattr(each, name) for each in trace.passes]
    return gzip.compress(json.dumps(values, separators=(",", ":")).encode() + b"\n", compresslevel=6, mtime=0)


def read_traces(path: str | Path) -> list[Trace]:
    """Read back a file; what a killed run left of its last sample is left out, a file that is not there is empty."""
    path, known = Path(path), dict[Pass, Pass]()  # a baseline's forwards hardly differ: each is kept once
    return [_decode(line, known) for line in _lines(path.read_bytes())] if path.is_file() else []


def _lines(data: bytes) -> Iterator[bytes]:
    """The contents of whole members; a broken one is passed over."""
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            line = member.decompress(data)
        except zlib.error:
            line = b""
        if member.eof:
            yield line
            data = member.unused_data
        else:
            following = data.find(_MEMBER, 1)
            data = data[following:] if following > 0 else b""


def _decode(line: bytes, kept: dict[Pass, Pass]) -> Trace:
    values = json.loads(line)
    numbers: Sequence[Sequence[int]] = [values[name] for name in _NUMBERS]
    rows = zip(values["kind"], *numbers, strict=True)
    passes = (Pass(_KINDS[letter], *row) for letter, *row in rows)  # type: ignore[arg-type]
    columns = {f.name: values[f.name] for f in fields(Trace) if f.name in values}
    columns["passes"] = tuple(kept.setdefault(each, each) for each in passes)
    columns["seconds"] = tuple(microseconds / 1e6 for microseconds in values["seconds"])
    columns["batches"] = tuple(values["batches"])
    return Trace(**columns)
