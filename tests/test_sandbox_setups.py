"""The sandbox on other machines: containers that forbid namespaces, ordinary users, layers that are missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_sandbox import works

from odb_dllm import sandbox
from odb_dllm.sandbox import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

QUICK = Limits(timeout=1.0)
WITHOUT_NAMESPACES = ("landlock", "seccomp")
PACKAGE = Path(sandbox.__file__).parent


def test_capabilities_and_their_description() -> None:
    found = sandbox.capabilities()
    assert {"network", "files", "processes", "user", "limits", "layers", "missing"} == set(found)
    line = sandbox.describe()
    assert "\n" not in line
    assert line.startswith("Generated code runs in")
    assert all(("OPEN" in str(found[each])) == (str(found[each]) in line) for each in ("network", "files", "processes"))


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="'moat'"):
        sandbox.run("pass", layers=("net", "moat"))


BARE = """
import sys
sys.path.insert(0, sys.argv[1])
{before}
from odb_dllm import sandbox
if __name__ == '__main__':
    print(sandbox.describe())
    print(sorted(sandbox.capabilities()['layers']))
    outcomes = sandbox.run_many(['x = 1', 'assert False', 'import os; os._exit(0)', 'import socket; socket.socket()',
        'import os; os.kill(os.getppid(), 9); assert False', 'open(' + repr(sys.argv[2]) + ')',
        'import time; time.sleep(30)'],
        sandbox.Limits(timeout=1.5))
    print([outcome.reason for outcome in outcomes])
    print([outcome.detail.split(':')[0] for outcome in outcomes])
    for layer in ('net', 'root'):
        try: print(sandbox.run('pass', layers=[layer]).reason)
        except sandbox.SandboxError as error: print(error)
"""
FILTERED = """
from odb_dllm.sandbox.inside import linux, seccomp
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
seccomp._REFUSED.pop('socket')  # the caller itself may have some
seccomp._REFUSED.pop('chroot')
seccomp.install(forks=True, other_signals=True)
"""


def bare(tmp_path: Path, before: str = "", python: str = sys.executable, user: int | None = None) -> list[str]:
    """Lines that a process prints that has nothing of the project but the sandbox."""
    package = tmp_path / "odb_dllm"
    shutil.copytree(PACKAGE, package / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    secret = tmp_path / "secret"
    secret.write_text("do-not-tell")
    for path in (tmp_path, *tmp_path.parents):  # the temporary folder is the user's own
        if path.stat().st_uid == os.getuid() and path != Path("/") and path.is_relative_to(tmp_path.parents[2]):
            path.chmod(0o755)
    script = tmp_path / "script.py"
    script.write_text(BARE.format(before=before))
    done = subprocess.run(
        [python, "-I", str(script), str(tmp_path), str(secret)],
        capture_output=True,
        text=True,
        timeout=60,
        **({} if user is None else {"user": user, "group": user, "extra_groups": []}),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


EXPECTED = ["passed", "failed", "ended early", "failed", "failed", "failed", "timed out"]


def test_a_container_that_forbids_namespaces(tmp_path: Path) -> None:
    if not works(WITHOUT_NAMESPACES):
        pytest.skip("this machine has no Landlock or no seccomp")
    line, layers, reasons, details, *demanded = bare(tmp_path, FILTERED)
    assert "no network namespace ([Errno 1] new net namespace: Operation not permitted)" in line
    # A layer that is asked for and cannot be had is an error, never skipped.
    assert all(text.startswith("The sandbox could not be set up") for text in demanded)
    assert len(demanded) == 2
    assert "OPEN" not in line
    assert {"landlock", "seccomp"} <= set(eval(layers)) <= {"landlock", "seccomp", "uid"}
    assert eval(reasons) == EXPECTED
    assert eval(details)[3:6] == ["PermissionError"] * 3


def test_an_ordinary_user(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if os.getuid() != 0 or not Path(python).exists():
        pytest.skip("only root can become another user, who needs a Python outside root's home")
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 10))"], capture_output=True)
    if version.stdout.strip() != b"True":
        pytest.skip(f"{python} is too old")
    line, layers, reasons, details, *_ = bare(tmp_path, python=python, user=4321)
    assert eval(reasons) == EXPECTED
    if "user" in eval(layers):
        assert "Missing" not in line
        assert eval(details)[5] == "FileNotFoundError"
