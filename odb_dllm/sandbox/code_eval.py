"""pass@k as the ``code_eval`` metric computes it, with every program run in the sandbox and nothing fetched.

A task's ``utils.py`` takes lm-eval's own functions with this scorer in place of the metric from the hub::

    own = lm_eval_utils("mbpp")
    pass_at_1 = own.pass_at_1

and a task without a counterpart in lm-eval uses :func:`pass_at_1` below.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from odb_dllm.sandbox.layers import capabilities, describe
from odb_dllm.sandbox.running import Limits, Outcome, run_many

logger = logging.getLogger(__name__)

# The reference gives a program 3 s on the clock. CPU time means the same on an idle machine and does not turn
# right answers into wrong ones on a busy one; the clock is left for programs that wait.
LIMITS = Limits(timeout=10.0, cpu=3)


def pass_at_1(references: Sequence[str], predictions: Sequence[Sequence[str]]) -> float:
    """Share of passing candidates, averaged over the problems.

    references: test code of each problem. predictions: candidate programs of each problem.
    """
    scores, _ = CodeEval().compute(predictions=predictions, references=references, k=[1])
    return scores["pass@1"]


class CodeEval:
    """Stands in for ``evaluate.load("code_eval")``."""

    def __init__(self, limits: Limits = LIMITS, workers: int | None = None) -> None:
        self.limits, self.workers = limits, workers

    def compute(
        self,
        *,
        predictions: Sequence[Sequence[str]],
        references: Sequence[str],
        k: Sequence[int] = (1, 10, 100),
        **_: Any,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """Run each candidate followed by its problem's tests.

        Returns ``{"pass@1": ...}`` for those ``k`` of which every problem has enough candidates, and per problem
        the candidates' numbers and results. Raises ``ValueError`` where the two sequences differ in length.
        """
        _announce()
        pairs = list(zip(predictions, references, strict=True))
        programs = [f"{candidate}\n{test}" for candidates, test in pairs for candidate in candidates]
        outcomes = iter(run_many(programs, self.limits, workers=self.workers))
        results = {
            task: [(number, _result(task, number, next(outcomes))) for number in range(len(candidates))]
            for task, (candidates, _) in enumerate(pairs)
        }
        counts = [(len(each), sum(result["passed"] for _, result in each)) for each in results.values()]
        scores = {
            f"pass@{size}": sum(estimate(n, c, size) for n, c in counts) / len(counts)
            for size in k
            if counts and all(n >= size for n, _ in counts)
        }
        return scores, results


def estimate(candidates: int, correct: int, k: int) -> float:
    """Unbiased estimate of pass@k: 1 - C(candidates - correct, k) / C(candidates, k)."""
    if candidates - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(candidates - correct + 1, candidates + 1))


def _result(task: int, number: int, outcome: Outcome) -> dict[str, Any]:
    text = outcome.reason if outcome.passed or not outcome.detail else f"{outcome.reason}: {outcome.detail}"
    return {"task_id": task, "passed": outcome.passed, "result": text, "completion_id": number}


@cache
def _announce() -> None:
    """Say once what confines the code, as a warning where something does not."""
    logger.log(logging.WARNING if capabilities()["missing"] else logging.INFO, describe())


def lm_eval_utils(task: str) -> ModuleType:
    """lm-eval's ``tasks/<task>/utils.py`` of the installed version, with this scorer for its metric.

    The file asks the hub for the metric when it is imported. It is loaded twice: as a module of our own, whose
    functions certainly score here; and, unless it has been already, where lm-eval will look for it when a
    YAML of ours includes lm-eval's, so that this needs no network either.
    """
    import importlib.util

    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(lm_eval.tasks.__file__).parent / task
    spec = importlib.util.spec_from_file_location(f"{__name__}.{task}", folder / "utils.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"lm-eval has no {folder / 'utils.py'}")
    module = importlib.util.module_from_spec(spec)
    with _scoring_here():
        spec.loader.exec_module(module)
        load_yaml(folder / f"{task}.yaml")
    return module


@contextmanager
def _scoring_here() -> Iterator[None]:
    """Let ``evaluate.load("code_eval")`` return this scorer."""
    import evaluate  # type: ignore[import-untyped]

    fetch = evaluate.load

    def load(path: str, *arguments: Any, **options: Any) -> Any:
        return CodeEval() if path == "code_eval" else fetch(path, *arguments, **options)

    evaluate.load = load
    try:
        yield
    finally:
        evaluate.load = fetch
