"""A question to the embedded model, and a pseudo-terminal on which the chat runs."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

from odb_dllm import DiffusionModel, get_setting
from odb_dllm.chat import layout
from odb_dllm.stream import Conversation, settle

CTRL_C = "\x03"
QUESTION = "Lily has 12 coins and finds 5 more. How many coins does Lily have now?"
ANSWER = "Here, there are 12+5=<<12+5=17>>17 coins.\n#### 17"  # the embedded model's, in any dtype


def asked(model: DiffusionModel, setting: str, **overrides: object) -> tuple:
    """What ``stream`` takes, for the question."""
    conversation = Conversation()
    conversation.ask(QUESTION)
    chosen, stop = settle(model, get_setting(setting, **{"gen_length": 64, **overrides}))
    return conversation.prompt_ids(model, chosen.gen_length).ids, chosen, stop


class Screen:
    """A terminal, as far as it is used here: what stands on it after some output."""

    def __init__(self, width: int) -> None:
        self.width, self.rows, self.row, self.column = width, [[]], 0, 0

    def feed(self, text: str) -> "Screen":
        for part in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|.", text, re.DOTALL):
            if part.startswith("\x1b"):
                self._escape(part)
            elif part == "\n":
                self._to(self.row + 1, 0)
            elif part == "\r":
                self.column = 0
            elif part == "\b":
                self.column -= 1
            elif part != "\a":
                self._write(part)
        return self

    def _write(self, char: str) -> None:
        if self.column + layout.columns(char) > self.width:
            self._to(self.row + 1, 0)
        for each in (char, *[""] * (layout.columns(char) - 1)):
            line = self.rows[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = each
            self.column += 1

    def _to(self, row: int, column: int) -> None:
        self.rows.extend([] for _ in range(row + 1 - len(self.rows)))
        self.row, self.column = row, column

    def _escape(self, code: str) -> None:
        count = int(code[2:-1] or 1) if code[2:-1].isdigit() or code[2:-1] == "" else 0
        if code[-1] == "A":
            assert count <= self.row, "above the top"
            self.row -= count
        elif code[-1] in "KJ":
            del self.rows[self.row][self.column :]
            if code[-1] == "J":
                del self.rows[self.row + 1 :]

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


class Terminal:
    """The command on a pseudo-terminal."""

    def __init__(self, *words: str, width: int = 80, **environment: str) -> None:
        self.width, self.output, self._seen = width, "", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment})
            os.execv(sys.executable, [sys.executable, "-m", "odb_dllm", "chat", "--device", "cpu", *words])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def wait(self, pattern: str, seconds: float = 60) -> str:
        """Wait for output that matches, behind what was waited for before; return all from there to its end."""
        until = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.output, self._seen)):
            ready, _, _ = select.select([self.fd], [], [], max(until - time.monotonic(), 0))
            assert ready, f"no {pattern!r} in {self.output[self._seen :]!r}"
            try:
                self.output += os.read(self.fd, 65536).decode("utf-8", errors="replace")
            except OSError as error:  # it has ended
                raise AssertionError(f"no {pattern!r} in {self.output[self._seen :]!r}") from error
        text = self.output[self._seen : found.end()]
        self._seen = found.end()
        return text

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self, pattern: str) -> str:
        """Press Ctrl-C until output matches; readline sees a signal between two of its waits for keys with the next."""
        for _ in range(11):
            self.type(CTRL_C)
            with contextlib.suppress(AssertionError):
                return self.wait(pattern, seconds=5)
        self.type(CTRL_C)
        return self.wait(pattern, seconds=5)

    def say(self, text: str) -> None:
        self.type(text + "\n")

    def leave(self, keys: str = "\x04") -> int:
        """Leave, and return the exit code."""
        self.type(keys)
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 65536):
                self.output += data.decode("utf-8", errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def screen(self) -> str:
        return "\n".join(Screen(self.width).feed(self.output).lines)
