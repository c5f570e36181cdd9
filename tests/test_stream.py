"""The stream of snapshots, their texts, and the conversation that prompts are made from."""

import copy
import gc
import time
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from chats import QUESTION, asked

from odb_dllm import DiffusionModel, InputError, engine, generate, get_setting
from odb_dllm.presets import PRESETS
from odb_dllm.stream import Conversation, Message, Piece, Snapshot, answer_text, blank, pieces, settle, stream

# The stream ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_snapshots_lead_to_what_generate_returns(tiny: DiffusionModel, name: str) -> None:
    prompt, setting, stop = asked(tiny, name)
    snapshots = [blank(tiny, setting), *stream(tiny, prompt, setting, stop)]
    expected = generate(tiny, prompt, setting=setting)
    last = snapshots[-1]
    assert last.tokens.tolist() == expected.tokens
    assert last.generation == replace(
        expected,
        **{k: getattr(last.generation, k) for k in ("latency", "forward_seconds", "batches")},
    )
    assert (last.nfe, last.refreshes, last.fed_tokens) == (
        expected.nfe,
        expected.refreshes,
        sum(expected.forward_lengths),
    )
    if name in ("llada_baseline", "fast_dllm_baseline", "alp", "accept-jump", "jump-share", "streaming"):
        assert answer_text(tiny, last).endswith("12+5=<<12+5=17>>17 coins.\n#### 17")
    for before, after in pairwise(snapshots):
        consistent(before, after, tiny.ids.mask)
    assert not any(snapshot.finished for snapshot in snapshots[:-1])


def consistent(before: Snapshot, after: Snapshot, mask: int) -> None:
    """What must hold between two snapshots in turn."""
    n = after.length
    assert n <= before.length
    assert after.nfe == after.forward + 1 == before.nfe + 1 == after.refreshes + after.steps
    assert after.seconds > before.seconds
    assert after.answer_length >= before.answer_length
    stays = ~before.masked[:n]
    assert (after.tokens[stays] == before.tokens[:n][stays]).all()
    assert (after.decided_at[stays] == before.decided_at[:n][stays]).all()
    assert (np.flatnonzero(after.decided_at == after.forward) == after.decided).all()
    assert (after.masked == (after.tokens == mask)).all()
    if not after.finished:  # EOS that fill are decided by no forward
        assert (after.masked == (after.decided_at < 0)).all()
    known = after.decided_at >= 0
    assert (after.guess[known] == after.tokens[known]).all()
    assert ((after.confidence[known] > 0) & (after.confidence[known] <= 1)).all()
    assert (np.isnan(after.confidence) == (after.guess == mask)).all()


def test_drawn_tokens_are_those_of_generate(tiny: DiffusionModel) -> None:
    prompt, setting, stop = asked(tiny, "parallel", temperature=5.0, seed=3)
    *_, last = stream(tiny, prompt, setting, stop)
    assert last.tokens.tolist() == generate(tiny, prompt, setting=setting).tokens
    *_, other = stream(tiny, prompt, setting, stop, sequence=1)
    assert other.tokens.tolist() != last.tokens.tolist()


def test_time_between_snapshots_is_the_callers(tiny: DiffusionModel) -> None:
    seconds = []
    for snapshot in stream(tiny, *asked(tiny, "jump-share")):
        seconds.append(snapshot.seconds)
        time.sleep(2)
    assert seconds[-1] - seconds[0] < 2


@pytest.mark.parametrize("finish", ["close", "drop", "end"])
def test_no_cache_is_left_behind(tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch, finish: str) -> None:
    pools: list[weakref.ref] = []

    class Watched(engine.Pool):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            pools.append(weakref.ref(self))

    monkeypatch.setattr(engine, "Pool", Watched)
    answer = stream(tiny, *asked(tiny, "fast_dllm_baseline"))
    snapshot = next(answer)
    assert [pool() is not None for pool in pools] == [True]
    if finish == "close":
        answer.close()
        assert list(answer) == []
    elif finish == "drop":
        del answer
    else:
        *_, snapshot = answer
    gc.collect()
    assert [pool() for pool in pools] == [None]
    assert snapshot.tokens.size  # and stays


def test_what_does_not_fit_is_refused_before_the_first_snapshot(tiny: DiffusionModel) -> None:
    _, setting, stop = asked(tiny, "jump-share")
    with pytest.raises(InputError, match="exceed the model's maximum of 8192 tokens"):
        stream(tiny, [5] * 8150, setting, stop)


# Text ---------------------------------------------------------------------------------------------------------


def snapshot_of(model: DiffusionModel, tokens: list[int]) -> Snapshot:
    array = np.array(tokens)
    setting = get_setting("llada_baseline", gen_length=32)
    return replace(blank(model, setting), tokens=array, masked=array == model.ids.mask, length=len(array))


def test_tokens_that_share_a_character_are_one_piece(tiny: DiffusionModel) -> None:
    assert tiny.tokenizer is not None
    text = "a naïve 日本 😀 cat"
    ids = tiny.tokenizer.encode(text, add_special_tokens=False)
    found = pieces(tiny, snapshot_of(tiny, ids))
    assert "".join(piece.text for piece in found) == text
    assert [found[0].positions[0], found[-1].positions[1]] == [0, len(ids)]
    assert all(a.positions[1] == b.positions[0] for a, b in pairwise(found))

    first = next(piece for piece in found if "😀" in piece.text)
    assert first.positions[1] - first.positions[0] > 1
    half = [tiny.ids.mask if i == first.positions[1] - 1 else token for i, token in enumerate(ids)]
    found = pieces(tiny, snapshot_of(tiny, [*half, tiny.ids.eos]))
    assert "😀" not in "".join(piece.text for piece in found)
    assert [piece.kind for piece in found].count("mask") == 1
    assert found[-1] == Piece("special", "", (len(ids), len(ids) + 1))


# The conversation ---------------------------------------------------------------------------------------------


def test_the_oldest_turns_are_dropped(tiny: DiffusionModel) -> None:
    conversation = Conversation(system="Be brief.")
    for i in range(6):
        conversation.ask(f"Question {i}: {QUESTION}")
        conversation.answer(f"Answer {i}.")
    conversation.ask("The last one?")
    whole = conversation.prompt_ids(tiny, 64)
    assert whole.dropped == 0
    small = replace(tiny, max_length=len(whole.ids) + 64 - 1)
    assert conversation.prompt_ids(small, 64).dropped == 2  # a question and its answer
    for room in range(len(whole.ids), 40, -1):
        prompt = conversation.prompt_ids(replace(tiny, max_length=room + 64), 64)
        assert len(prompt.ids) <= room
        text = tiny.tokenizer.decode(prompt.ids)  # type: ignore[union-attr]
        assert "Be brief." in text
        assert text.endswith("The last one?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
        assert prompt.dropped % 2 == 0
        assert (f"Answer {prompt.dropped // 2}." in text) == (prompt.dropped < 12)
    assert prompt.dropped == 12
    assert len(conversation.messages) == 13
    with pytest.raises(InputError, match="gen_length 64 exceed the model's maximum of 70"):
        conversation.prompt_ids(replace(tiny, max_length=70), 64)


def test_without_a_template_the_text_goes_on(tiny: DiffusionModel) -> None:
    tokenizer = copy.deepcopy(tiny.tokenizer)
    assert tokenizer is not None
    tokenizer.chat_template = None
    base = replace(tiny, tokenizer=tokenizer)
    conversation = Conversation(messages=[Message("user", "Question: 3+4?\nAnswer:"), Message("assistant", " 7")])
    conversation.ask("Question: 4+4?\nAnswer:")
    ids = conversation.prompt_ids(base, 64).ids
    assert tokenizer.decode(ids) == "Question: 3+4?\nAnswer: 7\n\nQuestion: 4+4?\nAnswer:"
    assert not settle(base, get_setting("alp"))[0].end_of_turn
    assert settle(tiny, get_setting("alp"))[0].end_of_turn
    with pytest.raises(InputError, match="has no tokenizer"):
        conversation.prompt_ids(replace(tiny, tokenizer=None), 64)
