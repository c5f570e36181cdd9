"""Shows an answer while it is made: in place on a terminal, or from left to right as plain text."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TextIO

from odb_dllm.chat import layout
from odb_dllm.chat.layout import Line, Style
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.stream import Piece, Snapshot, answer_text, pieces

INTERVAL = 1 / 30  # seconds between frames, at least
SHARE = 0.05  # of the time may go into drawing
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor
GLYPHS, ASCII_GLYPHS = ("\u2591", "\u00b7"), ("_", ".")  # of a mask, and of a special token


def can_redraw(out: TextIO) -> bool:
    """Whether ``out`` is a terminal that understands escape sequences, and nobody forbade them."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def size(out: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal behind ``out``."""
    try:
        found = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24


def glyphs(out: TextIO) -> tuple[str, str]:
    """What stands for a mask and for a special token, in the encoding of ``out``."""
    try:
        "".join(GLYPHS).encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_GLYPHS
    return GLYPHS


def frame(
    given: Sequence[Piece], fresh: Callable[[Piece], bool], note: str, area: tuple[int, int], marks: tuple[str, str]
) -> list[Line]:
    """The lines of one frame: the response, as much of it as ``area`` (columns, rows) has room for, and a note."""

    def span(piece: Piece) -> tuple[str, Style]:
        if piece.kind == "mask":
            return marks[0], "mask"
        if piece.kind == "special":
            return marks[1] * (piece.positions[1] - piece.positions[0]), "special"
        return piece.text, "fresh" if fresh(piece) else "plain"

    width = max(area[0] - 1, 2)
    below = layout.wrap(layout.cells([(note, "note")]), width)
    body = layout.wrap(layout.cells(span(piece) for piece in given), width)
    return [*layout.window(body, max(area[1] - 1 - len(below), 1)), *below]


class Region:
    """Lines at the bottom of a terminal that are written again and again in the same place."""

    def __init__(self) -> None:
        self._widths: list[int] = []  # of the lines that stand there

    def redraw(self, lines: Sequence[Line], width: int) -> str:
        """Return what to write so that ``lines`` stand where the last ones did; none: so that nothing does."""
        # A terminal that became narrower has wrapped the lines itself.
        rows = sum(max(1, -(-each // width)) for each in self._widths)
        start = "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")
        self._widths = [layout.breadth(line) for line in lines]
        return start + "\n".join(f"{layout.render(line)}\x1b[K" for line in lines) + "\x1b[J"


class Painter:
    """Draws the latest snapshot in place, in a thread of its own: a slow terminal must not slow the model."""

    def __init__(self, out: TextIO, model: DiffusionModel, note: Callable[[Snapshot], str]) -> None:
        """``note``: the line below the response."""
        self._out, self._model, self._note, self._marks = out, model, note, glyphs(out)
        self._region = Region()
        self._latest: Snapshot | None = None
        self._drawn = -1  # the forward after which the last frame was
        self._news, self._ended = threading.Event(), threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._paint, name="painter", daemon=True)

    def __enter__(self) -> "Painter":
        self._out.write(HIDE)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Erase what was drawn: the answer itself is the caller's to print."""
        self._ended.set()
        self._news.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error
        self._out.write(self._region.redraw([], size(self._out)[0]) + SHOW)
        self._out.flush()

    def show(self, snapshot: Snapshot) -> None:
        """Have a snapshot drawn soon, unless a later one comes first."""
        self._latest = snapshot
        self._news.set()

    def _paint(self) -> None:
        while not self._ended.is_set():
            self._news.wait()
            self._news.clear()
            if self._latest is None or self._ended.is_set():
                continue
            started = time.perf_counter()
            try:
                self._draw(self._latest)
            except OSError as error:  # the terminal went away
                self._error = error
                return
            self._ended.wait(max(INTERVAL, (time.perf_counter() - started) / SHARE))

    def _draw(self, snapshot: Snapshot) -> None:
        def fresh(piece: Piece) -> bool:
            return int(snapshot.decided_at[slice(*piece.positions)].max()) > self._drawn

        area = size(self._out)
        lines = frame(pieces(self._model, snapshot), fresh, self._note(snapshot), area, self._marks)
        self._out.write(self._region.redraw(lines, area[0]))
        self._out.flush()
        self._drawn = snapshot.forward


class Typist:
    """Writes an answer as plain text, from left to right as far as it stands; nothing is ever taken back."""

    def __init__(self, out: TextIO, model: DiffusionModel, clean: Callable[[str], str]) -> None:
        self._out, self._model, self._clean = out, model, clean
        self._written, self._due = "", 0.0

    def __enter__(self) -> "Typist":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        if time.perf_counter() >= self._due:
            self.write(standing(self._model, snapshot).rstrip("\ufffd"))  # half a character may yet become one
            self._due = time.perf_counter() + INTERVAL

    def write(self, text: str) -> None:
        """Write what ``text`` has beyond what is written."""
        if text.startswith(self._written):
            self._out.write(self._clean(text[len(self._written) :]))
            self._out.flush()
            self._written = text


def standing(model: DiffusionModel, snapshot: Snapshot) -> str:
    """The answer as far as it stands, without blanks at its end."""
    return answer_text(model, snapshot).rstrip()
