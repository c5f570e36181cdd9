"""A protocol: what a paper fixed for one of its tables, so that its figures can be run again.

The data is in ``protocols.yaml``; nothing here runs anything or imports lm-eval.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from odb_dllm.errors import InputError, nearest

DATA = Path(__file__).with_name("protocols.yaml")
ODB_DLLM = "odb-dllm"
Windows = Mapping[tuple[str, int], tuple[int, float]]


@dataclass(frozen=True)
class ProtocolTask:
    """A benchmark as a paper asked it."""

    name: str  # in the published tables
    task: str  # under lm-eval
    version: float  # of lm-eval's task
    shots: int
    metrics: tuple[str, ...]  # "metric,filter" as in lm-eval's results; the first leads
    prompt: str  # prompt_hash of the first documents of the published data


@dataclass(frozen=True)
class Column:
    """A method of a table."""

    label: str
    published: str | None  # the setting's name in published.json; None where the paper has no figures
    setting: str | None  # ours; None where we have none
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of that setting's fields


@dataclass(frozen=True)
class Protocol:
    """How one table of a paper was run."""

    name: str  # paper/model
    arxiv: str
    table: str
    model: str  # in published.json
    lengths: tuple[int, ...]  # tokens to generate
    tasks: tuple[ProtocolTask, ...]
    columns: tuple[Column, ...]
    chat_template: bool
    windows: Windows  # (published task, length): Streaming-dLLM's window and alpha
    notes: tuple[str, ...]  # what the published tables do not tell, and what is done about it

    @property
    def paper(self) -> str:
        return self.name.partition("/")[0]

    def overrides(self, task: ProtocolTask, gen_length: int, column: Column) -> dict[str, Any]:
        """The setting's fields that the paper chose for one cell."""
        window = self.windows.get((task.name, gen_length)) if column.setting == "streaming" else None
        chosen = {} if window is None else {"window_size": window[0], "confidence_alpha": window[1]}
        return {**column.overrides, **chosen}


@cache
def all_protocols() -> dict[str, Protocol]:
    """Every protocol by name, in the order of the papers."""
    data = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    tasks = {name: _task(name, values) for name, values in data["tasks"].items()}
    made = (_protocol(values, tasks, data["notes"]) for values in data["protocols"])
    return {protocol.name: protocol for protocol in made}


def papers() -> list[str]:
    return list(dict.fromkeys(protocol.paper for protocol in all_protocols().values()))


def get_protocol(name: str, model: str) -> Protocol:
    """The protocol of a name, or of a paper's name and a model's.

    Args:
        name: ``paper/model``, or ``paper``, which takes the model's own table.
        model: the checkpoint's name; the embedded one counts as LLaDA-Instruct.

    Raises:
        InputError: unknown name; a paper without a table of that model.
    """
    found = all_protocols()
    plain = name.strip().lower().replace("_", "-")
    exact = {each.replace("_", "-"): protocol for each, protocol in found.items()}
    if plain in exact:
        return exact[plain]
    if plain not in papers():
        raise InputError(f"Unknown paper {name!r}: {nearest(plain, [*papers(), *found])}.")
    own = f"{plain}/{table_of(model)}"
    if own in found:
        return found[own]
    others = [each for each, protocol in found.items() if protocol.paper == plain]
    raise InputError(f"{plain} has no table of {model}: name the one to follow, with --paper {' or '.join(others)}.")


def table_of(model: str) -> str:
    """The name under which published.json has a checkpoint."""
    from odb_dllm.benchmarks import family_of

    family = family_of(model)
    return "dream_base" if family == "dream" else family


def is_published(protocol: Protocol, model: str) -> bool:
    """Whether a protocol's figures are those of this checkpoint's kind; the embedded model has none."""
    from odb_dllm.models.loading import EMBEDDED

    own = table_of(model)
    other = own == "dream_base" and "instruct" in model.lower()
    return model not in EMBEDDED and own == protocol.model and not other


def prompt_hash(prompts: Iterable[tuple[str, str]]) -> str:
    """A hash of (task, rendered prompt) pairs, in any order."""
    made = hashlib.sha256()
    for task, prompt in sorted(prompts):
        made.update(f"{task}\0{prompt}\0".encode())
    return made.hexdigest()[:16]


def listing() -> str:
    """Every protocol for people: what is run, under which settings, and what the papers do not tell."""
    return "\n\n".join(_page(protocol) for protocol in all_protocols().values())


def _page(protocol: Protocol) -> str:
    from odb_dllm.statistics import markdown

    heads = ["published as", "lm-eval task", "version", "shots", "metrics", "first prompts"]
    tasks = [
        [each.name, each.task, str(each.version), str(each.shots), " ".join(each.metrics), each.prompt]
        for each in protocol.tasks
    ]
    columns = [[each.label, _setting(each), each.published or "–"] for each in protocol.columns]
    lengths = " and ".join(map(str, protocol.lengths))
    parts = [
        f"# {protocol.name}: arXiv {protocol.arxiv}, table {protocol.table}",
        f"{lengths} tokens to generate, {'with the' if protocol.chat_template else 'no'} chat template",
        markdown([heads, *tasks]),
        markdown([["column", "setting", "in published.json"], *columns]),
    ]
    if protocol.windows:
        chosen = (f"{task} {length}: {w}, {a}" for (task, length), (w, a) in protocol.windows.items())
        parts.append(f"Window, alpha: {'; '.join(chosen)}")
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in protocol.notes)])


def _setting(column: Column) -> str:
    return " ".join([column.setting or "–", *(f"{name}={value}" for name, value in column.overrides.items())])


def _task(name: str, values: Mapping[str, Any]) -> ProtocolTask:
    return ProtocolTask(
        values["published"], name, values["version"], values["shots"], tuple(values["metrics"]), values["prompt"]
    )


def _protocol(values: Mapping[str, Any], tasks: Mapping[str, ProtocolTask], notes: Mapping[str, str]) -> Protocol:
    windows = values.get("windows", {})
    return Protocol(
        name=values["name"],
        arxiv=values["arxiv"],
        table=values["table"],
        model=values["model"],
        lengths=tuple(values["lengths"]),
        tasks=tuple(tasks[name] for name in values["tasks"]),
        columns=tuple(Column(**each) for each in values["columns"]),
        chat_template=values.get("chat_template", False),
        windows={(task, length): tuple(pair) for task, rows in windows.items() for length, pair in rows.items()},
        notes=tuple(notes[name] for name in values["notes"]),
    )
