"""Reads the results of ``odb-dllm run --log_samples``: lm-eval's files, and the statistics beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from odb_dllm.benchmarks import family_of
from odb_dllm.counting import Shape
from odb_dllm.expressions import switched
from odb_dllm.gen_kwargs import LENGTHS
from odb_dllm.report import cells
from odb_dllm.report.cells import (
    SCORES,
    Cell,
    CellResult,
    Score,
    benchmark,
    by_document,
    correct,
    read_rows_of,
    score_of,
)
from odb_dllm.report.runs import Run, described
from odb_dllm.traces import beside, read_traces

FILES = "results_*.json"


class LeftOut(Exception):
    """Why a result cannot be taken, as half a sentence."""


def read(path: Path) -> list[Run]:
    """The runs of one results file, one per benchmark; raises ``LeftOut``."""
    results = json.loads(path.read_text(encoding="utf-8"))
    about = (results.get("config") or {}).get("odb_dllm")
    if about is None:
        raise LeftOut("it is no result of odb-dllm")
    stamp = path.stem.removeprefix("results_")
    statistics = path.with_name(f"statistics_{stamp}.jsonl")
    logs = {leaf: path.with_name(f"samples_{leaf}_{stamp}.jsonl") for leaf in results["configs"]}
    if not all(log.is_file() for log in logs.values()):
        raise LeftOut("it has no log of its samples, which --log_samples writes")
    if not statistics.is_file():
        raise LeftOut(f"there is no {statistics.name} beside it")
    found = []
    for task, leaves in parted(results).items():
        samples = [sample for leaf in leaves for sample in _samples(leaf, logs[leaf])]
        if score := _score(task, results, samples):
            found.append(_run(path, task, results, {leaf: logs[leaf] for leaf in leaves}, statistics, samples, score))
    if not found:
        raise LeftOut(f"no metric of {', '.join(logs)} says of each sample whether it is right")
    return found


def more(about: Mapping[str, Any]) -> str:
    """What else a run says that its times depend on."""
    parallel, engine = about.get("tensor_parallel", 1), about.get("engine", "auto")
    usual = ("auto", "plain" if about["device"] == "cpu" else "fast")
    shared = f"tensor parallel {parallel}" if parallel > 1 else ""
    return ", ".join(filter(None, (shared, "" if engine in usual else f"{engine} engine")))


def parted(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """The leaf tasks of each benchmark that a results file holds; those of none are each for themselves."""
    groups: Mapping[str, Sequence[str]] = results.get("group_subtasks") or {}
    known = [name for name in (*groups, *results["configs"]) if benchmark(name) in SCORES]
    found = {
        name: [leaf for leaf in dict.fromkeys(_leaves(name, groups)) if leaf in results["configs"]] for name in known
    }
    taken = {leaf for leaves in found.values() for leaf in leaves}
    others = {leaf: [leaf] for leaf in results["configs"] if leaf not in taken}
    return {name: leaves for name, leaves in found.items() if leaves} | others


def _score(task: str, results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Score | None:
    """What makes an answer right; of a task unknown here, the first metric of its first filter that is 0 or 1 for each.

    None where there is no such metric.
    """
    if benchmark(task) in SCORES:
        return score_of(task)
    higher = (results.get("higher_is_better") or {}).get(task) or {}
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    for metric in samples[0].get("metrics", ()) if samples else ():
        if higher.get(metric, True) and all(sample.get(metric) in (0, 1) for sample in first):
            return Score(metric, samples[0]["filter"])
    return None


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if name not in groups:
        yield name
    for inner in groups.get(name, ()):
        yield from _leaves(inner, groups)


def _run(
    path: Path,
    task: str,
    results: Mapping[str, Any],
    logs: Mapping[str, Path],
    statistics: Path,
    samples: Sequence[Mapping[str, Any]],
    score: Score,
) -> Run:
    about = results["config"]["odb_dllm"]
    given = results["config"].get("model_args") or {}
    setting = _setting(about["setting"], given, results["configs"][next(iter(logs))].get("generation_kwargs") or {})
    documents: dict[str, list[int]] = {
        leaf: sorted({s["doc_id"] for s in samples if s["task"] == leaf}) for leaf in logs
    }
    adapter = given.get("peft") if isinstance(given, dict) else None
    cell = Cell(
        task,
        described(setting),
        model=about["model"] + (f" with {adapter}" if adapter else ""),
        family=about.get("family") or family_of(about["model"]),
        dtype=about["dtype"],
        device=about["device"],
        batch_size=about["batch_size"],
        gen_length=setting["gen_length"],
        block_length=setting["block_length"],
        seed=setting["seed"],
        fingerprint="",
        data="",
        documents=documents,
    )
    second = cells.SECOND.get(benchmark(task))
    result = CellResult(
        cell,
        correct=correct(samples, score),
        math_verify=correct(samples, cells.MATH_VERIFY),
        rows=by_document(cell, read_rows_of(statistics), samples),
        failures=tuple(
            f"Document {each['doc_id']} of {each['task']}: {each['error']}"
            for each in about.get("failures") or ()
            if each["task"] in logs
        ),
        second=correct(samples, second) if second else {},
        traces=by_document(cell, read_traces(beside(statistics)), samples),
    )
    shape = about.get("shape")
    return Run(
        path,
        result,
        {
            **{"config": cell.config(), "setting": setting, "versions": about.get("versions"), "end": _end(results)},
            "host": ", ".join(dict.fromkeys(each["host"] for each in about.get("per_process") or ())) or None,
        },
        Shape(**shape) if shape else None,
        weights=about.get("weights"),
        shots={leaf: shots for leaf, shots in (results.get("n-shot") or {}).items() if leaf in logs},
        chat_template=results.get("chat_template") is not None,
        logs=tuple(logs.items()),
        more=more(about),
        world_size=about.get("world_size"),
    )


def _samples(leaf: str, log: Path) -> Iterator[dict[str, Any]]:
    with log.open(encoding="utf-8") as file:
        yield from ({"task": leaf, **json.loads(line)} for line in file)


def _setting(setting: Mapping[str, Any], given: Any, generation: Mapping[str, Any]) -> dict[str, Any]:
    """The setting with what the task's generation arguments made of it: see ``gen_kwargs``."""
    found = dict(setting)
    if isinstance(given, Mapping):
        given = {*given, *switched(str(given.get("setting")))}
    asked = next((generation[name] for name in LENGTHS if generation.get(name) is not None), None)
    if asked is not None and "gen_length" not in given:
        found["gen_length"] = -(-int(asked) // setting["block_length"]) * setting["block_length"]
    if generation.get("do_sample") and generation.get("temperature") and "temperature" not in given:
        found["temperature"] = float(generation["temperature"])
    return found


def _end(results: Mapping[str, Any]) -> str:
    """When it ended, in ISO 8601."""
    seconds = float(results.get("date") or 0) + float(results.get("total_evaluation_time_seconds") or 0)
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
