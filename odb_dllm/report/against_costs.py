"""What recorded forwards would take elsewhere: behind another prompt, on another canvas, at measured times.

A run of the embedded model has short prompts and a short canvas. Its forwards are taken as they were, their number
included, and each is given the tokens that it would feed at other lengths, and the time of so many:

- What of the prompt was fed, all of it or what follows a shared prefix, becomes the same share of the other prompt.
- Where the whole canvas was fed and no end was predicted yet, it becomes the other canvas; where it begins short
  (``grow``), it stays that short. A canvas that was cut stays as long as it was predicted.
- Everything else, a step's block and branches or a refresh's window, stays as it was.

A forward that sees no cache takes a refresh's time, one that does (a step, a partial refresh) that of a step.
"""

from collections.abc import Mapping
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
    """The time of each document's forwards, of those that were recorded."""
    length, setting = run.result.cell.gen_length, run.setting
    return {
        document: sum(
            costs.milliseconds(
                "step" if made.cached else "refresh", fed_at(made, trace.prompt_tokens, length, setting, lengths)
            )
            for made in trace.passes
        )
        for document, trace in run.result.traces.items()
    }


def fed_at(made: Pass, prompt: int, gen_length: int, setting: Mapping[str, Any], lengths: Lengths) -> int:
    """The tokens that a recorded forward would feed at other lengths.

    Args:
        prompt: tokens of the prompt that it was recorded behind.
        gen_length: of the canvas that the run began with, or grew to.
        setting: the run's, as its fields.
    """
    uncached = max(0, prompt - made.cached)  # of the prompt, which is fed
    fed = made.fed
    if uncached and lengths.prompt is not None:
        fed += round(uncached / prompt * lengths.prompt) - uncached
    if lengths.canvas is not None and _feeds_uncut(made, prompt, gen_length, setting):
        grown = setting.get("grow")
        fed += (lengths.canvas if grown is None else min(lengths.canvas, max(gen_length, grown))) - gen_length
    return fed


def _feeds_uncut(made: Pass, prompt: int, gen_length: int, setting: Mapping[str, Any]) -> bool:
    """Whether a forward feeds a canvas of ``gen_length`` up to its end: all of it, or what follows a cached prefix."""
    if made.branches > 1 or setting.get("suffix") == "window":
        return False
    cached = max(0, made.cached - prompt)  # of the response
    fed = made.fed - max(0, prompt - made.cached)
    return cached + fed == gen_length and (cached == 0 or setting.get("cache") == "prefix")
