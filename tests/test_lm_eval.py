"""The lm-eval adapter: arguments, texts, tasks' own stop patterns, caches, likelihoods, results.

A random model of two layers with the embedded tokenizer answers; where only the reading of requests matters,
``canned`` answers in its place.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval")
import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from random_model import write_model

from odb_dllm import arguments, lm_eval_model
from odb_dllm.errors import InputError
from odb_dllm.gen_kwargs import final_text
from odb_dllm.generation import Generation, NonFiniteLogits
from odb_dllm.lm_eval_model import ODBDiffusionLM
from odb_dllm.models.loading import load_tokenizer
from odb_dllm.statistics import read_rows

QUESTIONS = [
    {"question": f"Tom has {n} apples and buys {n + 1}. How many?", "answer": f"{2 * n + 1}"} for n in range(4)
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("random"))


@pytest.fixture
def adapter(folder: Path) -> ODBDiffusionLM:
    return ODBDiffusionLM(pretrained=str(folder), setting="parallel", gen_length=32, device="cpu")


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """Local tasks: two that generate (one with metadata), one of multiple choice, one of perplexity."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in QUESTIONS))
    source = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
    }
    generate = {
        **source,
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Question:", "</s>"], "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    metadata = {"version": 1, "stop": ["Answer"], "theta": 0.5, "eos_guard": True}
    choice = {
        **{k: v for k, v in generate.items() if k != "generation_kwargs"},
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["yes", "no way"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    rolling = {
        **{k: v for k, v in generate.items() if k not in ("generation_kwargs", "metric_list")},
        "output_type": "loglikelihood_rolling",
        "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity"}],
    }
    out = tmp_path / "tasks"
    out.mkdir()
    for name, config in {
        "plain": generate,
        "known": {**generate, "metadata": metadata},
        "thrice": {**generate, "repeats": 3},
        "choice": choice,
        "rolling": rolling,
    }.items():
        (out / f"{name}.yaml").write_text(json.dumps({"task": name, **config}))
    return out


def evaluate(task_folder: Path, tasks: list[str], model: Any = "odb_dllm", **options: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(task_folder), include_defaults=False)
    return lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options)


def texts(results: dict[str, Any], task: str) -> list[Any]:
    return [sample["resps"] for sample in results["samples"][task]]


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answer every request with the same tokens, last one first; return the requests that came."""
    seen: list[Any] = []

    def run(model: Any, requests: list[Any], **_: Any) -> Iterator[tuple[int, Generation]]:
        seen.extend(requests)
        for index in reversed(range(len(requests))):
            tokens = model.tokenizer.encode(f" {index}", add_special_tokens=False)
            yield index, Generation(tokens, 2, 1, [9, 9], [], None, len(tokens), latency=0.2)

    monkeypatch.setattr(lm_eval_model, "run", run)
    return seen


# Arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"setting": "jumpshare"}, "did you mean 'jump-share'.*llada_baseline"),
        ({"family": "llada"}, "Unknown family 'llada': did you mean 'llada_"),
        ({"gen_lenght": 256}, "did you mean 'gen_length'"),
        ({"gen_length": 100}, "multiple of block_length 32; 128 would be"),
        ({"gen_length": "many"}, "must be a whole number"),
        ({"steps": 7, "setting": "llada_baseline"}, "must be a multiple of the"),
        ({"dtype": "float31"}, "did you mean 'float32'"),
        ({"device": "cudaa"}, "Unknown device"),
        ({"device": "0,1"}, "several GPUs"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"mc_num": "x"}, "mc_num must be"),
        ({"check_greedy": 3}, "check_greedy must be True or False"),
        ({"trust_remote_code": True}, "trust_remote_code must be left out"),
        ({"statistics": "/"}, "is a folder"),
        ({"model_path": "other"}, "two different models"),
        ({"setting": "alp", "suffix": "window"}, "needs suffix=full"),
        ({"threshold": 2}, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_one_sentence_before_anything_is_loaded(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ODBDiffusionLM(pretrained="/no/such/folder", **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "/nonexistent"])
def test_a_missing_folder_is_known_at_once(name: str) -> None:
    with pytest.raises(InputError, match="is no folder"):
        ODBDiffusionLM(pretrained=name)
    with pytest.raises(InputError, match="No model"):
        ODBDiffusionLM()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent(folder: Path) -> None:
    with pytest.raises(InputError, match="CUDA"):
        ODBDiffusionLM(pretrained=str(folder), device="cuda")
    with pytest.raises(InputError, match="CUDA"):  # from Python, cuda:0 is nobody's default
        ODBDiffusionLM.create_from_arg_obj({"pretrained": str(folder), "device": "cuda:0"}, {"device": "cpu"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_lm_evals_own_default_device_falls_back_saying_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import lm_eval._cli.run  # noqa: F401 (its command line is what defaults to cuda:0)

    monkeypatch.setattr("sys.argv", ["lm_eval", "--tasks", "x"])
    made = ODBDiffusionLM.create_from_arg_string(f"pretrained={folder}", {"device": "cuda:0"})
    assert made.device.type == "cpu"
    assert "running on the CPU" in caplog.text
    monkeypatch.setattr("sys.argv", ["lm_eval", "--device", "cuda:0"])
    with pytest.raises(InputError, match="CUDA"):
        ODBDiffusionLM.create_from_arg_string(f"pretrained={folder}", {"device": "cuda:0"})


@pytest.mark.parametrize("none", [None, "None", "none"])
def test_threshold_none_means_quota(none: Any) -> None:
    parsed = arguments.parse({"pretrained": "x", "setting": "parallel", "threshold": none})
    assert parsed.setting.rule == "quota"


def test_arguments_may_be_spelled(folder: Path) -> None:
    text = f"model_path={folder},setting=ALP,gen_length=64,stop=[17,[18,19],'Question:']"
    text += ",eos_guard=true,seed=-1.0"
    setting = arguments.parse(arguments.from_string(text)).setting
    assert (setting.gen_length, setting.eos_guard, setting.seed) == (64, True, -1)
    assert setting.stop == (17, (18, 19), "Question:")
    assert arguments.parse({"pretrained": "x", "stop": "Question:"}).setting.stop == ("Question:",)
    assert arguments.parse({"pretrained": "x", "stop": 5}).setting.stop == (5,)
    assert arguments.parse({"pretrained": "x", "batch_size": "auto", "max_batch_size": 4}).batch_size == 4
    assert arguments.parse({"pretrained": "x", "dtype": "bf16"}).dtype == "bfloat16"


def test_lm_eval_finds_the_model_and_still_its_own() -> None:
    assert get_model("odb_dllm") is ODBDiffusionLM
    assert get_model("dummy") is not None


# Texts ------------------------------------------------------------------------------------------------


def test_text_is_cut_at_until_before_special_tokens_are_stripped(adapter: ODBDiffusionLM) -> None:
    tokenizer = adapter.tokenizer
    assert tokenizer is not None
    eos = tokenizer.eos_token

    def text_of(text: str, *until: str) -> str:
        return final_text(tokenizer, tokenizer.encode(text, add_special_tokens=False), until)[0]

    assert text_of(f" 5{eos}{eos}") == " 5"
    assert text_of(f" 5{eos} more Question: 7", "Question:") == " 5 more "  # an EOS does not cut
    assert text_of(f" 5{eos}Question: 7", eos) == " 5"  # but may be named
    assert text_of(" 5\n\nQuestion: Problem:", "Problem:", "Question:") == " 5\n\n"  # the earliest
    kept, length = final_text(tokenizer, tokenizer.encode(f" 12{eos}", add_special_tokens=False), ())
    assert length == len(tokenizer.encode(kept, add_special_tokens=False))


def test_requests_carry_their_task_and_come_back_in_order(folder: Path, task_folder: Path, canned: list[Any]) -> None:
    results = evaluate(
        task_folder,
        ["plain", "known"],
        model_args=f"pretrained={folder},setting=alp,gen_length=32,device=cpu",
    )
    assert texts(results, "plain") == [[[f" {i}"]] for i in range(4)]
    assert texts(results, "known") == [[[f" {i}"]] for i in range(4, 8)]
    encode = load_tokenizer(folder).encode  # type: ignore[union-attr]
    plain, known = canned[0].stop, canned[4].stop
    assert (plain.theta, plain.eos_guard, known.theta, known.eos_guard) == (0.9, False, 0.5, True)
    assert (encode("aAnswer", add_special_tokens=False)[-1],) in known.patterns
    assert known.patterns != plain.patterns
    assert canned[0].prompt == encode("Question: Tom has 0 apples and buys 1. How many?\nAnswer:")
    assert len({request.sequence for request in canned}) == 8


def test_a_model_object_and_other_tasks_until_work(
    adapter: ODBDiffusionLM, task_folder: Path, canned: list[Any]
) -> None:
    evaluate(task_folder, ["plain"], model=adapter, gen_kwargs={"until": ["zzz"]}, limit=1)
    evaluate(task_folder, ["plain"], model=adapter, limit=1)
    assert canned[0].stop.patterns != canned[1].stop.patterns


def test_drawn_texts_depend_on_the_request_alone(folder: Path, task_folder: Path) -> None:
    def run(tasks: list[str], **options: Any) -> dict[str, Any]:
        given = {"pretrained": str(folder), "setting": "parallel", "gen_length": 32, "device": "cpu"}
        return evaluate(
            task_folder,
            tasks,
            model_args=given,
            gen_kwargs={"do_sample": True, "temperature": 1.0},
            **options,
        )

    alone = texts(run(["thrice"], limit=2), "thrice")
    assert len({*alone[0][0], *alone[1][0]}) == 6  # repeats differ
    batched = run(["plain", "thrice"], limit=2, batch_size=3)
    assert texts(batched, "thrice") == alone
    assert texts(run(["plain"], limit=1), "plain") == texts(batched, "plain")[:1]


def test_prompts_that_do_not_fit_are_refused_before_the_weights_load(
    adapter: ODBDiffusionLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    long = Instance("generate_until", {}, ("five " * 3000, {"until": []}), 0, ("t", 7, 1))
    with pytest.raises(InputError, match=r"Document 7 of t: .* exceed the model's maximum of 2048"):
        adapter.generate_until([long])


def test_a_model_without_tokenizer_says_so(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path / name)
    model = ODBDiffusionLM(pretrained=str(tmp_path), device="cpu")
    with pytest.raises(InputError, match="no tokenizer"):
        model.generate_until([Instance("generate_until", {}, ("hi", {}), 0)])
    with pytest.raises(InputError, match="no tokenizer"):
        model.apply_chat_template([{"role": "user", "content": "hi"}])


# Chat -------------------------------------------------------------------------------------------------


def test_chat_template_counts_end_of_turn_as_eos(
    folder: Path, task_folder: Path, canned: list[Any], adapter: ODBDiffusionLM
) -> None:
    evaluate(task_folder, ["plain"], model=adapter, apply_chat_template=True, limit=1)
    evaluate(task_folder, ["plain"], model=adapter, limit=1)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    chat, plain = canned
    text = tokenizer.decode(chat.prompt, skip_special_tokens=False)
    assert text.count(tokenizer.bos_token) == 1
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    end_of_turn = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert end_of_turn in chat.stop.eos
    assert end_of_turn not in plain.stop.eos


def test_a_model_without_template_says_so(adapter: ODBDiffusionLM) -> None:
    adapter.text_tokenizer().chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        adapter.apply_chat_template([{"role": "user", "content": "hi"}])
    with pytest.raises(InputError, match="no chat template"):
        adapter.chat_template(True)


# Likelihood -------------------------------------------------------------------------------------------


def test_multiple_choice_runs_to_the_end(folder: Path, task_folder: Path) -> None:
    given = {"pretrained": str(folder), "mc_num": 8, "device": "cpu"}
    first = evaluate(task_folder, ["choice"], model_args=given)
    again = evaluate(task_folder, ["choice"], model_args=given)
    assert 0 <= first["results"]["choice"]["acc,none"] <= 1
    assert texts(first, "choice") == texts(again, "choice")
    assert all(float(value[0][0]) < 0 for value in texts(first, "choice")[0])


def test_empty_contexts_begin_with_bos(adapter: ODBDiffusionLM, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(adapter, "_loglikelihood_tokens", lambda requests, **_: seen.extend(requests))
    adapter.loglikelihood([Instance("loglikelihood", {}, ("", "yes"), 0)])
    assert seen[0][1] == [adapter.text_tokenizer().bos_token_id]


def test_likelihoods_refuse_guidance(folder: Path) -> None:
    guided = ODBDiffusionLM(pretrained=str(folder), setting="parallel", cfg_scale=1.0, device="cpu")
    with pytest.raises(InputError, match="cfg_scale guides generation alone"):
        guided._loglikelihood_tokens([(("a", "b"), [5], [6])])


def test_a_likelihood_that_is_no_number_fails_alone(adapter: ODBDiffusionLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def log_likelihood(model: Any, context: list[int], continuation: list[int], **_: Any) -> tuple[float, bool]:
        if continuation == [7]:
            raise NonFiniteLogits("the logits of a likelihood are NaN or infinite.")
        return -1.0, False

    monkeypatch.setattr(lm_eval_model, "log_likelihood", log_likelihood)
    results = adapter._loglikelihood_tokens([(("a", "b"), [5], [token]) for token in (6, 7, 8)])
    assert results == [(-1.0, False), (float("-inf"), False), (-1.0, False)]
    assert [failure.index for failure in adapter.recorder.failures] == [1]


def test_rolling_likelihood_is_refused(folder: Path, task_folder: Path) -> None:
    with pytest.raises(InputError, match="masked-diffusion model has not"):
        evaluate(task_folder, ["rolling"], model_args={"pretrained": str(folder), "device": "cpu"})


# Caches and results -----------------------------------------------------------------------------------


def test_a_response_cache_serves_its_own_configuration_only(
    folder: Path, task_folder: Path, tmp_path: Path, canned: list[Any]
) -> None:
    given = {"pretrained": str(folder), "setting": "alp", "gen_length": 32, "device": "cpu"}

    def run(cache: str, tasks: list[str], **changes: Any) -> dict[str, Any]:
        path = str(tmp_path / cache)
        return evaluate(task_folder, tasks, model_args={**given, **changes}, use_cache=path, limit=2)

    first = run("cache", ["plain"])
    assert len(canned) == 2
    again = run("cache", ["plain"], batch_size=2, statistics=str(tmp_path / "rows.jsonl"))
    assert len(canned) == 2  # all from the cache
    assert texts(again, "plain") == texts(first, "plain")
    run("cache", ["known"])  # same prompts, other stop patterns
    assert len(canned) == 4
    for change in ({"setting": "parallel"}, {"dtype": "float64"}, {"theta": 0.5}, {"family": "llada_1_5"}):
        with pytest.raises(InputError, match="filled under another"):
            run("cache", ["plain"], **change)
    with pytest.raises(InputError, match="cannot hold drawn texts"):
        run("drawn", ["plain"], setting="parallel", temperature=0.5)


def test_a_cache_of_unknown_origin_is_refused(
    folder: Path, task_folder: Path, tmp_path: Path, canned: list[Any]
) -> None:
    from sqlitedict import SqliteDict

    with SqliteDict(str(tmp_path / "cache_rank0.db"), autocommit=True) as database:
        database["key"] = "text of some other model"
    with pytest.raises(InputError, match="filled under another"):
        evaluate(
            task_folder,
            ["plain"],
            model_args={"pretrained": str(folder), "device": "cpu"},
            use_cache=str(tmp_path / "cache"),
        )


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    same, different = (ODBDiffusionLM(pretrained=str(path), device="cpu") for path in (folder, other))
    assert same.fingerprint() == different.fingerprint()
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert same.fingerprint() != different.fingerprint()


def test_results_and_rows_hold_the_statistics(folder: Path, task_folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    given = {"pretrained": str(folder), "setting": "jump-share", "gen_length": 32, "statistics": str(rows)}
    results = evaluate(task_folder, ["plain", "thrice"], model_args={**given, "device": "cpu"}, limit=2)
    written = read_rows(rows)
    keys = {(row.task, row.doc_id, row.index, row.repeat) for row in written}
    assert keys == {("plain", i, 0, 0) for i in range(2)} | {("thrice", i, 0, r) for i in range(2) for r in range(3)}
    about = results["config"]["odb_dllm"]
    totals = about["totals"]
    assert json.loads(json.dumps(about)) == about
    assert totals["samples"] == 8
    assert totals["nfe"] == sum(row.nfe for row in written) == totals["refreshes"] + totals["steps"]
    assert totals["tokens_per_second"] == pytest.approx(totals["tokens"] / totals["wall_seconds"])
    assert totals["wall_seconds"] >= totals["seconds"] > 0
    assert about["setting"]["speculation"] == "jump-share"
    assert set(about["tasks"]) == {"plain", "thrice"}
    for row in written:
        assert row.canvas_tokens == row.decode_length == 32 or row.decode_length < 32
        assert row.prompt_tokens > 0


def test_settings_that_stop_at_eos_count_tokens_like_the_others(
    folder: Path, task_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    answer = tokenizer.encode(" 5 Question: 6", add_special_tokens=False)

    def run(model: Any, requests: list[Any], **_: Any) -> Iterator[tuple[int, Generation]]:
        for index in range(len(requests)):
            yield index, Generation(answer, 2, 1, [9, 9], [], None, len(answer), latency=0.2)

    monkeypatch.setattr(lm_eval_model, "run", run)
    counts = set()
    for setting in ("streaming", "alp", "llada_baseline"):
        given = {"pretrained": str(folder), "setting": setting, "gen_length": 32, "device": "cpu"}
        results = evaluate(task_folder, ["plain"], model_args=given, limit=1)
        counts.add(results["config"]["odb_dllm"]["totals"]["tokens"])
        assert texts(results, "plain") == [[[" 5 "]]]
    assert len(counts) == 1
    assert counts.pop() < len(answer)
