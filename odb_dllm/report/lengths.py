"""``odb-dllm report --lengths A B``: two rules of length prediction on the same samples: how long, how cut, how right.

A prediction has cut an answer where it had shortened the canvas and the canvas ended before any of the task's stop
patterns, EOS among them, was written; one that fills the canvas to its last token is among them, complete or not. An
answer that was written into a short canvas and ends there in time is not cut, but may be shorter than it would have
been: that is told beside a run of fixed length alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from odb_dllm.errors import InputError
from odb_dllm.report.collected import place_of
from odb_dllm.report.documents import Document
from odb_dllm.report.mixing import configuration, refuse_mixed, taken
from odb_dllm.report.paired import Difference, difference
from odb_dllm.report.runs import HELD, Run
from odb_dllm.report.selecting import differing, left_out, own, runs_of
from odb_dllm.statistics import Row
from odb_dllm.traces import Trace

# In which a run of fixed length may differ: what length prediction reads, and what makes the same decoding faster.
FREE = {*HELD, "length", "theta", "eos_guard", "grow", "speculation", "costs", "early_exit"}
ALL = "all tasks"


@dataclass(frozen=True)
class Sample:
    """What a setting made of one document; lengths are of the response, in tokens."""

    right: bool
    length: int  # up to the first stop pattern, else the whole canvas: ``tokens`` of the statistics
    predicted: tuple[int, ...]  # the canvas after each block's prediction
    cut: bool
    nfe: int
    refreshes: int
    refreshed: int | None  # response positions that these were over, in sum; None where forwards were not recorded


@dataclass(frozen=True)
class Side:
    """One setting on one task, or on all; means are per sample, None where there is nothing to take one of."""

    setting: str
    samples: Mapping[Document, Sample]

    @property
    def right(self) -> int:
        return sum(each.right for each in self.samples.values())

    @property
    def cut(self) -> dict[Document, Sample]:
        return {document: each for document, each in self.samples.items() if each.cut}

    @property
    def length(self) -> float | None:
        return self._mean(lambda each: each.length)

    @property
    def first(self) -> float | None:
        """The first prediction, over the samples that have one."""
        return self._mean(lambda each: each.predicted[0] if each.predicted else None)

    @property
    def nfe(self) -> float | None:
        return self._mean(lambda each: each.nfe)

    @property
    def refreshes(self) -> float | None:
        return self._mean(lambda each: each.refreshes)

    @property
    def canvas(self) -> float | None:
        """The response canvas that a refresh was over: the mean over all refreshes, not over samples."""
        known = [each for each in self.samples.values() if each.refreshed is not None]
        count = sum(each.refreshes for each in known)
        return sum(each.refreshed or 0 for each in known) / count if count else None

    def _mean(self, of: Callable[[Sample], float | None]) -> float | None:
        values = [value for each in self.samples.values() if (value := of(each)) is not None]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Two settings on the documents of a task that both answered."""

    task: str
    a: Side
    b: Side
    fixed: Side | None = None  # those of the documents that a run of fixed length answered too

    @property
    def sides(self) -> list[Side]:
        return [self.a, self.b, *([self.fixed] if self.fixed else [])]

    @property
    def accuracy(self) -> Difference | None:
        """B less A."""
        ours, theirs = ({doc: each.right for doc, each in of.samples.items()} for of in (self.b, self.a))
        return difference(ours, theirs)

    def shorter(self, side: Side) -> int | None:
        """Samples whose answer is shorter than under the fixed length; None without such a run."""
        if self.fixed is None or side is self.fixed:
            return None
        return sum(side.samples[document].length < each.length for document, each in self.fixed.samples.items())


def is_cut(row: Row, gen_length: int) -> bool:
    """Whether a prediction cut the answer, as defined at the top of this file."""
    return row.tokens == row.canvas_tokens < gen_length


def refreshed(trace: Trace) -> int:
    """Response positions that a sample's refreshes were over, in sum, whether they fed or only saw them."""
    return sum(each.fed + each.cached - trace.prompt_tokens for each in trace.passes if each.kind == "refresh")


def compare(runs: Sequence[Run], a: str, b: str) -> tuple[list[Comparison], list[str], dict[str, tuple[Run, Run]]]:
    """Compare two settings task by task, and last over all tasks where there are several.

    Args:
        runs: what was found; those of other papers' protocols are left out, and those of other settings passed over,
            but for one of fixed length per task.
        a, b: settings, as their runs are called or as ``get_setting`` takes them.

    Returns:
        The comparisons; a sentence on each run that stands in none; and the two runs of each task.

    Raises:
        InputError: a setting is unknown, has no run or predicts no length; no task has both, or the same documents; or
            runs differ in what a table holds equal.
    """
    mine = own(runs)
    found = [_predicting(mine, word) for word in (a, b)]
    if {*map(id, found[0])} & {*map(id, found[1])}:
        raise InputError(f"--lengths compares two settings, but {a} and {b} are one.")
    refuse_mixed([*found[0], *found[1]])
    chosen, said = zip(*(taken(each, lambda run: run.result.cell.task) for each in found), strict=True)
    sides = [{run.result.cell.task: run for run in each} for each in chosen]
    tasks = sorted(sides[0].keys() & sides[1].keys(), key=lambda task: place_of((task, "")))
    if not tasks:
        raise InputError(f"No task has results of both {a} and {b}: {' and '.join(map(_tasks, sides))}.")
    remarks = [*left_out(runs), *(sentence for of in said for sentence in of)]
    for word, side in zip((a, b), sides, strict=True):
        if only := sorted(side.keys() - set(tasks)):
            remarks.append(f"Only under {word}: {', '.join(only)}.")
    pairs = {task: (sides[0][task], sides[1][task]) for task in tasks}
    made = [_compared(task, (a, b), pair, _fixed(pair[0], mine)) for task, pair in pairs.items()]
    return [*made, *([_pooled(made)] if len(made) > 1 else [])], remarks, pairs


def _predicting(runs: Sequence[Run], word: str) -> list[Run]:
    """The runs of a setting that predicts lengths."""
    found = runs_of(runs, word)
    if any(run.setting.get("length") == "fixed" for run in found):
        raise InputError(f"{word} predicts no length: --lengths compares settings with length=adaptive or length=mass.")
    return found


def _tasks(side: Mapping[str, Run]) -> str:
    settings = " and ".join(sorted({run.result.cell.setting for run in side.values()}))
    return f"{settings} has {', '.join(sorted(side))}"


def _compared(task: str, words: tuple[str, str], pair: tuple[Run, Run], fixed: Run | None) -> Comparison:
    a, b = pair
    documents = [each for each in _answered(a) if each in _answered(b)]
    if not documents:
        raise InputError(f"{a.folder} and {b.folder} share no documents that both answered.")
    also = [each for each in documents if fixed and each in _answered(fixed)]
    return Comparison(
        task,
        _side(words[0], a, documents),
        _side(words[1], b, documents),
        _side(fixed.result.cell.setting, fixed, also) if fixed and also else None,
    )


def _answered(run: Run) -> dict[Document, Row]:
    """The rows of the documents that did not fail and have a score."""
    return {document: row for document, row in run.result.rows.items() if document in run.result.correct}


def _side(name: str, run: Run, documents: Iterable[Document]) -> Side:
    return Side(name, {document: _sample(run, document) for document in documents})


def _sample(run: Run, document: Document) -> Sample:
    result = run.result
    row, trace = result.rows[document], result.traces.get(document)
    return Sample(
        result.correct[document],
        row.tokens,
        tuple(row.predicted_lengths),
        is_cut(row, result.cell.gen_length),
        row.nfe,
        row.refreshes,
        None if trace is None else refreshed(trace),
    )


def _fixed(a: Run, runs: Sequence[Run]) -> Run | None:
    """Of the runs that differ from A in their fixed length, and at most in ``FREE``, the one that does least."""

    def apart(run: Run) -> set[str]:
        return differing(run.setting, a.setting)

    found = [
        run
        for run in runs
        if run.result.cell.task == a.result.cell.task
        and run.setting.get("length") == "fixed"
        and apart(run) <= FREE
        and dict(configuration(run)) == dict(configuration(a))
    ]
    best = min(found, key=lambda run: (len(apart(run)), -len(run.result.correct)), default=None)
    if best is not None:
        refuse_mixed([a, best])
    return best


def _pooled(made: Sequence[Comparison]) -> Comparison:
    """All tasks as one."""

    def pool(sides: Sequence[Side]) -> Side:
        names = " or ".join(dict.fromkeys(each.setting for each in sides))
        return Side(names, {document: sample for each in sides for document, sample in each.samples.items()})

    fixed = [each.fixed for each in made if each.fixed]
    a, b = pool([each.a for each in made]), pool([each.b for each in made])
    return Comparison(ALL, a, b, pool(fixed) if fixed else None)
