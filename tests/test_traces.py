"""Traces: what they say of each forward, and what is left of them after a crash."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odb_dllm import DiffusionModel, generate, traces
from odb_dllm.contract import Event, Pass
from odb_dllm.traces import Trace, beside, encode, make_trace, read_traces

QUESTION = "Question: Ben has 31 stamps and gets 12 more, then loses 9. How many stamps does Ben have?\nAnswer:"
COUNT = st.integers(0, 2000)
PASS = st.builds(Pass, st.sampled_from(["refresh", "step"]), *[COUNT] * (len(Pass._fields) - 1))


@pytest.mark.parametrize("setting", ["llada_baseline", "streaming", "alp", "jump-share"])
def test_a_trace_says_what_those_who_watch_see(tiny: DiffusionModel, setting: str) -> None:
    seen: list[Event] = []
    (made,) = generate(tiny, [tiny.tokenizer.encode(QUESTION)], setting=setting, gen_length=64, on_event=seen.append)
    passes = made.passes
    assert [each.kind for each in passes] == [each.kind for each in seen]
    assert [each.fed for each in passes] == [each.fed for each in seen] == made.forward_lengths
    assert [each.cached for each in passes] == [each.cached for each in seen]
    assert [each.accepted for each in passes] == [len(each.accepted) for each in seen]
    assert [each.drafts for each in passes] == [len(each.drafts) for each in seen]
    assert [each.chosen for each in passes] == [each.branch or 0 for each in seen]
    assert {each.branches for each in passes if each.kind == "refresh" or setting != "jump-share"} == {1}
    assert all(each.branches in (4, 8) for each in passes if setting == "jump-share" and each.kind == "step")
    assert [each.length for each in passes][-1] == len(made.tokens)
    assert [each.block for each in passes] == sorted(each.block for each in passes)
    assert all(each.read >= each.accepted - each.drafts for each in passes)
    assert len(made.forward_seconds) == len(made.batches) == len(passes)
    assert sum(made.forward_seconds) == made.seconds <= made.latency
    assert set(made.batches) == {1}


@given(st.lists(PASS, max_size=20), st.one_of(st.none(), st.text(max_size=9)), st.integers(0, 3))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, passes: list[Pass], task: str, n: int
) -> None:
    trace = Trace(task, n, 0, n, 7, tuple(passes), (0.25,) * len(passes), (1,) * len(passes))
    path = tmp_path_factory.mktemp("traces") / "rows.traces.gz"
    path.write_bytes(encode(trace) * 2)
    assert read_traces(path) == [trace, trace]


def test_a_killed_run_costs_no_more_than_the_sample_it_was_writing(tmp_path: Path, tiny: DiffusionModel) -> None:
    (made,) = generate(tiny, [tiny.tokenizer.encode(QUESTION)], setting="jump-share", gen_length=64)
    parts = [encode(make_trace(("gsm8k_mini", index, 0, 0), made, prompt_tokens=9)) for index in range(3)]
    path = beside(tmp_path / "statistics_x.jsonl")
    assert path.name == "statistics_x.traces.gz"
    for cut in range(1, len(parts[1]), 7):
        path.write_bytes(parts[0] + parts[1][:cut] + parts[2])
        assert [each.doc_id for each in read_traces(path)] == [0, 2], cut
    assert read_traces(tmp_path / "none") == []


def test_a_trace_is_small(tiny: DiffusionModel) -> None:
    (made,) = generate(tiny, [tiny.tokenizer.encode(QUESTION)], setting="llada_baseline", gen_length=64)
    assert made.nfe == 64
    assert len(encode(make_trace(("gsm8k_mini", 0, 0, 0), made, prompt_tokens=9))) < 10 * made.nfe
    assert traces.SUFFIX.endswith(".gz")
