"""The generators of humaneval_mini and mbpp_mini, their tests, and the tasks as lm-eval runs them."""

import json
import random
import re
from pathlib import Path

import pytest

from odb_dllm.sandbox import run_many
from odb_dllm.tiny.problems import code
from odb_dllm.tiny.problems.code_tests import rivals

TASKS = Path(code.__file__).parents[1] / "tasks"
DRAWS = {"humaneval_mini": code.draw_humaneval, "mbpp_mini": code.draw_mbpp}
STOPS = {"humaneval_mini": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"], "mbpp_mini": ["[DONE]"]}


def drawn(task: str, count: int, seed: int = 1) -> list:
    rng = random.Random(seed)
    return [DRAWS[task](rng, rng) for _ in range(count)]


def read(task: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (TASKS / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def with_tests(task: str, document: dict, answer: str) -> str:
    """The program that is run to score an answer."""
    if task == "humaneval_mini":
        return f"{document['prompt']}{answer}\n{document['test']}\ncheck({document['entry_point']})"
    return "\n".join([answer.removesuffix("[DONE]"), *document["test_list"]])


def function(source: str):
    space: dict = {}
    exec(f"def f(p):\n{source}", space)
    return space["f"]


@pytest.mark.parametrize("task", DRAWS)
def test_same_seed_same_problems(task):
    assert drawn(task, 100) == drawn(task, 100) != drawn(task, 100, seed=2)


@pytest.mark.parametrize("task", DRAWS)
def test_solutions_pass_in_the_sandbox_and_wrong_ones_fail(task):
    problems = drawn(task, 100)
    right = [with_tests(task, p.document, p.answer) for p in problems]
    wrong = [with_tests(task, p.document, re.sub(r"return (.+)", r"return [\1]", p.answer)) for p in problems]
    assert [o.passed for o in run_many(right)] == [True] * 100
    assert {(o.passed, o.reason) for o in run_many(wrong)} == {(False, "failed")}


def test_every_wrong_program_fails_a_test():
    """Programs that lack a part, or have another constant or reduction, do not pass all tests."""
    rng = random.Random(2)
    checked = 0
    for number in range(600):
        program, tests = code.drawn(rng, *(((1, 2, 3, 4), 5) if number % 2 else ((1, 2), 3)))
        for wrong in rivals(program):
            assert any(repr(wrong.run(eval(given))) != output for given, output in tests), (program.key, wrong.key)
            checked += 1
    assert checked > 1500


def test_all_styles_agree():
    """Whatever the style, the names and the forms, a function computes what its parts say."""
    rng = random.Random(3)
    for _ in range(300):
        program, tests = code.drawn(rng, (1, 2, 3, 4), 5, empty=1.0)
        for style in program.styles() * 3:
            lines = program.body(rng, "p", style)
            own = function("".join(f"    {line}\n" for line in lines))
            for given, output in tests:
                assert repr(own(eval(given))) == output, (program.key, lines)


def test_names_and_styles_vary():
    rng = random.Random(4)
    seen = []
    for _ in range(200):
        program, _ = code.drawn(rng, (1, 2, 3, 4), 5)
        bodies = {code.body(rng, program, "p") for _ in range(40)}
        seen.append(len(bodies))
        assert len(bodies) >= 2
        assert len({program.name(rng) + program.text(rng) for _ in range(40)}) >= 2
    assert sorted(seen)[len(seen) // 10] >= 10


@pytest.mark.parametrize("task", DRAWS)
def test_format(task):
    by_prompt: dict[str, str] = {}
    lengths, prompts = [], []
    for problem in drawn(task, 3000):
        document = problem.document
        assert by_prompt.setdefault(problem.prompt, problem.key) == problem.key
        lengths.append(len(problem.answer))
        prompts.append(len(problem.prompt))
        text = problem.prompt + problem.answer
        assert not re.search(r"[ \t]$", text, re.MULTILINE)
        assert "{" not in re.sub(r"\{(?:\}|['\d-])", "", text)
        if task == "humaneval_mini":
            assert problem.prompt == document["prompt"]
            assert problem.answer + "\n" == document["canonical_solution"]
            assert all(line.startswith("    ") for line in problem.answer.split("\n"))
            assert not any(stop in "\n" + problem.answer for stop in STOPS[task])
            assert 4 <= document["test"].count("assert ") <= 7
            assert 1 <= problem.prompt.count(">>> ") <= 2
        else:
            assert problem.answer == document["code"] + "\n[DONE]"
            assert len(document["test_list"]) == 3
            name = re.match(r"def (\w+)\(", problem.answer)[1]
            assert all(line.startswith(f"assert {name}(") for line in document["test_list"])
    assert max(lengths) <= 560
    assert max(prompts) <= 425
    lengths.sort()
    assert lengths[300] < 90 < 110 < lengths[1500] < 140
    assert lengths[2850] > 250
    assert len({*by_prompt.values()}) > 2600


@pytest.mark.parametrize("task", DRAWS)
def test_shipped_problems(task):
    test, train = read(task, "test"), read(task, "train")
    assert (len(test), len(train)) == (1000, 8)
    field = "canonical_solution" if task == "humaneval_mini" else "code"
    space: dict = {}
    for document in test + train:
        exec(with_tests(task, document, document[field]), space)


def test_tasks_render_and_score(tmp_path, monkeypatch):
    """lm-eval loads both from any folder, offline; a right answer gets its point and a wrong one none."""
    evaluate, model = pytest.importorskip("lm_eval").simple_evaluate, pytest.importorskip("lm_eval.api.model")
    from lm_eval.tasks import TaskManager

    asked: dict[str, list[str]] = {task: [] for task in DRAWS}

    class Dummy(model.LM):
        def generate_until(self, requests):
            answers = []
            for request in requests:
                prompt, settings = request.args
                assert settings["until"] == STOPS[request.task_name]
                document = request.doc
                right = document["canonical_solution"] if "prompt" in document else document["code"] + "\n"
                answers.append(right if asked[request.task_name] else "    return 'wrong'")
                asked[request.task_name].append(prompt)
            return answers

        loglikelihood = loglikelihood_rolling = generate_until

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    manager = TaskManager(include_path=[str(TASKS / task) for task in DRAWS])
    got = evaluate(
        Dummy(), tasks=[*DRAWS], limit=4, task_manager=manager, bootstrap_iters=0, confirm_run_unsafe_code=True
    )
    assert got["results"]["humaneval_mini"]["pass@1,create_test"] == 0.75
    assert got["results"]["mbpp_mini"]["pass_at_1,none"] == 0.75
    assert asked["humaneval_mini"] == [document["prompt"] for document in read("humaneval_mini", "test")[:4]]
    first, documents = read("mbpp_mini", "train")[0], read("mbpp_mini", "test")
    start = "You are an expert Python programmer, and here is your task: "

    def shown(document: dict) -> str:
        tests = "\n".join(document["test_list"])
        return f"{start}{document['text']} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"

    shot = f"{shown(first)}{first['code']}\n[DONE]\n\n"
    assert asked["mbpp_mini"] == [shot + shown(document) for document in documents[:4]]
    for task in DRAWS:
        metadata = got["configs"][task]["metadata"]
        assert (metadata["stop"], metadata["theta"], metadata["eos_guard"]) == (STOPS[task], 0.9, False)


def test_prompts_are_lm_evals(tmp_path):
    """A problem's prompt is what the task makes of its document."""
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import apply_template

    manager = TaskManager(include_path=[str(TASKS / task) for task in DRAWS])
    for task in DRAWS:
        loaded = (
            manager.load([task])["tasks"][task] if hasattr(manager, "load") else manager.load_task_or_group(task)[task]
        )
        for problem in drawn(task, 50):
            assert loaded.doc_to_text(problem.document) == problem.prompt
            if task == "mbpp_mini":
                example = loaded.config.fewshot_config.doc_to_target  # as a worked example is answered
                assert apply_template(example, problem.document) == problem.answer
