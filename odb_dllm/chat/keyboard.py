"""What is typed: lines with editing and history at the prompt; while an answer is made, Ctrl-C and nothing else."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

PROMPT = "> "


def lines(*, prompt_to_stdout: bool, on_interrupt: Callable[[], None]) -> Iterator[str]:
    """Yield what is typed until Ctrl-D. Ctrl-C at the prompt drops the line and calls ``on_interrupt``."""
    while True:
        try:
            if prompt_to_stdout:
                yield input(PROMPT)
            else:  # input() would write its prompt among the answers
                print(PROMPT, end="", file=sys.stderr, flush=True)
                line = sys.stdin.readline()
                if not line:
                    raise EOFError
                yield line
        except EOFError:
            print(file=sys.stdout if prompt_to_stdout else sys.stderr)  # the shell's prompt gets a line of its own
            return
        except KeyboardInterrupt as error:
            if type(error) is not KeyboardInterrupt:  # SIGTERM
                raise
            on_interrupt()


def prepare_editing(words: Callable[[str], Sequence[str]]) -> None:
    """Give input() history, editing and completion where the platform has readline.

    Args:
        words: from what stands before the word under the cursor to what that word may be.
    """
    try:
        import readline
    except ImportError:
        return

    def complete(begun: str, index: int) -> str | None:
        before = readline.get_line_buffer()[: readline.get_begidx()]
        return next(
            (word for i, word in enumerate(w for w in words(before) if w.startswith(begun)) if i == index), None
        )

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")


class Impatient(KeyboardInterrupt):
    """Ctrl-C a second time, while the first is waiting for a forward to end."""


class Interrupts:
    """While it is open, Ctrl-C only sets ``asked``; again, it raises ``Impatient`` unless all is ``over`` by then."""

    def __init__(self) -> None:
        self.asked = self.over = False

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self.over:
            raise Impatient
        self.asked = True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what is typed off the screen, and Ctrl-Z from leaving a half-drawn one; it waits for the next prompt."""
    try:
        import termios
    except ImportError:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    during: list[Any] = termios.tcgetattr(sys.stdin)
    during[3] &= ~termios.ECHO
    during[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(sys.stdin, termios.TCSANOW, during)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
