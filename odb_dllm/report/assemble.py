"""Puts a report together: its sections, and each table as CSV, from all runs that were found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from odb_dllm.folder_names import plain_name
from odb_dllm.models.loading import EMBEDDED
from odb_dllm.report import collected, ladder, papers, table
from odb_dllm.report.html import Section, Table
from odb_dllm.report.mixing import other_versions, refuse_mixed, taken
from odb_dllm.report.published import ODB_DLLM, published
from odb_dllm.report.runs import Run
from odb_dllm.report.table import outside

SPEED_NOTES = (
    "Speed-ups are ratios of what the same documents took. Those of wall time are taken between runs from the same "
    "place alone: GPU, batch size, processes and engine; elsewhere they stay empty. NFE, operations and bytes are "
    "counted and depend on no machine.",
    "Tokens/s come last: they reward long answers.",
)


@dataclass
class Report:
    """All but the figures."""

    sections: list[Section] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # tables as CSV, by name
    runs: list[Run] = field(default_factory=list)  # that stand in them


def assemble(runs: Sequence[Run]) -> Report:
    """The report on runs; raises ``InputError`` where those of one table differ in what it holds equal."""
    report = Report()
    for run in tqdm(runs, desc="reading samples, counting work", unit="run", disable=None, leave=False):
        _ = run.samples, run.work  # read once, and kept
    for name, mine in by_model(runs).items():
        if own := [run for run in mine if run.protocol is None]:
            _add_model(report, name, own)
        for paper in papers.papers(name, mine):
            report.sections.append(papers.section(paper))
            report.files[f"{plain_name(paper.protocol.name)}_{plain_name(name)}.csv"] = papers.to_csv(paper)
            report.runs += [run for run in paper.runs if run not in report.runs]
    report.sections.append(_sources(report.runs, [said] if (said := other_versions(runs)) else []))
    return report


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the last part of their model's name, or all of it where that is several models'.

    The same weights are the same model, whatever folder they are in.
    """
    known: dict[str, set[str]] = {}
    models: dict[str, str] = {}  # by weights
    for run in runs:
        if run.weights:
            models.setdefault(run.weights, run.result.cell.model)
            known.setdefault(Path(models[run.weights]).name, set()).add(run.weights)
    found: dict[str, list[Run]] = {}
    for run in runs:
        model = models[run.weights] if run.weights else run.result.cell.model
        own = Path(model).name
        found.setdefault(model if len(known.get(own, ())) > 1 else own, []).append(run)
    return found


def _add_model(report: Report, name: str, runs: Sequence[Run]) -> None:
    """The table of one model, and its ladder."""
    refuse_mixed(runs)
    best, notes = taken(runs, lambda run: (run.result.cell.key, run.place))
    cell = best[0].result.cell
    family = None if cell.model in EMBEDDED else cell.family
    made = collected.entries(best, family)
    report.sections.append(
        Section(
            f"{name}: {cell.dtype}, {cell.gen_length} tokens to generate in blocks of {cell.block_length}",
            [*_remarks(made, family), *_asked_otherwise(best, family), *SPEED_NOTES, *notes],
            [*collected.to_tables(made), *_pairs(best)],
        )
    )
    report.files[f"table_{plain_name(name)}.csv"] = collected.to_csv(made)
    if steps := ladder.ladders(best):
        said = [ladder.ABOUT, *filter(None, [ladder.missing(steps)]), *ladder.left_aside(steps)]
        report.sections.append(Section(f"Ladder: {name}", said, [ladder.to_table(steps)]))
        report.files[f"ladder_{plain_name(name)}.csv"] = ladder.to_csv(steps)
    report.runs += best


def _remarks(made: Sequence[collected.Entry], family: str | None) -> list[str]:
    said = []
    if any(entry.line.published_accuracy is not None for entry in made):
        excluded = [f"{each.line.task} {each.line.setting}" for each in made if outside(each.line)]
        which = f"in {', '.join(excluded)}" if excluded else "nowhere"
        said.append(f"Published: {family} in arXiv {ODB_DLLM}, on an A100. Our interval excludes its accuracy {which}.")
    if any(entry.line.seconds_estimated for entry in made):
        said.append("~: of all documents, estimated from a subset by prompt length, of which alone are n and accuracy.")
    if any(entry.place and entry.flops is None for entry in made):
        said.append("Runs that did not record their forwards, or their model's shape, have no counted work.")
    return said


def _asked_otherwise(runs: Sequence[Run], family: str | None) -> list[str]:
    """A sentence on runs beside which the published figures would say nothing."""
    names = [
        " ".join(run.result.cell.key)
        for run in runs
        if published(family, *run.result.cell.key, run.result.cell.gen_length)
        and not collected.as_published(run, family)
    ]
    which = ", ".join(dict.fromkeys(names))
    said = f"Nothing published stands beside {which}: shots, chat template or block length are not the paper's."
    return [said] if names else []


def _pairs(runs: Sequence[Run]) -> list[Table]:
    """Differences in accuracy to the vanilla baseline, one run of each setting standing for all places."""
    results = {run.result.cell.key: run.result for run in runs}
    vanilla = next((name for name in table.VANILLAS if any(setting == name for _, setting in results)), table.VANILLA)
    made = table.pairs(sorted(results, key=collected.place_of), results, vanilla)
    return [Table(table.pairs_to_rows(made), f"Accuracy against {vanilla} on the same documents", True)] if made else []


def _sources(runs: Sequence[Run], said: Sequence[str]) -> Section:
    heads = ["task", "setting", "GPU", "host", "ended", "failed", "folder"]
    rows = []
    for run in sorted(runs, key=lambda run: (collected.place_of(run.result.cell.key), run.folder)):
        cell, about = run.result.cell, run.manifest
        where = [str(about.get(name) or table.NONE) for name in ("host", "end")]
        rows.append([*cell.key, str(run.place), *where, str(len(run.result.failures)), str(run.folder)])
    return Section("Runs", said, [Table([heads, *rows], grouped=True)])
