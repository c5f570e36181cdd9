"""A prefix that prompts share is computed once: the reference's tokens, whatever the batch, engine, rank or run."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import dream_checkpoint, small_checkpoint
from conftest import DEVICE, ENVIRONMENT
from reference_beyond import generate as reference_generate
from reference_network import Network
from test_beyond import FIELDS, checkpoint_of, draw_case
from test_scheduler import untimed

from odb_dllm import DiffusionModel, InputError, generate, get_setting, load_model
from odb_dllm.benchmarks import resolve
from odb_dllm.prefixes import KEPT, Prefixes
from odb_dllm.scheduler import Request, run
from odb_dllm.traces import read_traces

ENGINES = ("plain", "fast")
GSM8K_MINI = Path(__file__).parents[1] / "odb_dllm" / "tiny" / "tasks" / "gsm8k_mini" / "gsm8k_mini.yaml"


# One generation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("index", range(16))
def test_like_the_reference(index: int, engine: str, model_of: Any) -> None:
    case, rng, checkpoint = draw_case(index), np.random.default_rng(20_000 + index), checkpoint_of(index)
    prompt = checkpoint.prompt(index, int(rng.choice([1, 7, 30]))).tolist()
    patterns, shared = [tuple(rng.integers(0, 128, size=2).tolist())], int(rng.integers(1, len(prompt) + 1))
    network, model = Network(checkpoint.weights, checkpoint.config), replace(model_of(checkpoint), engine=engine)
    expected = reference_generate(network, prompt, patterns=tuple(patterns), shared=shared, **case)
    result = generate(model, prompt, setting="fast_dllm_baseline", stop=patterns, shared_prefix=shared, **case)
    assert {field: getattr(result, field) for field in FIELDS} == {field: expected[field] for field in FIELDS}
    assert (model.spent.forwards, model.spent.tokens) == (1, shared)


def test_without_a_prefix_nothing_changes(model_of: Any) -> None:
    checkpoint = checkpoint_of(1)
    model, prompt = model_of(checkpoint), checkpoint.prompt(1, 30).tolist()
    asked = {"setting": "alp", "gen_length": 64, "threshold": 0.5}
    plain = untimed(generate(model, prompt, **asked))
    assert untimed(generate(model, prompt, shared_prefix=0, **asked)) == plain
    assert untimed(generate(model, prompt, prefix="shared", **asked)) == plain, "one prompt has nothing in common"
    assert model.spent.forwards == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_dream_reads_its_first_prediction_within_the_prompt(engine: str, model_of: Any) -> None:
    checkpoint = dream_checkpoint(3, logit_std=4.0, vocab_size=256, mask_token_id=254, eos_token_id=255)
    model = replace(model_of(checkpoint), engine=engine)
    prompt = np.random.default_rng(0).integers(0, 250, 20).tolist()
    asked = {"setting": "fast_dllm_baseline", "gen_length": 32, "block_length": 16}
    whole, most = (generate(model, prompt, shared_prefix=count, **asked) for count in (20, 19))
    assert untimed(whole) == untimed(most)
    assert most.forward_lengths[0] == 1 + 32


# Several ----------------------------------------------------------------------------------------------


def requests(model: DiffusionModel) -> list[Request]:
    """Requests of three prefixes of several lengths in turn, more than are kept, and of none."""
    rng = np.random.default_rng(0)
    prefixes = [rng.integers(0, 250, count).tolist() for count in (5, 24, 40)]
    made = []
    for index in range(12):
        name = ("alp", "jump-share", "fast_dllm_baseline")[index % 3]
        setting = get_setting(name, gen_length=16 * (1 + index % 4), block_length=16, prefix="shared", threshold=0.5)
        first = prefixes[index // 2 % 3] if index % 5 else []
        prompt = [*first, *rng.integers(0, 250, 3 + index).tolist()]
        made.append(Request(prompt, *resolve(model, setting), sequence=index, shared=len(first)))
    return made


@pytest.mark.parametrize("engine", ENGINES)
def test_neither_batch_nor_order_nor_engine_changes_anything(engine: str, model_of: Any) -> None:
    model = model_of(small_checkpoint(4, logit_std=6.0), "float32")
    expected = {index: untimed(each) for index, each in run(model, requests(model))}
    model = replace(model, engine=engine)
    for size in (1, 3, 20):
        assert {index: untimed(each) for index, each in run(model, requests(model), batch_size=size)} == expected
    backwards = dict(run(model, requests(model)[::-1], batch_size=2))
    assert [untimed(backwards[11 - index]) for index in range(12)] == [expected[index] for index in range(12)]


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[list[int]]:
    """Tokens of each call of a network."""
    fed: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, given: fed.append(given[0].numel()))
    yield fed
    hook.remove()


def test_the_prefix_is_computed_once(model_of: Any) -> None:
    # The fast engine, which a GPU would get, calls no module whose tokens could be counted.
    model = replace(model_of(small_checkpoint(4, logit_std=6.0), "float32"), engine="plain")
    rng = np.random.default_rng(1)
    prefix = rng.integers(0, 250, 50).tolist()
    prompts = [[*prefix, first, *rng.integers(0, 250, 7).tolist()] for first in range(6)]
    asked = {"setting": "alp", "gen_length": 32}
    with counted(model.network) as fed:
        made = generate(model, prompts, prefix="shared", **asked)
    assert sum(fed) == 50 + sum(sum(each.forward_lengths) for each in made)
    assert len(fed) == 1 + sum(each.nfe for each in made)
    assert {each.forward_lengths[0] for each in made} == {8 + 32}
    assert (model.spent.forwards, model.spent.tokens) == (1, 50)
    assert model.spent.seconds > 0
    again = generate(model, prompts, shared_prefix=50, **asked)
    assert [untimed(each) for each in again] == [untimed(each) for each in made]


def test_few_prefixes_are_kept() -> None:
    prefixes, computed = Prefixes(), []
    for name in (0, 1, 0, 2, 0, 1):
        slots = [torch.zeros(2, 3), torch.zeros(2, 3)]

        def compute(name: int = name, slots: list[torch.Tensor] = slots) -> None:
            computed.append(name)
            slots[0].fill_(name + 1)

        prefixes.fill(np.array([7, name]), slots, compute)
        assert (slots[0] == name + 1).all()
        slots[0].fill_(torch.nan)  # what becomes of a sequence's own slots is nothing to others
    assert KEPT == 2
    assert computed == [0, 1, 2, 1], "the one that was not used for longest makes room"


@pytest.mark.skipif(DEVICE != "cpu" and torch.cuda.device_count() < 2, reason="two ranks need two GPUs")
@pytest.mark.parametrize("engine", ENGINES)
def test_ranks_that_share_a_model_share_its_prefixes(engine: str) -> None:
    asked = {"setting": "jump-share", "task": "gsm8k", "gen_length": 64, "prefix": "shared"}
    alone = load_model("tiny", device=DEVICE, dtype="float32")
    text = "Question: Paul has {} apples and buys 4 more. How many apples does Paul have?\nAnswer:"
    example = text.format(2) + " Paul has 2+4=<<2+4=6>>6 apples.\n#### 6\n\n"
    prompts = [alone.tokenizer.encode(example + text.format(count)) for count in (3, 5, 8)]
    expected = generate(alone, prompts, **asked)
    model = load_model("tiny", device=DEVICE, dtype="float32", tensor_parallel=2, engine=engine)
    made = generate(model, prompts, **asked)
    model.close()
    assert [untimed(each) for each in made] == [untimed(each) for each in expected]
    assert model.spent.forwards == alone.spent.forwards == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cache": "prefix", "prefix": "shared"}, "prefix=shared needs cache=dual"),
        ({"prefix": "all"}, "Unknown prefix 'all'"),
        ({"shared_prefix": 9}, "shared prefix of prompt 0 must be a number of its 3 tokens, not 9"),
        ({"shared_prefix": -1}, "must be a number of its 3 tokens"),
        ({"shared_prefix": "all"}, "must be a number of its 3 tokens, not 'all'"),
        ({"shared_prefix": 2, "setting": "llada_baseline"}, "needs cache=dual"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], said: str, tiny: DiffusionModel) -> None:
    with pytest.raises(InputError, match=said):
        generate(tiny, [1, 2, 3], **{"setting": "alp", "gen_length": 32} | asked)


# Under lm-eval ----------------------------------------------------------------------------------------

pytest.importorskip("lm_eval")
from odb_dllm.cli import main  # noqa: E402

Answers = dict[int, str]


@pytest.fixture
def ask(elsewhere: None, tmp_path: Path) -> Callable[..., tuple[Answers, dict[str, Any]]]:
    """Run gsm8k_mini, whose examples are fixed, or another task, with two examples.

    Gives the text for each document, and what the results say of the run with ``opened``, the tokens that each
    generated document's first refresh fed, and the rest of its prompt and canvas.
    """

    def asked(
        limit: int, *words: str, task: str = "gsm8k_mini", given: str = "", launch: bool = False
    ) -> tuple[Answers, dict[str, Any]]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        command = ["run", "--tasks", task, "--num_fewshot", "2", "--limit", str(limit)]
        command += ["--model_args", f"pretrained=tiny,setting=alp,gen_length=64{given}", "--device", "cpu"]
        command += ["--output_path", str(out), "--log_samples", *words]
        if launch:
            several = [sys.executable, "-m", "odb_dllm.launch", "2", *command]
            subprocess.run(several, env=ENVIRONMENT, check=True, capture_output=True, timeout=300)
        else:
            assert main(command) == 0
        (samples,) = out.rglob("samples_*.jsonl")
        (results,) = out.rglob("results_*.json")
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        about = json.loads(results.read_text())["config"]["odb_dllm"]
        traces = [trace for path in out.rglob("*.traces.gz") for trace in read_traces(path)]
        about["opened"] = [(t.passes[0].fed, t.prompt_tokens + 64 - t.passes[0].fed) for t in traces]
        return {line["doc_id"]: line["resps"][0][0] for line in lines}, about

    return asked


def test_a_run_of_fixed_examples(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Batches, an interrupted run that goes on, a document alone and two processes all give the same texts."""
    texts, about = ask(5, given=",prefix=shared")
    assert "Forwards over shared prefixes, in the wall seconds alone: 1 of" in capsys.readouterr().out
    assert len(set(texts.values())) == 5
    count = about["prefixes"]["tokens"]
    assert about["prefixes"]["forwards"] == 1
    assert count > 100, "two examples"
    assert [rest for _, rest in about["opened"]] == [count] * 5
    cache = ("--use_cache", "answers")
    assert ask(2, *cache, given=",prefix=shared")[0] == {doc: texts[doc] for doc in (0, 1)}
    assert ask(1, given=",prefix=shared")[0] == {0: texts[0]}
    resumed, later = ask(5, *cache, "--batch_size", "3", given=",prefix=shared")
    assert (resumed, later["totals"]["samples"]) == (texts, 3)
    assert ask(5, given=",prefix=shared", launch=True)[0] == texts


def test_examples_that_are_drawn_are_no_prefix(ask: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = {"include": str(GSM8K_MINI), "task": "drawn", "fewshot_config": {"sampler": "default"}}
    (tmp_path / "drawn.yaml").write_text(json.dumps(task))
    words = ("--include_path", str(tmp_path))
    expected, _ = ask(3, *words, task="drawn")
    made, about = ask(3, *words, task="drawn", given=",prefix=shared")
    assert made == expected
    assert about["prefixes"] == {"forwards": 0, "tokens": 0, "seconds": 0.0}
    said = [each.getMessage() for each in caplog.records if "prefix=shared is left out" in each.getMessage()]
    assert said == ["The prompts of drawn have no fixed examples in common: prefix=shared is left out."]


def test_a_chat_template_stands_before_the_examples(ask: Any) -> None:
    _, about = ask(2, "--apply_chat_template", given=",prefix=shared")
    assert about["prefixes"]["forwards"] == 1
    assert [rest for _, rest in about["opened"]] == [about["prefixes"]["tokens"]] * 2
