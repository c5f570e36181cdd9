"""Landlock: file access by path for machines that allow no mount namespace (Linux 5.13 and later)."""

import os
import stat
import struct

from . import linux

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights each version knows; 16 from version 5 on


def restrict(readable: list[str], writable: list[str]) -> None:
    """Let this process, and all that it starts, read what is below ``readable`` and write ``writable`` alone.

    Where the kernel knows how, TCP and signals to processes outside are refused too. Needs ``no_new_privs``.
    Raises ``OSError`` where the kernel has no Landlock.
    """
    version = linux.syscall(_CREATE, "Landlock", None, 0, 1)
    every = (1 << _RIGHTS.get(version, 16)) - 1
    tcp, outside = 0b11, 0b11  # bind and connect; abstract sockets and signals
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = linux.syscall(_CREATE, "Landlock rules", struct.pack("QQQ", every, tcp, outside)[:size], size, 0)
    try:
        for path in readable:
            _allow(rules, path, _EXECUTE | _READ_FILE | _READ_DIR)
        for path in writable:
            _allow(rules, path, every & ~_EXECUTE)
        linux.syscall(_RESTRICT, "Landlock restriction", rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    """Add a rule; files cannot carry the rights of folders."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        linux.syscall(_ADD, f"Landlock rule for {path}", rules, 1, struct.pack("=Qi", rights, opened), 0)
    finally:
        os.close(opened)
