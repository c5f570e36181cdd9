"""lm-eval's response cache (``--use_cache``) made safe: it keys texts by prompt and generation arguments.

A cache keeps the fingerprint of the configuration that filled it and is refused to every other. What a task
adds (its name, its stop patterns) goes into the generation arguments, and so into the key. Each of several processes
has a file of its own, and may begin with what any of them left, however many they were.
"""

import sqlite3
from collections.abc import Iterable, MutableMapping
from glob import escape
from pathlib import Path
from typing import Any
from weakref import WeakSet

from lm_eval.api.model import hash_args
from lm_eval.api.task import Task

from odb_dllm.errors import InputError
from odb_dllm.gen_kwargs import METADATA
from odb_dllm.tasks.metadata import ATTRIBUTE, TaskFacts, facts_of

FINGERPRINT, FAILED = "odb_dllm:fingerprint", "odb_dllm:failed"  # reserved keys of a response cache
users: "WeakSet[Any]" = WeakSet()  # models that have a cache


def admit(stored: MutableMapping[str, Any], fingerprint: str, user: object) -> None:
    """Let ``user`` have a cache and leave its fingerprint there; ``InputError`` where another filled it."""
    if len(stored) and stored.get(FINGERPRINT) != fingerprint:
        raise InputError(
            "The response cache was filled under another model, setting or version and would give wrong "
            "texts: name another --use_cache path (the odb-dllm command does so by itself)."
        )
    stored[FINGERPRINT] = fingerprint  # first: each write is kept at once, and a cache without it is refused for good
    for key in stored.get(FAILED, ()):
        stored.pop(key, None)
    stored[FAILED] = []
    _borrow(stored)
    users.add(user)


def _borrow(stored: MutableMapping[str, Any]) -> None:
    """Add what is in the files of other processes under the same configuration, this run's or an earlier one's."""
    own = Path(getattr(stored, "filename", ""))
    name, marked, _ = own.stem.rpartition("_rank")
    if not marked:
        return
    from sqlitedict import SqliteDict

    for path in sorted(own.parent.glob(f"{escape(name)}_rank*{own.suffix}")):
        try:
            with SqliteDict(str(path), flag="r") as theirs:
                if path != own and theirs.get(FINGERPRINT) == stored[FINGERPRINT]:
                    left_out = {*theirs.get(FAILED, ()), *stored}
                    stored.update({key: value for key, value in theirs.items() if key not in left_out})
        except (RuntimeError, sqlite3.Error):  # one that its process is only about to make
            continue


def forget(stored: MutableMapping[str, Any] | None, kind: str, request: Iterable[Any]) -> None:
    """Have the next run ask again for a request that failed: lm-eval stores its empty text like any other."""
    if stored is not None:
        stored[FAILED] = [*stored.get(FAILED, ()), hash_args(kind, request)]


def key_by_task(task: Task) -> None:
    """Put what a task decides besides the prompt into its requests' arguments, where a cache is in use."""
    if not users:
        return
    for instance in task.instances:
        if instance.request_type == "generate_until":
            facts = facts_of(instance) or TaskFacts()
            about = {name: facts.metadata[name] for name in METADATA if facts.metadata.get(name) is not None}
            prompt, gen, *rest = instance.args
            told = {**gen, ATTRIBUTE: {"task": instance.task_name, "chat": facts.chat, **about}}
            instance.arguments = (prompt, told, *rest)
