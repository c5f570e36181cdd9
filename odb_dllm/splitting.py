"""Lists as command lines write them: ``alp,alp+costs=[(1,2),(3,4)]``."""

import re

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def separated(text: str) -> list[str]:
    """The parts of a list between its commas, stripped; empty ones are left out.

    Commas in brackets part nothing, nor do those in a value that is quoted. Where a bracket is never closed, all do.
    """
    parts, depth, at = [""], 0, 0
    while at < len(text):
        begins = depth or not parts[-1].strip() or parts[-1].rstrip().endswith("=")  # an apostrophe quotes nothing
        quoted = _QUOTED.match(text, at) if begins else None
        piece = quoted[0] if quoted else text[at]
        depth = max(0, depth + (piece in "[({") - (piece in "])}"))
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
        at += len(piece)
    return [part.strip() for part in (text.split(",") if depth else parts) if part.strip()]
