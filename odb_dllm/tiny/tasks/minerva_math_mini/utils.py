"""lm-eval's own functions. Importing its module raises the error that says how to install what it needs."""

from lm_eval.tasks.minerva_math.utils import doc_to_text, process_docs, process_results

__all__ = ["doc_to_text", "process_docs", "process_results"]
