"""Chat: what is drawn, and the command on a terminal and in a pipe."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from chats import ANSWER, CTRL_C, QUESTION, Screen, Terminal, asked
from conftest import ENVIRONMENT
from hypothesis import given, settings
from hypothesis import strategies as st

from odb_dllm import DiffusionModel, cli
from odb_dllm.chat import keyboard, layout
from odb_dllm.chat.painter import Region, can_redraw, frame
from odb_dllm.stream import Piece, pieces, stream

LONG = ("--setting", "llada_baseline", "--gen_length", "512")  # half a minute: time to press keys in


@given(st.text(), st.integers(2, 50))
@settings(max_examples=200, deadline=None)
def test_no_line_is_too_wide_and_nothing_is_lost(text: str, width: int) -> None:
    lines = layout.wrap(layout.cells([(text, "plain"), ("░" * 7, "mask")]), width)
    assert all(layout.breadth(line) <= width or len(line) == 1 for line in lines)
    shown = "".join(cell.text for line in lines for cell in line)
    wanted = layout.harmless(text) + "░" * 7
    assert re.sub(r"[ \n]", "", shown) == re.sub(r"[ \n]", "", wanted)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


def test_words_stay_whole_and_masks_fill_the_line() -> None:
    def lines(width: int, *spans: tuple[str, layout.Style]) -> list[str]:
        return [layout.render(line, colour=False) for line in layout.wrap(layout.cells(spans), width)]

    assert lines(10, ("one two three four", "plain")) == ["one two ", "three four"]
    assert lines(5, ("incomprehensible", "plain")) == ["incom", "prehe", "nsibl", "e"]
    assert lines(6, ("one ", "plain"), ("░░░░░", "mask")) == ["one ░░", "░░░"]
    assert lines(5, ("日本語日本", "plain")) == ["日本", "語日", "本"]
    assert lines(20, ("    x = 1\n\n\ty\x1b[2J\r\u202e", "plain")) == ["    x = 1", "", "    y␛[2J␍"]


# Drawing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 60, 120])
def test_frames_are_drawn_over_each_other(tiny: DiffusionModel, width: int) -> None:
    screen, region = Screen(width).feed("> question\n"), Region()
    for snapshot in stream(tiny, *asked(tiny, "llada_baseline", gen_length=32)):
        lines = frame(pieces(tiny, snapshot), lambda _: True, f"NFE {snapshot.nfe}", (width, 24), ("░", "·"))
        screen.feed(region.redraw(lines, width))
        assert screen.lines[0] == "> question"
        assert screen.lines[1:] == [layout.render(line, colour=False).rstrip() for line in lines]
        assert "".join(screen.lines).count("░") == snapshot.masked.sum()
    screen.feed(region.redraw([], width))
    assert screen.lines == ["> question", ""]


def test_a_frame_is_never_taller_than_the_terminal() -> None:
    given_ = [Piece("text", f"line {i}\n", (i, i + 1)) for i in range(40)]
    given_ += [Piece("mask", "", (i, i + 1)) for i in range(40, 900)]
    lines = frame(given_, lambda _: False, "note", (60, 12), ("░", "·"))
    shown = [layout.render(line, colour=False) for line in lines]
    assert len(lines) == 11
    assert (shown[0], shown[-2], shown[-1]) == ("...", "...", "note")
    assert "line 39" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_escape_sequences_can_be_forbidden(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert can_redraw(sys.stdout)
    monkeypatch.setenv(name, value)
    assert not can_redraw(sys.stdout)


def test_one_interrupt_asks_and_the_second_insists() -> None:
    with keyboard.Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(keyboard.Impatient):
            signal.raise_signal(signal.SIGINT)
        interrupts.over = True
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# The command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "tyni"], "Model 'tyni' is no folder"),
        (["--setting", "jump-sahre"], "Unknown setting 'jump-sahre': did you mean 'jump-share'"),
        (["--gen_length", "100"], "gen_length 100 must be a multiple of block_length 32"),
        (["--gen_length", "many"], "gen_length must be a whole number"),
        (["--gen_length", "8192"], "leaves no room for a question: the model's maximum is 8192 tokens"),
        (["--threshold", "7"], "threshold must lie between 0 and 1"),
        (["--dtype", "int3"], "Unknown dtype 'int3'"),
        (["--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_bad_input_costs_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("odb_dllm.models.loading.load_weights", lambda *_: pytest.fail("weights were read"))
    assert cli.main(["chat", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def piped(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odb_dllm", "chat", "--device", "cpu", *words]
    return subprocess.run(
        command, input=text, capture_output=True, encoding="utf-8", env=ENVIRONMENT, timeout=300, check=False
    )


def test_in_a_pipe(tmp_path: Path) -> None:
    saved = tmp_path / "said.json"
    ran = piped(f"{QUESTION}\n\n/reset\n/setting alp\n{QUESTION}\n/save {saved}\n", "--model", "tiny")
    assert ran.returncode == 0
    assert ran.stdout == f"{ANSWER}\n" * 2
    said = re.findall(r"[\d.]+ tokens/s, NFE (\d+) = 1 refresh \+ (\d+) steps, ([\d.]+) tokens per forward", ran.stderr)
    spent = [int(nfe) for nfe, _, _ in said]
    assert spent[0] < spent[1], "jump-share beside alp"
    assert [int(steps) + 1 for _, steps, _ in said] == spent
    assert "\x1b" not in ran.stdout + ran.stderr
    document = json.loads(saved.read_text())
    assert document["setting"]["name"] == "alp"
    assert document["setting"]["end_of_turn"] is True
    assert [(m["role"], m["content"]) for m in document["messages"]] == [
        ("user", QUESTION),
        ("assistant", ANSWER),
    ]
    statistics = document["messages"][1]["statistics"]
    assert (statistics["setting"], statistics["nfe"]) == ("alp", spent[1])
    ends = statistics["tokens"] + 1  # the answer's tokens and the one that ends it
    assert [per_forward for *_, per_forward in said] == [f"{ends / nfe:.1f}" for nfe in spent]


def test_in_a_pipe_what_fails_is_said_and_the_rest_answered(tmp_path: Path) -> None:
    ran = piped(f"/SETT\n/Setting pralel\n/save\n/save {tmp_path}\n{QUESTION}\n/quit\nnever asked\n")
    assert ran.returncode == 1
    assert ran.stdout == f"{ANSWER}\n"
    assert "Unknown command '/sett': did you mean '/setting'?" in ran.stderr
    assert "Unknown setting 'pralel': did you mean 'parallel'?" in ran.stderr
    assert "/save needs the name of a file." in ran.stderr
    assert f"The conversation cannot be written to {tmp_path}: Is a directory." in ran.stderr


def test_a_long_conversation_in_a_pipe(tmp_path: Path) -> None:
    model = tmp_path / "short"
    model.mkdir()
    embedded = Path(cli.__file__).parent / "tiny" / "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (model / name).symlink_to(embedded / name)
    config = json.loads((embedded / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_sequence_length": 140}))
    ran = piped(f"{QUESTION}\n{QUESTION}\n{QUESTION}\n{'word ' * 200}\n", "--model", str(model), "--gen_length", "64")
    assert ran.returncode == 1
    assert "exceeds the model's 140 tokens: the prompt leaves out its 2 oldest messages." in ran.stderr
    assert "error: A question of " in ran.stderr
    assert len(re.findall("tokens/s", ran.stderr)) == 3


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []
    inputrc = tmp_path / "inputrc"
    inputrc.write_text("set enable-bracketed-paste off\n")

    class Opened(Terminal):
        def __init__(self, *words: str, width: int = 80, **environment: str) -> None:
            super().__init__(*words, width=width, **{"INPUTRC": str(inputrc), **environment})
            opened.append(self)

    yield Opened
    for each in opened:
        with contextlib.suppress(OSError):
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
        os.close(each.fd)


@pytest.mark.parametrize("width", [60, 120])
def test_an_answer_on_a_terminal(terminal: type[Terminal], width: int) -> None:
    chat = terminal("--setting", "llada_baseline", "--gen_length", "32", width=width)
    chat.wait("> $")
    chat.say(QUESTION)
    text = chat.wait("tokens/s")
    assert text.count("\x1b[2m░") > 3, "masks, faintly"
    assert "\x1b[1;32m" in text, "the freshest, highlighted"
    chat.wait("> $")
    assert chat.leave() == 0
    assert "░" not in chat.screen
    assert "block 1" not in chat.screen
    assert f"\n{ANSWER}\n" in chat.screen
    assert re.search(r"NFE 32 = 0 refreshes \+ 32 steps, 1\.0\s+tokens\s+per\s+forward", chat.screen)
    assert chat.output.rfind("\x1b[?25h") > chat.output.rfind("\x1b[?25l"), "the cursor is back"


def test_a_stopped_answer_is_kept(terminal: type[Terminal], tmp_path: Path) -> None:
    chat = terminal(*LONG)
    chat.wait("> $")
    chat.say(QUESTION)
    chat.wait("NFE [2-9][0-9]")
    chat.type(CTRL_C + CTRL_C)
    chat.wait("stopped: ")
    chat.wait("> $")
    chat.say(f"/save {tmp_path / 'stopped.json'}")
    chat.wait("saved to")
    document = json.loads((tmp_path / "stopped.json").read_text())
    question, answer = document["messages"]
    assert question == {"role": "user", "content": QUESTION}
    assert answer["stopped"] is True
    assert ANSWER.startswith(answer["content"])
    assert 20 <= answer["statistics"]["nfe"] < 512

    chat.say("/setting jump-sahre")
    chat.wait("Unknown setting 'jump-sahre': did you mean 'jump-share'")
    chat.wait("> $")
    chat.type("/setting jum\t\n")  # completed
    chat.wait("setting jump-share")
    chat.say("/reset")
    chat.wait("forgotten")
    chat.say(QUESTION)
    chat.wait("NFE . = 1 refresh")
    chat.wait("> $")
    chat.type("half a line")
    chat.wait("half a line")
    chat.interrupt("Ctrl-D leaves")
    chat.say("/help")
    for command in ("/setting", "/reset", "/save", "/help", "/quit"):
        chat.wait(f"{command} ")
    assert chat.leave("/quit\n") == 0
    assert f"\n{ANSWER}\n" in chat.screen


def test_without_colour_nothing_is_drawn(terminal: type[Terminal]) -> None:
    chat = terminal("--setting", "llada_baseline", "--gen_length", "32", NO_COLOR="1")
    chat.wait("> $")
    chat.say(QUESTION)
    chat.wait("tokens/s")
    chat.wait("> $")
    assert chat.leave() == 0
    assert "\x1b[" not in chat.output
    assert f"\n{ANSWER}\n" in chat.screen


def test_a_killed_chat_leaves_the_terminal_as_it_was(terminal: type[Terminal]) -> None:
    chat = terminal(*LONG)
    chat.wait("> $")
    chat.say(QUESTION)
    chat.wait("NFE [1-9]")
    assert not termios.tcgetattr(chat.fd)[3] & termios.ECHO
    os.kill(chat.pid, signal.SIGTERM)
    assert chat.leave("") == 143
    assert chat.output.rfind("\x1b[?25h") > chat.output.rfind("\x1b[?25l")
