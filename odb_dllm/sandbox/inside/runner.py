"""Runs one program, and says so when its end is reached. Handed to a fresh interpreter as text.

Untrusted code shares this interpreter, so what proves the end must be out of its reach. The proof is a random
token that no frame, module, closure or constant refers to: it hangs on an iterator that only the interpreter's
evaluation stack holds. What could look past Python's own references (the garbage collector's lists, ctypes,
tracing, new interpreters, foreign native modules) is refused by an audit hook, which cannot be taken off.
"""

from __future__ import annotations

import io
import os
import sys
from functools import partial

TYPE_CHECKING = False  # a program may not need typing, which takes longer to import than all else here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

JOB, REPORT = 3, 4  # file descriptors: token and program come in, one message goes out
TOKEN_BYTES = 32
DETAIL_BYTES = 1000


class NoInput(io.StringIO):
    """Standard input of a sample: reading it is an error, as in the reference scorer."""

    def read(self, *_: Any) -> str:
        raise OSError("there is no input")

    readline = readlines = read  # type: ignore[assignment]

    def readable(self) -> bool:
        return False


def steps() -> Iterator[Callable[[], Any]]:
    """What is to be done, in order. The caller must not name this iterator: see above."""
    parts = []
    while part := os.read(JOB, 1 << 16):
        parts.append(part)
    os.close(JOB)
    job = b"".join(parts)
    code = compile(job[TOKEN_BYTES:].decode("utf-8", "surrogatepass"), "<string>", "exec", dont_inherit=True)
    say = partial(os.write, REPORT, job[:TOKEN_BYTES])
    return iter([partial(exec, code, {}), say, partial(os._exit, 0)])


def make_guard() -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook. All that it uses is in its closure: the sample may change modules and builtins."""
    events = frozenset(
        {
            "gc.get_objects",
            "gc.get_referrers",
            "gc.get_referents",
            "sys.settrace",
            "sys.setprofile",
            "sys._current_frames",
            "sys._current_exceptions",
            "sys.monitoring.register_callback",
            "sys.remote_exec",
            "cpython.PyInterpreterState_New",
            "sqlite3.load_extension",
            "sqlite3.enable_load_extension",
        }
    )
    modules = ("_ctypes", "_test", "_xx", "_interp")
    extensions = tuple({os.path.join(path, "") for path in sys.path if path})
    starts, last, contains, swap = str.startswith, str.rpartition, str.__contains__, str.replace
    kind, text, refused, missing = type, str, PermissionError, ImportError

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in events or starts(event, "ctypes."):
            raise refused("not available in the sandbox")
        if event == "import":
            name, path = arguments[0], arguments[1]
            # To the loader, "-" in a name is "_"; and a file may be loaded under any name.
            if kind(name) is not text or starts(swap(last(name, ".")[2], "-", "_"), modules):
                raise missing("not available in the sandbox")
            if path is None:
                return
            if kind(path) is not text or contains(path, "..") or not starts(path, extensions):
                raise missing("not available in the sandbox")
            if starts(last(path, "/")[2], modules):
                raise missing("not available in the sandbox")

    return guard


def main() -> None:
    """Run the steps; where one raises, say what."""
    try:
        for step in steps():
            step()
    except BaseException as error:
        try:
            text = f"{type(error).__name__}: {error}"
        except BaseException:
            text = "an exception without a text"
        os.write(REPORT, text.encode("utf-8", "backslashreplace")[:DETAIL_BYTES] or b"?")
        os._exit(1)


if __name__ == "__main__":
    os.set_inheritable(REPORT, False)
    sys.path[:] = [path for path in sys.path if path]
    sys.argv[:] = [""]
    sys.stdin = NoInput()
    sys.addaudithook(make_guard())
    main()
