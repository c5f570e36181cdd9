"""The ladder: each rung adds one thing to the one below and is credited with what it does beyond that one alone.

A published comparison credits a method with all that its own code has, early exit among it, and the baseline with
nothing of the kind. Here a rung is known by its switches, whatever its setting is called, and everything else that
matters is the same on all rungs of a ladder.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from odb_dllm.report.collected import place_of
from odb_dllm.report.html import Table
from odb_dllm.report.paired import Difference, difference, wilson
from odb_dllm.report.ratios import COUNTED, MEASURES, documents, over
from odb_dllm.report.runs import Run, changes
from odb_dllm.report.table import NONE, Ratio, interval, ratios, text, write_csv

SWITCHES = ("cache", "rule", "length", "suffix", "speculation", "early_exit")
ABOUT = (
    "Each rung adds one thing to the rung below and is compared with that one alone. The published comparison gives "
    "early exit to one side only; here it is a rung of its own."
)
_PLAIN: dict[str, Any] = {
    **{"cache": "none", "rule": "quota", "length": "fixed", "suffix": "full", "speculation": "none"},
    "early_exit": False,
}


@dataclass(frozen=True)
class Rung:
    """A step of the ladder."""

    name: str
    switches: Mapping[str, Any]
    setting: str  # as model arguments have it


def _rungs(*steps: tuple[str, dict[str, Any], str]) -> Iterator[Rung]:
    """Each adds its switches to those of the one below."""
    switches = _PLAIN
    for name, added, setting in steps:
        switches = {**switches, **added}
        yield Rung(name, switches, setting)


RUNGS = tuple(
    _rungs(
        ("baseline", {}, "llada_baseline"),
        ("parallel", {"rule": "threshold"}, "parallel"),
        ("dual cache", {"cache": "dual"}, "fast_dllm_baseline"),
        ("dual cache + early exit", {"early_exit": True}, "dual-cache-parallel-exit"),
        ("alp", {"length": "adaptive"}, "alp"),
        ("accept-jump", {"speculation": "accept-jump"}, "accept-jump"),
        ("jump-share", {"speculation": "jump-share"}, "jump-share"),
    )
)


@dataclass(frozen=True)
class Step:
    """One rung of a task's ladder; without a run it was not run, without one below it has no credit."""

    task: str
    rung: Rung
    run: Run | None = None
    accuracy: Difference | None = None  # to the rung below
    credit: Mapping[str, Ratio] | None = None  # over the rung below, by measure
    aside: tuple[Run, ...] = ()  # others of this rung from the same place


def rung_of(setting: Mapping[str, Any]) -> Rung | None:
    """The rung that a setting's switches are; None where they are none."""
    switches = {name: setting.get(name) for name in SWITCHES}
    return next((rung for rung in RUNGS if rung.switches == switches), None)


def matters(setting: Mapping[str, Any]) -> dict[str, str]:
    """The other fields that decide a rung's texts: only those that are read under its switches."""
    names = ["alg", "alg_temp", "cfg_scale", "grow", "order", "remasking", "temperature", "top_k", "top_p"]
    names += ["ahead", "prefix", "refresh"] if setting["cache"] == "dual" else []
    names += ["threshold"] if setting["rule"] == "threshold" else ["steps"]
    adaptive = setting["length"] == "adaptive"
    names += [*(("theta", "eos_guard") if adaptive else ()), *(("stop",) if adaptive or setting["early_exit"] else ())]
    return {name: json.dumps(setting[name]) for name in names if name in setting}


def ladders(runs: Sequence[Run]) -> list[list[Step]]:
    """The ladders of at least two rungs, every rung listed; one per task, place, and value of whatever else matters."""
    placed = [(run, rung, matters(run.setting)) for run in runs if (rung := rung_of(run.setting))]
    placed.sort(key=lambda each: (*place_of(each[0].result.cell.key)[:2], -len(each[2])))
    found: list[list[Step]] = []
    used: set[int] = set()
    for seed, _, values in placed:
        if id(seed) in used:
            continue
        fitting = [
            (run, rung)
            for run, rung, others in placed
            if run.result.cell.task == seed.result.cell.task
            and all(values[name] == others[name] for name in values.keys() & others.keys())
        ]
        fitting.sort(key=lambda each: len(changes(each[0].setting)), reverse=True)  # a bare preset is the last
        near = [(run, rung) for run, rung in fitting if run.place == seed.place]
        used |= {id(run) for run, _ in near}
        chosen = {rung.name: run for run, rung in (*fitting, *near)}
        if len({rung.name for _, rung in near}) > 1:
            aside = [(run, rung) for run, rung in near if run is not chosen[rung.name]]
            found.append(_steps(seed.result.cell.task, chosen, aside))
    return found


def _steps(task: str, runs: Mapping[str, Run], aside: Sequence[tuple[Run, Rung]]) -> list[Step]:
    made: list[Step] = []
    for rung in RUNGS:
        run, below = runs.get(rung.name), made[-1].run if made else None
        others = tuple(other for other, its in aside if its is rung)
        if run is None or below is None:
            made.append(Step(task, rung, run, aside=others))
        else:
            changed = difference(run.result.correct, below.result.correct)
            made.append(Step(task, rung, run, changed, over(run, below), others))
    return made


def missing(made: Sequence[Sequence[Step]]) -> str:
    """A sentence on rungs that are not there, and what runs them."""
    absent = {step.rung.name for steps in made for step in steps if step.run is None}
    said = [f"{rung.name} (setting={rung.setting})" for rung in RUNGS if rung.name in absent]
    return f"Not run everywhere, so that the rung above has no credit there: {'; '.join(said)}." if said else ""


def left_aside(made: Sequence[Sequence[Step]]) -> list[str]:
    """A sentence on each run whose rung another one from the same place stands for."""
    said = (
        f"{step.task} {step.rung.name}: {step.run.result.cell.setting} is taken and not {run.result.cell.setting}, "
        f"in {run.folder}."
        for steps in made
        for step in steps
        for run in step.aside
        if step.run is not None
    )
    return list(dict.fromkeys(said))  # a run may fit several ladders


# Writing ---------------------------------------------------------------------------------------------------


def to_table(made: Sequence[Sequence[Step]]) -> Table:
    heads = ["task", "rung", "setting", "GPU", "n", "accuracy", "change", "95 % interval", "McNemar p", "speed-up"]
    heads += ["in NFE", "in FLOPs", "in bytes", "documents compared"]
    rows = [_row(step) for steps in made for step in steps]
    return Table([heads, *rows], "Each rung over the one below", grouped=True)


def _row(step: Step) -> list[str]:
    credit, changed = step.credit or {}, step.accuracy
    if step.run is None:
        return [step.task, step.rung.name, *[NONE] * 12]
    cell, correct = step.run.result.cell, step.run.result.correct
    return [
        step.task,
        step.rung.name,
        cell.setting,
        str(step.run.place),
        str(len(correct)),
        text(sum(correct.values()) / len(correct) if correct else None, ".1%"),
        text(changed.value if changed else None, "+.1%"),
        interval(changed.low, changed.high, "+.1%") if changed else NONE,
        text(changed.p if changed else None, ".3g"),
        *(_ratio(credit.get(name)) for name in MEASURES),
        documents(credit),
    ]


def _ratio(made: Ratio | None) -> str:
    return ("~" if made and made.estimated else "") + ratios(made.value if made else None)


def to_csv(made: Sequence[Sequence[Step]]) -> str:
    """Every figure, in full precision; empty where there is none."""
    rows = [_flat(step) for steps in made for step in steps]
    return write_csv(list(rows[0]), rows)


def _flat(step: Step) -> dict[str, Any]:
    correct = step.run.result.correct if step.run else {}
    low, high = wilson(sum(correct.values()), len(correct)) if correct else (None, None)
    credit, changed = step.credit or {}, step.accuracy
    return {
        "task": step.task,
        "rung": step.rung.name,
        "setting": step.run.result.cell.setting if step.run else None,
        "place": str(step.run.place) if step.run else None,
        "n": len(correct) or None,
        "accuracy": sum(correct.values()) / len(correct) if correct else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "change": changed.value if changed else None,
        "change_low": changed.low if changed else None,
        "change_high": changed.high if changed else None,
        "mcnemar_p": changed.p if changed else None,
        "speedup": credit["wall"].value if "wall" in credit else None,
        **{f"{name}_ratio": credit[name].value if name in credit else None for name in COUNTED},
        "documents_compared": changed.items if changed else None,
        **{f"{name}_documents": credit[name].items if name in credit else None for name in MEASURES},
    }
