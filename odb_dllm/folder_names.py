"""Names of settings, tasks and models as those of folders.

The eval scripts run this file by itself, ``python -I odb_dllm/folder_names.py <task> <setting>``, and importing the
package would take seconds: it imports nothing of it.
"""

import hashlib
import re
import sys
from urllib.parse import quote

LONGEST = 200  # characters
_CONSTANTS = re.compile(r"=(True|False|None)(?=\+|$)")


def folder_name(name: str) -> str:
    """A setting's name as that of a folder, on Linux and macOS: what one of them refuses is written as %XX.

    So is the dot of a ``.json`` at the end, which lm-eval would take for a file. Values that have capitals bring a hash
    of theirs, as do long ones that are cut: macOS does not tell capitals from small letters.
    """
    made = re.sub(r"\.json$", "%2Ejson", quote(name, safe="+=,"))
    values = _CONSTANTS.sub("", name).partition("+")[2]
    if len(made) <= LONGEST and values == values.lower():
        return made
    return f"{made[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def plain_name(model: str) -> str:
    """A model's name as that of a folder."""
    return model.strip("/").replace("/", "__")


if __name__ == "__main__":
    print("/".join(map(folder_name, sys.argv[1:])))
