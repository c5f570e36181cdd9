"""A finished run of one task under one setting, as reports take it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from odb_dllm.counting import Shape, Work, pass_work
from odb_dllm.errors import InputError
from odb_dllm.expressions import switched, switches, written
from odb_dllm.presets import all_settings, get_setting
from odb_dllm.report.cells import CellResult
from odb_dllm.report.documents import Document
from odb_dllm.settings import Setting

HELD = ("name", "gen_length", "block_length", "seed", "end_of_turn")  # not what tells one setting from another
QUESTIONS = ("question", "problem", "input", "prompt", "text")  # what tasks call what they ask


class Place(NamedTuple):
    """What times depend on besides the setting: they compare between the same places alone."""

    device: str  # the GPU's name, or cpu
    batch_size: int
    processes: int
    more: str = ""  # whatever else the run was told, such as its engine

    def __str__(self) -> str:
        batch = f"batch {self.batch_size}" if self.batch_size > 1 else ""
        processes = f"{self.processes} processes" if self.processes > 1 else ""
        return ", ".join(filter(None, (self.device, batch, processes, self.more)))


@dataclass(frozen=True)
class Sample:
    """One document's question and answer, from lm-eval's log."""

    question: str
    answer: str
    hashes: tuple[str, str]  # of the document, and of the whole prompt


@dataclass(frozen=True)
class Run:
    """A finished cell, and where it comes from."""

    folder: Path  # of the cell; of lm-eval's results, the file
    result: CellResult
    manifest: Mapping[str, Any]
    shape: Shape | None  # of the model; None where the run did not write it down
    weights: str | None = None  # a digest of the checkpoint; None where the run did not write it down
    shots: Mapping[str, int] = field(default_factory=dict)  # by leaf task
    chat_template: bool | None = None  # whether prompts went through it; None where that is not known
    protocol: str | None = None  # of another paper than ODB-dLLM's, that it was run by
    logs: tuple[tuple[str, Path], ...] = ()  # lm-eval's logs of samples, each with its task; "" where its lines say it
    more: str = ""  # of its place
    world_size: int | None = None  # processes side by side; None where the run did not write it down

    @property
    def setting(self) -> Mapping[str, Any]:
        """The fields of the ``Setting``, as JSON gives them."""
        found: Mapping[str, Any] = self.manifest.get("setting") or {}
        return found

    @property
    def place(self) -> Place:
        cell = self.result.cell
        processes = self.world_size or 1 + max((row.rank for row in self.result.rows.values()), default=0)
        return Place(cell.device, cell.batch_size, processes, self.more)

    @property
    def longest(self) -> float:
        """The share of all wall time that the longest of its processes took."""
        each: dict[int, float] = {}
        for row in self.result.rows.values():
            each[row.rank] = each.get(row.rank, 0.0) + row.wall_seconds
        total = sum(each.values())
        return max(each.values()) / total if total and self.place.processes > 1 else 1.0

    @property
    def version(self) -> str | None:
        """Of this package, that made it."""
        return (self.manifest.get("versions") or {}).get("odb_dllm")

    @cached_property
    def samples(self) -> dict[Document, Sample]:
        """What was asked and answered."""
        found: dict[Document, Sample] = {}
        for task, path in self.logs:
            with path.open(encoding="utf-8") as file:
                for values in map(json.loads, file):
                    document = values.get("task", task), values["doc_id"]
                    found.setdefault(document, _sample(values))
        return found

    @cached_property
    def work(self) -> dict[Document, Work]:
        """Counted operations and bytes of each document whose forwards were recorded; empty without the shape."""
        if self.shape is None:
            return {}
        shape, cell = self.shape, self.result.cell

        @lru_cache(maxsize=2**18)
        def of(made: Any, sequences: int) -> Work:
            return pass_work(shape, cell.dtype, made, cell.block_length, sequences)

        found = {}
        for document, trace in self.result.traces.items():
            made = [of(each, sequences) for each, sequences in zip(trace.passes, trace.batches, strict=True)]
            found[document] = Work(sum(each.flops for each in made), sum(each.bytes for each in made))
        return found


def described(setting: Mapping[str, Any]) -> str:
    """A setting as an expression: what its name means, then the fields in which it differs from that."""
    if (meant := _meant(setting)) is None:
        return str(setting.get("name", "custom"))
    preset, named = meant.name.partition("+")[0], switches(meant.name)
    values = {**named, **changes(setting)}
    usual = written(preset, {name: value for name, value in values.items() if name != "rule" or name in named})
    renamed = {**setting, "name": usual}  # the rule mostly follows from the other fields
    return usual if _meant(renamed) and not changes(renamed) else written(preset, values)


def changes(setting: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in which a setting differs from what its name means; none where that means nothing here."""
    if (meant := _meant(setting)) is None:
        return {}
    usual = {f.name: _plain(getattr(meant, f.name)) for f in fields(Setting) if f.name not in HELD}
    return {name: setting[name] for name, value in usual.items() if name in setting and setting[name] != value}


def _meant(setting: Mapping[str, Any]) -> Setting | None:
    """The preset of a setting's name, or what an expression makes of one in the lengths that were run."""
    name = str(setting.get("name"))
    lengths = {"gen_length", "block_length"} & setting.keys() - {*switched(name)}
    try:
        return all_settings().get(name) or get_setting(name, **{each: setting[each] for each in lengths})
    except InputError:
        return None


def _plain(value: Any) -> Any:
    """A field as a manifest has it."""
    return json.loads(json.dumps(getattr(value, "__name__", value) if callable(value) else value))


def _sample(values: Mapping[str, Any]) -> Sample:
    document = values.get("doc") or {}
    known = (str(document[name]) for name in QUESTIONS if isinstance(document, dict) and document.get(name))
    hashes = str(values.get("doc_hash", "")), str(values.get("prompt_hash", ""))
    return Sample(next(known, ""), _first(values.get("resps", "")), hashes)


def _first(answers: Any) -> str:
    """The first text in lists of lists."""
    while isinstance(answers, Sequence) and not isinstance(answers, str):
        answers = answers[0] if answers else ""
    return str(answers)
