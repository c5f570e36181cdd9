"""Renders the templates of ``local/`` for one folder of data."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from odb_dllm.errors import InputError

LOCAL = Path(__file__).parent / "local"
PROTOCOLS = Path(__file__).parents[1] / "protocols" / "tasks"  # tasks of the papers' protocols that lm-eval lacks
EACH = "include_each"  # a template's key: patterns of the YAMLs of lm-eval that it stands for


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
    """Write the tasks of ``local/`` to ``folder``; return those that lack files, with one each."""
    import lm_eval.tasks

    own = Path(lm_eval.tasks.__file__).parent
    values = {"DATA_DIR": str(data_dir), "LM_EVAL_TASKS": str(own), "PROTOCOL_TASKS": str(PROTOCOLS)}
    missing = {}
    for path in sorted(p for p in LOCAL.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        target = folder / path.relative_to(LOCAL)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".yaml":
            shutil.copy(path, target)
            continue
        template = _read(path)
        for config in expand(template, values, own):
            name = str(config.get("group") or config.get("task") or path.stem)
            absent = next((file for file in data_files(config) if not Path(file).is_file()), None)
            if absent is None:
                _write(config, target.with_name(f"{name}.yaml") if EACH in template else target)
            else:
                missing[name] = Path(absent)
    return missing


def expand(template: dict[str, Any], values: Mapping[str, str], own: Path) -> Iterator[dict[str, Any]]:
    """The configurations that a template stands for.

    It is one, unless ``include_each`` lists patterns of lm-eval's YAMLs, relative to lm-eval's tasks in ``own``: then
    each of these is included by a configuration, whose ``$TASK`` and ``$DATASET_NAME`` are those of the included.
    A group among them is taken as it is.
    """
    # Tags stay in lm-eval's own index: repeated in ours, they would stand for the tasks of this folder alone.
    rest = {"tag": None, **{key: value for key, value in template.items() if key != EACH}}
    if EACH not in template:
        yield _filled(rest, values)
    for path in (path for pattern in template.get(EACH, ()) for path in sorted(own.glob(pattern))):
        base = _read(path)
        if "group" in base:
            yield {"include": str(path), "group": base["group"]}
        else:
            names = {"TASK": str(base["task"]), "DATASET_NAME": str(base.get("dataset_name") or "")}
            yield {"include": str(path), **_filled(rest, {**values, **names})}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """``value`` with the variables in all of its strings replaced."""
    if isinstance(value, dict):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    return Template(value).safe_substitute(values) if type(value) is str else value


def data_files(config: dict[str, Any]) -> list[str]:
    """The local files that a task's configuration names."""
    files = ((config.get("dataset_kwargs") or {}).get("data_files")) or {}
    listed = files.values() if isinstance(files, dict) else [files]
    return [file for value in listed for file in (value if isinstance(value, list) else [value])]


class _Function(str):
    """What stands behind ``!function``, kept to be written again."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads lm-eval's YAML without resolving its ``!function``."""


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads."""


_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))
_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", name))


def _read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


def _write(config: dict[str, Any], path: Path) -> None:
    path.write_text(yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")
