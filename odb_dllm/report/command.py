"""``odb-dllm reproduce``: plans the cells of the papers' Table 1, runs those that are missing, writes the table."""

import argparse
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odb_dllm import tasks
from odb_dllm.benchmarks import family_of
from odb_dllm.errors import InputError, nearest
from odb_dllm.folder_names import plain_name
from odb_dllm.report import cells, estimate, running, table
from odb_dllm.report.cells import BENCHMARKS, CODE, MINI, SETTINGS, Cell, CellResult, Key, benchmark
from odb_dllm.report.documents import Document, by_task, deal, stratify
from odb_dllm.report.page import render
from odb_dllm.report.progress import Progress
from odb_dllm.report.table import Results
from odb_dllm.splitting import separated
from odb_dllm.statistics import Failure, Row

if TYPE_CHECKING:
    from odb_dllm.lm_eval_model import ODBDiffusionLM
    from odb_dllm.models.loading import DiffusionModel

SHARED = "run.json"  # in the output folder: what all of its cells share
ALL = "all"  # in a list of tasks or settings: every one that the table has
PROMPTS_TIMED = 5


@dataclass(frozen=True)
class Asked:
    """What a table asks, whatever the model."""

    tasks: Sequence[str]
    settings: Sequence[str]
    gen_length: int
    overrides: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)  # fields of single cells' settings
    chat: bool = False  # whether prompts go through the model's chat template
    about: Mapping[str, Any] = field(default_factory=dict)  # more that a folder of results must agree in


@dataclass(frozen=True)
class Plan:
    """All that a table takes, checked; no weights are read yet."""

    out: Path
    given: running.ModelArguments
    shared: dict[str, Any]  # what a folder of results must agree in
    family: str | None  # whose published figures stand beside ours; None for the embedded model
    asked: tuple[Key, ...]
    leaves: dict[str, running.Leaves]  # by task
    cells: tuple[Cell, ...]
    overrides: Mapping[Key, Mapping[str, Any]]
    chat: bool

    def adapter(self, key: Key, statistics: Path | None = None) -> "ODBDiffusionLM":
        return running.make_adapter(self.given, key[1], statistics, self.overrides.get(key))


def reproduce(args: argparse.Namespace) -> int:
    """Run the verb; 1 where a cell or a sample failed. Raises ``InputError`` before anything expensive."""
    from odb_dllm.report import paper

    check_counts(args)
    if (protocol := paper.asked(args)) is not None:
        return paper.reproduce(args, protocol)
    out = Path(args.out) if args.out else Path("results") / "tables" / plain_name(args.model)
    with tasks.local_data(args.data_dir) as local:
        plan, left_out = plan_table(args, local, out)
        claim(plan)
        if left_out:
            print(left_out, file=sys.stderr)
        return _run(plan)


def plan_table(
    args: argparse.Namespace, local: tasks.LocalData, out: Path, device_name: str | None = None
) -> tuple[Plan, str]:
    """Plan ODB-dLLM's table of one model; and what is left out of it, as a sentence.

    ``device_name``: the GPU's where it is known, so that this process need not ask it.
    """
    from odb_dllm.models.loading import EMBEDDED

    embedded = args.model in EMBEDDED
    names, left_out = consented(_tasks(args.tasks, embedded), embedded, args.confirm_run_unsafe_code)
    gen_length = args.gen_length or (256 if embedded else 1024)
    asked = Asked(names, _settings(args, gen_length), gen_length)
    given = model_arguments(args, asked)
    family = None if embedded else family_of(args.model)
    return make_plan(args, asked, given, load(names, local), out, family, device_name), left_out


def check_counts(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for counts that are none."""
    for flag in ("limit", "vanilla_timing_subset", "gen_length", "block_length"):
        if (value := getattr(args, flag)) is not None and value < 1:
            raise InputError(f"--{flag.replace('_', '-')} must be a whole number of at least 1, not {value}.")


def _settings(args: argparse.Namespace, gen_length: int) -> list[str]:
    from odb_dllm.presets import get_setting

    words = ALL if args.settings is None else args.settings
    names = [name for word in separated(words) for name in (SETTINGS if word == ALL else [word])]
    if not names:
        raise InputError(f"No setting: name one or several with --settings, such as {', '.join(SETTINGS)}.")
    lengths = {"gen_length": gen_length, "block_length": args.block_length or 32}
    found = {setting.name: setting for setting in (get_setting(name, **lengths) for name in names)}
    for name, setting in found.items():
        if setting.temperature > 0:  # a run goes on from kept answers, which drawn ones cannot be
            raise InputError(f"{name} draws its tokens, and tables are made of kept answers: use odb-dllm run for it.")
    return list(found)


def _tasks(words: str | None, embedded: bool) -> list[str]:
    own = [f"{name}{MINI}" for name in BENCHMARKS] if embedded else list(BENCHMARKS)
    if words is None:
        return own
    names = list(dict.fromkeys(name for word in tasks.split(words) for name in (own if word == ALL else [word])))
    for name in names:
        if name.removesuffix(MINI) not in BENCHMARKS:
            raise InputError(f"Unknown task {name!r}: {nearest(name, own)}.")
    return names


def consented(names: list[str], embedded: bool, consent: bool) -> tuple[list[str], str]:
    """Leave out what runs a model's code unasked, and say so; the embedded model's own benchmarks need no asking."""
    refused = [n for n in names if benchmark(n) in CODE and not consent and not (embedded and n.endswith(MINI))]
    said = (
        f"{' and '.join(refused)} {'are' if len(refused) > 1 else 'is'} left out, which would run code that the model "
        "wrote: pass --confirm_run_unsafe_code if it may do so on this machine."
    )
    if len(refused) == len(names):
        raise InputError(f"No task is left: {said}")
    return [name for name in names if name not in refused], said if refused else ""


def model_arguments(args: argparse.Namespace, asked: Asked) -> running.ModelArguments:
    """What every cell shares, with the device chosen: that one was is said once. The settings are checked."""
    given = running.ModelArguments(
        pretrained=args.model,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        gen_length=asked.gen_length,
        block_length=args.block_length or 32,
        seed=args.seed,
    )
    first = running.make_adapter(given, asked.settings[0])
    given = replace(given, device=str(first.device))
    for name in asked.settings[1:]:
        running.make_adapter(given, name)
    return given


def load(names: Sequence[str], local: tasks.LocalData, shots: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The leaf tasks of each benchmark; ``shots`` where another number than the task's own is asked."""
    manager = tasks.make_manager(list(names), local, [], {})
    tasks.check(manager, list(names), local, unsafe_allowed=True)
    if any(benchmark(name) in CODE for name in names):
        running.allow_code()
    return {name: running.load_tasks(manager, name, (shots or {}).get(name)) for name in names}


def make_plan(
    args: argparse.Namespace,
    asked: Asked,
    given: running.ModelArguments,
    leaves: Mapping[str, running.Leaves],
    out: Path,
    family: str | None,
    device_name: str | None = None,
) -> Plan:
    first = running.make_adapter(given, asked.settings[0])
    shared = {
        "model": args.model,
        "dtype": first.dtype,
        "device": device_name or _device_name(first),
        "batch_size": first.batch_size,
        "gen_length": given.gen_length,
        "block_length": given.block_length,
        "seed": given.seed,
    }
    surveys = {name: running.survey(leaves[name], first if asked.chat else None) for name in asked.tasks}
    documents = {name: deal(counts, args.limit) for name, (counts, _) in surveys.items()}
    keys = tuple((task, setting) for task in asked.tasks for setting in asked.settings)
    fingerprints = _fingerprints(given, keys, asked.overrides)
    planned = [
        Cell(
            task,
            setting,
            family=family_of(args.model),
            fingerprint=fingerprints[task, setting],
            data=surveys[task][1],
            documents=documents[task],
            **shared,
        )
        for task, setting in keys
    ]
    if (count := args.vanilla_timing_subset) is not None:
        planned = [_subset(cell, count, leaves[cell.task], first, asked.chat) for cell in planned]
    return Plan(
        out,
        given,
        {**shared, **asked.about},
        family,
        keys,
        dict(leaves),
        tuple(planned),
        overrides=asked.overrides,
        chat=asked.chat,
    )


def _fingerprints(
    given: running.ModelArguments, keys: Sequence[Key], overrides: Mapping[Key, Mapping[str, Any]]
) -> dict[Key, str]:
    """The fingerprint of each cell's configuration, each taken once: it reads the checkpoint's files."""
    known: dict[str, str] = {}
    found = {}
    for key in keys:
        more = overrides.get(key, {})
        name = f"{key[1]} {sorted(more.items())}"
        if name not in known:
            known[name] = running.make_adapter(given, key[1], overrides=more).fingerprint()
        found[key] = known[name]
    return found


def _subset(cell: Cell, count: int, leaves: running.Leaves, adapter: "ODBDiffusionLM", chat: bool) -> Cell:
    """Have the vanilla baseline answer a subset alone: its forwards are fixed, so its time depends on the prompt's."""
    if cell.setting not in table.VANILLAS or count >= cell.size:
        return cell
    asked = running.prompts(leaves, cell.documents, adapter, chat)
    lengths = {document: len(prompt) for document, prompt in asked.items()}
    strata = stratify(lengths, count, cell.seed)
    return replace(
        cell, documents=by_task([document for each in strata for document in each.asked]), strata=tuple(strata)
    )


def _device_name(adapter: "ODBDiffusionLM") -> str:
    import torch

    return torch.cuda.get_device_name(adapter.device) if adapter.device.type == "cuda" else "cpu"


def claim(plan: Plan) -> None:
    """Mark the output folder with what its cells share; refuse one that holds something else."""
    path = plan.out / SHARED
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # none, or no JSON
        before = None
    if isinstance(before, dict) and before != plan.shared:
        none = "none"
        names = [*plan.shared, *(before.keys() - plan.shared)]
        differing = [name for name in names if before.get(name, none) != plan.shared.get(name, none)]
        held = ", ".join(f"{name} {before.get(name, none)}" for name in differing)
        asked = ", ".join(str(plan.shared.get(name, none)) for name in differing)
        raise InputError(f"{plan.out} holds results of {held}, not {asked}: give another folder with --out.")
    try:
        cells.write_atomically(path, json.dumps(plan.shared, indent=2))
    except OSError as error:
        raise InputError(f"The folder {plan.out} cannot be written to: {error.strerror}.") from error


def _run(plan: Plan) -> int:
    failed: dict[Key, str] = {}
    try:
        run_cells(plan, failed)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        report_on(plan, failed)
        raise
    return report_on(plan, failed)


def run_cells(plan: Plan, failed: dict[Key, str], model: "DiffusionModel | None" = None) -> "DiffusionModel | None":
    """Run the cells that are not finished and note in ``failed`` what went wrong; return the model if it was read."""
    todo = [cell for cell in plan.cells if not cells.is_finished(cell, plan.out)]
    if todo and model is None:
        model = plan.adapter(plan.cells[0].key).model
    expected = _estimate(plan, todo, model) if todo and model else {}
    progress = Progress(len(plan.cells), expected)
    if todo:
        where = f"{plan.shared['model']}, {plan.shared['dtype']} on {plan.shared['device']}"
        took = estimate.spoken(sum(expected.values()))
        progress.say(f"{len(todo)} of {len(plan.cells)} cells to run, about {took} ({where})")
    for cell in plan.cells:
        if cell.key in expected and model is not None:
            _run_cell(plan, cell, model, progress, failed)
        else:
            progress.skip(cell)
    return model


def _estimate(plan: Plan, todo: Sequence[Cell], model: "DiffusionModel") -> dict[Key, float]:
    """Seconds that each cell will take, by forwards timed behind prompts of the task."""
    adapter = plan.adapter(todo[0].key)
    costs: dict[str, estimate.Cost] = {}
    found = {}
    for cell in todo:
        if cell.task not in costs:
            few = {leaf: indices[:1] for leaf, indices in list(cell.documents.items())[:PROMPTS_TIMED]}
            prompts = sorted(running.prompts(plan.leaves[cell.task], few, adapter, plan.chat).values(), key=len)
            middle = prompts[len(prompts) // 2]
            costs[cell.task] = estimate.measure(model, middle, cell.gen_length, cell.block_length)
        found[cell.key] = estimate.seconds(cell, cell.size - len(answered(cell, plan.out)), costs[cell.task])
    return found


def answered(cell: Cell, out: Path) -> dict[Document, Row]:
    """The rows of the documents that earlier runs answered."""
    return cells.by_document(cell, cells.read_rows_of(cell.statistics(out)))


def _run_cell(plan: Plan, cell: Cell, model: "DiffusionModel", progress: Progress, failed: dict[Key, str]) -> None:
    """Run one cell; whatever goes wrong is told and stops no other."""
    line = progress.start(cell, answered(cell, plan.out))
    try:
        adapter = plan.adapter(cell.key, cell.statistics(plan.out))
        adapter.model = model
        failures = running.run_cell(cell, plan.out, adapter, plan.leaves[cell.task], line.row, plan.chat)
    except Exception as error:
        failed[cell.key] = sentence(error)
        log = cell.folder(plan.out) / cells.LOG
        try:
            with log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        except OSError:  # there is none, which may be why it failed
            line.end("failed")
        else:
            line.end(f"failed ({log})")
        return
    finally:
        line.close()
    result = cells.read_cell(cell.folder(plan.out))
    right = sum(result.correct.values()) if result else 0
    if failures:
        failed[cell.key] = lost(cell, failures)
    line.end(f"{right} of {cell.size} right")


def sentence(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def lost(cell: Cell, failures: Sequence[Failure]) -> str:
    """What is said of a cell some of whose samples failed."""
    return f"{len(failures)} of {cell.size} samples failed and count as wrong: {failures[0].error}"


# The end ---------------------------------------------------------------------------------------------------


def read_results(plan: Plan) -> Results:
    """Results of the cells that are finished as planned; one that cannot be read is told and left out."""
    found: dict[Key, CellResult] = {}
    for cell in plan.cells:
        folder = cell.folder(plan.out)
        try:
            if (cells.read_manifest(folder) or {}).get("config") == cell.config() and (made := cells.read_cell(folder)):
                found[cell.key] = made
        except cells.UNREADABLE as error:
            print(f"{folder} is left out: it cannot be read ({sentence(error)}).", file=sys.stderr)
    return found


def report_on(plan: Plan, failed: Mapping[Key, str]) -> int:
    """Write and print the table as far as it is, and say last what failed; the exit code."""
    results = read_results(plan)
    lines = table.table(plan.asked, results, plan.family, plan.given.gen_length)
    return publish(plan.out, render(plan, lines, results), table.to_csv(lines), failed)


def publish(out: Path, text: str, figures: str, failed: Mapping[Key, str]) -> int:
    """Print the page, write it and its figures as CSV, and say last what failed; the exit code."""
    print(f"\n{text}", flush=True)
    try:
        cells.write_atomically(out / "table.csv", figures)
        cells.write_atomically(out / "table.md", text)
        print(f"{out}/table.md, {out}/table.csv", flush=True)
    except OSError as error:
        print(f"error: The table could not be written to {out}: {error.strerror}.", file=sys.stderr)
        return 1
    finally:
        complain(failed)
    return 1 if failed else 0


def complain(failed: Mapping[Key, str]) -> None:
    for key, why in failed.items():
        print(f"error: {' '.join(key)}: {why}", file=sys.stderr)
