"""Installed packages against the ranges of pyproject.toml."""

import platform
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from odb_dllm.doctor.finding import PIP, Finding
from odb_dllm.version import __version__

Status = Literal["ok", "warning", "missing"]
EXTRAS: dict[str, tuple[Status, str]] = {  # where it is absent
    "math": ("warning", "minerva_math needs it"),
    "plot": ("warning", "only figures need it"),
    "kernels": ("warning", "the fast engine's own kernels need it"),
    "demo": ("ok", "only the demo in the browser needs it"),
}


def installed() -> Iterator[Finding]:
    """Python, this package, and what it needs, against the ranges of pyproject.toml."""
    root = Path(__file__).parents[2]
    try:
        version = metadata.version("odb_dllm")
    except metadata.PackageNotFoundError:
        mend = f"{PIP} -e {shlex.quote(str(root))}"
        yield Finding("warning", "odb_dllm", f"{__version__} runs without being installed: no ranges known", mend)
        return
    python, wanted = platform.python_version(), SpecifierSet(metadata.metadata("odb_dllm")["Requires-Python"] or "")
    if wanted.contains(python, prereleases=True):
        yield Finding("ok", "python", f"{python} (needs {wanted or 'any version'})")
    else:
        yield Finding("missing", "python", f"{python}, and {wanted} is needed", "python3.11 -m venv .venv")
    if version == __version__:
        yield Finding("ok", "odb_dllm", f"{version} in {root}")
    else:
        mend = f"{PIP} -e {shlex.quote(str(root))}"
        yield Finding("warning", "odb_dllm", f"{__version__} runs, {version} is what was installed", mend)
    for requirement in declared():
        yield package(requirement)


def declared(extra: str = "") -> list[Requirement]:
    """What this package needs, or an extra adds: by pyproject.toml in a checkout, whose metadata may be outdated."""
    source = Path(__file__).parents[2] / "pyproject.toml"
    if sys.version_info >= (3, 11) and source.is_file():
        import tomllib

        project = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        listed = project["optional-dependencies"].get(extra, []) if extra else project["dependencies"]
        return [Requirement(text) for text in listed]
    return requirements("odb_dllm", extra)


def requirements(distribution: str, extra: str = "") -> list[Requirement]:
    """What an installed distribution needs, or one of its extras adds; nothing where it is not installed."""
    try:
        listed = map(Requirement, metadata.requires(distribution) or [])
    except metadata.PackageNotFoundError:
        return []
    always = {"extra": ""}
    return [
        requirement
        for requirement in listed
        if (requirement.marker is None and not extra)
        or (
            requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not (extra and requirement.marker.evaluate(always))
        )
    ]


def package(requirement: Requirement, status: Status = "missing", why: str = "") -> Finding:
    """Whether one requirement is met; ``status`` is for where it is not."""
    wanted = str(requirement.specifier) or "any version"
    name, mend = requirement.name, f'{PIP} "{requirement.name}{requirement.specifier}"'
    also = f": {why}" if why else ""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(status, name, f"not installed (needs {wanted}){also}", mend)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(status, name, f"{version} is installed, {wanted} is needed{also}", mend)
    return Finding("ok", name, f"{version} (needs {wanted})")


def extras() -> Iterator[Finding]:
    """The optional extras: none is needed by every run, and the kernels by none on the CPU."""
    for extra, (status, why) in EXTRAS.items():
        if extra == "kernels" and not torch.cuda.is_available():
            continue
        here = [each for each in declared(extra) if each.marker is None or each.marker.evaluate({"extra": extra})]
        found = [package(each, status, f"extra {extra}, {why}") for each in here]
        bad = [finding for finding in found if finding.mend]
        if found and not bad:
            yield Finding("ok", f"extra {extra}", ", ".join(finding.subject for finding in found))
        yield from bad
