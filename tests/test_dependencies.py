"""What is imported is declared, so that a fresh machine has it."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> set[str]:
    listed = [*PROJECT["dependencies"], *(each for name in extras for each in PROJECT["optional-dependencies"][name])]
    return {normal(Requirement(each).name) for each in listed}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path) -> set[str]:
    """The distributions that the modules of a folder import."""
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    own = {"odb_dllm", *(path.stem for path in folder.glob("*.py"))}
    known = packages_distributions()
    return {normal(known.get(module, [module])[0]) for module in modules - own - sys.stdlib_module_names}


def test_what_the_package_imports_is_declared() -> None:
    assert imported(ROOT / "odb_dllm") <= declared("plot", "demo", "kernels")


def test_what_the_tests_import_is_declared() -> None:
    assert imported(ROOT / "tests") <= declared("test")
    assert declared("math", "plot") <= declared("test")  # tests that lack them are skipped


def test_what_is_declared_is_pinned() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    assert declared() == {normal(pin.name) for pin in pins}
