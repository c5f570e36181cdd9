"""Writes a page's sections: as Markdown and HTML, with tables as CSV and figures beside them."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from odb_dllm.report.cells import write_atomically
from odb_dllm.report.html import Section, page
from odb_dllm.statistics import markdown

if TYPE_CHECKING:
    from odb_dllm.report.figures import Drawn


def to_markdown(title: str, sections: Sequence[Section], figures: Sequence["Drawn"] = (), out: Path = Path()) -> str:
    """The page; ``out``: the folder that it will be in, from which figures are linked."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        for table in section.tables:
            parts += [f"**{table.caption}**"] if table.caption else []
            parts.append(markdown(table.rows))
    if figures:
        parts.append("## Figures")
    for figure in figures:
        link = Path(os.path.relpath(figure.png, out)).as_posix()
        parts += [f"### {figure.title}", f"![{figure.title}]({link})", figure.caption]
    return "\n\n".join(parts) + "\n"


def write(
    out: Path, name: str, title: str, sections: Sequence[Section], files: Mapping[str, str], figures: Sequence["Drawn"]
) -> int:
    """Write ``name.md``, ``name.html`` and the other files, and name them; the exit code."""
    texts = {
        f"{name}.md": to_markdown(title, sections, figures, out),
        f"{name}.html": page(title, sections, figures),
        **files,
    }
    try:
        for file, text in texts.items():
            write_atomically(out / file, text)
    except OSError as error:
        print(f"error: The report could not be written to {out}: {error.strerror}.", file=sys.stderr)
        return 1
    drawn = f", and {len(figures)} figures in {figures[0].png.parent}" if figures else ""
    print(f"{', '.join(str(out / file) for file in texts)}{drawn}", flush=True)
    return 0
