"""Which of the runs that were found are compared: the model's own, and of these the ones of a setting that is named."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from odb_dllm.errors import InputError, nearest
from odb_dllm.expressions import switched
from odb_dllm.presets import get_setting
from odb_dllm.report.collected import place_of
from odb_dllm.report.runs import HELD, Run

LENGTHS = ("gen_length", "block_length")


def own(runs: Sequence[Run]) -> list[Run]:
    """The runs that follow no other paper's protocol; raises ``InputError`` where none is left."""
    found = [run for run in runs if run.protocol is None]
    if not found:
        raise InputError(f"All runs there follow another paper's protocol and are left out: {_of_papers(runs)}.")
    return found


def left_out(runs: Sequence[Run]) -> list[str]:
    """A sentence on the runs that are not among the model's own, if there are any."""
    counted = _of_papers(runs)
    return [f"Runs that follow another paper's protocol are left out: {counted}."] if counted else []


def _of_papers(runs: Sequence[Run]) -> str:
    counts = Counter(run.protocol for run in runs if run.protocol is not None)
    return ", ".join(f"{count} of --paper {protocol}" for protocol, count in sorted(counts.items()))


def runs_of(runs: Sequence[Run], word: str) -> list[Run]:
    """The runs of a setting: those that are called so, else those with its fields, whatever they are called.

    The lengths and the seed may be any, as in a table, but for those that the word sets. Raises ``InputError`` where
    there is no such run.
    """
    word = word.strip()
    found = [run for run in runs if run.result.cell.setting == word] or [run for run in runs if _means(word, run)]
    if not found:
        get_setting(word)  # says what is wrong with the word, where that is why
        there = sorted({run.result.cell.setting for run in runs}, key=lambda name: place_of(("", name)))
        raise InputError(f"No finished run is of {word!r}: {nearest(word, there)}.")
    return found


def _means(word: str, run: Run) -> bool:
    """Whether the word, in the lengths of the run where it sets none, is the run's setting."""
    said = {*switched(word)}
    try:
        wanted = get_setting(word, **{name: getattr(run.result.cell, name) for name in LENGTHS if name not in said})
    except InputError:
        return False
    if not run.setting:  # an older run, that has its name alone
        return run.result.cell.setting == wanted.name
    plain = json.loads(json.dumps(asdict(wanted), default=lambda rule: rule.__name__))
    return differing(run.setting, plain) <= {*HELD} - said


def differing(setting: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    """The fields that both have and that differ."""
    return {name for name, value in setting.items() if name in other and other[name] != value}
