"""``odb-dllm report --against SETTING``: the other settings beside one of them, on the documents that both answered."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from odb_dllm.costs import ForwardCosts
from odb_dllm.errors import InputError
from odb_dllm.report.against_costs import AS_RECORDED, Lengths, remarks, sample_milliseconds
from odb_dllm.report.assemble import by_model
from odb_dllm.report.collected import place_of
from odb_dllm.report.documents import Document
from odb_dllm.report.mixing import refuse_mixed, taken
from odb_dllm.report.paired import Difference, difference
from odb_dllm.report.ratios import base
from odb_dllm.report.runs import Place, Run
from odb_dllm.report.selecting import left_out, own, runs_of

ALL = "all tasks"
Asked = tuple[str, Document]  # a task and one of its documents


@dataclass(frozen=True)
class Pair:
    """A figure of a setting and of the reference."""

    setting: float
    reference: float


@dataclass(frozen=True)
class Line:
    """A setting beside the reference, on one task or on all; None where one of them has no such figure."""

    task: str
    setting: str
    place: Place
    accuracy: Difference
    right: Pair  # shares, of the documents that both were scored on
    nfe: Pair | None  # means per sample, of the documents that neither failed on; so are those below
    refreshes: Pair | None
    milliseconds: Pair | None  # of the forwards at given costs

    @property
    def speedup(self) -> float | None:
        """What the reference's forwards would take over what the setting's would."""
        times = self.milliseconds
        return times.reference / times.setting if times and times.setting else None


@dataclass(frozen=True)
class Model:
    """The lines of one model, and what is to be said of them."""

    name: str
    reference: str
    lines: list[Line]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Figures:
    """What one run, or those of several tasks, made of each document."""

    correct: dict[Asked, bool] = field(default_factory=dict)
    nfe: dict[Asked, float] = field(default_factory=dict)
    refreshes: dict[Asked, float] = field(default_factory=dict)
    milliseconds: dict[Asked, float] = field(default_factory=dict)

    def __or__(self, other: "Figures") -> "Figures":
        return Figures(**{name: values | vars(other)[name] for name, values in vars(self).items()})


def against(
    runs: Sequence[Run], reference: str, costs: ForwardCosts | None = None, lengths: Lengths = AS_RECORDED
) -> list[Model]:
    """Compare the settings of each model with one of them.

    Args:
        runs: finished ones; those of other papers' protocols are left out, which is said.
        reference: the setting, as its runs are called or as ``get_setting`` takes it.
        costs, lengths: what forwards take, and behind which prompt and on which canvas; without costs, no times.

    Raises:
        InputError: no run is of the reference, nothing stands beside it, or runs differ in what a table holds equal.
    """
    mine = own(runs)
    names = {run.result.cell.setting for run in runs_of(mine, reference)}
    made = [_model(model, each, names, costs, lengths) for model, each in by_model(mine).items()]
    if not any(model.lines for model in made):
        raise InputError(f"No other setting shares a task, a model and documents with {_called(names)}.")
    return [replace(model, notes=[*left_out(runs), *model.notes]) for model in made]


def _called(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))


def _model(
    name: str, runs: Sequence[Run], reference: Collection[str], costs: ForwardCosts | None, lengths: Lengths
) -> Model:
    """The lines of one model; ``reference``: what its runs call that."""
    refuse_mixed(runs)
    best, notes = taken(runs, lambda run: (run.result.cell.key, run.place))
    best.sort(key=lambda run: (place_of(run.result.cell.key), str(run.place)))
    groups: dict[tuple[str, Place], list[tuple[str, Figures, Figures]]] = {}  # of each setting, its tasks' figures
    for run in best:
        cell, other = run.result.cell, base(run, best, reference)
        if other is not None and cell.setting not in reference:
            ours, theirs = (figures(each, costs, lengths) for each in (run, other))
            groups.setdefault((cell.setting, run.place), []).append((cell.task, ours, theirs))
    tasks = list(dict.fromkeys(task for each in groups.values() for task, _, _ in each))
    lines = [
        line
        for task in tasks
        for key, each in groups.items()
        for found, ours, theirs in each
        if found == task and (line := _line(task, *key, ours, theirs))
    ]
    if not lines:
        notes.append(f"Nothing here shares a task and documents with {_called(reference)}.")
    if len(tasks) > 1:
        lines += filter(None, (_line(ALL, *key, *_pooled(each)) for key, each in groups.items()))
        notes += _lacking(groups, tasks)
    return Model(name, _called(reference), lines, [*notes, *(remarks(best, lengths) if costs is not None else [])])


def figures(run: Run, costs: ForwardCosts | None, lengths: Lengths) -> Figures:
    """What a run made of each document; milliseconds where costs are given."""
    task, rows = run.result.cell.task, run.result.rows
    times = {} if costs is None else sample_milliseconds(run, costs, lengths)
    return Figures(
        {(task, document): right for document, right in run.result.correct.items()},
        {(task, document): row.nfe for document, row in rows.items()},
        {(task, document): row.refreshes for document, row in rows.items()},
        {(task, document): time for document, time in times.items()},
    )


def _pooled(each: Iterable[tuple[str, Figures, Figures]]) -> tuple[Figures, Figures]:
    ours, theirs = Figures(), Figures()
    for _, more, others in each:
        ours, theirs = ours | more, theirs | others
    return ours, theirs


def _line(task: str, setting: str, place: Place, ours: Figures, theirs: Figures) -> Line | None:
    """A line of the table; None where no document was scored in both."""
    accuracy, right = difference(ours.correct, theirs.correct), _means(ours.correct, theirs.correct)
    if accuracy is None or right is None:
        return None
    rest = (_means(vars(ours)[name], vars(theirs)[name]) for name in ("nfe", "refreshes", "milliseconds"))
    return Line(task, setting, place, accuracy, right, *rest)


def _means(ours: Mapping[Asked, float], theirs: Mapping[Asked, float]) -> Pair | None:
    """The means over the documents that both have."""
    common = ours.keys() & theirs.keys()
    return Pair(*(sum(of[each] for each in common) / len(common) for of in (ours, theirs))) if common else None


def _lacking(
    groups: Mapping[tuple[str, Place], Sequence[tuple[str, Figures, Figures]]], tasks: Sequence[str]
) -> Iterator[str]:
    """A sentence on each setting whose line of all tasks is not of all that others have."""
    for (setting, _), each in groups.items():
        if absent := [task for task in tasks if task not in {found for found, _, _ in each}]:
            yield f"{ALL} of {setting}: without {', '.join(absent)}, which it or the reference was not run on."
