"""Where a result comes from: versions, git revision, machine, command line, start and end."""

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odb_dllm.report.recovery import mend
from odb_dllm.version import __version__

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]  # of the checkout, where the package is not installed from a wheel
DRIVER = Path("/proc/driver/nvidia/version")
STARTS = "starts.txt"  # in a cell's folder until it is finished: when it was begun, a line each time
PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "lm_eval", "datasets", "numpy"),
    *("sympy", "math_verify", "antlr4-python3-runtime"),  # score math
)


def begin(folder: Path, device: "torch.device") -> dict[str, Any]:
    """Note that a cell is begun; return what its manifest says of that.

    ``start`` is when it was begun first, and ``interrupted`` how often it was begun in vain.
    """
    path = folder / STARTS
    mend(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{now()}\n")
    starts = path.read_text(encoding="utf-8").splitlines()
    return {
        "versions": versions(),
        "git": git_revision(),
        "gpu": gpu(device),
        "host": platform.node(),
        "command": shlex.join(sys.orig_argv),
        "start": starts[0],
        "interrupted": len(starts) - 1,
    }


def end(folder: Path) -> None:
    """The cell is finished: when it is run again, that is a first time."""
    (folder / STARTS).unlink(missing_ok=True)


def now() -> str:
    """Local time with its zone, in ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Versions of all that can change a figure; None for what is not there."""
    import torch

    own = {"odb_dllm": __version__, "python": platform.python_version()}
    return {**own, **{name: _installed(name) for name in PACKAGES}, "cuda": torch.version.cuda, "driver": driver()}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def driver(path: Path = DRIVER) -> str | None:
    """NVIDIA's driver, as the kernel names it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d+(\.\d+)+)\s", text)
    return found[1] if found else None


def gpu(device: "torch.device") -> str | None:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


@cache
def git_revision(root: Path = ROOT) -> str | None:
    """The commit of the project's own checkout, ``-dirty`` behind it where files differ; None outside of one.

    A checkout that the package only happens to be installed in, by a virtual environment, is none.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # nothing is written
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=quiet)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
