"""The one exception that means: the input was wrong, and here is what would be accepted."""


class InputError(ValueError):
    """Bad input from outside: an argument, a file, a checkpoint, a device.

    The message is one sentence that says what was wrong and what is accepted. The command line prints it
    and exits with 2; it never needs a traceback.
    """


def nearest(word: str, valid: list[str]) -> str:
    """Return ``valid`` as text for an error message, with the name most like ``word`` suggested first."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), [v.lower() for v in valid], n=1, cutoff=0.5)
    guess = next((v for v in valid if close and v.lower() == close[0]), None)
    hint = f"did you mean {guess!r}? " if guess else ""
    return f"{hint}Valid: {', '.join(valid)}"
