"""Snapshots as HTML and SVG: pure functions, whose output is safe to put into a page whatever a model writes."""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np

from odb_dllm.contract import Range
from odb_dllm.demo.recording import Bar, Recording
from odb_dllm.stream import Message, Piece, Snapshot

Pieces = Callable[[Snapshot], list[Piece]]  # what a model's tokenizer makes of a snapshot
CONFIDENCE = (0.5, 0.7, 0.9, 0.99)  # bounds of the five colours
AGES = (0, 1, 4)  # forwards since a token was decided: fresh, just now, a while ago, and older
TALL, WIDE = 72.0, 1000.0  # of the time line's drawing, in its own units
PLAIN = " \n\u200c\u200d"  # no printable characters by Python's rules, but part of text; the last two join letters
# What gradio's templates would take for their own.
TEMPLATE = str.maketrans({each: f"&#{ord(each)};" for each in "{}$`@\\"})


def escape(text: str) -> str:
    """Text as harmless HTML, in attributes too: no tags, no templates, no characters that a page cannot hold."""
    shown = "".join(c if c.isprintable() or c in PLAIN else _symbol(c) for c in text)
    return html.escape(shown, quote=True).translate(TEMPLATE)


def _symbol(character: str) -> str:
    """A visible stand-in for a control character, or for one that turns the text around."""
    code = ord(character)
    return chr(0x2400 + code) if code < 32 else " " if character.isspace() else "\ufffd"


def visible(text: str) -> str:
    """A token's text as HTML, its spaces and line ends made visible."""
    parts = []
    for is_blank, run in groupby(text, key=lambda c: c in " \n\t"):
        shown = "".join(run)
        if is_blank:
            shown = shown.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
            parts.append(f"<i>{shown}</i>")
        else:
            parts.append(escape(shown))
    return "".join(parts)


# Canvas -----------------------------------------------------------------------------------------------------


def canvas(snapshot: Snapshot, pieces: Sequence[Piece], block_length: int, running: bool = True) -> str:
    """The response as cells in their blocks.

    Args:
        snapshot: what to show.
        pieces: the same as text, from ``stream.pieces``.
        block_length: B.
        running: whether the current block is to be marked.
    """
    blocks = []
    for number, group in groupby(pieces, key=lambda piece: piece.positions[0] // block_length):
        first = number * block_length
        last = min(first + block_length, snapshot.length)
        blocks.append(_block(snapshot, list(group), (first, last), running and snapshot.block[0] == first))
    return f'<div class="od-canvas">{"".join(blocks)}</div>'


def _block(snapshot: Snapshot, pieces: Sequence[Piece], block: Range, current: bool) -> str:
    """One block: full cells where it has text or is the current one, small ones where it holds nothing yet."""
    empty = not current and all(piece.kind != "text" for piece in pieces)
    classes = "od-block" + (" od-now" if current else "") + (" od-small" if empty else "")
    label = f"{block[0]}–{block[1] - 1}"
    cells = "".join(_cell(snapshot, piece) for piece in pieces)
    return f'<div class="{classes}"><b title="positions {label}">{block[0]}</b><div>{cells}</div></div>'


def _cell(snapshot: Snapshot, piece: Piece) -> str:
    first, last = piece.positions
    where = f"position {first}" if last - first == 1 else f"positions {first}–{last - 1}"
    if piece.kind == "mask":
        sure = _known(snapshot.confidence[first])
        tip = f"{where} · not decided" + (f", at most {sure:.3f} sure so far" if sure is not None else "")
        return f'<u data-tip="{tip}"></u>'
    decided = int(snapshot.decided_at[first:last].max())
    confidence = _known(np.min(snapshot.confidence[first:last]))
    if decided < 0:
        return f'<u class="od-end" data-tip="{where} · filled after the end of the answer"></u>'
    classes = f"c{colour(confidence)} a{age(snapshot.forward - decided)}"
    shown = "end" if piece.kind == "special" else escape(piece.text).replace("\n", "↵").replace(" ", "·")
    known = "" if confidence is None else f" · confidence {confidence:.3f}"
    tip = f"{shown} · {where}{known} · decided at forward {decided + 1}"
    if piece.kind == "special":
        return f'<u class="od-end {classes}" data-tip="{tip}"></u>'
    return f'<s class="{classes}" data-tip="{tip}">{visible(piece.text)}</s>'


def _known(confidence: float) -> float | None:
    return None if math.isnan(confidence) else float(confidence)


def colour(confidence: float | None) -> int:
    """Which of the five colours, from 0 for the least confident."""
    return len(CONFIDENCE) if confidence is None else sum(confidence >= bound for bound in CONFIDENCE)


def age(forwards: int) -> int:
    """Which of the four ages, from 0 for what the last forward decided."""
    return sum(forwards > bound for bound in AGES)


def legend() -> str:
    """What the colours mean."""
    bounds = (f"< {CONFIDENCE[0]:g}", *(f"≥ {bound:g}" for bound in CONFIDENCE))
    scale = "".join(f'<s class="c{index} a1">{escape(bound)}</s>' for index, bound in enumerate(bounds))
    return (
        f'<div class="od-legend"><span>confidence {scale}</span><span><s class="c4 a0">new</s> latest forward</span>'
        '<span><s class="c4 a3">old</s> earlier</span><span><u></u> masked</span><span><u class="od-end"></u> past the '
        'end</span><span><em class="refresh"></em> refresh</span><span><em class="step"></em> step</span></div>'
    )


# Figures ----------------------------------------------------------------------------------------------------


def written(snapshot: Snapshot, pieces: Sequence[Piece]) -> int:
    """Tokens of the answer.

    Until it is finished those of its text that are decided, wherever they are: what precedes the first mask says little
    of a model that does not write from left to right.
    """
    if snapshot.finished:
        return snapshot.answer_length
    return sum(piece.positions[1] - piece.positions[0] for piece in pieces if piece.kind == "text")


def figures(snapshot: Snapshot, tokens: int) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of each statistic, with ``tokens`` from ``written``; see docs/statistics.md."""
    predicted = snapshot.predicted_length
    return [
        ("NFE", str(snapshot.nfe), "forwards: refreshes + steps"),
        ("refreshes", str(snapshot.refreshes), "forwards that fill the cache"),
        ("steps", str(snapshot.steps), "forwards that use it"),
        (
            "tokens/forward",
            f"{snapshot.tokens_per_forward:.2f}",
            "decode length / NFE; decided tokens / NFE until then",
        ),
        ("predicted length", "–" if predicted is None else str(predicted), "response length, where it is predicted"),
        ("tokens", str(tokens), "of the answer; of its text as far as it is decided until then"),
        ("fed tokens", str(snapshot.fed_tokens), "that all forwards were fed, branches included"),
        ("seconds", f"{snapshot.seconds:.2f}", "of generating"),
    ]


def tiles(named: Iterable[tuple[str, str, str]]) -> str:
    """Figures as HTML."""
    drawn = "".join(
        f'<div data-tip="{name}: {why}"><b>{value}</b><span>{name.replace("/", "/<wbr>")}</span></div>'
        for name, value, why in named
    )
    return f'<div class="od-figures">{drawn}</div>'


def timeline(bars: Iterable[Bar], span: float, now: int | None = None) -> str:
    """Forwards in time as an SVG: width is seconds, colour is kind, height is tokens accepted.

    Args:
        bars: the forwards.
        span: seconds that the whole width stands for.
        now: forwards after this one (counted from 1) are pale; None for none.
    """
    bars = list(bars)
    most = max([bar.accepted for bar in bars], default=0)
    if not bars or span <= 0:
        return (
            '<div class="od-time"><div><span>tokens per forward</span></div>'
            '<svg viewBox="0 0 1000 72" preserveAspectRatio="none"></svg><div><span>0 s</span></div></div>'
        )
    drawn = "".join(_bar(bar, index, span, most, now) for index, bar in enumerate(bars, 1))
    label = f"{len(bars)} forwards in {bars[-1].end:.2f} seconds"
    return (
        f'<div class="od-time"><div><span>tokens per forward</span><span>at most {most}</span></div>'
        f'<svg viewBox="0 0 {WIDE:.0f} {TALL:.0f}" preserveAspectRatio="none" role="img" aria-label="{label}">{drawn}'
        f"</svg><div><span>0 s</span><span>{span:.2f} s</span></div></div>"
    )


def _bar(bar: Bar, index: int, span: float, most: int, now: int | None) -> str:
    x, width = bar.start / span * WIDE, (bar.end - bar.start) / span * WIDE
    gap = min(1.5, width / 4)  # between bars, in which their number shows
    tall = max(2.0, bar.accepted / max(most, 1) * (TALL - 2))
    later = " later" if now is not None and index > now else ""
    tip = (
        f"forward {index} · {bar.kind} · {bar.accepted} token{'s' * (bar.accepted != 1)} in "
        f"{(bar.end - bar.start) * 1000:.1f} ms"
    )
    return (
        f'<rect class="{"refresh" if bar.kind == "refresh" else "step"}{later}" x="{x:.2f}" y="{TALL - tall:.2f}" '
        f'width="{max(width - gap, 0.2):.2f}" height="{tall:.2f}" data-tip="{tip}"/>'
    )


# The page's parts -------------------------------------------------------------------------------------------


def lane(recording: Recording, pieces: Pieces, block_length: int, span: float = 0.0, nfe: int | None = None) -> str:
    """Everything of one generation.

    Args:
        recording: of which.
        pieces: what the model's tokenizer makes of a snapshot.
        span: seconds that the time line's width stands for, at the least; two lanes share theirs.
        nfe: show it as it was after so many forwards; None: as it is.
    """
    snapshot = recording.latest if nfe is None else recording.at(nfe)
    back = nfe is not None and nfe < recording.nfe
    drawn = pieces(snapshot)
    tokens = written(snapshot, drawn)
    return "".join(
        (
            f'<section class="od-lane" data-state="{escape(recording.state)}">',
            _head(recording, snapshot, back, tokens),
            tiles(figures(snapshot, tokens)),
            canvas(snapshot, drawn, block_length, back or recording.state == "running"),
            timeline(recording.bars(), max(span, recording.seconds), nfe),
            "</section>",
        )
    )


def _head(recording: Recording, snapshot: Snapshot, back: bool, tokens: int) -> str:
    speed = tokens / snapshot.seconds if snapshot.seconds else 0.0
    return (
        f'<header><h3>{escape(recording.setting)}</h3><span class="od-badge {escape(recording.state)}">'
        f"{escape(status(recording, snapshot, back))}</span>"
        f'<span class="od-speed" data-tip="tokens / seconds">'
        f"<b>{speed:.1f}</b> tokens/s</span></header>"
    )


def status(recording: Recording, snapshot: Snapshot, back: bool) -> str:
    """What a generation is about, in a few words."""
    if back:
        return f"forward {snapshot.nfe} of {recording.nfe}: {snapshot.kind}"
    if recording.state == "waiting":
        return f"waiting, {recording.ahead} before you" if recording.ahead else "waiting"
    if recording.state == "running":
        return f"{snapshot.kind}, forward {snapshot.nfe}" if snapshot.nfe else "starting"
    return f"stopped after {recording.nfe} forwards" if recording.state == "stopped" else recording.state


def conversation(messages: Sequence[Message], live: str | None = None, hint: str = "") -> str:
    """What was said, and the answer as far as it stands.

    Args:
        messages: the conversation.
        live: the answer under way; None where there is none.
        hint: shown where nothing was said yet.
    """
    said = [_message(message.role, message.content, message.stopped) for message in messages]
    if live is not None:
        said.append(_message("assistant", live, False, " od-live"))
    inside = "".join(said) or f'<p class="od-hint">{escape(hint)}</p>'
    return f'<div class="od-talk" role="log"><div>{inside}</div></div>'


def _message(role: str, text: str, stopped: bool, more: str = "") -> str:
    who = {"user": "You", "assistant": "Model"}.get(role, role)
    note = " <em>stopped</em>" if stopped else ""
    return f'<div class="od-said od-{escape(role)}{more}"><span>{escape(who)}{note}</span><p>{escape(text)}</p></div>'


def notice(text: str, kind: str = "error") -> str:
    """One sentence above everything else; nothing for no text."""
    return f'<div class="od-notice {kind}" role="alert">{escape(text)}</div>' if text else ""


def comparison(recordings: Sequence[Recording]) -> str:
    """Which of two finished generations was faster, in one sentence; nothing otherwise."""
    if len(recordings) != 2 or any(each.state != "done" or not each.seconds for each in recordings):
        return ""
    fast, slow = sorted(recordings, key=lambda each: each.seconds)
    times = slow.seconds / fast.seconds
    same = (
        "the same answer"
        if np.array_equal(
            fast.latest.tokens[: fast.latest.answer_length], slow.latest.tokens[: slow.latest.answer_length]
        )
        else "another answer"
    )
    return notice(
        f"{fast.setting} took {fast.seconds:.2f} s and {fast.nfe} forwards, {slow.setting} {slow.seconds:.2f} s and "
        f"{slow.nfe}: {times:.{1 if times < 10 else 0}f}× faster, {same}.",
        "result",
    )
