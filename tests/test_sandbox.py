"""The sandbox against hostile programs: nothing gets out, nothing stays, no success is faked, the next one counts."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from odb_dllm import sandbox
from odb_dllm.sandbox import Limits, Outcome
from odb_dllm.sandbox.layers import strongest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

QUICK = Limits(timeout=1.0)
WITHOUT_NAMESPACES = ("landlock", "seccomp")
PACKAGE = Path(sandbox.__file__).parent


def works(layers: tuple[str, ...]) -> bool:
    try:
        return sandbox.run("pass", layers=layers).passed
    except sandbox.SandboxError:
        return False


@pytest.fixture(scope="session", params=["strongest", "user namespace", "no namespaces"])
def layers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The strongest layers, those of an ordinary user, and those of a container that forbids namespaces."""
    sets = {
        "strongest": strongest().layers,
        "user namespace": ("user", "root", "pid", "net", "ipc", "seccomp"),
        "no namespaces": WITHOUT_NAMESPACES,
    }
    chosen = sets[request.param]
    if not works(chosen) or not {"seccomp"} <= set(chosen):
        pytest.skip(f"this machine lacks one of {', '.join(chosen)}")
    return chosen


def next_is_right(layers: tuple[str, ...] | None = None) -> bool:
    good, bad = sandbox.run_many(["assert 1 + 1 == 2", "assert 1 + 1 == 3"], layers=layers)
    return good.passed and bad.reason == "failed"


def refused(program: str, layers: tuple[str, ...], limits: Limits = QUICK) -> Outcome:
    """Run a hostile program; it must not pass, and those after it must be judged rightly."""
    outcome = sandbox.run(program, limits, layers=layers)
    assert not outcome.passed, outcome
    assert next_is_right(layers)
    return outcome


# Verdicts


def test_verdicts_and_their_reasons() -> None:
    programs = {
        "x = 1": "passed",
        "": "passed",
        "assert 1 == 2, 'one'": "failed",
        "def f(:": "failed",
        "raise KeyboardInterrupt": "failed",
        "import time; time.sleep(30)": "timed out",
        "while True: pass": "timed out",
        "x = bytearray(100 << 30)": "memory",
        "import os; os.abort()": "crashed",
        "import os; os._exit(0)": "ended early",
    }
    outcomes = sandbox.run_many(programs, QUICK)
    assert dict(zip(programs, (each.reason for each in outcomes), strict=True)) == programs
    assert [each.passed for each in outcomes] == [reason == "passed" for reason in programs.values()]
    assert outcomes[2].detail == "AssertionError: one"


def test_programs_are_read_as_the_reference_reads_them() -> None:
    programs = {
        "def f():\r\n  return 1\r\nassert f() == 1": True,
        "assert __name__ == 'builtins'": True,
        "assert 'é𝄞' == '\\xe9\\U0001d11e'": True,
        "x = '\ud800'": False,  # half a character
        "x = 1\0": False,
        "(" * 100_000: False,
        "def f(a: undefined): pass": False,  # annotations are evaluated
        "input()": False,
        "import sys\nsys.stdin.read()": False,
        "import collections, dataclasses, typing, asyncio\nasyncio.run(asyncio.sleep(0))": True,
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: assert list(pool.map(abs, [-1, 2])) == [1, 2]": True,
        "import sys\ndef f(n): return n and f(n - 1)\nsys.setrecursionlimit(5000)\nf(4000)": True,
        "import tempfile\nwith tempfile.TemporaryFile() as file: file.write(b'x')": True,
        "x = '" + "y" * 500_000 + "'": True,  # more than a pipe holds
    }
    outcomes = sandbox.run_many(programs)
    assert [(p[:40], o) for p, o in zip(programs, outcomes, strict=True) if o.passed != programs[p]] == []


def test_outcomes_keep_their_order_and_workers_their_number() -> None:
    before = threading.active_count()
    programs = [f"import time; time.sleep({0.2 if i % 2 else 0}); assert {i} % 3" for i in range(12)]
    outcomes = sandbox.run_many(programs, workers=4)
    assert [each.passed for each in outcomes] == [bool(i % 3) for i in range(12)]
    assert sandbox.run_many([]) == []
    assert threading.active_count() == before


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="memory_mb is 0"):
        Limits(memory_mb=0)


def test_set_order_does_not_change_between_runs() -> None:
    program = "raise ValueError(str(list(map(str, {'a', 'b', 'c', 'd', 'e', 'f', 'g'}))))"
    assert len({outcome.detail for outcome in sandbox.run_many([program] * 4)}) == 1


# Using up the machine


def test_fork_bomb(layers: tuple[str, ...]) -> None:
    bomb = "import os\nwhile True: os.fork()"
    assert "PermissionError" in refused(bomb, layers).detail


def test_fork_bomb_where_processes_are_allowed() -> None:
    plan = set(strongest().layers)
    if not ({"pid"} <= plan and plan & {"uid", "user"}):
        pytest.skip("this machine cannot count the processes of a sample")
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    assert refused(bomb, strongest().layers, Limits(timeout=1.0, processes=16)).reason == "timed out"


def test_thread_bomb(layers: tuple[str, ...]) -> None:
    bomb = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()"
    started = time.monotonic()
    refused(bomb, layers)
    assert time.monotonic() - started < 15


def test_endless_output(layers: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    endless = "import sys\nwhile True:\n  print('x' * 10_000)\n  print('x' * 10_000, file=sys.stderr)"
    outcome = refused(endless, layers)
    assert outcome.reason == "timed out"
    assert "xxx" not in outcome.detail + "".join(capfd.readouterr())


def test_memory(layers: tuple[str, ...]) -> None:
    assert refused("x = bytearray(100 << 30)", layers).reason == "memory"
    slowly = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    assert refused(slowly, layers, Limits(timeout=20.0, memory_mb=256)).reason == "memory"


def test_sleep_and_deafness(layers: tuple[str, ...]) -> None:
    started = time.monotonic()
    deaf = "import signal, time\nfor s in set(signal.Signals) - {9, 19}:\n  signal.signal(s, signal.SIG_IGN)\n"
    assert refused(deaf + "time.sleep(600)", layers).reason == "timed out"
    assert refused(deaf + "while True: pass", layers, Limits(timeout=30.0, cpu=1)).reason == "timed out"
    assert time.monotonic() - started < 20


def test_files_have_a_size(layers: tuple[str, ...]) -> None:
    large = "with open('large', 'wb') as file:\n  for _ in range(64): file.write(bytes(1 << 20))"
    assert "File too large" in refused(large, layers, Limits(file_mb=8)).detail
    if "root" in layers:
        many = "for i in range(64):\n  with open(str(i), 'wb') as file: file.write(bytes(1 << 20))"
        assert "No space left" in refused(many, layers, Limits(file_mb=8)).detail


MARK = "odb-dllm-stray-process"
STRAY = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(120)', '{MARK}-' + NUMBER])
    os._exit(0)
import time; time.sleep(0.5)
"""


@pytest.mark.parametrize("ending", ["assert True", "assert False", "time.sleep(60)"])
def test_grandchildren_of_their_own_session_are_ended(layers: tuple[str, ...], ending: str) -> None:
    number = f"{os.getpid()}-{time.monotonic_ns()}"
    outcome = sandbox.run(f"NUMBER = '{number}'\n{STRAY}{ending}", Limits(timeout=2.0, processes=8), layers=layers)
    assert outcome.passed == (ending == "assert True"), outcome
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and f"{MARK}-{number}" in command_line(pid)] == []
    assert next_is_right(layers)


def command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


# Reaching out


def test_reading_files_of_others(layers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do-not-tell")
    tmp_path.chmod(0o755)
    monkeypatch.setenv("SECRET", "do-not-tell")
    paths = [str(secret), str(Path.home()), str(PACKAGE), "/etc/passwd", "/home", "/tmp", "/proc/1/environ"]
    ways = [str(path) for path in Path(sys.executable).resolve().parents] if "root" in layers else []
    paths = [path for path in paths if path not in ways]  # on the way to the interpreter: there, but empty
    program = f"""
import os
told = [os.environ.get('SECRET')]
for path in {paths!r}:
    for read in (lambda: open(path).read(), lambda: os.listdir(path), lambda: os.open(path, os.O_RDONLY)):
        try: found = read()
        except OSError: continue
        if found != []: told.append((path, found))
raise ValueError(told)"""
    assert refused(program, layers).detail == "ValueError: [None]"
    if "root" in layers:
        shown = sandbox.run("import os; raise ValueError(sorted(os.listdir('/')))", layers=layers).detail
        assert not any(f"'{name}'" in shown for name in ("home", "tmp", "proc", "sys", "var", "mnt", "opt")), shown


def test_writing_outside_its_folder(layers: tuple[str, ...], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "written"
    existing = tmp_path / "existing"
    existing.write_text("as it was")
    existing.chmod(0o666)
    program = f"""
import os
written = []
for path in ({str(target)!r}, {str(existing)!r}, '/written', '/tmp/written', '/dev/shm/written', '../written',
             os.path.dirname(os.__file__) + '/written', os.__file__):
    try:
        with open(path, 'w') as file: file.write('x')
        written.append(path)
    except OSError: pass
try: os.symlink({str(tmp_path)!r}, 'link'); open('link/written', 'w').close(); written.append('link')
except OSError: pass
with open('inside', 'w') as file: file.write('x')
raise ValueError(written)"""
    assert refused(program, layers).detail == "ValueError: []"
    assert not target.exists()
    assert existing.read_text() == "as it was"


def test_no_network(layers: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        program = f"""
import socket
reached = []
for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM),
                     (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM), (16, 3), (40, 1)):
    try: reached.append(socket.socket(family, kind))
    except OSError: pass
try: reached.append(socket.create_connection(('127.0.0.1', {port}), 0.2))
except OSError: pass
try: reached.append(socket.getaddrinfo('example.org', 80))
except OSError: pass
raise ValueError(reached)"""
        assert refused(program, layers, Limits(timeout=5.0)).detail == "ValueError: []"
        with pytest.raises(TimeoutError):
            server.accept()


def test_network_namespace_is_empty_without_the_filter() -> None:
    chosen = tuple(layer for layer in strongest().layers if layer != "seccomp")
    if "net" not in chosen:
        pytest.skip("this machine has no network namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = f"""
import socket
assert [name for _, name in socket.if_nameindex()] in ([], ['lo'])
socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"""
        outcome = sandbox.run(program, layers=chosen)
    assert outcome.reason == "failed"
    assert "unreachable" in outcome.detail or "refused" in outcome.detail


def test_killing_its_parents(layers: tuple[str, ...]) -> None:
    everyone = "os.kill(-1, 9)" if "pid" in layers else "pass"  # elsewhere this test must not depend on the filter
    program = f"""
import os, signal
for pid in (os.getppid(), 1, {os.getpid()}, {os.getppid()}):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        try: os.kill(pid, number)
        except OSError: pass
    try: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    except OSError: pass
try: {everyone}
except OSError: pass
import time; time.sleep(0.3)
raise ValueError('still here')"""
    assert refused(program, layers).detail == "ValueError: still here"


def test_the_warden_cannot_be_read(layers: tuple[str, ...]) -> None:
    program = f"""
import os
told = []
for pid in (os.getppid(), 1, {os.getpid()}, 'self', 'thread-self'):
    for name in ('fd', 'mem', 'environ', 'maps', 'root', 'status'):
        try: told.append(os.listdir(f'/proc/{{pid}}/{{name}}'))
        except OSError: pass
        try: told.append(open(f'/proc/{{pid}}/{{name}}', 'rb').read(10))
        except OSError: pass
raise ValueError(told)"""
    assert refused(program, layers).detail == "ValueError: []"


def test_nothing_is_inherited(layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    with open("/etc/passwd") as file:  # an inheritable descriptor, as careless callers have
        os.set_inheritable(file.fileno(), True)
        program = """
import os, stat, sys
fds = []
for fd in range(1024):
    try: fds.append((fd, stat.S_IFMT(os.fstat(fd).st_mode)))
    except OSError: pass
assert fds == [(0, stat.S_IFCHR), (1, stat.S_IFCHR), (2, stat.S_IFCHR), (4, stat.S_IFIFO)], fds
assert set(os.environ) == {'LC_ALL', 'PYTHONHASHSEED', 'OMP_NUM_THREADS', 'MALLOC_ARENA_MAX'}, os.environ
assert os.listdir('.') == []
assert os.getsid(0) == os.getpid()
assert sys.argv == [''] and '' not in sys.path and not any('site-packages' in each for each in sys.path), sys.path
"""
        outcome = sandbox.run(program, layers=layers)
    assert outcome.passed, outcome


def test_it_has_no_rights(layers: tuple[str, ...]) -> None:
    program = """
import os
user = os.getuid()
for forbidden in (lambda: os.setuid(0 if user else 1), lambda: os.setgid(0 if os.getgid() else 1),
                  lambda: os.chroot('.'), lambda: os.mknod('device', 0o60600, 0x700), lambda: os.nice(-5),
                  lambda: os.setgroups([0])):
    try: forbidden()
    except OSError: continue
    raise ValueError('allowed')
"""
    outcome = sandbox.run(program, layers=layers)
    assert outcome.passed, outcome
    if "uid" in layers:
        assert sandbox.run("import os; assert os.getuid() >= 65534 and not os.getgroups()", layers=layers).passed


def test_nothing_is_left_over(layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    before = os.listdir("/proc/self/fd")
    messy = "import os; os.makedirs('a/b'); open('a/b/c', 'w').close(); os.chmod('a/b', 0); os.chmod('a', 0)"
    assert all(outcome.passed for outcome in sandbox.run_many([messy] * 4, layers=layers))
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


# What the machine allows
