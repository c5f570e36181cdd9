"""Documents of local JSON and JSON Lines files: read with their places, and as the data set of a task."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from odb_dllm.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HINT = "`odb-dllm data check` says what the folder lacks."


class Entry(NamedTuple):
    """One document of a file, or what is wrong in its place."""

    place: str  # "line 3" or "examples[2]"
    document: dict[str, Any]
    flaw: str = ""


def entries(path: Path, field: str | None = None) -> Iterator[Entry]:
    """Read JSON Lines, or the list that ``field`` of one JSON object holds.

    What is no object comes as an entry with a flaw. Raises ``OSError`` where the file cannot be read.
    """
    if field is None:
        with path.open("rb") as file:  # bytes end lines at \n alone, which text may hold relatives of
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parsed(line.strip(), number)
        return
    whole = _parsed(path.read_bytes())
    if whole.flaw:
        yield whole
    elif not isinstance(whole.document.get(field), list):
        yield Entry("line 1", {}, f"the object holds no list {field!r}")
    else:
        yield from (_checked(f"{field}[{i}]", value) for i, value in enumerate(whole.document[field]))


def documents(path: Path, field: str | None = None) -> Iterator[dict[str, Any]]:
    """The documents of a file; raises ``InputError`` at the first thing in it that is none."""
    try:
        for place, document, flaw in entries(path, field):
            if flaw:
                raise InputError(f"{path}, {place}: {flaw}; {HINT}")
            yield document
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def load(
    data_files: Mapping[str, str], field: str | None = None, where: Mapping[str, Any] | None = None, **_: Any
) -> "DatasetDict":
    """The data set of a task: ``custom_dataset`` in its YAML, with these arguments in ``dataset_kwargs``.

    ``where`` keeps the documents whose values equal all of its own, without those keys. lm-eval also passes the
    task's metadata, which the data does not depend on. Raises ``InputError`` for files that are not as they should be.
    """
    from datasets import DatasetDict

    return DatasetDict({split: _dataset(Path(file), field, where or {}) for split, file in data_files.items()})


def _dataset(path: Path, field: str | None, where: Mapping[str, Any]) -> "Dataset":
    from datasets import Dataset

    chosen = [
        {key: value for key, value in document.items() if key not in where}
        for document in documents(path, field)
        if all(document.get(key) == value for key, value in where.items())
    ]
    if not chosen:
        wanted = "".join(f" with {key} {value!r}" for key, value in where.items())
        raise InputError(f"{path} holds no document{wanted}; {HINT}")
    try:
        return Dataset.from_list(chosen)
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's derive from these
        raise InputError(f"{path}: the documents' values differ in type; {HINT}") from error


def _parsed(text: bytes, line: int = 1) -> Entry:
    """The JSON object that begins on a line of a file."""
    place = f"line {line}"
    try:
        return _checked(place, json.loads(text.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        return Entry(f"line {line + error.lineno - 1}", {}, f"not JSON ({error.msg})")
    except UnicodeDecodeError:
        return Entry(place, {}, "not UTF-8")
    except (ValueError, RecursionError):
        return Entry(place, {}, "not JSON (nested too deeply, or a number too long)")


def _checked(place: str, value: Any) -> Entry:
    if isinstance(value, dict):
        return Entry(place, value)
    return Entry(place, {}, "not a JSON object")
