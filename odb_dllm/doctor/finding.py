"""What the doctor says: one finding per line, with the command that mends it."""

import shlex
import sys
from dataclasses import dataclass
from typing import Literal

PYTHON = shlex.quote(sys.executable)
PIP = f"{PYTHON} -m pip install"


@dataclass(frozen=True)
class Finding:
    """One line: ok; warning (a run works, though not as it could); or missing (a run cannot work)."""

    status: Literal["ok", "warning", "missing"]
    subject: str
    text: str
    mend: str | None = None  # the command

    def __str__(self) -> str:
        line = f"{self.status:8} {self.subject:16} {self.text}"
        return f"{line}\n{'':26}mend: {self.mend}" if self.mend else line


def python(code: str) -> str:
    """A shell command that runs ``code``."""
    plain = not set(code) & set('"$`\\!')
    return f'{PYTHON} -c "{code}"' if plain else f"{PYTHON} -c {shlex.quote(code)}"
