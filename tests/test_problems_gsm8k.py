"""The word problems of gsm8k_mini: right by their text alone, worded in many ways, of many lengths, asked as GSM8K."""

import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from odb_dllm.tiny.problems import gsm8k
from odb_dllm.tiny.problems.problem import Problem

TASK = Path(gsm8k.__file__).parents[1] / "tasks" / "gsm8k_mini"
STEP = re.compile(r"(\d+)([-+*/])(\d+)=<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)")
IMPLIED = {"2": r"\bhalf\b|\bback (each|every) day\b", "7": r"\bweeks\b"}  # operands that a word stands for
LOSS = re.compile(
    r"gives \d+( \w+)? to|\b(loses|breaks|sells|takes|leaves?|borrows|uses|spends|lends|costs|drops) |get off|thrown|"
    r"run (away|out)|leak|for \w+\.$|colder|down by|throws away|^\w+ buys \d+( of them)?\.$|are sold|away|leave\."
)
TOKEN = re.compile(r" ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s")  # about what a tokenizer with single digits makes of a text


def drawn(count: int, seed: int = 0) -> list[Problem]:
    rng = random.Random(seed)
    return [gsm8k.draw(rng, rng) for _ in range(count)]


def shipped(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (TASK / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def many() -> list[Problem]:
    return drawn(20_000)


def documents(problems: list[Problem]) -> list[dict[str, str]]:
    return [problem.document for problem in problems] + shipped("test") + shipped("train")


def test_draws_are_deterministic():
    assert drawn(50) == drawn(50) != drawn(50, seed=1)


def test_problem_is_what_its_document_renders_to(many):
    for problem in many:
        assert problem.prompt == f"Question: {problem.document['question']}\nAnswer:"
        assert problem.answer == " " + problem.document["answer"]


def test_answers_follow_from_the_text(many):
    """Each step is right and about numbers that are known by then, and no number of the question is left out."""
    for document in documents(many):
        question = document["question"]
        asked = {*re.findall(r"\d+", question)}
        known, used = asked | {n for n, word in IMPLIED.items() if re.search(word, question)}, set()
        *lines, last = document["answer"].split("\n")
        for line in lines:
            a, op, b, *inner, result = STEP.search(line).groups()
            assert inner == [a, op, b, result]
            exact = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[op]
            assert exact == int(result), line
            assert {a, b} <= known, (document, line)
            assert set(re.findall(r"\d+", STEP.sub("", line))) <= asked
            known.add(result)
            used |= {a, b}
        assert last == f"#### {result}"
        assert asked <= used, document
        assert all(2 <= int(n) <= gsm8k.LARGEST for n in known)


def test_running_quantities_are_told_as_they_are_counted(many):
    """The sum of the changes that the sentences of the question tell, read off their verbs."""
    chains = [problem for problem in many if problem.key.startswith("chain")]
    for problem in chains:
        opening, *events, _ = re.split(r"(?<=\.) ", problem.document["question"])
        total, *_ = map(int, re.findall(r"\d+", opening))
        changes = [int(n) for event in events for n in re.findall(r"\d+", event)]
        signs = [-1 if LOSS.search(event) else 1 for event in events]
        total += sum(sign * change for sign, change in zip(signs, changes, strict=True))
        assert problem.answer.endswith(f"\n#### {total}"), problem
        assert len(set(changes)) == len(changes) == problem.answer.count("<<")
    assert Counter(len(problem.key.split()) - 2 for problem in chains).keys() == {1, 2, 3, 4, 5, 6, 7}


def test_texts_are_clean(many):
    for document in documents(many):
        question, answer = document["question"], document["answer"]
        assert not re.search(r"[{}|()@]|  | [.,?]|\s$|\n\n", question + answer), document
        assert "#" not in question + answer.replace("#### ", "", 1)
        assert re.match(r"[A-Z\d]", question)
        assert question.endswith("?")
        for line in answer.split("\n")[:-1]:
            assert re.match(r"[A-Z\d]", line)
            assert line.endswith(".")


def test_wordings_vary():
    """The same problem is asked and answered in many ways, and the way it is asked does not settle the answer."""
    texts, first_words = defaultdict(set), Counter()
    names = re.compile(rf"\b({'|'.join((gsm8k.NAMES_HER + ' ' + gsm8k.NAMES_HIM + ' ' + gsm8k.THINGS).split())})\b")
    for problem in drawn(40_000):
        story = problem.key.split()[0]
        texts[story].add(re.sub(r"\d+", "0", names.sub("_", problem.document["answer"])))
        first_words[problem.document["answer"].split()[0]] += 1
    assert min(len(each) for each in texts.values()) >= 40
    assert max(first_words.values()) < 0.25 * 40_000
    again = defaultdict(set)
    for problem in drawn(30_000, seed=2):
        again[problem.key].add(problem.document["answer"].split("\n")[0].split("=<<")[0])
    repeated = [starts for starts in again.values() if len(starts) > 1]
    assert len(repeated) > 500


def test_lengths_spread(many):
    """Short, medium and long answers; how long follows from the events that the question tells."""
    steps = Counter(problem.answer.count("<<") for problem in many)
    shares = [sum(steps[n] for n in counts) / len(many) for counts in ([1], [2], [3], [4, 5, 6, 7])]
    assert shares == pytest.approx([0.35, 0.30, 0.20, 0.15], abs=0.02)
    answers = sorted(len(TOKEN.findall(problem.answer)) for problem in many)
    assert answers[len(answers) // 4] < 40
    assert 45 < answers[len(answers) // 2] < 80
    assert answers[-len(answers) // 50] > 140
    assert answers[-1] <= 200
    assert max(len(TOKEN.findall(problem.prompt)) for problem in many) < 170


def test_keys_are_many_and_settle_what_is_asked(many):
    assert len({problem.key for problem in many}) > 0.85 * len(many)
    keys, results = {}, {}
    for problem in many:
        assert keys.setdefault(problem.prompt, problem.key) == problem.key
        result = problem.answer.split("#### ")[1]
        assert results.setdefault(problem.key, result) == result


def test_task_renders_and_scores(tmp_path, monkeypatch):
    """lm-eval loads the task from any folder, offline, puts the first example in front and counts right answers."""
    evaluate, model = pytest.importorskip("lm_eval").simple_evaluate, pytest.importorskip("lm_eval.api.model")
    from lm_eval.tasks import TaskManager

    answers, asked = {d["question"]: d["answer"] for d in shipped("test")}, []

    class Dummy(model.LM):
        def generate_until(self, requests):
            asked[:] = [request.args[0] for request in requests]
            known = [answers[text.split("Question: ")[-1].removesuffix("\nAnswer:")] for text in asked]
            return [" " + answer if i else " #### 1000" for i, answer in enumerate(known)]

        loglikelihood = loglikelihood_rolling = generate_until

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    manager = TaskManager(include_path=str(TASK.parent))

    def run(shots: int | None) -> dict:
        given = {"num_fewshot": shots, "limit": 4, "task_manager": manager, "bootstrap_iters": 0}
        return evaluate(Dummy(), tasks=["gsm8k_mini"], **given)

    prompts = [f"Question: {d['question']}\nAnswer:" for d in shipped("test")[:4]]
    shots = [f"Question: {d['question']}\nAnswer: {d['answer']}\n\n" for d in shipped("train")]
    got = run(None)
    assert asked == [shots[0] + prompt for prompt in prompts]
    result, config = got["results"]["gsm8k_mini"], got["configs"]["gsm8k_mini"]
    assert result["exact_match,strict-match"] == result["exact_match,flexible-extract"] == 0.75
    stated = {name: config["metadata"][name] for name in ("version", "stop", "theta", "eos_guard")}
    assert stated == {"version": 2.0, "stop": ["Question:"], "theta": 0.9, "eos_guard": False}
    run(0)
    assert asked == prompts
