"""Installs a bundle on a machine without a network: checks every file, makes .venv, copies checkpoint and data.

This file travels in the bundle and runs by itself, with Python's standard library alone. install.sh calls it.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CHUNK = 2**22
MANIFEST = "manifest.json"
SPARE = 2 * 2**30  # bytes that an unpacked environment takes beyond its wheels; torch is compressed by half


class Refused(Exception):
    """One sentence on what stands in the way."""


def sha256(path: Path) -> str:
    """A file's checksum."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest, with every field that the rest relies on."""
    path = bundle / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"There is no {MANIFEST} in {bundle}: this is no bundle, or a part of one.") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}.") from None
    fields = {"format", "made_for", "wheels", "install", "model", "data", "files"}
    if not isinstance(manifest, dict) or manifest.get("format") != 1 or not fields <= manifest.keys():
        raise Refused(f"{path} is not the manifest of a bundle of format 1.")
    if not _is_sound(manifest):
        raise Refused(f"{path} is damaged: its fields are not what a bundle's are. Copy the bundle again.")
    return manifest


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the fields have the types that the rest relies on, and name nothing outside the bundle."""
    made, files, install, model = (manifest[key] for key in ("made_for", "files", "install", "model"))
    return (
        isinstance(made, dict)
        and {"python", "system", "machine"} <= made.keys()
        and isinstance(files, dict)
        and all(isinstance(about, dict) for about in files.values())
        and all(type(about.get("bytes")) is int and type(about.get("sha256")) is str for about in files.values())
        and isinstance(install, list)
        and all(isinstance(name, str) and re.fullmatch(r"odb_dllm(\[[a-z,]*\])?(==[\w.+]+)?", name) for name in install)
        and (model is None or (isinstance(model, str) and re.fullmatch(r"models/[\w.][\w.-]*", model) is not None))
        and model not in ("models/.", "models/..")
    )


def verify(bundle: Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its checksum; one that is missing, changed or not listed is refused."""
    listed = manifest["files"]
    everything = list(bundle.rglob("*"))
    if links := [path for path in everything if path.is_symlink()]:  # copying would follow them out of the bundle
        raise Refused(f"The bundle holds links, which no bundle does, among them {links[0]}.")
    there = {path.relative_to(bundle).as_posix() for path in everything if not path.is_dir()}
    if missing := sorted(set(listed) - there):
        raise Refused(f"The bundle is not whole: {len(missing)} of its files are missing, among them {missing[0]}.")
    if extra := sorted(there - set(listed) - {MANIFEST}):
        raise Refused(f"The bundle holds {len(extra)} files that its manifest does not list, among them {extra[0]}.")
    for name, about in sorted(listed.items()):
        path = bundle / name
        if path.stat().st_size != about["bytes"] or sha256(path) != about["sha256"]:
            raise Refused(f"{path} is not what was bundled: its checksum differs. Copy the bundle again.")


def check_machine(manifest: dict[str, Any]) -> None:
    """The wheels are for one version of Python on one kind of machine."""
    made, here = manifest["made_for"], made_for()
    if manifest["wheels"] and made != here:
        raise Refused(
            f"The wheels are for Python {made['python']} on {made['system']} {made['machine']}, and this is Python "
            f"{here['python']} on {here['system']} {here['machine']}: PYTHON=python{made['python']} ./install.sh, or "
            "make the bundle where both are the same."
        )


def made_for() -> dict[str, str]:
    """What wheels depend on."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"python": version, "system": platform.system(), "machine": platform.machine()}


def check_target(target: Path, manifest: dict[str, Any]) -> None:
    """An empty or new folder, with room."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"{target} is there already: name a new or an empty folder.")
    above = next(folder for folder in (target, *target.parents) if folder.exists())
    need = sum(about["bytes"] for about in manifest["files"].values()) + (SPARE if manifest["wheels"] else 0)
    free = shutil.disk_usage(above).free
    if need > free:
        raise Refused(f"{above} has {free / 1e9:.1f} GB free, and the installation takes about {need / 1e9:.1f}.")


def make_venv(bundle: Path, target: Path, manifest: dict[str, Any]) -> None:
    """A virtual environment of the wheels; pip is told not to look anywhere else."""
    venv = target / ".venv"
    _run([sys.executable, "-m", "venv", str(venv)], "The virtual environment could not be made; on Debian and Ubuntu "
         "it needs the package python3-venv.")  # fmt: skip
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    only = ["--no-index", "--find-links", str(bundle / "wheels")]
    wanted = ["-r", str(bundle / "requirements.txt"), *manifest["install"]]
    _run([*pip, *only, *wanted], "pip could not install the wheels; what it says is above.")


def _run(command: list[str], failure: str) -> None:
    # pip's own configuration could name an index, and PYTHONPATH could hide what is installed.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    try:
        done = subprocess.run(command, env={**clean, "PIP_CONFIG_FILE": os.devnull}, stdout=sys.stderr)
    except OSError as error:
        raise Refused(f"{failure} ({error})") from None
    if done.returncode:
        raise Refused(failure)


def write_environment(target: Path, manifest: dict[str, Any]) -> Path:
    """env.sh: to be sourced, it puts the command on PATH and names the data."""
    at = shlex.quote(str(target))
    lines = ["export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1"]
    if manifest["wheels"]:
        lines.append(f'export PATH={at}/.venv/bin:"$PATH"')
    if manifest["data"]:
        lines.append(f"export DATA_DIR={at}/data")
    path = target / "env.sh"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def install(bundle: Path, target: Path) -> None:
    """All of it; what a failure leaves half made is removed."""
    manifest = read_manifest(bundle)
    check_machine(manifest)
    check_target(target, manifest)
    size = sum(about["bytes"] for about in manifest["files"].values())
    _say(f"Checking {len(manifest['files'])} files, {size / 1e6:,.0f} MB")
    verify(bundle, manifest)
    new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        if manifest["wheels"]:
            _say(f"Making {target / '.venv'}")
            make_venv(bundle, target, manifest)
        for part in ("models", "data"):
            if (bundle / part).is_dir():
                _say(f"Copying {part}")
                shutil.copytree(bundle / part, target / part)
        environment = write_environment(target, manifest)
    except BaseException as error:
        for path in [target] if new else list(target.iterdir()):
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink()
        if isinstance(error, OSError):
            raise Refused(f"The bundle could not be copied: {error}.") from error
        raise
    model = str(target / manifest["model"]) if manifest["model"] else "tiny"
    print(f"Installed in {target}. Next:\n  source {shlex.quote(str(environment))}")
    print(f"  odb-dllm doctor --model {shlex.quote(model)}")
    print(f"  odb-dllm run --tasks gsm8k_mini --limit 5 --model_args pretrained={shlex.quote(model)} gen_length=256")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The command: 0, 2 after one sentence, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="install.sh", description="Install this bundle without a network.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("odb_dllm"), help="where to (default: ./odb_dllm)")
    parser.add_argument("--check", action="store_true", help="only compare the files with their checksums")
    args = parser.parse_args()
    bundle = Path(__file__).resolve().parent
    try:
        if args.check:
            manifest = read_manifest(bundle)
            verify(bundle, manifest)
            print(f"{len(manifest['files'])} files, all as bundled")
        else:
            install(bundle, args.folder.expanduser().absolute())
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing is left behind", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
