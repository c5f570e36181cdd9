"""Where tasks come from: lm-eval's own, those of the embedded model, and local data in place of downloads.

``local/`` holds a YAML per task that can read local files: it includes lm-eval's own YAML and replaces the
data alone. ``$LM_EVAL_TASKS`` and ``$DATA_DIR`` in it are filled in when a run begins; files of other kinds
are copied along. A folder named later in lm-eval's include paths wins, so such a task keeps its name.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from odb_dllm.errors import InputError

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

LOCAL = Path(__file__).parent / "local"
EMBEDDED = Path(__file__).parents[1] / "tiny" / "tasks"


@dataclass(frozen=True)
class LocalData:
    """Tasks rendered for one folder of data."""

    folder: Path | None = None  # of the rendered YAMLs
    missing: dict[str, Path] = field(default_factory=dict)  # task that was left out: the file that it lacks


@contextmanager
def local_data(data_dir: str | os.PathLike[str] | None) -> Iterator[LocalData]:
    """Render the tasks whose files are in ``data_dir`` into a temporary folder; none for None.

    Raises ``InputError`` where ``data_dir`` is no folder.
    """
    if data_dir in (None, ""):
        yield LocalData()
        return
    source = Path(str(data_dir)).expanduser().absolute()
    if not source.is_dir():
        raise InputError(f"DATA_DIR {str(source)!r} is no folder: it must hold gsm8k/train.jsonl and the like.")
    with TemporaryDirectory(prefix="odb-dllm-tasks-") as made:
        yield LocalData(Path(made), render(source, Path(made)))


def render(data_dir: Path, folder: Path) -> dict[str, Path]:
    """Fill in the tasks of ``local/`` into ``folder``; return those that lack files, with one each."""
    import lm_eval.tasks

    values = {"DATA_DIR": str(data_dir), "LM_EVAL_TASKS": str(Path(lm_eval.tasks.__file__).parent)}
    quoted = {name: json.dumps(value, ensure_ascii=False)[1:-1] for name, value in values.items()}
    missing = {}
    for path in sorted(p for p in LOCAL.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        target = folder / path.relative_to(LOCAL)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".yaml":
            shutil.copy(path, target)
            continue
        text = Template(path.read_text(encoding="utf-8")).safe_substitute(quoted)
        config = yaml.load(text, Loader=_Loader)
        absent = next((file for file in _data_files(config) if not Path(file).is_file()), None)
        if absent is None:
            target.write_text(text, encoding="utf-8")
        else:
            missing[str(config.get("task", path.stem))] = Path(absent)
    return missing


def make_manager(names: list[str], local: LocalData, include: list[str], metadata: dict[str, Any]) -> "TaskManager":
    """Index the tasks: lm-eval's own (unless the other folders hold all ``names``), ours, then the user's.

    Indexing lm-eval's own ten thousand YAMLs takes seconds.
    """
    from lm_eval.tasks import TaskManager

    folders = [EMBEDDED, *([local.folder] if local.folder else []), *map(Path, include)]
    with _expected_overrides(local.folder):
        if names:
            few = TaskManager(include_path=list(folders), include_defaults=False, metadata=metadata)
            if all(name in few.all_subtasks for name in names):
                return few
        return TaskManager(include_path=list(folders), metadata=metadata)


def check(manager: "TaskManager", names: list[str], local: LocalData, *, unsafe_allowed: bool) -> None:
    """Raise ``InputError`` for tasks that are unknown, lack their local data, or run code unasked."""
    for name in names:
        if name.endswith(".yaml") or Path(name).is_dir():
            continue
        found = [known for known in manager.all_tasks if fnmatchcase(known, name)]
        if not found:
            raise InputError(f"Unknown task {name!r}: {_nearest(name, manager)}; `odb-dllm ls tasks` lists all.")
        for task in sorted({leaf for each in found for leaf in leaves(manager, each)}):
            if task in local.missing:
                raise InputError(f"Task {task!r} lacks {local.missing[task]}: DATA_DIR is incomplete.")
            entry = manager.task_index.get(task)
            if not unsafe_allowed and entry and (entry.cfg or {}).get("unsafe_code"):
                raise InputError(
                    f"Task {task!r} runs code that the model wrote: pass --confirm_run_unsafe_code if it may "
                    "do so on this machine."
                )


def leaves(manager: "TaskManager", name: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The single tasks that a task, group or tag stands for."""
    entry = manager.task_index.get(name)
    if entry is None or name in above:
        return
    members = (entry.cfg or {}).get("task") if entry.yaml_path else sorted(entry.tags)
    if not isinstance(members, list):
        yield name
        return
    for member in members:
        child = member if isinstance(member, str) else (member.get("task") or member.get("group"))
        if isinstance(child, str):
            yield from leaves(manager, child, (*above, name))


def _nearest(name: str, manager: "TaskManager") -> str:
    """The few names most like an unknown one; all of them would be thousands."""
    from difflib import get_close_matches

    benchmarks = ["gsm8k", "minerva_math", "bbh", "humaneval", "mbpp", "gsm8k_mini"]
    known = [*benchmarks, *manager.all_tasks]
    close = list(dict.fromkeys(get_close_matches(name.lower(), known, n=4, cutoff=0.6)))
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}The usual ones are {', '.join(benchmarks)}"


def _data_files(config: dict[str, Any]) -> list[str]:
    files = ((config.get("dataset_kwargs") or {}).get("data_files")) or {}
    listed = files.values() if isinstance(files, dict) else [files]
    return [file for value in listed for file in (value if isinstance(value, list) else [value])]


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


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's YAML without resolving its ``!function``."""


_Loader.add_constructor("!function", lambda loader, node: None)
