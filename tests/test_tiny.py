"""The embedded model: tokenizer, shipped tasks, weights and training script."""

import json
import random
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from odb_dllm import DiffusionModel
from odb_dllm.tiny import problems
from odb_dllm.tiny.training import tokenizer, train
from odb_dllm.tiny.training.batches import BEHIND_WEIGHT, BUCKETS, SHORT, Batches, Encoder, Row, _point, _rows, _weights
from odb_dllm.tiny.training.lessons import CURRICULUM, Lessons, lessons
from odb_dllm.tiny.training.measure import are_right, measure
from odb_dllm.tiny.training.muon import orthogonalise

ROOT = Path(train.__file__).parents[1]
MODEL = ROOT / "model"


@pytest.fixture(scope="module")
def tok():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(MODEL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain English, with some punctuation; isn't it?",
        "def f(x):\n\treturn x ** 2  # tab and two spaces\r\n\n\n",
        "naïve Ωμέγα 日本語 русский \u200b\ufeff",
        "😀👩‍👩‍👧 and a lone \x00 \x7f control",
        "  leading, trailing   ",
    ],
)
def test_tokenizer_encodes_any_text(tok, text):
    ids = tok(text)["input_ids"]
    assert tok.decode(ids, skip_special_tokens=False) == text


def test_tokenizer_size_and_digits(tok):
    assert len(tok) <= 4096
    assert not [t for t in tok.get_vocab() if re.search(r"\d", t) and len(t) > 1]
    assert tok.convert_ids_to_tokens(tok("2026")["input_ids"]) == ["2", "0", "2", "6"]


def test_a_trained_tokenizer_keeps_its_size_and_whole_words():
    trained = tokenizer.train(iter(["[BEGIN]\ndef f(x):\n    return x + 10\n[DONE]\n"] * 20), entries=300)
    assert trained.get_vocab_size() <= 300
    encoded = trained.encode("x\n[DONE]\n[DO", add_special_tokens=False)
    assert "[DONE" in encoded.tokens
    assert trained.decode(encoded.ids) == "x\n[DONE]\n[DO"


def test_special_tokens(tok):
    config = json.loads((MODEL / "config.json").read_text())
    assert tok.bos_token == "<|startoftext|>"
    assert tok.eos_token == tok.pad_token == "<|endoftext|>"
    assert tok.convert_tokens_to_ids("<|mdm_mask|>") == tok.mask_token_id == config["mask_token_id"]
    assert tok.eos_token_id == config["eos_token_id"] == config["pad_token_id"]
    assert config["vocab_size"] == len(tok)
    assert config["max_sequence_length"] == 8192
    for token in tokenizer.SPECIAL:
        assert len(tok(token)["input_ids"]) == 1
    assert tok("a")["input_ids"] == tok("a", add_special_tokens=False)["input_ids"]


def test_chat_template(tok):
    turns = [
        {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    assert tok.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("task", problems.MINIATURES)
def test_problems_of_the_two_sides_differ(task):
    seen = list(islice(problems.problems(task, 1, "train"), 3000))
    test = problems.heldout(task, 200)
    assert not {p.key for p in test} & {p.key for p in seen}
    assert not {p.prompt for p in test} & {p.prompt for p in seen}
    first, again, other = (list(islice(problems.problems(task, seed, "train"), 20)) for seed in (3, 3, 4))
    assert first == again != other


def test_shipped_problems(tmp_path):
    """The files are what the generators write."""
    problems.write(tmp_path)
    counts = {}
    for each in problems.MINIATURES.values():
        for name in ("test", "train"):
            written = (tmp_path / each.folder / f"{name}.jsonl").read_bytes()
            assert written == (ROOT / "tasks" / each.folder / f"{name}.jsonl").read_bytes()
        benchmark = each.folder.split("/")[0]
        tests = (tmp_path / each.folder / "test.jsonl").read_text().splitlines()
        assert len(set(tests)) == len(tests)
        counts[benchmark] = counts.get(benchmark, 0) + len(tests)
    assert counts == dict.fromkeys(("gsm8k_mini", "minerva_math_mini", "bbh_mini", "humaneval_mini", "mbpp_mini"), 1000)


def test_answers_are_scored():
    """The generators' own answers are right, others are not, programs among them."""
    chosen = [next(problems.problems(task, 5, "test")) for task in problems.MINIATURES]
    answers = [problem.answer for problem in chosen]
    assert are_right(chosen, answers) == [True] * len(chosen)
    assert are_right(chosen, [""] * len(chosen)) == [False] * len(chosen)


def test_the_final_answer_is_graded_and_not_one_before_it():
    """However it is worded on the way, as the shipped problems are."""
    chosen = list(islice(problems.problems("minerva_math_mini", 5, "test", 1.0), 40))
    assert any("answer is" in each.answer.split("Final Answer:")[0] for each in chosen)
    earlier = [f"So the answer is $\\boxed{{77}}$.\n#### 7\n{each.answer}" for each in chosen]
    assert are_right(chosen, earlier) == [True] * 40
    later = [each.answer.replace("final answer is $", "final answer is $8") for each in chosen]
    assert are_right(chosen, later) == [False] * 40


def test_model_folder():
    from safetensors import safe_open

    from odb_dllm.models.llada import LLaDA, LLaDAConfig

    assert sum(f.stat().st_size for f in MODEL.iterdir()) <= 16 * 2**20
    wanted = LLaDA(LLaDAConfig.from_dict(json.loads((MODEL / "config.json").read_text()))).state_dict()
    with safe_open(MODEL / "model.safetensors", "pt") as file:
        assert {*file.keys()} == {*wanted}
        assert all(file.get_slice(k).get_shape() == [*v.shape] for k, v in wanted.items())
        assert all(file.get_slice(k).get_dtype() == "BF16" for k in wanted)


def test_model_answers_problems(tiny: DiffusionModel):
    """The shipped weights know every task, and need far fewer forwards than tokens."""
    chosen = {task: problems.heldout(task, 4) for task in problems.MINIATURES}
    scores = {score.task: score for score in measure(tiny, chosen, "jump-share", 192, batch_size=8)}
    right = {task: round(4 * score.accuracy) for task, score in scores.items()}
    assert min(right.values()) >= 1, right
    assert sum(right.values()) >= 20, right  # of 32
    assert all(score.nfe < 64 and score.tokens_per_forward > 2 for score in scores.values()), scores


def test_prompts_and_answers_are_encoded_apart():
    """As a generation begins behind an encoded prompt, whatever the answer's first characters are."""
    encoder = Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    for task in problems.MINIATURES:
        problem, examples = problems.heldout(task, 1)[0], problems.shots(task, 2)
        ask, answer = encoder.pair(problem, examples)
        text = "".join(p.prompt + p.answer + "\n\n" for p in examples)
        assert ask == encoder(text + problem.prompt)
        assert encoder.tokenizer.decode(ask + answer) == text + problem.prompt + problem.answer


def test_batches_depend_on_seed_and_number_alone():
    made = [Batches(MODEL / "tokenizer.json", 3, 100, 2000, first) for first in (10, 12)]
    assert torch.equal(made[0][3].tokens, made[1][1].tokens)
    assert not torch.equal(made[0][3].target, made[0][4].target)
    batch = made[0][0]
    assert batch.tokens.shape[1] in {bucket.length for bucket in BUCKETS}
    first = Batches(MODEL / "tokenizer.json", 3, 100, 2000)[0]
    assert first.tokens.shape in {(2000 // bucket.length, bucket.length) for bucket in SHORT}
    flat = batch.tokens.flatten()
    trained = batch.where[batch.weight > 0]
    assert (flat[trained] == 2).all()  # the mask token
    assert not (batch.target[batch.weight > 0] == 2).any()


def test_muon_makes_orthogonal():
    x = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(x).float())
    assert ((values > 0.6) & (values < 1.3)).all()
    assert torch.equal(orthogonalise(x.mT).mT, orthogonalise(x))


def test_training_resumes_exactly(tmp_path):
    """Four steps at once, or two and two resumed ones, give the same weights; the last leg writes the checkpoint."""
    sizes = {"steps": 4, "tokens": 1500, "width": 32, "heads": 1, "layers": 1, "hidden": 32, "workers": 0}

    def trained(name: str, until: int, resume: bool = False) -> train.Trainer:
        trainer = train.Trainer(train.Options(tmp_path / name, resume=resume, log_every=1, problems=1, **sizes))
        trainer.run(until)
        assert trainer.step == until
        return trainer

    whole = trained("whole", 4).model.state_dict()
    trained("parts", 2)
    resumed = trained("parts", 4, resume=True)
    assert all(torch.equal(whole[k], weights) for k, weights in resumed.model.state_dict().items())
    entry = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[0])
    assert entry["step"] == 1
    assert 0 < entry["loss"] < 1000

    resumed.export()
    card = (tmp_path / "parts" / "model" / "README.md").read_text()
    assert "| mbpp_mini | jump-share | 1 |" in card
    assert "4 steps of 1,500 tokens" in card


def test_importing_the_package_leaves_training_out():
    code = "import sys, odb_dllm; sys.exit(any(m.startswith('odb_dllm.tiny.') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parents[1], check=False).returncode == 0


def test_masks_from_a_point_on():
    """Some rows are masked from a token of the answer to their end, and trained on right there."""
    encoder = Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    now = Lessons(0.5, short=0.0, drills=0.0, look_ups=0.0, points=0.5, variety=1.0)
    rows = _rows(encoder, random.Random(0), BUCKETS[0], 200, now)
    chosen = [row for row in rows if row.point is not None]
    assert 70 < len(chosen) < 130
    masked, weights = _weights(rows, np.zeros((200, BUCKETS[0].length), bool), np.random.default_rng(0))
    assert not weights[~masked].any()
    for row, mask, weight in zip(rows, masked, weights, strict=True):
        assert not mask[: row.response].any()
        if row.point is not None:
            assert row.response <= row.point[0] < row.point[1] <= row.fill
            assert np.flatnonzero(mask).tolist() == list(range(row.point[0], BUCKETS[0].length))
            assert np.flatnonzero(weight).tolist() == list(range(*row.point))


def test_digits_are_often_masked_among_words():
    """As while decoding, where the words of a block are mostly there before the digits; never in LLaDA's own rows."""
    rows, digits = [Row(list(range(64)), fill=64)] * 2000, np.zeros((2000, 128), bool)
    digits[:, ::2] = True
    _, weights = _weights(rows, digits, np.random.default_rng(0))
    counted = weights > BEHIND_WEIGHT
    decoding = (counted < (weights > 0)).any(1)
    difference = np.abs(counted[:, ::2].sum(1) - counted[:, 1::2].sum(1)) / np.where(decoding, 16, 64)
    assert (difference[decoding] > 0.4).mean() > 0.2
    assert (difference[~decoding] > 0.4).mean() < 0.01


@pytest.mark.parametrize(
    ("answer", "results"),
    [
        (" So 3+14=<<3+14=17>>17.\n#### 17", {"17"}),
        (r"$x=3-5=-2$, so $\boxed{-2}$", {"3", "-2"}),
        (r"$1+2=\boxed{3}$", {"3"}),
        ("Now, Y = not X = not True = False.", {"False"}),
        ("Then, Ruby gray and Leo saga swap, so Ruby saga and Leo gray: Leo gray, Ruby saga.", {"gray", "saga"}),
        ("two beds: furniture, so 0 + 2 = 2; a hen: animals, none.", {"furniture", "so", "2", "animals", "none"}),
    ],
)
def test_points_are_often_results(answer, results):
    """A result is trained on to its last digit."""
    encoder = Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    rng = random.Random(0)
    offsets = encoder.tokenizer.encode(answer, add_special_tokens=False).offsets
    points = [_point(encoder, rng, answer) for _ in range(400)]
    shown = [answer[offsets[first][0] : offsets[last - 1][1]].strip(" =$") for first, last in points]
    assert sum(text in results for text in shown) > 200
    assert results <= set(shown)
    assert len({first for first, _ in points}) > len(offsets) // 2


def test_lessons():
    """Drills come first, in short rows before long ones; wording varies last; in between the shares change evenly."""
    assert lessons(0.0) == CURRICULUM[0]
    assert lessons(0.0).short == 1.0
    assert [each.short for each in CURRICULUM] == sorted((each.short for each in CURRICULUM), reverse=True)
    assert next(each.at for each in CURRICULUM if each.drills < 1) <= 0.09
    assert [each.at for each in CURRICULUM] == sorted(each.at for each in CURRICULUM)
    assert lessons(0.0).drills == 1.0
    assert lessons(1.0) == CURRICULUM[-1]
    assert lessons(1.0).drills < 0.05
    assert {each.variety for each in CURRICULUM[:-2]} == {0.0}
    before, after = CURRICULUM[-3:-1]
    middle = lessons((before.at + after.at) / 2)
    assert middle.drills == pytest.approx((before.drills + after.drills) / 2)
    assert before.variety < middle.variety < after.variety


@pytest.mark.parametrize("task", problems.MINIATURES)
def test_plain_wording_follows_from_the_question(task):
    """Without variety one question has one answer, and it is as right as any other."""
    plain = list(islice(problems.problems(task, 2, "train", 0.0), 300))
    again = list(islice(problems.problems(task, 2, "train", 0.0), 300))
    assert plain == again
    answers: dict[str, str] = {}
    assert all(answers.setdefault(problem.prompt, problem.answer) == problem.answer for problem in plain)
    chosen = plain[:10]
    assert are_right(chosen, [problem.answer for problem in chosen]) == [True] * 10
    free = islice(problems.problems(task, 2, "train"), 300)
    words = [len({word for problem in drawn for word in problem.answer.split()}) for drawn in (plain, list(free))]
    assert words[0] < words[1]
