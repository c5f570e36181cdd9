"""Folders that results go to."""

import os
from pathlib import Path

from odb_dllm.errors import InputError


def make_writable(folder: Path) -> None:
    """Make a folder that will be written to; raise ``InputError`` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The folder {folder} cannot be written to.")
