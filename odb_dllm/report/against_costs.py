"""What recorded forwards would take elsewhere: behind another prompt, on another canvas, at measured times.

A run of the embedded model has short prompts and a short canvas. Its forwards are taken as they were, their number
included, and each is given the tokens that it would feed at other lengths, and the time of so many:

- What of the prompt was fed, all of it or what follows a shared prefix, becomes the same share of the other prompt;
  ``refresh=response:n`` feeds its last n tokens, however long it is.
- Of the response, a forward feeds up to the end of the canvas, unless its window ends before (``refresh=window:w``,
  ``suffix=window``) or the canvas began short and has not grown so far (``grow``). On the other canvas it feeds up to
  where that is then, which follows from where its block begins. A canvas that a prediction had cut stays as long as it
  was predicted, or becomes the other one where that is shorter.
- Everything else stays as it was: a step's block and branches; a suffix window whose size was left to the task; and
  the forwards of a block that the other canvas does not have.

Where the length is fixed, another canvas has another number of blocks. Without early exit all of them are decoded, so
that the number of forwards is not known and a sample has no time; with it the number stays as recorded. ``remarks``
says both.

A forward that sees no cache takes a refresh's time, one that does (a step, a partial refresh) that of a step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from odb_dllm.contract import Pass
from odb_dllm.costs import ForwardCosts
from odb_dllm.report.documents import Document
from odb_dllm.report.runs import Run


@dataclass(frozen=True)
class Lengths:
    """In tokens, what forwards are priced at; None: as it was recorded."""

    prompt: int | None = None
    canvas: int | None = None


AS_RECORDED = Lengths()


def sample_milliseconds(run: Run, costs: ForwardCosts, lengths: Lengths = AS_RECORDED) -> dict[Document, float]:
    """The time of each document's forwards, of those that were recorded; empty where their number is not known."""
    length, setting = run.result.cell.gen_length, run.setting
    if _fixed_elsewhere(run, lengths) and not setting.get("early_exit"):
        return {}
    return {
        document: sum(
            costs.milliseconds(
                "step" if _sees_cached(made, trace.prompt_tokens, setting, lengths) else "refresh",
                fed_at(made, trace.prompt_tokens, length, setting, lengths),
            )
            for made in trace.passes
        )
        for document, trace in run.result.traces.items()
    }


def remarks(runs: Iterable[Run], lengths: Lengths) -> list[str]:
    """What is to be said of runs of a fixed length on another canvas than theirs."""
    exits: dict[bool, dict[str, int]] = {}  # by early exit, each setting's canvas
    for run in runs:
        if _fixed_elsewhere(run, lengths):
            cell = run.result.cell
            exits.setdefault(bool(run.setting.get("early_exit")), {})[cell.setting] = cell.gen_length
    said = []
    for early, lasting in sorted(exits.items()):
        recorded = " and ".join(map(str, sorted({*lasting.values()})))
        what = (
            f"the number of blocks is as recorded on a canvas of {recorded}; an answer that no early exit ended would "
            "have another"
            if early
            else f"no times, for it has another number of blocks than the canvas of {recorded} that was recorded"
        )
        said.append(f"Of fixed length, {', '.join(lasting)} on a canvas of {lengths.canvas}: {what}.")
    return said


def _fixed_elsewhere(run: Run, lengths: Lengths) -> bool:
    """Whether a run's length is fixed, and not that of the canvas that is asked for."""
    return run.setting.get("length") == "fixed" and lengths.canvas not in (None, run.result.cell.gen_length)


def fed_at(made: Pass, prompt: int, gen_length: int, setting: Mapping[str, Any], lengths: Lengths) -> int:
    """The tokens that a recorded forward would feed at other lengths.

    Args:
        prompt: tokens of the prompt that it was recorded behind.
        gen_length: of the canvas that the run began with, or could grow to.
        setting: the run's, as its fields.
    """
    uncached = max(0, prompt - made.cached)  # of the prompt, which is fed
    fed = made.fed
    if uncached and lengths.prompt is not None:
        tail = _tail(made, setting)
        there = uncached / prompt * lengths.prompt if tail is None else min(tail, lengths.prompt)
        fed += round(there) - uncached
    if lengths.canvas is not None:
        fed += _more_of_response(made, prompt, gen_length, setting, lengths.canvas)
    return fed


def _sees_cached(made: Pass, prompt: int, setting: Mapping[str, Any], lengths: Lengths) -> bool:
    """Whether a forward sees cached positions behind the other prompt, which may be longer than what is fed of it."""
    tail = _tail(made, setting)
    return made.cached > 0 if tail is None else (lengths.prompt or prompt) > tail


def _tail(made: Pass, setting: Mapping[str, Any]) -> int | None:
    """How many tokens of a prompt ``refresh=response:n`` feeds; None for other forwards, a generation's first too."""
    kind, _, number = str(setting.get("refresh")).partition(":")
    partial = made.kind == "refresh" and made.block > 0 and kind == "response"
    return int(number or 0) if partial else None


def _more_of_response(made: Pass, prompt: int, gen_length: int, setting: Mapping[str, Any], canvas: int) -> int:
    """How many more tokens of the response a forward would feed on another canvas."""
    whole = setting.get("order") == "whole"
    span = gen_length if whole else setting.get("block_length", gen_length)
    start = made.block * span
    feeds_a_block = made.branches > 1 or (made.kind == "step" and setting.get("cache") == "dual" and not whole)
    if feeds_a_block or start >= canvas:
        return 0
    seen = made.cached + made.fed - prompt  # of the response: up to where the canvas ended, or the window
    reach = min([max(gen_length, canvas), *_bounds(made, seen, start, span, setting)])
    recorded, other = min(gen_length, reach), min(canvas, reach)
    return other - recorded if seen >= recorded else min(0, canvas - seen)  # seen less: it was cut


def _bounds(made: Pass, seen: int, start: int, span: int, setting: Mapping[str, Any]) -> list[int]:
    """Response positions up to which a forward feeds at most, however long the canvas is."""
    grow, window = setting.get("grow"), setting.get("window_size")
    refresh, _, width = str(setting.get("refresh")).partition(":")
    found = [] if grow is None else [start + grow]
    if refresh == "window" and made.block > 0:  # a generation's first refresh is always full
        found.append(start + span + int(width))
    if setting.get("suffix") == "window":  # the canvas's last position is fed too
        found.append(seen if window is None else start + span + window + 1)
    return found
