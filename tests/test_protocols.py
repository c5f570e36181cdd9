"""The papers' protocols: what each fixes, that the published tables have it so, and prompts pinned by their hashes."""

import functools
import hashlib
import os
import sqlite3
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
import lm_eval.utils

from odb_dllm import response_cache, tasks
from odb_dllm.benchmarks import BENCHMARKS
from odb_dllm.cli import main
from odb_dllm.errors import InputError
from odb_dllm.lm_eval_model import ODBDiffusionLM
from odb_dllm.presets import get_setting
from odb_dllm.protocols import Protocol, all_protocols, get_protocol, is_published, listing, papers, prompt_hash
from odb_dllm.report import paper, running
from odb_dllm.report.cells import BENCHMARKS as ODB_TASKS
from odb_dllm.report.cells import SECOND, SETTINGS, Score, benchmark, score_of
from odb_dllm.report.published import records

PROTOCOLS = list(all_protocols().values())
OTHERS = [each for each in PROTOCOLS if each.paper != "odb-dllm"]
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(lm_eval.utils.env, "from_string", functools.cache(lm_eval.utils.env.from_string))


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or SHARED)
    if lacking := [name for name in ("gsm8k", "math", "bbh", "humaneval", "mbpp") if not (folder / name).is_dir()]:
        pytest.skip(f"no {' and '.join(lacking)} under {folder}: set DATA_DIR")
    return folder


def cells_of(protocol: Protocol) -> list[dict[str, Any]]:
    return [each for each in records() if (each["paper"], each["model"]) == (protocol.arxiv, protocol.model)]


# What the published tables have ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
def test_protocols_are_the_published_tables(protocol: Protocol) -> None:
    """Tasks, shots, lengths and methods of published.json, all of them and no others."""
    cells = cells_of(protocol)
    assert {each["table"] for each in cells} == {protocol.table}
    shots = {each.name: each.shots for each in protocol.tasks}
    assert shots == {each["task"]: each["num_fewshot"] for each in cells}
    methods = [each.published for each in protocol.columns if each.published]
    said = [(each["task"], each["gen_length"], each["setting"]) for each in cells]
    assert sorted(said) == sorted((task, at, name) for task in shots for at in protocol.lengths for name in methods)


def test_every_published_table_has_a_protocol() -> None:
    assert {(each["paper"], each["model"]) for each in records()} == {(p.arxiv, p.model) for p in PROTOCOLS}
    assert papers() == ["odb-dllm", "fast-dllm", "streaming-dllm"]


def test_odb_dllm_is_the_commands_own_layout() -> None:
    for protocol in PROTOCOLS[:2]:
        assert tuple(each.setting for each in protocol.columns) == SETTINGS
        assert tuple(each.task for each in protocol.tasks) == ODB_TASKS
        assert not protocol.chat_template


def test_only_instruct_models_get_a_chat_template() -> None:
    assert {each.model: each.chat_template for each in OTHERS} == {
        "llada_instruct": True,
        "llada_1_5": True,
        "dream_base": False,
    }


def test_settings_exist() -> None:
    """And take what a column overrides, at every length."""
    for protocol in PROTOCOLS:
        for column in (each for each in protocol.columns if each.setting):
            for length in protocol.lengths:
                made = get_setting(column.setting, gen_length=length, **column.overrides)
                assert made.name == column.setting


def test_metrics_are_those_that_are_read() -> None:
    for protocol in PROTOCOLS:
        for task in protocol.tasks:
            first, second = score_of(task.task), SECOND.get(benchmark(task.task))
            assert task.metrics == tuple(map(key, [first, *([second] if second else [])]))


def key(score: Score) -> str:
    return f"{score.metric},{score.filter or 'none'}"


def test_windows_are_those_of_the_settings() -> None:
    """SPEC has one table of windows; for LLaDA the settings know it too."""
    for family in ("llada_instruct", "llada_1_5"):
        protocol = all_protocols()[f"streaming-dllm/{family}"]
        *others, streaming = protocol.columns
        for task in protocol.tasks:
            for length in protocol.lengths:
                window, alpha = BENCHMARKS[task.name].windows[family, length]
                made = protocol.overrides(task, length, streaming)
                assert made == {"window_size": window, "confidence_alpha": alpha}
                assert [protocol.overrides(task, length, each) for each in others] == [{}] * 4
    dream = all_protocols()["streaming-dllm/dream_base"]
    found = {task.name: [dream.windows[task.name, length] for length in (256, 512)] for task in dream.tasks}
    assert found == {
        "humaneval": [(192, 0.7), (128, 0.4)],
        "gsm8k_cot": [(32, 0.3), (32, 0.3)],
        "mbpp": [(192, 0.3), (192, 0.6)],
        "minerva_math": [(32, 0.1), (32, 0.3)],
    }


def test_fast_dllm_as_streaming_dllm_ran_it_is_its_prefix_cache_with_parallel_decoding() -> None:
    """Which is read from equal accuracies: in every cell that both papers have, in each of three columns."""
    own = {(r["model"], r["task"], r["gen_length"], r["setting"]): r["accuracy"] for r in cells_by("2505.22618")}
    names = {"fast-dllm as that paper ran it": "prefix-cache", "vanilla": "vanilla"}
    compared = 0
    for record in cells_by("2601.17917"):
        cell = record["model"], record["task"], record["gen_length"], names.get(record["setting"], record["setting"])
        if cell in own and record["setting"] != "streaming":
            assert own[cell] == record["accuracy"]
            compared += 1
    assert compared == (8 + 6) * 3


def test_the_published_tokens_are_not_the_canvas() -> None:
    """Tokens/s times seconds per sample: docs/protocols.md draws on these."""
    made = {
        (r["model"], r["task"], r["gen_length"]): r["tokens_per_second"] * r["latency_s"]
        for r in cells_by("2601.17917")
        if r["setting"] == "vanilla"
    }
    assert [round(made["llada_instruct", "gsm8k", at]) for at in (256, 512)] == [234, 269]
    assert [round(made["dream_base", "mbpp", at]) for at in (256, 512)] == [256, 510]


def cells_by(arxiv: str) -> list[dict[str, Any]]:
    return [each for each in records() if each["paper"] == arxiv]


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "found"),
    [
        ("fast-dllm", "GSAI-ML/LLaDA-8B-Instruct", "fast-dllm/llada_instruct"),
        ("Streaming_dLLM", "GSAI-ML/LLaDA-1.5", "streaming-dllm/llada_1_5"),
        ("streaming-dllm", "Dream-org/Dream-v0-Base-7B", "streaming-dllm/dream_base"),
        ("fast-dllm/dream-base", "tiny", "fast-dllm/dream_base"),
        ("streaming-dllm", "tiny", "streaming-dllm/llada_instruct"),
    ],
)
def test_names(name: str, model: str, found: str) -> None:
    protocol = get_protocol(name, model)
    assert protocol.name == found
    assert is_published(protocol, model) == (model != "tiny")


def test_figures_of_dream_base_are_not_those_of_dream_instruct() -> None:
    assert not is_published(all_protocols()["fast-dllm/dream_base"], "Dream-org/Dream-v0-Instruct-7B")


def test_unknown_names_are_one_sentence() -> None:
    with pytest.raises(InputError, match=r"Unknown paper 'fast-dlm': did you mean 'fast-dllm'"):
        get_protocol("fast-dlm", "tiny")
    with pytest.raises(InputError, match=r"fast-dllm has no table of GSAI-ML/LLaDA-1\.5: name the one to follow"):
        get_protocol("fast-dllm", "GSAI-ML/LLaDA-1.5")


def arguments(**given: Any) -> Namespace:
    return Namespace(**{**dict.fromkeys(("tasks", "settings", "gen_length", "chat_template")), **given})


def test_a_part_of_a_protocol() -> None:
    protocol = all_protocols()["streaming-dllm/llada_instruct"]
    assert paper.narrowed(protocol, arguments()) == protocol
    part = paper.narrowed(protocol, arguments(tasks="mbpp,humaneval", settings="vanilla,Prefix_Cache,streaming"))
    assert [each.task for each in part.tasks] == ["humaneval_extract", "mbpp"]
    assert [each.setting for each in part.columns] == ["llada_baseline", "prefix-cache", "streaming"]
    part = paper.narrowed(protocol, arguments(gen_length=64, chat_template="no"))
    assert (part.lengths, part.chat_template) == ((64,), False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--paper", "fast"], "Unknown paper 'fast': did you mean 'fast-dllm'"),
        (["--paper", "fast-dllm", "--tasks", "bbh"], "fast-dllm/llada_instruct has no task 'bbh'"),
        (["--paper", "streaming-dllm", "--settings", "alp"], "has no setting 'alp'"),
        (["--paper", "streaming-dllm", "--settings", "dkv-cache"], "has no setting 'dkv-cache'"),
        (["--paper", "fast-dllm", "--settings", ","], "No setting: name one or several"),
        (["--paper", "fast-dllm", "--tasks", "humaneval"], "pass --confirm_run_unsafe_code"),
        (["--paper", "fast-dllm", "--tasks", "gsm8k", "--gen_length", "100"], "must be a multiple of block_length 32"),
        (["--paper", "fast-dllm", "--limit", "0"], "--limit must be a whole number"),
        (["--chat_template", "yes"], "--chat_template belongs to the other papers"),
    ],
)
def test_refused_in_one_sentence(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr(running, "load_tasks", lambda *_: pytest.fail("loaded"))
    assert main(["reproduce", *words, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert message in said[-1]
    assert not (tmp_path / "results").exists()


def test_the_listing_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    text = capsys.readouterr().out
    assert text == listing() + "\n"
    for protocol in PROTOCOLS:
        assert f"# {protocol.name}: arXiv {protocol.arxiv}, table {protocol.table}\n" in text
    assert "Window, alpha: humaneval 256: 192, 0.7; humaneval 512: 128, 0.4;" in text


# Prompts ---------------------------------------------------------------------------------------------------

TASKS = {each.task: each for protocol in PROTOCOLS for each in protocol.tasks}


def loaded(data: Path, name: str) -> running.Leaves:
    with tasks.local_data(data) as local:
        manager = tasks.make_manager([name], local, [], {})
        tasks.check(manager, [name], local, unsafe_allowed=True)
        return running.load_tasks(manager, name, TASKS[name].shots)


@pytest.mark.parametrize("name", TASKS)
def test_versions_and_prompts_are_those_of_the_protocols(name: str, data: Path) -> None:
    if name == "minerva_math":
        pytest.importorskip("math_verify")
    leaves = loaded(data, name)
    assert paper.check_task(TASKS[name], leaves, PROTOCOLS[0]) == ""
    (first, *_) = leaves.values()
    first.VERSION = 0.5
    with pytest.raises(InputError, match=r"fixes version [\d.]+ of .*, and the installed lm-eval has 0\.5"):
        paper.check_task(TASKS[name], {"one": first}, PROTOCOLS[0])


def test_gsm8k_cot_has_five_of_its_eight_examples(data: Path) -> None:
    (task,) = loaded(data, "gsm8k_cot").values()
    running.build(task, limit=1)
    assert task.instances[0].args[0].count("Q: ") == 6
    assert "Q: Jason had 20 lollipops" in task.instances[0].args[0]


# Of the first three documents, as the embedded model's tokenizer writes its chat template: that of LLaDA is not here.
CHAT = {
    "gsm8k": "ee6e6c605f8d82fc",
    "gsm8k_cot": "d5b369949a40bd1e",
    "humaneval_extract": "c99499cbd41e12e0",
    "mbpp": "849699f3f6cc9509",
}
PLAIN = {
    "gsm8k": "b7bf55a33198583c",
    "gsm8k_cot": "43dbec23bf8b9952",
    "humaneval_extract": "dd7a1e2593f95402",
    "mbpp": "1cfa9ac078eaaaa2",
}


@pytest.mark.parametrize("name", CHAT)
def test_rendered_prompts_are_pinned(name: str, data: Path) -> None:
    """The rendering path of the chat template, all shots in one user message; and the prompts without it."""
    (task,) = loaded(data, name).values()
    adapter = ODBDiffusionLM("tiny", device="cpu")
    running.build(task, limit=3)
    plain = [instance.args[0] for instance in task.instances]
    running.build(task, adapter, limit=3)
    chat = [instance.args[0] for instance in task.instances]
    assert all(text.count("<|start_header_id|>user") == 1 for text in chat)
    assert all(text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n") for text in chat)
    assert (digest(plain), digest(chat)) == (PLAIN[name], CHAT[name])


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def test_prompt_hash() -> None:
    assert prompt_hash([("a", "x"), ("b", "y")]) == prompt_hash([("b", "y"), ("a", "x")])
    assert len({prompt_hash(each) for each in ([("a", "xb")], [("ax", "b")], [("a", "x"), ("b", "")])}) == 3


# The response cache ----------------------------------------------------------------------------------------


class Killed(dict):  # type: ignore[type-arg]
    """A cache whose process is killed after some writes, each of which is kept at once."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes = writes

    def __setitem__(self, name: str, value: Any) -> None:
        if not self.writes:
            raise KeyboardInterrupt
        self.writes -= 1
        super().__setitem__(name, value)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_kill_while_a_cache_is_made_leaves_it_usable(writes: int) -> None:
    stored = Killed(writes)
    if writes < 2:
        with pytest.raises(KeyboardInterrupt):
            response_cache.admit(stored, "f", type("User", (), {})())
    stored.writes = 9
    response_cache.admit(stored, "f", type("User", (), {})())
    with pytest.raises(InputError, match="another model, setting or version"):
        response_cache.admit(stored, "other", type("User", (), {})())


def test_the_fingerprint_is_the_first_commit_of_a_real_cache(tmp_path: Path) -> None:
    dicts = pytest.importorskip("sqlitedict")
    with dicts.SqliteDict(str(tmp_path / "cache.db"), autocommit=True) as stored:
        response_cache.admit(stored, "f", type("User", (), {})())
    with sqlite3.connect(tmp_path / "cache.db") as connection:
        names = [name for (name,) in connection.execute("SELECT key FROM unnamed ORDER BY rowid")]
    assert names == [response_cache.FINGERPRINT, response_cache.FAILED]


def test_all_miniatures_are_among_the_usual_tasks() -> None:
    manager = tasks.make_manager(["gsm8k_mini"], tasks.LocalData(), [], {})
    with pytest.raises(InputError) as told:
        tasks.check(manager, ["nothing_like_it"], tasks.LocalData(), unsafe_allowed=False)
    for name in ODB_TASKS:
        assert f"{name}, " in str(told.value)
        assert f"{name}_mini" in str(told.value)
