"""The page of a table: what was run, the table, comparisons on the same documents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from odb_dllm.report import table
from odb_dllm.report.cells import SETTINGS
from odb_dllm.report.table import Results

if TYPE_CHECKING:
    from odb_dllm.report.command import Plan


def render(plan: "Plan", lines: Sequence[table.Line], results: Results) -> str:
    """The whole page in Markdown."""
    about = plan.shared
    parts = [
        f"# {about['model']}, {about['dtype']} on {about['device']}, batch {about['batch_size']}, "
        f"{about['gen_length']} tokens to generate in blocks of {about['block_length']}"
    ]
    if missing := len(plan.asked) - len(results):
        parts.append(f"**Partial: {missing} of {len(plan.asked)} cells are missing.**")
    parts.append(table.to_markdown(lines))
    if any(line.seconds_estimated for line in lines):
        parts.append(
            "~: time of all documents, estimated from a subset by prompt length, of which alone are n and accuracy."
        )
    if plan.family and any(line.published_accuracy is not None for line in lines):
        parts.append(f"Published: {plan.family} in arXiv 2511.21759, on an A100.")
    pairs = table.pairs(plan.asked, results)
    if pairs:
        parts += [f"Against {table.VANILLA} on the same documents:", table.pairs_to_markdown(pairs)]
    named = list(dict.fromkeys(task for task, _ in results))
    said = [sentence for task in named for sentence in table.disorder(task, results)]
    measured = [name for name in SETTINGS if any(setting == name for _, setting in results)]
    if len(measured) > 1:
        order = " > ".join(measured).replace(" > ".join(SETTINGS[-2:]), " ≥ ".join(SETTINGS[-2:]))
        parts.append(f"NFE fall in the order {order}" + (", except:" if said else " in every task."))
        parts += [f"- {sentence}" for sentence in said]
    return "\n\n".join(parts) + "\n"
