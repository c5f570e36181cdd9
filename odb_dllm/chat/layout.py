"""Text that a model wrote, as lines of a terminal: made harmless, measured in columns, wrapped, styled.

Where terminals differ in how wide something is, it is taken for wider: a line that ends early does no harm, one that
runs over would be redrawn in the wrong place.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Style = Literal["plain", "fresh", "mask", "special", "note"]
CODES: dict[str, str] = {"plain": "", "fresh": "\x1b[1;32m", "mask": "\x1b[2m", "special": "\x1b[2m", "note": "\x1b[2m"}
LOOSE = ("mask", "special")  # glyphs rather than letters: a line may end at any of them
JOINERS = "\u200c\u200d"  # format characters that scripts need
WIDENING = "\ufe0f"  # shows the character before it as an emoji, which is wide
TAB = " " * 4


def harmless(text: str) -> str:
    """``text`` without what would move the cursor, start an escape sequence or turn the writing direction."""
    if text.isprintable():  # which is nearly always so
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\t":
        return TAB
    if char in "\n\u2028\u2029\x85":
        return "\n"
    kind = unicodedata.category(char)
    if kind == "Cc":  # as a picture of the control character; those above 0x7f have none
        return chr(0x2400 + ord(char)) if ord(char) < 0x20 else "\u2421" if char == "\x7f" else "\ufffd"
    if kind == "Cs":
        return "\ufffd"
    return "" if kind == "Cf" and char not in JOINERS else char


def columns(char: str) -> int:
    """Columns that a harmless character takes."""
    if char.isascii():
        return 1
    if char in JOINERS or (char != WIDENING and unicodedata.category(char) in ("Mn", "Me")):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


@dataclass(frozen=True)
class Cell:
    """A character with the marks upon it."""

    text: str
    width: int
    style: Style = "plain"


Line = list[Cell]


def cells(spans: Iterable[tuple[str, Style]]) -> list[Cell]:
    """Styled texts, made harmless, as cells."""
    found: list[Cell] = []
    for text, style in spans:
        for char in harmless(text):
            width = 0 if char == "\n" else columns(char)
            joins = found and char != "\n" and found[-1].text != "\n" and (width == 0 or char == WIDENING)
            if joins:
                last = found.pop()
                found.append(Cell(last.text + char, last.width + width, last.style))
            else:
                found.append(Cell(char, width, style))
    return found


def wrap(given: Iterable[Cell], width: int) -> list[Line]:
    """Break cells into lines of at most ``width`` columns: at spaces where there are any, else anywhere."""
    lines: list[Line] = [[]]
    used, breaks = 0, 0  # columns of the last line, and how many of its cells stay when its last word moves on
    for cell in given:
        line = lines[-1]
        if cell.text == "\n":
            lines.append([])
            used = breaks = 0
            continue
        if line and used + cell.width > width:
            if cell.text == " ":
                lines.append([])
                used = breaks = 0
                continue
            tail = [] if cell.style in LOOSE or cell.width > 1 else line[breaks:] if breaks else []
            del line[len(line) - len(tail) :]
            lines.append(tail)
            used, breaks, line = sum(each.width for each in tail), 0, lines[-1]
        line.append(cell)
        used += cell.width
        if cell.text == " " or cell.style in LOOSE or cell.width > 1:
            breaks = len(line)
    return lines


def breadth(line: Line) -> int:
    return sum(cell.width for cell in line)


def render(line: Line, *, colour: bool = True) -> str:
    """A line with its escape sequences."""
    parts = []
    for style, run in groupby(line, key=lambda cell: cell.style):
        text = "".join(cell.text for cell in run)
        parts.append(f"{CODES[style]}{text}\x1b[0m" if colour and CODES[style] else text)
    return "".join(parts)


def window(lines: Sequence[Line], room: int) -> list[Line]:
    """At most ``room`` of the lines, those around the first mask; dots stand for what is left out."""
    if len(lines) <= room:
        return list(lines)
    focus = next((i for i, line in enumerate(lines) if any(cell.style == "mask" for cell in line)), len(lines))
    first = min(max(focus - room // 2, 0), len(lines) - room)
    shown = list(lines[first : first + room])
    if first > 0:
        shown[0] = cells([("...", "note")])
    if first + room < len(lines):
        shown[-1] = cells([("...", "note")])
    return shown
