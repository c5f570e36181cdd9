"""Accuracy and forwards of a model on held-out problems, by the package's own scheduler and sandbox."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from odb_dllm.benchmarks import resolve
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.presets import get_setting
from odb_dllm.sandbox.code_eval import LIMITS
from odb_dllm.sandbox.running import run_many
from odb_dllm.scheduler import Request, run
from odb_dllm.tiny.problems import Problem

# What is graded of an answer: of a problem's the first of these that there is, and so of every answer to it.
FINALS = [re.compile(each) for each in (r"#### (.+)", r"final answer is \$(.+?)\$\. I hope", r"the answer is (.+)\.")]


@dataclass(frozen=True)
class Score:
    """What a setting did on some problems of one task."""

    task: str
    setting: str
    problems: int
    accuracy: float
    nfe: float  # mean
    tokens_per_forward: float


def measure(
    model: DiffusionModel, chosen: dict[str, list[Problem]], setting: str, gen_length: int = 256, batch_size: int = 256
) -> list[Score]:
    """Answer the problems of every task in ``chosen`` and score them."""
    assert model.tokenizer is not None
    resolved, stop = resolve(model, get_setting(setting, gen_length=gen_length))
    listed = [(task, problem) for task, of_task in chosen.items() for problem in of_task]
    requests = [Request(model.tokenizer.encode(problem.prompt), resolved, stop) for _, problem in listed]
    results = dict(run(model, requests, batch_size=batch_size))
    texts = [_text(model, results[i]) for i in range(len(listed))]
    right = dict(enumerate(are_right([problem for _, problem in listed], texts)))
    scores = []
    for task in chosen:
        of_task = [i for i, (name, _) in enumerate(listed) if name == task]
        done = [result for i in of_task if isinstance(result := results[i], Generation)]
        forwards = sum(each.nfe for each in done)
        scores.append(
            Score(
                task,
                setting,
                len(of_task),
                sum(right[i] for i in of_task) / len(of_task),
                forwards / len(of_task),
                sum(each.decode_length for each in done) / forwards,
            )
        )
    return scores


def _text(model: DiffusionModel, result: object) -> str:
    if not isinstance(result, Generation) or model.tokenizer is None:
        return ""
    ids = result.tokens
    return model.tokenizer.decode(ids[: ids.index(model.ids.eos)] if model.ids.eos in ids else ids)


def are_right(problems: Sequence[Problem], texts: Sequence[str]) -> list[bool]:
    """Whether each answer is right: by its final answer, or by its program passing the tests."""
    programs = {i: _program(problem, text) for i, (problem, text) in enumerate(zip(problems, texts, strict=True))}
    code = {i: program for i, program in programs.items() if program is not None}
    passed = dict(zip(code, (outcome.passed for outcome in run_many(code.values(), LIMITS)), strict=True))
    return [
        passed[i] if i in passed else _agrees(problem, text)
        for i, (problem, text) in enumerate(zip(problems, texts, strict=True))
    ]


def _agrees(problem: Problem, text: str) -> bool:
    """Whether an answer that is not code ends as the problem's own does."""
    final = next(each for each in FINALS if each.search(problem.answer))
    ours, theirs = final.search(text), final.search(problem.answer)
    return ours is not None and theirs is not None and ours[1] == theirs[1]


def _program(problem: Problem, text: str) -> str | None:
    """The program and its tests, where the problem asks for one."""
    document = problem.document
    if "entry_point" in document:
        return f"{problem.prompt}{text}\n{document['test']}\ncheck({document['entry_point']})"
    if "test_list" in document:
        return "\n".join([text.split("[DONE]")[0], *document["test_list"]])
    return None
