"""``odb-dllm bundle make``: everything that a machine without a network needs, in one folder or tar file.

A bundle holds wheels, a checkpoint, benchmark data, a manifest with every file's SHA-256, and install.sh, which
installs it with nothing but Python: ``installer.py`` travels along.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tqdm import tqdm

from odb_dllm.bundle import installer
from odb_dllm.errors import InputError, nearest
from odb_dllm.models.loading import EMBEDDED, HUB_FILES, find_folder, load_tokenizer, read_config, weight_files
from odb_dllm.splitting import separated
from odb_dllm.version import __version__

ROOT = Path(__file__).parents[2]
SOURCE = ("pyproject.toml", "requirements.txt")  # what tells a source checkout
TARS: dict[str, Literal["w", "w:gz"]] = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}
INSTALL = """#!/usr/bin/env bash
# Installs this bundle without a network. Usage: install.sh [--check] [folder, default ./odb_dllm]
# PYTHON names the interpreter to use (default: python3).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python3}" -I -B "$here/install.py" "$@"
"""


def add_verbs(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``bundle make`` to a command."""
    about = "Gather all that a machine without a network needs: wheels, a checkpoint, data"
    verbs = subparsers.add_parser("bundle", prog="odb-dllm bundle", help=about).add_subparsers(
        required=True, metavar="verb"
    )
    parser = verbs.add_parser("make", help=about, description=about)
    add = parser.add_argument
    add("out", type=Path, help="new folder, or a file that ends in .tar, .tar.gz or .tgz")
    add("--model", default=None, metavar="<model>", help="checkpoint to take along: a folder or a hub id")
    add("--data", type=Path, default=None, metavar="<path>", help="folder of benchmark data to take along")
    add("--extras", default="", metavar="<names>", help="extras of the package to take along, e.g. math,plot")
    add("--no-wheels", action="store_true", help="only the checkpoint and the data")
    add("--source", type=Path, default=ROOT, metavar="<path>", help="source checkout of the package (default: its own)")
    parser.set_defaults(func=make)


def make(args: argparse.Namespace) -> int:
    """Check what was asked for, then gather it; nothing is left behind by a failure."""
    out = args.out.expanduser().absolute()
    kind = next((suffix for suffix in TARS if out.name.endswith(suffix)), None)
    extras = list(dict.fromkeys(name.lower() for name in separated(args.extras)))
    _check_out(out)
    if not args.no_wheels:
        _check_source(args.source)
        _check_extras(extras, args.source)
    model = _model_files(args.model)
    data = _data_files(args.data)
    if args.no_wheels and not model and not data:
        raise InputError("There is nothing to bundle: leave out --no-wheels, or give --model or --data.")
    _check_room(out, [*model.values(), *data.values()])

    with _unfinished(out) as partial:
        folder = partial / out.name.removesuffix(kind) if kind else partial
        folder.mkdir(exist_ok=True)
        sums = _copy({**model, **data}, folder)
        install = [] if args.no_wheels else _wheels(args.source, extras, folder)
        for name, text in (("install.sh", INSTALL), ("install.py", Path(installer.__file__).read_text("utf-8"))):
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "install.sh").chmod(0o755)
        manifest: dict[str, Any] = {
            "format": 1,
            "odb_dllm": __version__,
            "made_for": installer.made_for(),
            "wheels": not args.no_wheels,
            "install": install,
            "model": f"models/{_model_name(args.model)}" if model else None,
            "data": bool(data),
            "files": _listed(folder, sums),
        }
        (folder / installer.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if kind:
            with tarfile.open(partial / "tar", TARS[kind]) as tar:
                tar.add(folder, folder.name)
            (partial / "tar").rename(out)
        else:
            folder.rename(out)
    size = sum(about["bytes"] for about in manifest["files"].values())
    print(f"{out}: {len(manifest['files'])} files, {size / 1e6:,.1f} MB")
    print(f"On the machine without a network: {'unpack it, then ' if kind else ''}./install.sh <folder>")
    return 0


# Checks ---------------------------------------------------------------------------------------------------


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name a new folder or file.")
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be made: there is no folder {out.parent}.")


def _check_source(source: Path) -> None:
    """A package is built from its source; what pip installed has none."""
    if absent := next((name for name in SOURCE if not (source / name).is_file()), None):
        raise InputError(
            f"The wheels need the source checkout, and {source} has no {absent}: run this from a checkout, name one by "
            "--source, or bundle the model and the data alone with --no-wheels."
        )
    if find_spec("pip") is None:
        raise InputError(f"The wheels need pip, which {sys.executable} has not: {sys.executable} -m ensurepip")


def _check_extras(extras: list[str], source: Path) -> None:
    """pip only warns of an extra that a package has not."""
    known = _known_extras(source)
    if known is not None and (unknown := [name for name in extras if name not in known]):
        valid = nearest(unknown[0], known) if known else "the package has none"
        raise InputError(f"Unknown extra {unknown[0]!r}: {valid}.")


def _known_extras(source: Path) -> list[str] | None:
    """The extras that a checkout declares; before Python 3.11, those of the package as installed, None if it is not."""
    if sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        return list(project.get("optional-dependencies", {}))
    try:
        return metadata.metadata("odb_dllm").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return None


def _check_room(out: Path, files: list[Path]) -> None:
    need, free = sum(path.stat().st_size for path in files), shutil.disk_usage(out.parent).free
    if need > free:
        raise InputError(f"{out.parent} has {free / 1e9:.1f} GB free, and model and data take {need / 1e9:.1f}.")


def _model_name(model: str) -> str:
    """The folder of a checkpoint in the bundle; its name also tells the family."""
    return Path(model).expanduser().absolute().name


def _model_files(model: str | None) -> dict[str, Path]:
    """Where each file of a checkpoint goes in the bundle; none for the embedded model, which is in the package.

    Raises ``InputError`` where the checkpoint is not whole.
    """
    if model is None or model in EMBEDDED:
        return {}
    folder = find_folder(model)
    read_config(folder)
    load_tokenizer(folder)
    weights = weight_files(folder)
    others = [p for p in folder.iterdir() if p.is_file() and any(fnmatch(p.name, pattern) for pattern in HUB_FILES)]
    kept = {p.name: p for p in [*weights, *others] if p in weights or p.suffix != ".safetensors"}
    return {f"models/{_model_name(model)}/{name}": path for name, path in sorted(kept.items())}


def _data_files(folder: Path | None) -> dict[str, Path]:
    """Where each file of the data goes in the bundle."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InputError(f"--data {str(folder)!r} is no folder.")
    if links := [path for path in folder.rglob("*") if path.is_symlink() and not path.is_file()]:
        raise InputError(f"--data {str(folder)!r} holds the link {links[0].name!r} to a folder: copy what it names.")
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    if not files:
        raise InputError(f"--data {str(folder)!r} is empty.")
    return {f"data/{name}": path for name, path in files.items()}


# Gathering ------------------------------------------------------------------------------------------------


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder beside ``out``, on the same disk, that is gone afterwards whatever happens."""
    partial = out.with_name(f"{out.name}.partial")
    if partial.exists():
        raise InputError(f"{partial} is there already, left by a run that was killed: remove it.")
    try:
        partial.mkdir()
        yield partial
    except OSError as error:
        raise InputError(f"The bundle cannot be written to {out}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(files: dict[str, Path], folder: Path) -> dict[str, str]:
    """Copy files to their places; return their checksums, taken on the way."""
    sums = {}
    total = sum(path.stat().st_size for path in files.values())
    with tqdm(total=total, desc="Copying", unit="B", unit_scale=True, unit_divisor=1024, disable=not files) as bar:
        for name, path in files.items():
            digest, target = hashlib.sha256(), folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, target.open("wb") as copy:
                while chunk := source.read(installer.CHUNK):
                    copy.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
            sums[name] = digest.hexdigest()
    return sums


def _wheels(source: Path, extras: list[str], folder: Path) -> list[str]:
    """Gather the wheels of requirements.txt and of the package with its extras; return what to install by name.

    They are built where a package has none of its own, since the target may lack what building takes.
    """
    wheels = folder / "wheels"
    shutil.copyfile(source / "requirements.txt", folder / "requirements.txt")
    with TemporaryDirectory(prefix="odb-dllm-source-") as made:
        own = build_wheel(source, wheels, Path(made))
    name = f"odb_dllm[{','.join(extras)}]" if extras else "odb_dllm"
    wanted = ["-r", str(folder / "requirements.txt")]
    if extras:
        wanted.append(f"{name} @ {own.as_uri()}")
    _pip("wheel", "--wheel-dir", str(wheels), *wanted)
    return [name]


def build_wheel(source: Path, wheels: Path, work: Path) -> Path:
    """Build the package's wheel from a copy: setuptools would leave, and take up, a build folder in the source."""
    copy = work / "source"
    copy.mkdir()
    for path in source.iterdir():
        if path.name.startswith("odb_dllm") and path.is_dir() and path.suffix != ".egg-info":
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(path, copy / path.name)
    # With the build backend at hand there is nothing to download.
    here = ["--no-build-isolation"] if find_spec("setuptools") else []
    _pip("wheel", "--no-deps", *here, "--wheel-dir", str(wheels), str(copy))
    found = list(wheels.glob("odb_dllm-*.whl"))
    if len(found) != 1:
        raise InputError(f"{source} did not give one wheel of odb_dllm: is it its source checkout?")
    return found[0]


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", *words, "--disable-pip-version-check"]
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        raise InputError(f"pip could not gather the wheels (exit code {done.returncode}); what it says is above.")


def _listed(folder: Path, known: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Size and checksum of every file in the bundle."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: {"bytes": path.stat().st_size, "sha256": known.get(name) or installer.sha256(path)}
        for name, path in files.items()
    }
