"""Texts in which what has to be found out stands between marks."""

MARK = "|"


def marked(text: object) -> str:
    """The text between marks."""
    return f"{MARK}{text}{MARK}"


def unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the spans of characters that they enclosed."""
    plain, spans = "", []
    for i, part in enumerate(text.split(MARK)):
        if i % 2:
            spans.append((len(plain), len(plain) + len(part)))
        plain += part
    return plain, spans
