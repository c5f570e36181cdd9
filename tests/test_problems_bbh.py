"""The generators and tasks of bbh_mini: what a solution claims is found again from the text alone."""

import json
import random
import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from odb_dllm.tiny.problems import bbh
from odb_dllm.tiny.problems.bbh_counting import KINDS

TASKS = Path(bbh.__file__).parents[1] / "tasks"
TOKENIZER = Tokenizer.from_file(str(TASKS.parent / "model" / "tokenizer.json"))
NAMES = list(bbh.DRAWS)
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MONTHS = [date(2000, month, 1).strftime("%B") for month in range(1, 13)]
UNIT = r"(one|\d+) (day|week|month|year)s?"
A_DATE = rf"\d\d/\d\d/\d{{4}}|(?:{'|'.join(MONTHS)}) \d+, \d{{4}}"


def drawn(name: str, count: int = 600, seed: int = 1):
    rng = random.Random(seed)
    return [bbh.DRAWS[name](rng, rng) for _ in range(count)]


def read(name: str, split: str) -> list[dict[str, str]]:
    lines = (TASKS / "bbh_mini" / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def documents(name: str) -> list[dict[str, str]]:
    """Shipped ones and new ones."""
    return read(name, "test") + read(name, "train") + [p.document for p in drawn(name)]


def tokens(text: str) -> int:
    """How many tokens of the embedded model a text has."""
    return len(TOKENIZER.encode(text, add_special_tokens=False).ids)


def truth(expression: str) -> bool:
    assert re.fullmatch(r"(True|False|not|and|or|[() ])+", expression)
    return eval(expression, {"__builtins__": {}})


def to_date(text: str) -> date:
    if "/" in text:
        month, day, year = map(int, text.split("/"))
        return date(year, month, day)
    month, day, year = text.replace(",", "").split()
    return date(int(year), MONTHS.index(month) + 1, int(day))


def moved(start: date, number: str, unit: str, sign: int) -> date:
    n = sign * (1 if number == "one" else int(number))
    if unit in ("day", "week"):
        return start + timedelta(days=n * (7 if unit == "week" else 1))
    years, month = divmod(start.month - 1 + (n if unit == "month" else 12 * n), 12)
    return start.replace(year=start.year + years, month=month + 1)


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_deterministic(name):
    assert drawn(name, 50, 3) == drawn(name, 50, 3) != drawn(name, 50, 4)


@pytest.mark.parametrize("name", NAMES)
def test_format(name):
    for p in drawn(name):
        assert p.prompt == f"Q: {p.document['input']}\nA: Let's think step by step.\n"
        assert p.answer == p.document["solution"]
        assert list(p.document) == ["input", "target", "solution"]
    for d in documents(name):
        assert re.search(rf"[\n ]So the answer is {re.escape(d['target'])}\.$", d["solution"])
        assert d["solution"].count("the answer is") == 1
        assert "Q" not in d["solution"] + d["input"]
        assert "\n\n" not in d["solution"] + d["input"]
        assert not re.search(r"[{}|_]|  | \n|\n ", d["solution"] + d["input"])
        assert all(line == line.strip() for line in [d["input"], d["solution"]])


@pytest.mark.parametrize("name", NAMES)
def test_keys_say_what_is_asked(name):
    problems = drawn(name, 20_000)
    keys: dict[str, str] = {}
    assert all(keys.setdefault(p.prompt, p.key) == p.key for p in problems)
    assert len({p.key for p in problems}) > 11_000


@pytest.mark.parametrize("name", NAMES)
def test_lengths_vary_and_are_bounded(name):
    problems = drawn(name, 3000)
    lengths = sorted(tokens(p.answer) for p in problems)
    assert max(lengths) <= 230
    assert lengths[len(lengths) * 9 // 10] > 2 * lengths[len(lengths) // 10]
    assert max(tokens(p.prompt) for p in problems) <= 220


@pytest.mark.parametrize("name", NAMES)
def test_wordings_vary(name):
    problems = drawn(name, 1000)
    starts = Counter(p.answer[:4] for p in problems)
    assert len(starts) >= 6
    assert max(starts.values()) < 400
    assert len({p.answer for p in problems}) > 990


def test_wording_is_apart_from_the_computation():
    """Solutions of one problem hardly ever agree, their targets always do."""
    seen: dict[str, list[dict[str, str]]] = {}
    for p in drawn("boolean_expressions", 10_000):
        seen.setdefault(p.key, []).append(p.document)
    repeated = [group for group in seen.values() if len(group) > 4]
    assert len(repeated) > 50
    for group in repeated:
        assert len({d["target"] for d in group}) == 1
        assert len({d["solution"] for d in group}) >= len(group) - 1


def test_boolean_expressions():
    for d in documents("boolean_expressions"):
        assert d["input"].endswith(" is")
        expression = d["input"].removesuffix(" is")
        operators = len(re.findall("not|and|or", expression))
        assert 2 <= operators <= 7
        assert str(truth(expression)) == d["target"]
        *steps, _ = re.split(r"(?<=\.)[ \n]", d["solution"])
        assert len(steps) == operators
        values: dict[str, str] = {}
        for step in steps:
            part = r"(?:(?:not )?\b(?:True|False|[A-Z])\b(?: (?:and|or) (?:True|False|[A-Z])\b)?)"
            stated = re.findall(part, step)
            name = stated[0] if re.fullmatch("[A-Z]", stated[0]) else ""
            stated = [e for e in stated if e != name]
            plugged = [" ".join(values.get(word, word) for word in e.split()) for e in stated]
            assert len({truth(e) for e in plugged}) == 1, step
            assert len(re.findall("not|and|or", plugged[0])) == 1
            if re.search(r"\b[A-Z]\b", stated[0]):
                assert stated[1] == plugged[0]
            assert name not in values
            values[name] = stated[-1]
        assert stated[-1] == d["target"]


def kind_of(thing: str) -> tuple[str, int]:
    """What a listed thing is, and how many."""
    number, noun = thing.split(" ", 1)
    for kind, table in KINDS.items():
        for entry in table.split():
            one, _, many = entry.partition(":")
            if noun == one and number in ("a", "an"):
                assert (number == "an") == (one[0] in "aeiou")
                return kind, 1
            if noun == (many or f"{one}s") and number in NUMBERS[2:]:
                return kind, NUMBERS.index(number)
    raise AssertionError(thing)


def test_things_are_of_one_kind():
    nouns = [n for table in KINDS.values() for entry in table.split() for n in (entry.split(":") * 2)[:2]]
    assert max(Counter(nouns).values()) <= 2


def test_object_counting():
    for d in documents("object_counting"):
        listed, asked = re.fullmatch(r"(?:I|You) \w+ (.*)\. How many (.*) (?:is|are|does|do) .*\?", d["input"]).groups()
        things = [kind_of(thing) for thing in re.split(", and |, ", listed)]
        assert 3 <= len(things) <= 8
        counted = [n for kind, n in things if asked in (kind, "objects")]
        assert sum(counted) == int(d["target"]) <= 40
        beginning, *parts = re.split(r"\.[ \n]", d["solution"])[0].split("; ")
        assert asked in beginning
        assert len(parts) == len(things)
        total = 0
        for part, thing, (kind, n) in zip(parts, re.split(", and |, ", listed), things, strict=True):
            said, of = re.search(rf"(?:^| )({thing}): (\w+), ", part).groups()
            counts = asked in (kind, "objects")
            assert said == thing
            assert of == ("objects" if asked == "objects" else kind.split()[-1])
            assert re.findall(r"\d+", part) == ([str(total), str(n), str(total + n)] if counts else [])
            total += n * counts


def found_date(text: str) -> date:
    """The date that is asked for."""
    first = text.split(". ")[0]
    given = to_date(re.search(A_DATE, text)[0])
    today = given + timedelta(days=("esterday" in first) - ("omorrow" in first))
    *told, question = re.split(r"(?<=[.?]) ", text)[1:]
    if not told:
        if found := re.search(UNIT, question):
            return moved(today, *found.groups(), -1 if re.search("ago|before|earlier", question) else 1)
        return today + timedelta(days=1 if "tomorrow" in question else -1)
    when = {}
    for sentence in told:
        number, unit = re.search(UNIT, sentence.lower()).groups()
        names = re.findall(r"[Tt]he (\w+)", sentence)
        if len(names) == 1:
            when[names[0]] = moved(today, number, unit, -1 if "ago" in sentence else 1)
        else:
            before = re.search(r"(?:after|before) the (\w+)", sentence)[1]
            names.remove(before)
            when[names[0]] = moved(when[before], number, unit, -1 if " before " in sentence else 1)
    return when[re.search(r"(?:of|is) the (\w+)", question.replace("the date of", "of"))[1]]


def test_date_understanding():
    crossed = Counter()
    for d in documents("date_understanding") + [p.document for p in drawn("date_understanding", 4000, 2)]:
        assert found_date(d["input"]).strftime("%m/%d/%Y") == d["target"], d
        text = d["solution"]
        for a, sign, b, c in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", text):
            assert int(a) + (int(b) if sign == "+" else -int(b)) == int(c)
        for month, n in re.findall(rf"({'|'.join(MONTHS)}) has (\d+) days", text):
            if month != "February":
                assert int(n) == (31 if MONTHS.index(month) in (0, 2, 4, 6, 7, 9, 11) else 30)
        for n, month in re.findall(rf"there are (\d+) days in ({'|'.join(MONTHS)})", text):
            assert int(n) == (31 if MONTHS.index(month) in (0, 2, 4, 6, 7, 9, 11) else 30)
        for year, leap, n in re.findall(r"(\d{4})(?: is|,) (a|no) leap year,? (?:and )?February has (\d+) days", text):
            crossed[leap] += 1
            assert (leap == "a") == (n == "29") == (int(year) % 4 == 0)  # 2000 is one, and 1900 and 2100 are far
        assert text.count("February has") == text.count("leap")
        steps = [to_date(found) for found in re.findall(r"\d\d/\d\d/\d{4}", text)]
        assert steps[-1] == steps[-2] == to_date(d["target"])
        assert 1 <= len(re.findall(r"\d\d/\d\d/\d{4}[.,\n ]", text)) <= 6
    assert min(crossed["a"], crossed["no"]) > 10


def test_tracking_shuffled_objects():
    for d in documents("tracking_shuffled_objects"):
        told, *options = d["input"].split("\n")
        assert options.pop(0) == "Options:"
        start = re.search(r"At the start, (.*?)\. First", told)[1]
        pattern = r"(\w+) (?:has|gets|is|dances with) (?:a |the )?(\w+)"
        has = dict(re.fullmatch(pattern + "(?: ball| box| chair)?", s).groups() for s in re.split(", and |, ", start))
        assert len(has) == len(set(has.values())) == len(options)
        assert 3 <= len(has) <= 5
        swaps = re.findall(r"(?:First|Then|Finally), (\w+) and (\w+) ", told)
        assert 2 <= len(swaps) <= 7
        assert all({*a} != {*b} for a, b in pairwise(swaps))
        start, *steps, end, _ = re.split(r"(?<=\.)[ \n]", d["solution"])
        assert len(steps) == len(swaps)
        pair = rf" ({'|'.join(has)}) ({'|'.join(has.values())})\b"  # behind a space, as in the prompt
        assert re.findall(pair, start) == list(has.items())
        for step, (a, b) in zip(steps, swaps, strict=True):
            before = [(a, has[a]), (b, has[b])]
            has[a], has[b] = has[b], has[a]
            after = [(a, has[a]), (b, has[b])]
            assert re.findall(pair, step) == [*before, *after, *has.items()]
        asked = re.search(r"At the end, (\w+) (?:has the|is the|dances with)$", told)[1]
        letters = {re.match(r"\([A-E]\) (\w+)", option)[1]: option[:3] for option in options}
        assert letters[has[asked]] == d["target"]
        assert end.endswith(f" {asked} {has[asked]}, {d['target']} {has[asked]}.")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_data(name):
    test, train = read(name, "test"), read(name, "train")
    assert len({d["input"] for d in test}) == 250
    assert len({d["input"] for d in train}) == 8
    assert not {d["input"] for d in test} & {d["input"] for d in train}


def test_tasks_render_score_and_aggregate(tmp_path, monkeypatch):
    """lm-eval loads the group from any folder, offline; a right solution has its point and another does not."""
    evaluate, model = pytest.importorskip("lm_eval").simple_evaluate, pytest.importorskip("lm_eval.api.model")
    from lm_eval.tasks import TaskManager

    known, asked = {d["input"]: d for name in NAMES for d in read(name, "test")}, []

    class Dummy(model.LM):
        """Right but for the first document of every subtask and all of one subtask."""

        def generate_until(self, requests):
            asked.extend(requests)
            answers = []
            for request in requests:
                text = request.args[0].rsplit("Q: ", 1)[1].removesuffix("\nA: Let's think step by step.\n")
                right = known[text]
                wrong = not request.doc_id or right["target"].startswith("(")
                target = right["target"]
                wrong_solution = right["solution"].removesuffix(f"{target}.") + f"{target[:-1]}x."
                answers.append(wrong_solution if wrong else right["solution"])
            return answers

        loglikelihood = loglikelihood_rolling = generate_until

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    got = evaluate(Dummy(), tasks=["bbh_mini"], limit=4, task_manager=manager, bootstrap_iters=0)
    scores = {name: got["results"][f"bbh_mini_{name}"]["exact_match,get-answer"] for name in NAMES}
    assert scores == {name: 0 if name == "tracking_shuffled_objects" else 0.75 for name in NAMES}
    assert got["results"]["bbh_mini"]["exact_match,get-answer"] == pytest.approx(9 / 16)
    assert len(asked) == 16
    for request in asked:
        shot = read(request.task_name.removeprefix("bbh_mini_"), "train")[0]
        prompt = "Q: {input}\nA: Let's think step by step.\n"
        assert request.args[0] == f"{prompt.format(**shot)}{shot['solution']}\n\n{prompt.format(**request.doc)}"
        assert request.args[1]["until"] == ["</s>", "Q", "\n\n"]
    for name in NAMES:
        assert got["configs"][f"bbh_mini_{name}"]["metadata"]["stop"] == ["Q", "\n\n"]
