"""The embedded model: tokenizer, problems, shipped task and training script."""

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from odb_dllm.tiny import problems, tokenizer, train

ROOT = Path(problems.__file__).parent
MODEL, TASK = ROOT / "model", ROOT / "tasks" / "gsm8k_mini"
STEP = re.compile(r"(\d+)([-+*/])(\d+)=<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)")


@pytest.fixture(scope="module")
def tok():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(MODEL)


def read(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (TASK / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


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


def test_generator_is_deterministic():
    first, again, other = (list(islice(problems.Problems(seed, "train"), 50)) for seed in (3, 3, 4))
    assert first == again != other


def test_train_and_test_are_disjoint():
    train_questions = {p.question for p in islice(problems.Problems(1, "train"), 20_000)}
    test_questions = {p.question for p in islice(problems.Problems(1, "test"), 2_000)}
    assert len(test_questions) > 1_900
    assert not train_questions & test_questions


def test_problems_are_right():
    generated = [vars(p) for split in ("train", "test") for p in islice(problems.Problems(9, split), 500)]
    for problem in generated + read("test") + read("train"):
        *steps, last = problem["answer"].split("\n")
        assert 1 <= len(steps) <= 3
        for line in steps:
            a, op, b, *inner, result = STEP.search(line).groups()
            assert inner == [a, op, b, result]
            exact = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[op]
            assert exact == int(result)
            assert 0 <= exact <= problems.LARGEST
        assert last == f"#### {result}"
        assert "{" not in problem["question"] + problem["answer"]
        assert "|" not in problem["question"]


def test_shipped_problems(tmp_path):
    """The files are what the generator writes, and enough of them."""
    assert len(read("test")) == 200
    assert len(read("train")) == 8
    problems.write_task(tmp_path)
    for name in ("test.jsonl", "train.jsonl"):
        assert (tmp_path / name).read_bytes() == (TASK / name).read_bytes()


def test_task_renders_and_scores(tmp_path, monkeypatch):
    """lm-eval loads the task from any folder, offline, and gives a right answer its point."""
    evaluate, model = pytest.importorskip("lm_eval").simple_evaluate, pytest.importorskip("lm_eval.api.model")
    from lm_eval.tasks import TaskManager

    answers, asked = {p["question"]: p["answer"] for p in read("test")}, []

    class Dummy(model.LM):
        def generate_until(self, requests):
            asked.extend(request.args[0] for request in requests)
            known = [answers[text.split("Question: ")[-1].removesuffix("\nAnswer:")] for text in asked]
            return [" " + answer if i else " #### 1000" for i, answer in enumerate(known)]

        loglikelihood = loglikelihood_rolling = generate_until

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    manager = TaskManager(include_path=str(TASK.parent))
    got = evaluate(Dummy(), tasks=["gsm8k_mini"], num_fewshot=2, limit=4, task_manager=manager, bootstrap_iters=0)
    assert asked[0].count("Question: ") == 3
    assert asked[0].endswith("\nAnswer:")
    result = got["results"]["gsm8k_mini"]
    assert result["exact_match,strict-match"] == result["exact_match,flexible-extract"] == 0.75
    assert got["configs"]["gsm8k_mini"]["metadata"]["stop"] == ["Question:"]


def test_model_folder():
    from safetensors import safe_open

    from odb_dllm.models.llada import LLaDA, LLaDAConfig

    assert sum(f.stat().st_size for f in MODEL.iterdir()) <= 16 * 2**20
    wanted = LLaDA(LLaDAConfig.from_dict(json.loads((MODEL / "config.json").read_text()))).state_dict()
    with safe_open(MODEL / "model.safetensors", "pt") as file:
        assert {*file.keys()} == {*wanted}
        assert all(file.get_slice(k).get_shape() == [*v.shape] for k, v in wanted.items())
        assert all(file.get_slice(k).get_dtype() == "BF16" for k in wanted)


def test_model_answers_problems():
    """The shipped weights are right about problems that they were not trained on, in few forwards."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from odb_dllm.models.llada import LLaDA, LLaDAConfig
    from odb_dllm.tiny.batches import Encoder
    from odb_dllm.tiny.decode import measure

    model = LLaDA(LLaDAConfig.from_dict(json.loads((MODEL / "config.json").read_text())))
    model.load_state_dict(load_file(MODEL / "model.safetensors"))
    encoder = Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    score = measure(model.float(), encoder, problems.heldout(212)[200:], [], length=96, threshold=0.9)
    assert score.accuracy >= 11 / 12
    assert score.forwards < 6


def test_rows_join_as_text_does():
    """Prompts put together from encoded pieces are what the whole text encodes to."""
    from tokenizers import Tokenizer

    from odb_dllm.tiny.batches import Encoder

    encoder = Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    examples, (problem,) = problems.shots(2), problems.heldout(1)
    joined = [i for p in examples for part in (*encoder.pair(p), encoder.between) for i in part]
    assert encoder.prompt(problem.question, examples) == joined + encoder.pair(problem)[0]
    whole = problems.prompt(problem.question) + " " + problem.answer
    assert encoder(whole) == [i for part in encoder.pair(problem) for i in part]


def test_training_resumes_exactly(tmp_path):
    """Two steps at once, or one step and a resumed one, give the same weights."""
    sizes = {"steps": 2, "tokens": 1500, "width": 32, "heads": 1, "layers": 1, "hidden": 32, "workers": 0}

    def weights(name: str, until: int, resume: bool = False) -> dict[str, torch.Tensor]:
        trainer = train.Trainer(train.Options(tmp_path / name, resume=resume, log_every=1, **sizes))
        trainer.run(until)
        assert trainer.step == until
        return trainer.model.state_dict()

    whole = weights("whole", 2)
    weights("parts", 1)
    resumed = weights("parts", 2, resume=True)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    entry = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[0])
    assert entry["step"] == 1
    assert 0 < entry["loss"] < 1000


def test_importing_the_package_leaves_training_out():
    code = "import sys, odb_dllm; sys.exit(any(m.startswith('odb_dllm.tiny.') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT.parents[1], check=False).returncode == 0
