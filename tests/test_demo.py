"""The web demo: what it draws, who may generate when, and its command. Its page is in test_demo_page.py."""

import builtins
import sys
import threading
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from odb_dllm import DiffusionModel, InputError, cli, get_setting
from odb_dllm.demo import render, running
from odb_dllm.demo.recording import Bar, Recording
from odb_dllm.stream import Conversation, Message, Piece, Snapshot, pieces

QUESTION = "Sam has 12 coins and finds 5 more. How many coins does Sam have?"
EVIL = '<img src=x onerror="alert(1)">&\'{{7*7}}${7*7}`@children\\'
DOTTED = EVIL.replace(" ", "·")  # as cells show it


# What is drawn ----------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The elements of some HTML, with their attributes and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.depth = 0
        self.feed(text)
        self.close()
        assert self.depth == 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.depth += tag != "wbr"  # which is never closed

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


def snapshot(**changes: Any) -> Snapshot:
    """Eight positions in blocks of four: five decided by two forwards, the rest masked."""
    fields: dict[str, Any] = {
        "forward": 1,
        "kind": "step",
        "fed": 4,
        "cached": 4,
        "block": (4, 8),
        "length": 8,
        "predicted_length": 8,
        "tokens": np.array([5, 6, 7, 8, 9, 0, 0, 0]),
        "masked": np.array([False] * 5 + [True] * 3),
        "decided": np.array([4]),
        "decided_at": np.array([0, 0, 0, 0, 1, -1, -1, -1]),
        "guess": np.array([5, 6, 7, 8, 9, 5, 0, 0]),
        "confidence": np.array([0.3, 0.6, 0.8, 0.95, 0.999, 0.4, np.nan, np.nan]),
        "drafts": np.empty(0, np.int64),
        "branch": None,
        "nfe": 2,
        "refreshes": 1,
        "fed_tokens": 12,
        "seconds": 0.5,
        "answer_length": 5,
    }
    return Snapshot(**{**fields, **changes})


def wording(*texts: str) -> list[Piece]:
    """Pieces of one position each; an empty text is a mask."""
    return [Piece("text" if text else "mask", text, (i, i + 1)) for i, text in enumerate(texts)]


PIECES = wording("Tom", " has", "\n", EVIL, "4", "", "", "")


def test_cells_show_confidence_age_and_blocks() -> None:
    tags = Tags(render.canvas(snapshot(), PIECES, 4))
    assert [each["class"] for each in tags.of("s")] == ["c0 a1", "c1 a1", "c2 a1", "c3 a1", "c4 a0"]
    assert len(tags.of("u")) == 3
    blocks = [each["class"] for each in tags.of("div") if "od-block" in (each.get("class") or "")]
    assert blocks == ["od-block", "od-block od-now"]
    tips = [each["data-tip"] or "" for each in tags.of("s", "u")]
    assert tips[0] == "Tom · position 0 · confidence 0.300 · decided at forward 1"
    assert tips[4].endswith("decided at forward 2")
    assert tips[5] == "position 5 · not decided, at most 0.400 sure so far"
    assert tips[6] == "position 6 · not decided"
    assert "·has" in tags.text
    assert "↵" in tags.text


def test_what_a_model_writes_stays_text() -> None:
    talk = render.conversation([Message("user", EVIL)], EVIL, EVIL)
    recording = Recording(EVIL, snapshot(), 0, state="running")
    lane = render.lane(recording, lambda _: PIECES, 4)
    for drawn in (talk, lane, render.notice(EVIL)):
        tags = Tags(drawn)
        assert not tags.of("img", "script")
        assert EVIL in tags.text
        assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
        assert not set("{}$`@\\") & set(drawn)
    assert any(DOTTED in (each["data-tip"] or "") for each in Tags(lane).of("s"))


@pytest.mark.parametrize("text", ["\x00\x1b[31m", "\u202egpj", "\ud800", "\r\x7f", "\u2028"])
def test_control_characters_are_made_visible(text: str) -> None:
    drawn = render.escape(text)
    assert all(each.isprintable() for each in drawn)
    drawn.encode()


def test_text_is_kept() -> None:
    for text in ("a < b & c", "日本語 مرحبا", "👩\u200d👧", "line\nline", "”„’"):
        assert Tags(render.escape(text)).text == text


def test_a_character_of_several_tokens_is_one_cell() -> None:
    drawn = [*PIECES[:2], Piece("text", "é", (2, 4)), *PIECES[4:]]
    tags = Tags(render.canvas(snapshot(), drawn, 4))
    assert "é · positions 2–3 · confidence 0.800 · decided at forward 1" in [each["data-tip"] for each in tags.of("s")]


def test_an_untouched_block_is_small() -> None:
    drawn = render.canvas(snapshot(block=(0, 4)), PIECES[:4] + wording("", "", "", "", "", "", "", "")[4:], 4)
    assert "od-block od-small" in drawn


def test_time_line() -> None:
    bars = [Bar("refresh", 0.0, 0.3, 4), Bar("step", 0.3, 0.4, 1), Bar("step", 0.4, 0.5, 0)]
    drawn = render.timeline(bars, 1.0, now=2)
    svg = ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</svg>") + 6])
    assert [each.get("class") for each in svg] == ["refresh", "step", "step later"]
    assert [float(each.get("x") or 0) for each in svg] == [0, 300, 400]
    assert [round(float(each.get("width") or 0)) for each in svg] == [298, 98, 98]
    tall = [float(each.get("height") or 0) for each in svg]
    assert tall[0] == render.TALL - 2
    assert tall[1] == pytest.approx(tall[0] / 4)
    assert tall[2] == 2  # still there to be seen
    assert "3 forwards in 0.50 seconds" in drawn
    assert "<rect" not in render.timeline([], 1.0)
    assert "<rect" not in render.timeline(bars, 0.0)


def test_speed_counts_decided_text_until_the_answer_is_finished(tiny: DiffusionModel) -> None:
    gap = snapshot(masked=np.array([True] + [False] * 4 + [True] * 3), answer_length=0)
    assert render.written(gap, wording("", " has", "\n", "3", "4", "", "", "")) == 4
    *_, [recording] = running.generate(tiny, running.Turns(), asked(), settings("alp"), threading.Event())
    last = recording.latest
    assert render.written(last, pieces(tiny, last)) == last.answer_length
    lane = render.lane(recording, lambda each: pieces(tiny, each), 32)
    assert f"<b>{last.tokens_per_second:.1f}</b> tokens/s" in lane


def test_figures_are_the_snapshot_s() -> None:
    shown = {name: value for name, value, _ in render.figures(snapshot(), 5)}
    assert shown["NFE"] == "2"
    assert shown["refreshes"] == shown["steps"] == "1"
    assert shown["predicted length"] == "8"
    unknown = {name: value for name, value, _ in render.figures(snapshot(predicted_length=None), 5)}
    assert unknown["predicted length"] == "–"


# Generating -------------------------------------------------------------------------------------------------


def asked(text: str = QUESTION) -> Conversation:
    conversation = Conversation()
    conversation.ask(text)
    return conversation


def settings(*names: str, gen_length: int = 64) -> list[Any]:
    return [get_setting(name, gen_length=gen_length, block_length=32) for name in names]


def test_every_step_can_be_had_again(tiny: DiffusionModel) -> None:
    seen: list[Snapshot] = []
    for recordings in running.generate(tiny, running.Turns(), asked(), settings("llada_baseline"), threading.Event()):
        if recordings[0].nfe > len(seen):
            seen.append(recordings[0].latest)
    recording = recordings[0]
    assert recording.state == "done"
    assert recording.nfe == len(seen) == 64
    for past in seen:
        again = recording.at(past.nfe)
        for name in ("tokens", "masked", "decided_at"):
            assert np.array_equal(getattr(again, name), getattr(past, name))
        known = ~past.masked
        assert np.array_equal(again.confidence[known], past.confidence[known])
        assert (again.seconds, again.nfe, again.block) == (past.seconds, past.nfe, past.block)
        assert [p.text for p in pieces(tiny, again)] == [p.text for p in pieces(tiny, past)]
    assert recording.at(0).masked.all()
    assert sum(bar.accepted for bar in recording.bars()) == 64


def test_a_canvas_that_shrank_is_long_again_before(tiny: DiffusionModel) -> None:
    *_, [recording] = running.generate(
        tiny, running.Turns(), asked(), settings("jump-share", gen_length=256), threading.Event()
    )
    assert recording.latest.length < 256
    assert recording.at(0).length == 256
    assert recording.at(recording.nfe) is recording.latest


def test_two_settings_race_by_their_own_time(tiny: DiffusionModel) -> None:
    order = []
    for recordings in running.generate(
        tiny, running.Turns(), asked(), settings("jump-share", "llada_baseline"), threading.Event()
    ):
        order.append(tuple(each.nfe for each in recordings))
    assert all(each.state == "done" for each in recordings)
    assert recordings[0].nfe < recordings[1].nfe == 64
    assert (1, 1) in order  # neither runs to its end first
    assert "faster" in render.comparison(recordings)


def test_stopping_and_closing_end_it_between_two_forwards(tiny: DiffusionModel) -> None:
    stop, turns = threading.Event(), running.Turns()
    generating = running.generate(tiny, turns, asked(), settings("llada_baseline"), stop)
    for [recording] in generating:
        if recording.nfe == 3:
            stop.set()
    assert (recording.nfe, recording.state) == (3, "stopped")
    generating = running.generate(tiny, turns, asked(), settings("llada_baseline"), threading.Event())
    next(generating)
    next(generating)
    assert len(turns) == 1
    generating.close()
    assert len(turns) == 0


def test_one_generates_and_the_others_wait_in_turn(tiny: DiffusionModel) -> None:
    turns = running.Turns()
    several = [running.generate(tiny, turns, asked(), settings("jump-share"), threading.Event()) for _ in range(3)]
    states = [next(each)[0] for each in several]
    assert [(each.state, each.ahead) for each in states] == [("running", 0), ("waiting", 1), ("waiting", 2)]
    several[1].close()
    assert next(several[2])[0].ahead == 1
    several[0].close()
    assert next(several[2])[0].state == "running"


def test_a_question_that_does_not_fit_leaves_the_line(tiny: DiffusionModel) -> None:
    turns = running.Turns()
    with pytest.raises(InputError, match="exceed the model's maximum"):
        list(running.generate(tiny, turns, asked("apples " * 9000), settings("jump-share"), threading.Event()))
    assert len(turns) == 0


# The command ------------------------------------------------------------------------------------------------


def test_without_gradio_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "gradio":
            raise ImportError(name)
        return really(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    monkeypatch.delitem(sys.modules, "odb_dllm.demo.page", raising=False)
    assert cli.main(["demo"]) == 2
    said = capsys.readouterr().err
    assert said == "error: The demo needs gradio: pip install 'gradio>=6'.\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--setting", "jumpshare"], "did you mean 'jump-share'"),
        (["--gen_length", "100"], "must be a multiple of block_length"),
        (["--gen_length", "32000000000"], "exceeds the model's maximum"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--port", "99999"], "--port must lie between 1 and 65535"),
        (["--host", "300.1.1.1"], "cannot listen on 300.1.1.1"),
    ],
)
def test_what_is_wrong_is_said_before_it_starts(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio")
    assert cli.main(["demo", *flags]) == 2
    assert said in capsys.readouterr().err


def test_an_expression_keeps_its_own_numbers_on_the_page() -> None:
    pytest.importorskip("gradio")
    from odb_dllm.demo.page import chosen

    given = chosen("alp+threshold=0.8+gen_length=64", 256, 16, 0.9)
    assert (given.gen_length, given.block_length, given.threshold) == (64, 16, 0.8)
