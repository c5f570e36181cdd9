"""A report as one HTML page: tables and figures inline, nothing fetched from anywhere, readable without a script."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from odb_dllm.report.looks import CSS
from odb_dllm.version import __version__

if TYPE_CHECKING:
    from odb_dllm.report.figures import Drawn, Key

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
NUMBER = re.compile(r"[\d\s.,%x/()<≤±~+\-–−e]*")  # figures, intervals, pairs of them, and nothing
SWATCHES = {
    "bar": '<rect x="4" y="1" width="14" height="10" fill="{colour}"/>',
    "light": '<rect x="4.5" y="1.5" width="13" height="9" fill="{colour}" fill-opacity=".3" stroke="{colour}"/>',
    "line": '<line x1="0" x2="22" y1="6" y2="6" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>',
    "square": '<rect x="6" y="1" width="10" height="10" fill="{colour}"/>',
    "circle": '<circle cx="11" cy="6" r="5.3" fill="{colour}"/>',
}


@dataclass(frozen=True)
class Table:
    """Cells as text, the first row being the head and the first column what each row is.

    ``grouped``: the first column (a task, say) becomes a heading above the rows that share it, and the second one is
    what each row is.
    """

    rows: Sequence[Sequence[str]]
    caption: str = ""
    grouped: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, with paragraphs and tables below it, all plain text."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()


def page(title: str, sections: Sequence[Section], figures: Sequence["Drawn"] = ()) -> str:
    """Return the whole page: the sections in their order, then the figures. Whatever is given is escaped."""
    links = [(f"section-{i}", section.title) for i, section in enumerate(sections)]
    drawn = [(f"figure-{i}", figure.title) for i, figure in enumerate(figures)]
    body = [_section(anchor, section) for (anchor, _), section in zip(links, sections, strict=True)]
    if figures:
        links.append(("figures", "Figures"))
        made = [_figure(anchor, figure) for (anchor, _), figure in zip(drawn, figures, strict=True)]
        body.append(_lines('<section id="figures">', "<h2>Figures</h2>", *made, "</section>"))
    return _lines(
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>",
        f"<style>{CSS}</style>",
        "</head>",
        "<body>",
        f"<header><h1>{escape(title)}</h1></header>",
        f'<nav aria-label="Contents">{_contents([*links, *drawn])}</nav>',
        _lines("<main>", *body, "</main>"),
        f"<footer>Made by odb-dllm {escape(__version__)}.</footer>",
        "</body>",
        "</html>",
    )


def _contents(links: Iterable[tuple[str, str]]) -> str:
    """A list of links; what belongs to the figures is set in below them."""
    items = (
        f'<li{" class=inner" if anchor.startswith("figure-") else ""}><a href="#{anchor}">{escape(text)}</a></li>'
        for anchor, text in links
    )
    return f"<ul>{''.join(items)}</ul>"


def _section(anchor: str, section: Section) -> str:
    return _lines(
        f'<section id="{anchor}">',
        f"<h2>{escape(section.title)}</h2>",
        *(f"<p>{escape(text)}</p>" for text in section.paragraphs),
        *(_table(table) for table in section.tables),
        "</section>",
    )


def _figure(anchor: str, figure: "Drawn") -> str:
    numbers = Table(figure.rows, figure.title, grouped=True)
    return _lines(
        f'<figure id="{anchor}">',
        f"<h3>{escape(figure.title)}</h3>",
        f'<ul class="legend">{"".join(map(_key, figure.legend))}</ul>',
        f'<div class="panels">{"".join(figure.panels)}</div>',
        f"<figcaption>{escape(figure.caption)}</figcaption>",
        f"<details><summary>Numbers</summary>{_table(numbers)}</details>",
        "</figure>",
    )


def _key(key: "Key") -> str:
    """One entry of a legend: a swatch and its name."""
    shape = SWATCHES[key.shape].format(colour=key.css, dash=",".join(map(str, key.dash)))
    return f'<li><svg viewBox="0 0 22 12" aria-hidden="true">{shape}</svg>{escape(key.label)}</li>'


def _table(table: Table) -> str:
    """A table in a box of its own that scrolls sideways, the column of row heads staying in view."""
    head, *rows = table.rows
    kept = 1 if table.grouped else 0
    numeric = [all(NUMBER.fullmatch(row[i]) for row in rows) for i in range(len(head))]
    heads = "".join(_cell("th", text, i > kept and numeric[i], "col") for i, text in enumerate(head) if i >= kept)
    label = escape(table.caption or head[kept])
    return _lines(
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>',
        f"<caption><span>{escape(table.caption)}</span></caption>" if table.caption else "",
        f"<thead><tr>{heads}</tr></thead>",
        *(_body(name, of, kept, numeric) for name, of in groupby(rows, lambda row: row[0] if table.grouped else "")),
        "</table></div>",
    )


def _body(name: str, rows: Iterable[Sequence[str]], kept: int, numeric: Sequence[bool]) -> str:
    """The rows below one heading, or below none."""
    across = len(numeric) - kept
    top = f'<tr><th class="group" scope="rowgroup" colspan="{across}"><span>{escape(name)}</span></th></tr>'
    written = []
    for row in rows:
        cells = (_cell("td", text, numeric[i]) for i, text in enumerate(row) if i > kept)
        written.append(f"<tr>{_cell('th', row[kept], False, 'row')}{''.join(cells)}</tr>")
    return _lines("<tbody>", top if name else "", *written, "</tbody>")


def _cell(tag: str, text: str, number: bool, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if number else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
