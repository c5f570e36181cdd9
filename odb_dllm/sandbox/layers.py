"""Which layers of confinement this machine allows, found out by trying each on a small program."""

import os
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from odb_dllm.sandbox.running import LAYERS, Limits, SandboxError, run

_NAMES = {
    "user": "user namespace",
    "root": "file system of its own",
    "pid": "process namespace",
    "net": "network namespace",
    "ipc": "IPC namespace",
    "landlock": "Landlock",
    "seccomp": "filter of system calls",
    "uid": "user of its own",
}
_NAMESPACES = {"root", "pid", "net", "ipc"}
_SELF_TEST = """
import bisect, collections, copy, datetime, decimal, functools, hashlib, heapq, itertools, json, math, random, re
import string, sys, threading, typing
thread = threading.Thread(target=len, args=("",))
thread.start()
thread.join()
with open("file", "w") as file:
    file.write("text")
"""
_lock = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """The layers in use, and why others are not."""

    layers: tuple[str, ...]
    missing: dict[str, str] = field(default_factory=dict)  # layer: what failed


def strongest() -> Plan:
    """The strongest set of layers that works here; found once per process.

    Raises ``SandboxError`` where not even a plain process with limits can run a program.
    """
    with _lock:
        return _strongest()


@cache
def _strongest() -> Plan:
    namespaces = ["root", "pid", "net", "ipc"]
    own_user = ["uid"] if os.getuid() == 0 else ["user"]
    best = (*namespaces, "seccomp", *own_user)
    if _trouble(best) is None:
        return Plan(best, {})
    return _one_by_one()


def _one_by_one() -> Plan:
    """Add each layer that works together with those before it."""
    chosen: tuple[str, ...] = ()
    missing: dict[str, str] = {}
    first = _trouble(chosen)
    if first is not None:
        raise SandboxError(f"Generated code cannot be run on this machine: {first}")
    for layer in LAYERS:  # in their order: a later one may need an earlier one
        if _needless(layer, chosen):
            continue
        trouble = _trouble((*chosen, layer))
        if trouble is None:
            chosen = (*chosen, layer)
        else:
            missing[layer] = trouble
    return Plan(_without_empty_user_namespace(chosen), missing)


def _needless(layer: str, chosen: tuple[str, ...]) -> bool:
    """Whether ``layer`` adds nothing to those ``chosen``, or cannot apply to this user."""
    if layer == "user":  # root needs it only where it may not make namespaces
        return os.getuid() == 0 and _trouble(("net",)) is None
    if layer == "landlock":
        return "root" in chosen
    return layer == "uid" and (os.getuid() != 0 or "user" in chosen)


def _without_empty_user_namespace(chosen: tuple[str, ...]) -> tuple[str, ...]:
    return chosen if _NAMESPACES & set(chosen) else tuple(each for each in chosen if each != "user")


def _trouble(layers: tuple[str, ...]) -> str | None:
    """Why a program does not run in ``layers``; None where it does, and where one that fails is seen to fail."""
    try:
        good = run(_SELF_TEST, Limits(timeout=20.0), layers=layers)
        bad = run("assert False", Limits(timeout=20.0), layers=layers) if good.passed else good
    except SandboxError as error:
        return str(error).rpartition("): ")[2]
    if not good.passed:
        return f"{good.reason}: {good.detail}"
    return None if bad.reason == "failed" else "a program that fails was not seen to fail"


def capabilities() -> dict[str, Any]:
    """What confines generated code here: a sentence per concern, the layers, and those missing with the cause.

    Raises ``SandboxError`` as :func:`strongest`.
    """
    plan = strongest()
    has = set(plan.layers)
    return {
        "network": _first(has, {"net": "none: an empty network namespace", "seccomp": "none: no sockets"})
        or "OPEN: generated code can use the network",
        "files": _first(
            has,
            {
                "root": "the standard library, and an empty folder",
                "landlock": "the same paths, by Landlock, which lets others be seen to exist",
            },
        )
        or "OPEN: generated code can read what this user can read",
        "processes": _first(has, {"pid": "a namespace that ends as a whole", "seccomp": "no others, none signalled"})
        or "OPEN: generated code can start and signal processes of this user; those it started are ended after it",
        "user": _first(has, {"uid": "one that owns nothing", "user": "this one, without rights over the machine"})
        or "this one, without capabilities",
        "limits": "CPU time, wall time, memory, file size, open files, processes and threads",
        "layers": list(plan.layers),
        "missing": dict(plan.missing),
    }


def describe() -> str:
    """One line for a log: the layers in use, what is missing and why, and what is therefore open."""
    plan, found = strongest(), capabilities()
    used = ", ".join(_NAMES[each] for each in plan.layers) or "none"
    missing = "; ".join(f"no {_NAMES[layer]} ({why})" for layer, why in plan.missing.items())
    gaps = [f"{text}." for text in found.values() if str(text).startswith("OPEN")]
    parts = [f"Generated code runs in a process with limits and these layers: {used}."]
    return " ".join([*parts, *([f"Missing: {missing}."] if missing else []), *gaps])


def _first(has: set[str], texts: dict[str, str]) -> str | None:
    return next((text for layer, text in texts.items() if layer in has), None)
