"""Runs cells: one process, one copy of the weights and one index of the tasks for all of them."""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from odb_dllm import tasks
from odb_dllm.errors import InputError
from odb_dllm.report import cells, provenance, recovery
from odb_dllm.report.cells import Cell, score_of, write_atomically
from odb_dllm.report.documents import Document
from odb_dllm.report.output import logged_to, quiet
from odb_dllm.statistics import Failure, Recorder, Row
from odb_dllm.traces import Trace

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

    from odb_dllm.lm_eval_model import ODBDiffusionLM

SEEDS = (0, 1234, 1234, 1234)  # lm-eval's own: random, numpy, torch, few-shot examples
Leaves = dict[str, "Task"]


@dataclass(frozen=True)
class ModelArguments:
    """What every cell shares, as it was asked; None leaves the choice to the adapter."""

    pretrained: str
    device: str | None
    dtype: str | None
    batch_size: int
    gen_length: int
    block_length: int
    seed: int


def make_adapter(
    given: ModelArguments, setting: str, statistics: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> "ODBDiffusionLM":
    """A model under lm-eval whose arguments are checked and whose weights are not read yet."""
    from odb_dllm.lm_eval_model import ODBDiffusionLM

    values = {name: value for name, value in asdict(given).items() if value is not None}
    kept = {} if statistics is None else {"statistics": str(statistics)}
    return ODBDiffusionLM(**{**values, **(overrides or {})}, setting=setting, **kept)


def load_tasks(manager: "TaskManager", name: str, shots: int | None = None) -> Leaves:
    """The leaf tasks of a benchmark in the order of its list, as lm-eval's own command sets them up.

    ``shots``: few-shot examples in place of the task's own number.
    """
    with quiet():
        loaded = manager.load([name])["tasks"]
    order = [leaf for leaf in tasks.leaves(manager, name) if leaf in loaded]
    found = {leaf: loaded[leaf] for leaf in dict.fromkeys([*order, *loaded])}
    for task in found.values():
        if shots is not None or task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=shots or 0)
    return found


@contextmanager
def drawn_alike(task: "Task") -> Iterator[None]:
    """Have a document get the same few-shot examples whenever it is asked, and whichever others are.

    lm-eval draws them from one stream, in the order of the documents: here it begins anew, and flows for those that are
    not asked too.
    """
    task.set_fewshot_seed(seed=SEEDS[3])
    documents, context = iter(list(task.eval_docs)), task.fewshot_context

    def of(doc: Any, *args: Any, **given: Any) -> Any:
        for other in documents:
            made = context(other, *args, **given)
            if other == doc:
                return made
        return context(doc, *args, **given)

    with patch.object(task, "fewshot_context", of):
        yield


def build(task: "Task", chat: "ODBDiffusionLM | None" = None, **which: Any) -> None:
    """Build the requests of a task; ``chat``: whose chat template they go through, all shots in one user message."""
    template = {} if chat is None else {"apply_chat_template": True, "chat_template": chat.apply_chat_template}
    with quiet(), drawn_alike(task):
        task.build_all_requests(**which, **template)


def survey(leaves: Leaves, chat: "ODBDiffusionLM | None" = None) -> tuple[dict[str, int], str]:
    """How many documents each task has; and a hash of them all, of each task's first prompt and how it is answered."""
    counts, made = {}, hashlib.sha256()
    for name, task in leaves.items():
        build(task, chat, limit=1)
        with quiet():
            documents = list(task.eval_docs)
        counts[name] = len(documents)
        for part in (name, task.instances[0].args, *documents):
            made.update(json.dumps(part, default=str, sort_keys=True).encode() + b"\n")
    return counts, made.hexdigest()


def prompts(
    leaves: Leaves, documents: Mapping[str, list[int]], adapter: "ODBDiffusionLM", chat: bool = False
) -> dict[Document, list[int]]:
    """The token ids of every document's prompt."""
    found = {}
    for name, indices in documents.items():
        build(leaves[name], adapter if chat else None, samples=indices)
        for instance in leaves[name].instances:
            special = False if chat else None  # a template writes them itself
            found[name, indices[instance.doc_id]] = adapter.tok_encode(instance.args[0], add_special_tokens=special)
    return found


class Watched(Recorder):
    """A recorder that tells of every row."""

    def __init__(self, path: Path, on_row: Callable[[Row], None]) -> None:
        super().__init__(path)
        self.on_row = on_row

    def add(self, row: Row, trace: Trace | None = None) -> None:
        super().add(row, trace)
        self.on_row(self.rows[-1])  # which has its wall time


def run_cell(
    cell: Cell,
    out: Path,
    adapter: "ODBDiffusionLM",
    leaves: Leaves,
    on_row: Callable[[Row], None],
    chat: bool = False,
) -> list[Failure]:
    """Answer and score what a cell asks, from where an earlier run stopped; return the samples that failed.

    The answers of earlier runs come from the cell's cache. Whatever is printed or logged goes to the cell's log file.
    Raises ``recovery.Busy`` where another process is at it.
    """
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with recovery.only_one(folder):
        if cells.is_finished(cell, out):  # by another process meanwhile
            return []
        made = provenance.begin(folder, adapter.device)
        _clear(cell, out)
        results = _answer(cell, out, adapter, leaves, on_row, chat)
        if _lost(cell, out, results, adapter.recorder):
            recovery.set_aside(cell.responses(out))
            results = _answer(cell, out, adapter, leaves, on_row, chat)
        _write(cell, folder, results, adapter, {**made, "chat_template": chat, "end": provenance.now()})
        provenance.end(folder)
    return adapter.recorder.failures


def _clear(cell: Cell, out: Path) -> None:
    """Make good what a killed run left, and let the cell count as not finished."""
    folder = cell.folder(out)
    for name in (cells.MANIFEST, cells.RESULTS, cells.SAMPLES):
        for part in folder.glob(f".{name}.*"):
            part.unlink(missing_ok=True)
    (folder / cells.MANIFEST).unlink(missing_ok=True)
    recovery.mend(cell.statistics(out))
    if recovery.is_damaged(cell.responses(out)):
        recovery.set_aside(cell.responses(out))


def _answer(
    cell: Cell,
    out: Path,
    adapter: "ODBDiffusionLM",
    leaves: Leaves,
    on_row: Callable[[Row], None],
    chat: bool,
) -> dict[str, Any]:
    """lm-eval's results, the rows being kept as they come."""
    recorder = adapter.recorder = Watched(cell.statistics(out), on_row)
    with logged_to(cell.folder(out) / cells.LOG):
        results = _evaluate(cell, cell.responses(out), adapter, leaves, chat)
    if complaints := [said for said in recorder.complaints() if "statistics" in said]:
        raise OSError(complaints[0])
    return results


def _lost(cell: Cell, out: Path, results: Mapping[str, Any], recorder: Recorder) -> bool:
    """Whether answers have no rows: a full disk or a machine that went down can keep the former alone."""
    rows = cells.by_document(cell, cells.read_rows_of(cell.statistics(out)), _samples(cell, results))
    return len(rows) + len(recorder.failures) < cell.size


def _samples(cell: Cell, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """lm-eval's log of every sample, with its task."""
    return [{"task": name, **sample} for name in cell.documents for sample in results["samples"][name]]


def _evaluate(cell: Cell, cache: Path, adapter: "ODBDiffusionLM", leaves: Leaves, chat: bool) -> dict[str, Any]:
    """lm-eval's results; the same calls as ``simple_evaluate`` makes, with tasks that are loaded once."""
    import numpy
    import torch
    from lm_eval.api.model import CachingLM
    from lm_eval.evaluator import evaluate

    random.seed(SEEDS[0])
    numpy.random.seed(SEEDS[1])
    torch.manual_seed(SEEDS[2])
    caching = CachingLM(adapter, str(cache))
    with ExitStack() as alike:
        alike.callback(caching.dbdict.close)
        for name in cell.documents:
            alike.enter_context(drawn_alike(leaves[name]))
        results = evaluate(
            lm=caching,
            task_dict={"tasks": {name: leaves[name] for name in cell.documents}, "groups": {}},
            samples=cell.documents,
            bootstrap_iters=0,
            apply_chat_template=chat,
            confirm_run_unsafe_code=True,  # whoever made the cell had the consent
        )
    return dict(results or {})


def _write(
    cell: Cell, folder: Path, results: dict[str, Any], adapter: "ODBDiffusionLM", made: Mapping[str, Any]
) -> None:
    """Write a finished cell, the manifest last; ``made``: where and when it was run."""
    from lm_eval.utils import handle_non_serializable

    def text(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, default=handle_non_serializable, ensure_ascii=False, indent=indent)

    samples = _samples(cell, results)
    del results["samples"]
    _check(cell, samples, results["results"])
    info = adapter.get_model_info()
    results["config"] = {"model": "odb_dllm", **info}
    about = info["odb_dllm"]
    write_atomically(folder / cells.SAMPLES, "".join(f"{text(sample)}\n" for sample in samples))
    write_atomically(folder / cells.RESULTS, text(results, 2))
    manifest = {
        "config": cell.config(),
        "setting": about["setting"],
        **made,
        "failures": [f"Document {each.doc_id} of {each.task}: {each.error}" for each in adapter.recorder.failures],
        "files": cells.hashes(folder),
    }
    write_atomically(folder / cells.MANIFEST, text(manifest, 2))


def _check(cell: Cell, samples: Sequence[dict[str, Any]], results: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that the samples say what lm-eval's aggregates say."""
    score = score_of(cell.task)
    right = cells.correct(samples, score)
    if len(right) != cell.size:
        raise InputError(f"Task {cell.task!r} has no {score.metric} for {cell.size - len(right)} of {cell.size} items.")
    for name, indices in cell.documents.items():
        names = [key for key in results[name] if key.startswith(f"{score.metric},")]
        key = f"{score.metric},{score.filter}" if score.filter else names[0]
        ours = sum(right[name, index] for index in indices) / len(indices)
        if abs(results[name][key] - ours) > 1e-9:
            raise InputError(
                f"Task {name!r}: its samples give {score.metric} {ours}, and lm-eval {results[name][key]}."
            )


def allow_code() -> None:
    """Pass the user's consent on to lm-eval's own metric, which asks for it by itself."""
    os.environ.setdefault("HF_ALLOW_CODE_EVAL", "1")
