"""Fast-dLLM's and Streaming-dLLM's tables in their own layout, from whichever runs are as their protocols have them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from odb_dllm.presets import get_setting
from odb_dllm.protocols import ODB_DLLM, Column, Protocol, ProtocolTask, all_protocols, is_published
from odb_dllm.report import layout
from odb_dllm.report.cells import CellResult, Key
from odb_dllm.report.html import Section, Table
from odb_dllm.report.mixing import refuse_mixed, taken
from odb_dllm.report.runs import Place, Run, changes
from odb_dllm.report.table import Results, write_csv

BLOCK_LENGTH = 32  # of all the papers' tables


@dataclass(frozen=True)
class Paper:
    """One paper's table of one model."""

    protocol: Protocol  # what of it was run
    model: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...]  # on runs that were left aside


def papers(model: str, runs: Sequence[Run]) -> list[Paper]:
    """The tables that runs of one model fill; raises ``InputError`` where one cannot hold them all."""
    found = []
    for protocol in all_protocols().values():
        mine = [run for run in runs if protocol.paper != ODB_DLLM and belongs(run, protocol)]
        if not mine:
            continue
        refuse_mixed(mine, free=("gen_length",))
        best, notes = taken(mine, partial(_figure_of, protocol))
        lengths = tuple(sorted({run.result.cell.gen_length for run in mine}))
        tasks = tuple(each for each in protocol.tasks if each.task in {run.result.cell.task for run in mine})
        found.append(Paper(replace(protocol, tasks=tasks, lengths=lengths), model, tuple(best), tuple(notes)))
    return found


def belongs(run: Run, protocol: Protocol) -> bool:
    """Whether a run was made by a protocol, or is what that asks of a model whose figures it has."""
    cell = run.result.cell
    task = _task_of(run, protocol)
    if task is None or column_of(run, protocol, task) is None:
        return False
    return run.protocol == protocol.name or (
        is_published(protocol, cell.model)
        and cell.gen_length in protocol.lengths
        and run.chat_template is not None
        and bool(run.shots)
        and as_asked(run, protocol)
    )


def as_asked(run: Run, protocol: Protocol) -> bool:
    """Whether shots, chat template and block length are the paper's, as far as the run wrote them down."""
    task = _task_of(run, protocol)
    return (
        task is not None
        and run.result.cell.block_length == BLOCK_LENGTH
        and run.chat_template in (None, protocol.chat_template)
        and set(run.shots.values()) <= {task.shots}
    )


def _task_of(run: Run, protocol: Protocol) -> ProtocolTask | None:
    return next((each for each in protocol.tasks if each.task == run.result.cell.task), None)


def column_of(run: Run, protocol: Protocol, task: ProtocolTask) -> Column | None:
    """The method that a run is of: the column's setting as the paper chose it, and no switch beyond that."""
    length = run.result.cell.gen_length
    for column in protocol.columns:
        asked = protocol.overrides(task, length, column)
        if column.setting is None or column.setting != run.setting.get("name"):
            continue
        if changes(run.setting) == changes(asdict(get_setting(column.setting, **asked))):
            return column
    return None


def _figure_of(protocol: Protocol, run: Run) -> tuple[Any, ...]:
    """Which of a table's figures a run is."""
    task = _task_of(run, protocol)
    column = task and column_of(run, protocol, task)
    return run.result.cell.task, column and column.label, run.result.cell.gen_length, run.place


def figures_of(paper: Paper) -> dict[Place, list[layout.Figures]]:
    """The figures of each place, whose times are not compared with those of others."""
    published = is_published(paper.protocol, paper.runs[0].result.cell.model)
    places = sorted({run.place for run in paper.runs})
    return {place: layout.figures(paper.protocol, _results(paper, place), published=published) for place in places}


def _results(paper: Paper, place: Place) -> Mapping[int, Results]:
    tasks = {each.task: each for each in paper.protocol.tasks}
    found: dict[int, dict[Key, CellResult]] = {}
    for run in paper.runs:
        cell = run.result.cell
        column = column_of(run, paper.protocol, tasks[cell.task])
        if run.place == place and column is not None and column.setting is not None:
            found.setdefault(cell.gen_length, {})[cell.task, column.setting] = run.result
    return found


def section(paper: Paper) -> Section:
    protocol, cell = paper.protocol, paper.runs[0].result.cell
    template = {run.chat_template for run in paper.runs} - {None}
    said = [
        f"arXiv {protocol.arxiv}, table {protocol.table}: {paper.model}, {cell.dtype}, blocks of {cell.block_length}."
    ]
    if template and template != {protocol.chat_template}:
        said.append(f"The chat template is {'applied' if True in template else 'left out'}, which the paper's was not.")
    tables = [
        Table(layout.to_rows(protocol, figures), str(place), grouped=True)
        for place, figures in figures_of(paper).items()
    ]
    return Section(f"{protocol.name}: {paper.model}", [*said, *paper.notes, *protocol.notes], tables)


def to_csv(paper: Paper) -> str:
    """Every figure, in full precision; empty where there is none."""
    rows = [{"place": str(place), **asdict(each)} for place, figures in figures_of(paper).items() for each in figures]
    return write_csv(["place", *(f.name for f in fields(layout.Figures))], rows)
