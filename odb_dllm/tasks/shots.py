"""What stands before the document in a task's prompts: a description, and examples that may be the same in all."""

from collections.abc import Callable

from lm_eval.api.instance import Instance
from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import Task

from odb_dllm.prefixes import in_common

LEAST = 32  # tokens: leaving out fewer saves no time


def shared_tokens(instance: Instance, task: Task | None, prompt: list[int], encode: Callable[[str], list[int]]) -> int:
    """How many first tokens of a prompt are those of every prompt of its task; 0 where they are too few to matter.

    They are told from this prompt and its task alone, so neither other documents nor other processes change them.

    Args:
        instance: a request for a text.
        task: of which it is; None where that is not known.
        prompt: its token ids.
        encode: as ``prompt`` was made.
    """
    if task is None or not _examples_are_fixed(task):
        return 0
    document = task.doc_to_text(instance.doc)
    if not isinstance(document, str) or not document.strip():
        return 0
    text = str(instance.args[0])
    before = text[: max(0, text.rfind(document.strip()))]
    count = in_common([prompt, encode(before)]) if before else 0  # the last one may be merged with what follows
    return count if count >= LEAST else 0


def _examples_are_fixed(task: Task) -> bool:
    """Whether each document has the same examples: none, or the first ones of documents that are never asked."""
    if not task.config.num_fewshot:
        return True
    sampler, config = getattr(task, "sampler", None), getattr(task, "fewshot_cfg", None)
    first = getattr(type(sampler), "sample", None) is FirstNSampler.sample
    return first and config is not None and config.split != task.config.test_split
