"""What a killed run leaves in a cell's folder, made good before the next one; and one process in it at a time."""

import fcntl
import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from odb_dllm.errors import InputError

LOCK = ".lock"  # holds who has it; the system frees it when that process ends, however it does
PATIENCE = 5.0  # seconds: a killed process may still be dying


class Busy(InputError):
    """Another process has the folder."""


@contextmanager
def only_one(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Have a folder to oneself, among all processes that share its file system; raises ``Busy``.

    File systems that know no locks give none.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        until = time.monotonic() + patience
        while not _locked(file.fileno()):
            if time.monotonic() >= until:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise Busy(f"{who} is at work in {folder}: let it finish, or end it.")
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True


def mend(path: Path) -> None:
    """Cut off the line that was half written when its process was killed: the next would be joined to it."""
    if path.is_file():
        data = path.read_bytes()
        if (end := data.rfind(b"\n") + 1) < len(data):
            os.truncate(path, end)


def is_damaged(database: Path) -> bool:
    """Whether an SQLite file is, as a power failure can leave it.

    A killed process damages none: SQLite takes its last transaction back.
    """
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() != ("ok",))
    except sqlite3.OperationalError:  # such as one that another process has locked
        raise
    except sqlite3.DatabaseError:
        return True


def set_aside(database: Path) -> None:
    """Rename an SQLite file, so that it is filled anew."""
    database.with_name(f"{database.name}-journal").unlink(missing_ok=True)
    database.replace(database.with_suffix(".damaged"))
