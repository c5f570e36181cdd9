"""Dream: its config, tokenizer, families, settings, shifted predictions, and several sequences in one forward."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import dream_checkpoint

from odb_dllm import InputError, Setting, generate, get_setting, load_model
from odb_dllm.benchmarks import FAMILIES, family_of, resolve
from odb_dllm.contract import Forward
from odb_dllm.engine import Engine
from odb_dllm.lm_eval_model import ODBDiffusionLM
from odb_dllm.models.dream import Dream
from odb_dllm.models.loading import load_tokenizer
from odb_dllm.scheduler import Request, run

BOS, MASK, END_OF_TURN = "<|beginoftext|>", "<|mask|>", "<|im_end|>"
SIZES: dict[str, Any] = {"vocab_size": 128, "mask_token_id": 126, "eos_token_id": 127}


@pytest.fixture(scope="module")
def model(model_of: Any) -> Any:
    return model_of(dream_checkpoint(3, logit_std=4.0, **SIZES))


# Config and weights


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": None}, "lacks the key 'hidden_size', which a Dream needs"),
        ({"mask_token_id": None}, "lacks the key 'mask_token_id'"),
        ({"num_attention_heads": 5}, "hidden_size 32 must be num_attention_heads 5 times"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 must be a multiple of num_key_value_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must lie between"),
        ({"intermediate_size": "wide"}, "wrong type for a Dream"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling = .* is not supported"),
        ({"hidden_act": "gelu"}, "only 'silu'"),
        ({"mask_token_id": 512}, "mask_token_id 512 is outside the vocabulary"),
        ({"num_hidden_layers": 3}, "lacks 12 of 39 tensors"),
        ({"tie_word_embeddings": True}, "no place for: lm_head.weight"),
        ({"model_type": "dream"}, "unknown model_type 'dream': did you mean 'Dream'"),
    ],
)
def test_configs_that_do_not_fit(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = dream_checkpoint(0).write(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(InputError, match=words) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_published_sizes_have_the_published_tensors() -> None:
    config = dream_checkpoint(0).config | {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 131072,
        "mask_token_id": 151666, "eos_token_id": 151643,
    }  # fmt: skip
    with torch.device("meta"):
        network = Dream.from_config(config)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert len(shapes) == 3 + 28 * 12
    assert shapes["model.layers.27.self_attn.k_proj.weight"] == (512, 3584)
    assert shapes["model.layers.0.self_attn.v_proj.bias"] == (512,)
    assert shapes["model.layers.0.mlp.down_proj.weight"] == (3584, 18944)
    assert shapes["lm_head.weight"] == shapes["model.embed_tokens.weight"] == (152064, 3584)
    assert sum(p.numel() for p in network.parameters()) == 7_615_616_512


# Shifted predictions


def test_a_prediction_is_read_at_the_row_before(model: Any) -> None:
    """Position 0 has none before it: its own row is read."""
    tokens = np.random.default_rng(0).integers(0, 120, 12)
    tokens[[0, 5]] = 126
    forward = Forward("step", tokens, np.arange(12), np.array([(0, 0), (0, 5)]), 12)
    (prediction,) = Engine(model).answer([(None, forward)])
    with torch.inference_mode():
        hidden = model.network(torch.tensor(tokens).to(model.device), torch.arange(12).to(model.device))
        logits = model.network.logits(hidden[[0, 4]])
    assert prediction.token.tolist() == [int(row[[*range(126), 127]].argmax()) for row in logits]


@pytest.mark.parametrize("name", ["prefix-cache", "fast_dllm_baseline", "streaming", "alp", "jump-share"])
def test_a_refresh_decides_the_first_position_alone(name: str, model: Any) -> None:
    events: list[Any] = []
    generate(model, [1, 2, 3], setting=name, gen_length=64, threshold=0.0, on_event=events.append)
    refreshes = [event for event in events if event.kind == "refresh"]
    assert refreshes
    assert all(event.accepted.tolist() == [event.block[0]] for event in refreshes)
    assert all(event.masks_left == 31 for event in refreshes)


def test_quota_spreads_what_the_refresh_leaves(model: Any) -> None:
    events: list[Any] = []
    generate(model, [1, 2], setting="dual-cache", gen_length=32, steps=6, on_event=events.append)
    assert [len(event.accepted) for event in events] == [1, 7, 6, 6, 6, 6]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_sequences_answered_together_are_answered_as_alone(batch_size: int, model: Any) -> None:
    rng = np.random.default_rng(5)
    changes: list[dict[str, Any]] = [
        {"setting": "fast_dllm_baseline", "threshold": 0.3},
        {"setting": "jump-share", "threshold": 0.3},
        {"setting": "prefix-cache", "alg": "entropy"},
        {"setting": "dream_baseline", "alg": "topk_margin", "steps": 8},
        {"setting": "dream_baseline", "alg": "maskgit_plus", "temperature": 0.8, "top_p": 0.9, "alg_temp": 0.5},
        {"setting": "dream_baseline", "alg": "entropy", "temperature": 0.3, "top_k": 4, "steps": 16},
        {"setting": "parallel", "temperature": 1.0, "seed": 3},
        {"setting": "parallel", "temperature": 0.5, "top_p": 0.5},
    ]
    requests = []
    for index, change in enumerate(changes * 2):
        setting, stop = resolve(model, get_setting(gen_length=32, block_length=16, **change))
        requests.append(Request(rng.integers(0, 120, 5 + index).tolist(), setting, stop, index))
    together = dict(run(model, requests, batch_size=batch_size))
    for index, request in enumerate(requests):
        ((_, alone),) = run(model, [request])
        assert together[index].tokens == alone.tokens  # type: ignore[union-attr]
        assert together[index].forward_lengths == alone.forward_lengths  # type: ignore[union-attr]


# Settings


@pytest.mark.parametrize(
    ("name", "changes", "rule"),
    [
        ("dream_baseline", {}, "schedule"),
        ("dream_baseline", {"threshold": 0.8}, "schedule"),
        ("dream_baseline", {"alg": "confidence_threshold"}, "carry"),
        ("dream_baseline", {"alg": "confidence_threshold", "order": "blocks"}, "threshold"),
        ("prefix-cache", {"alg": "confidence_threshold"}, "threshold"),
        ("fast_dllm_baseline", {"alg": "Entropy"}, "schedule"),
        ("fast_dllm_baseline", {"alg": None}, "threshold"),
        ("streaming", {"alg": "confidence_threshold", "threshold": 0.8}, "dynamic"),
    ],
)
def test_the_rule_follows_the_algorithm(name: str, changes: dict[str, Any], rule: str) -> None:
    assert get_setting(name, **changes).rule == rule


def test_dream_baseline_is_one_block_whatever_the_block_length() -> None:
    setting = get_setting("dream_baseline", gen_length=100)
    assert (setting.span, setting.blocks, setting.steps_per_block) == (100, 1, 100)
    assert get_setting("dream_baseline", gen_length=100, steps=37).steps_per_block == 37


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("dream_baseline", {"alg": "entropie"}, "did you mean 'entropy'"),
        ("dream_baseline", {"steps": 2000}, "steps 2000 must be at most gen_length 1024"),
        ("dream_baseline", {"steps": 1000, "alg": "confidence_threshold"}, "1024 do not divide into 1000 steps"),
        ("dream_baseline", {"alg": "confidence_threshold", "threshold": None}, "needs a threshold"),
        ("dream_baseline", {"factor": 1.0}, "alg=entropy takes the best positions by rule=schedule"),
        ("dual-cache", {"alg": "entropy", "steps": 32}, "at least 2 steps a block"),
        ("prefix-cache", {"alg": "topk_margin", "steps": 33}, "multiple of the 32 blocks"),
        ("jump-share", {"alg": "entropy"}, "fixed threshold rule"),
        ("parallel", {"alg_temp": 0.5}, "alg_temp above 0 draws positions for rule=schedule"),
        ("parallel", {"alg_temp": -1}, "alg_temp must be a finite number"),
        ("parallel", {"top_p": 1.5}, "top_p must lie between 0 and 1"),
        ("parallel", {"top_k": 2.5}, "top_k must be a whole number"),
        ("parallel", {"order": "any"}, "Unknown order"),
    ],
)
def test_refusals_say_why(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        get_setting(name, **changes)


def test_one_step_a_block_is_enough_for_blocks_of_one() -> None:
    assert Setting(gen_length=8, block_length=1, cache="dual", alg="entropy").steps_per_block == 1


def test_the_schedule_may_wait(model: Any) -> None:
    """Rounding down leaves steps without a position; they are forwards all the same."""
    events: list[Any] = []
    result = generate(model, [1, 2], setting="dream_baseline", gen_length=16, on_event=events.append)
    assert result.nfe == len(events) == 16
    assert len(events[0].accepted) == 0
    assert sum(len(event.accepted) for event in events) == 16


# Families


def test_the_family_is_told_by_the_network(model: Any, tiny: Any) -> None:
    assert "dream" in FAMILIES
    assert family_of(model) == "dream"
    assert family_of("Dream-org/Dream-v0-Instruct-7B") == "dream"
    assert family_of("/home/dream/LLaDA-1.5") == "llada_1_5"
    assert family_of(tiny) == "llada_instruct"


@pytest.mark.parametrize(
    ("task", "length", "window", "alpha"),
    [
        ("humaneval", 256, 192, 0.7),
        ("humaneval", 512, 128, 0.4),
        ("gsm8k", 256, 32, 0.3),
        ("mbpp", 512, 192, 0.6),
        ("minerva_math", 256, 32, 0.1),
        ("minerva_math", 512, 32, 0.3),
        ("gsm8k", 1024, 96, 0.3),
        ("bbh", 256, 96, 0.3),
    ],
)
def test_published_windows(task: str, length: int, window: int, alpha: float, model: Any) -> None:
    setting, stop = resolve(model, get_setting("streaming", gen_length=length), task=task)
    assert (setting.window_size, setting.confidence_alpha) == (window, alpha)
    assert stop.patterns == ((127,),)


# The tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a tokenizer in the files that the published one has: no tokenizer.json, a class of its own."""
    checkpoint = dream_checkpoint(0, logit_std=4.0, bos_token_id=258, mask_token_id=259, eos_token_id=256)
    checkpoint.write(tmp_path)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's alphabet of bytes
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(256 + i): {"content": token, "special": True}
        for i, token in enumerate(("<|endoftext|>", END_OF_TURN, BOS, MASK))
    }
    config = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["own.DreamTokenizer", None]},
        "added_tokens_decoder": added,
        "bos_token": BOS,
        "eos_token": "<|endoftext|>",
        "mask_token": MASK,
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "chat_template": "{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('the code of a checkpoint was run')")
    return tmp_path


def test_the_tokenizer_is_read_without_its_class_and_begins_with_bos(folder: Path) -> None:
    tokenizer: Any = load_tokenizer(folder)
    assert tokenizer.bos_token_id == 258
    ids = tokenizer.encode("Hello, you!")
    assert ids[0] == 258
    assert ids[1:] == tokenizer.encode("Hello, you!", add_special_tokens=False)
    assert tokenizer.decode(ids[1:]) == "Hello, you!"
    plain: Any = load_tokenizer(folder, add_bos=False)
    assert plain.encode("Hello, you!") == ids[1:]
    model = load_model(folder, device="cpu")
    assert (model.ids.mask, model.ids.eos, model.ids.end_of_turn, model.predictable) == (259, 256, 257, 260)


def test_prompts_begin_with_bos_once(folder: Path) -> None:
    adapter = ODBDiffusionLM(pretrained=str(folder), device="cpu")
    ids = adapter.tok_encode("a b")
    assert ids.count(258) == 1
    assert ids[0] == 258
    assert adapter.tok_encode(BOS + "a b") == ids
    assert adapter.tok_encode("a b", add_special_tokens=False) == ids[1:]  # a chat template's own text
    context, continuation = adapter._encode_pair("a", " b")
    assert [*context, *continuation] == ids
    without = ODBDiffusionLM(pretrained=str(folder), device="cpu", add_bos_token=False)
    assert without.tok_encode("a b") == ids[1:]


def test_bos_can_be_asked_of_any_tokenizer(tiny: Any) -> None:
    plain, with_bos = load_tokenizer(tiny.path), load_tokenizer(tiny.path, add_bos=True)
    assert plain is not None
    assert with_bos is not None
    assert with_bos.encode("Hello") == [plain.bos_token_id, *plain.encode("Hello")]
    assert ODBDiffusionLM(pretrained="tiny", device="cpu", add_bos_token="True").arguments.add_bos_token is True


def test_prompt_ids_are_taken_as_they_are(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    events: list[Any] = []
    generate(model, [5, 6], setting="dream_baseline", gen_length=8, steps=2, on_event=events.append)
    assert events[0].fed == 10


def test_stop_strings_are_derived_from_its_tokenizer(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    _, stop = resolve(model, get_setting("alp", gen_length=64), task="gsm8k")
    expected = model.tokenizer.encode("Qu", add_special_tokens=False)  # type: ignore[union-attr]
    assert stop.patterns == ((256,), tuple(expected))
    assert (stop.theta, stop.eos_guard) == (0.93, True)


# The script


def test_the_script_has_the_published_defaults(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    for name in ("scripts", "dream"):
        shutil.copytree(root / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    command = [tmp_path / "dream" / "eval_dream.sh", "0", "mbpp"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert told == (
        "-m odb_dllm run --tasks mbpp --device cuda --output_path results/dream/mbpp/jump-share --model_args "
        "pretrained=Dream-org/Dream-v0-Instruct-7B setting=jump-share family=dream gen_length=256 block_length=32"
    )
