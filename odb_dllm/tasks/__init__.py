"""Where tasks come from: lm-eval's own, ours (the embedded model's, the protocols'), local data in place of downloads.

``local/`` holds a YAML per benchmark that can read local files: it includes lm-eval's own YAML, or a family of them,
and replaces the data alone. ``$LM_EVAL_TASKS`` and ``$DATA_DIR`` in it are filled in when a run begins; files of other
kinds are copied along. A folder named later in lm-eval's include paths wins, so such a task keeps its name.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odb_dllm.errors import InputError
from odb_dllm.tasks.documents import documents
from odb_dllm.tasks.rendering import LOCAL, PROTOCOLS, LocalData, data_files, local_data, render

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

__all__ = ["EMBEDDED", "LOCAL", "LocalData", "check", "leaves", "local_data", "make_manager", "render", "split"]

EMBEDDED = Path(__file__).parents[1] / "tiny" / "tasks"


def split(names: str | list[Any]) -> list[str]:
    """Names that are separated by commas, without spaces around them; raises ``InputError`` where there is none."""
    listed = names.split(",") if isinstance(names, str) else [part for name in names for part in str(name).split(",")]
    if not (found := [name.strip() for name in listed if name.strip()]):
        raise InputError("No task: name one or several with --tasks; `odb-dllm ls tasks` lists all.")
    return found


def make_manager(names: list[str], local: LocalData, include: list[str], metadata: dict[str, Any]) -> "TaskManager":
    """Index the tasks: lm-eval's own (unless the other folders hold all ``names``), ours, then the user's.

    Indexing lm-eval's own ten thousand YAMLs takes seconds.
    """
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval.api.task").addFilter(_no_advice)
    folders = [EMBEDDED, PROTOCOLS, *([local.folder] if local.folder else []), *map(Path, include)]
    with _expected_overrides(local.folder):
        if names:
            few = TaskManager(include_path=list(folders), include_defaults=False, metadata=metadata)
            if all(_complete(few, name) for name in names):
                return few
        return TaskManager(include_path=list(folders), metadata=metadata)


def check(manager: "TaskManager", names: list[str], local: LocalData, *, unsafe_allowed: bool) -> None:
    """Raise ``InputError`` for tasks that are unknown, lack sound data or packages, or run code unasked."""
    files: set[tuple[str, str | None]] = set()
    for name in names:
        found = [known for known in manager.all_tasks if fnmatchcase(known, name)]
        if not found and _names_files(name):
            if len(names) > 1 and not name.endswith(".yaml"):
                raise InputError(f"{name!r} is a folder, which must be the only task: name the YAMLs in it instead.")
            continue
        if not found:
            raise InputError(f"Unknown task {name!r}: {_nearest(name, manager)}; `odb-dllm ls tasks` lists all.")
        for task in sorted({leaf for each in found for leaf in leaves(manager, each)}):
            if task in local.missing:
                raise InputError(
                    f"Task {task!r} lacks {local.missing[task]}: DATA_DIR is incomplete, and `odb-dllm data check` "
                    "says in what."
                )
            entry = manager.task_index.get(task)
            unsafe = bool(entry and (entry.cfg or {}).get("unsafe_code"))
            if unsafe and not unsafe_allowed:
                raise InputError(
                    f"Task {task!r} runs code that the model wrote: pass --confirm_run_unsafe_code if it may "
                    "do so on this machine."
                )
            if entry and entry.yaml_path and not unsafe:  # unsafe ones fetch their scorer when imported
                _check_packages(task, entry.yaml_path)
            if entry and entry.yaml_path and local.folder in entry.yaml_path.parents:
                kwargs = (entry.cfg or {}).get("dataset_kwargs") or {}
                files |= {(file, kwargs.get("field")) for file in data_files(entry.cfg or {})}
    for file, field in sorted(files, key=str):  # once each: subtasks share them
        for _ in documents(Path(file), field):
            pass


def _check_packages(task: str, path: Path) -> None:
    """Import the functions that a task's YAML names, as lm-eval will once the model has been made."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        load_yaml(path)
    except (ImportError, AssertionError) as error:  # lm-eval asserts the version of one package
        text = " ".join(str(error).split())
        if "lm-eval[math]" not in text:
            raise InputError(f"Task {task!r} needs a package that is not installed: {text}") from error
        cause = f" ({error.__cause__})" if str(error.__cause__ or "") else ""
        raise InputError(
            f"Task {task!r} needs sympy, math_verify and antlr4-python3-runtime 4.11, and not all are installed"
            f"{cause}: pip install sympy math_verify antlr4-python3-runtime==4.11"
        ) from error
    except Exception:
        # Whatever else is wrong with it, lm-eval meets again when it loads the task, and it is reported there.
        return


def _names_files(name: str) -> bool:
    """Whether a name stands for YAMLs: a folder of them, or a path or pattern that ends in .yaml."""
    return bool(name) and bool(glob(name if name.endswith(".yaml") else f"{escape(name)}/*.yaml"))


def leaves(manager: "TaskManager", name: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The single tasks that a task, group or tag stands for; names that are not in the index stand for themselves."""
    if name in above:
        return
    entry = manager.task_index.get(name)
    if entry is None:
        yield name
        return
    members = (entry.cfg or {}).get("task") if entry.yaml_path else sorted(entry.tags)
    if not isinstance(members, list):
        yield name
        return
    for child in _members(members):
        yield from leaves(manager, child, (*above, name))


def _members(members: list[Any]) -> Iterator[str]:
    """The names in a group's list, those in groups written within it included."""
    for member in members:
        if isinstance(member, str):
            yield member
        elif isinstance(member.get("task"), list):
            yield from _members(member["task"])
        elif isinstance(child := member.get("task") or member.get("group"), str):
            yield child


def _nearest(name: str, manager: "TaskManager") -> str:
    """The few names most like an unknown one; all of them would be thousands."""
    from difflib import get_close_matches

    published = ["gsm8k", "minerva_math", "bbh", "humaneval", "mbpp"]
    benchmarks = [*published, *(f"{name}_mini" for name in published)]
    known = [*benchmarks, *manager.all_tasks]
    close = list(dict.fromkeys(get_close_matches(name.lower(), known, n=4, cutoff=0.6)))
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}The usual ones are {', '.join(benchmarks)}"


def _complete(manager: "TaskManager", name: str) -> bool:
    """Whether a task or a whole group is in the index; tags are not, as others may have more tasks of theirs."""
    known = set(manager.all_subtasks)
    return name in known | set(manager.all_groups) and known.issuperset(leaves(manager, name))


def _no_advice(record: logging.LogRecord) -> bool:
    """Drop what lm-eval advises for every task that brings its own reader: ours take nothing from --metadata."""
    return "Custom kwargs can be passed to `--metadata`" not in record.getMessage()


@contextmanager
def _expected_overrides(folder: Path | None) -> Iterator[None]:
    """Keep lm-eval from warning that our tasks take the place of its own: that is what they are for."""

    def passes(record: logging.LogRecord) -> bool:
        return folder is None or str(folder) not in record.getMessage()

    logger = logging.getLogger("lm_eval.tasks._index")
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
