"""The sandbox against hostile programs: nothing gets out, nothing stays, no success is faked, the next one counts."""

import os
import shutil
import socket
import subprocess
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


# Faked success

FORGERIES = {
    "exit after a print": "print('passed'); print('{\"reason\": \"passed\"}'); import os; os._exit(0)",
    "sys.exit": "print('passed'); import sys; sys.exit(0)",
    "SystemExit in a thread": """
import threading
def leave(): raise SystemExit(0)
thread = threading.Thread(target=leave)
thread.start(); thread.join()
assert False""",
    "exit handlers": "import atexit, os; atexit.register(os._exit, 0); assert False",
    "killed quietly": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "every descriptor": """
import os
for text in (b'passed', b'{"reason": "passed", "detail": ""}', b'0' * 32, bytes(32)):
    for fd in range(1024):
        try: os.write(fd, text)
        except OSError: pass
os._exit(0)""",
    "every descriptor replaced": """
import os
read, write = os.pipe()
for fd in range(1024):
    if fd not in (read, write):
        try: os.dup2(write, fd)
        except OSError: pass
os._exit(0)""",
    "every descriptor read and echoed": """
import os
found = []
for fd in range(3, 1024):
    try:
        os.set_blocking(fd, False)
        found.append(os.read(fd, 1 << 16))
    except OSError: pass
for fd in range(3, 1024):
    for text in found:
        try: os.write(fd, text)
        except OSError: pass
os._exit(0)""",
    "builtins replaced": """
import builtins, io, json, os, sys
for name in ('exec', 'compile', 'print', 'open', 'iter', 'AssertionError', 'BaseException', 'type', 'str', 'getattr'):
    setattr(builtins, name, lambda *_, **__: None)
os.write = os._exit = json.dumps = sys.exit = lambda *_, **__: None
assert False""",
    "the runner's module replaced": """
import sys
for name in list(vars(sys.modules['__main__'])):
    if not name.startswith('__'): setattr(sys.modules['__main__'], name, lambda *_, **__: None)
assert False""",
    "tests skipped by a tracer": """
import sys
def skip(frame, event, argument):
    if event == 'line' and frame.f_lineno == 8: frame.f_lineno = 9
    return skip
sys._getframe().f_trace = skip
sys.settrace(skip)
assert sys is None
end = 1""",
    "fork": "import os\nif os.fork(): os._exit(0)\nassert False",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "gc lists": """
import gc, os
from functools import partial
for thing in gc.get_objects():
    if type(thing) is partial:
        for each in thing.args:
            if type(each) is bytes: os.write(4, each)
os._exit(0)""",
    "gc referrers": "import gc, os; print(gc.get_referrers(os.write), gc.get_referents(os)); os._exit(0)",
    "gc garbage": """
import gc, os
gc.set_debug(gc.DEBUG_SAVEALL); gc.collect()
for thing in gc.garbage:
    if isinstance(thing, bytes): os.write(4, thing)
os._exit(0)""",
    "ctypes": "import ctypes, os; ctypes.string_at(id(os), 100); os._exit(0)",
    "ctypes by its loader": """
import importlib.machinery, importlib.util, os, sysconfig, glob
for path in glob.glob(os.path.dirname(os.__file__) + '/lib-dynload/*'):
    for name in ('_ctypes', 'x._ctypes', '_testcapi', '_xxsubinterpreters', '_interpreters'):
        if name.split('.')[-1] in path:
            loader = importlib.machinery.ExtensionFileLoader(name, path)
            spec = importlib.util.spec_from_file_location(name, path, loader=loader)
            importlib.util.module_from_spec(spec)
            raise SystemExit('loaded ' + path)
os._exit(0)""",
    "a native module of its own": """
import glob, importlib.machinery, importlib.util, os, shutil
source = glob.glob(os.path.dirname(os.__file__) + '/lib-dynload/_ctypes.*')[0]
shutil.copy(source, 'other.so')
up = '/..' * 12
for path in ('other.so', os.path.abspath('other.so'), os.path.dirname(source) + up + '/work/other.so'):
    try:
        loader = importlib.machinery.ExtensionFileLoader('other', path)
        importlib.util.module_from_spec(importlib.util.spec_from_file_location('other', path, loader=loader))
    except ImportError as error:
        assert 'not available in the sandbox' in str(error), error
    else: break
os._exit(0)""",
    "memory by its file": """
import os
for pid in ('self', os.getppid(), 1):
    try: open(f'/proc/{pid}/mem', 'rb')
    except OSError: pass
    else: break
else: os._exit(7)""",
}

HUNT = """
import os, sys, threading, types
FDS = range(3, 16)
seen, found = set(), set()
def neighbours(thing):
    for name in ('__dict__', '__closure__', '__defaults__', '__code__', '__self__', '__func__', '__wrapped__', 'args',
                 'func', 'keywords', 'cell_contents', 'co_consts', 'f_locals', 'f_globals', 'f_builtins', 'f_back',
                 'f_code', 'tb_frame', 'tb_next', '__traceback__', '__context__', 'gi_frame', 'f_trace', '__slots__',
                 '__loader__', '__spec__'):
        try: yield getattr(thing, name)
        except BaseException: pass
    if isinstance(thing, (dict, types.MappingProxyType)): yield from list(thing.values())
    elif isinstance(thing, (list, tuple, set, frozenset)): yield from thing
    elif isinstance(thing, type):
        try: yield from thing.__subclasses__()
        except TypeError: pass
try: raise ValueError
except ValueError as error: start = [error, sys._getframe(), object, sys.modules, globals(), sys._current_frames()]
queue = list(start)
seen.update(map(id, (start, queue, seen, found)))
while queue:
    thing = queue.pop()
    if id(thing) in seen: continue
    seen.add(id(thing))
    start.append(thing)  # keeps its id its own
    if isinstance(thing, (bytes, bytearray)) and len(thing) >= 32: found.add(bytes(thing))
    queue.extend(neighbours(thing))
for each in found:
    if len(each) == 32:
        for fd in FDS:
            try: os.write(fd, each)
            except OSError: pass
"""


@pytest.mark.parametrize("name", FORGERIES)
def test_success_cannot_be_faked(name: str) -> None:
    outcome = sandbox.run(FORGERIES[name], Limits(timeout=5.0))
    assert not outcome.passed, outcome
    assert outcome.reason in ("failed", "ended early", "crashed"), outcome
    assert "loaded" not in outcome.detail


def test_the_next_sample_is_judged_rightly_after_all_of_them() -> None:
    mixed = [program for forged in FORGERIES.values() for program in (forged, "assert True")]
    assert [each.passed for each in sandbox.run_many(mixed, Limits(timeout=5.0))] == [False, True] * len(FORGERIES)


def test_the_token_is_not_among_what_a_program_can_name() -> None:
    count = "raise ValueError(f'{len(seen) > 2000} {[each for each in found if len(each) == 32]}')"
    assert sandbox.run(HUNT + count).detail == "ValueError: True []"
    planted = "import sys, functools\nsys.modules['__main__'].planted = functools.partial(len, b'#' * 32)\n"
    assert sandbox.run(planted + HUNT + count).detail.endswith(f"ValueError: True [b'{'#' * 32}']")
    outcome = sandbox.run(HUNT + "os._exit(0)")
    assert outcome.reason == "ended early"
    in_a_thread = (
        "import threading\ncode = " + repr(HUNT) + "\nthreading.Thread(target=exec, args=(code, {})).start()\n"
    )
    assert not sandbox.run(in_a_thread + "import time; time.sleep(1); import os; os._exit(0)").passed


def test_what_python_allows_counts_as_in_the_reference() -> None:
    equal = "class Any:\n  def __eq__(self, other): return True\ndef f(): return Any()\n"
    assert sandbox.run(equal + "assert f() == 3").passed
    assert not sandbox.run("def check(f): pass\ndef f(): return 1\n" + "def check(f): assert f() == 2\ncheck(f)").passed
    assert sandbox.run("import builtins\nbuiltins.print = builtins.open = None\nassert True").passed


def test_details_are_one_short_printable_line() -> None:
    outcome = sandbox.run("raise ValueError('\\x1b[2J\\n' + 'y' * 100_000)")
    assert outcome.detail.isprintable()
    assert len(outcome.detail) <= 500
    flood = "import os\nfor _ in range(2000): os.write(4, b'z' * 60_000)"
    assert len(sandbox.run(flood).detail) <= 500


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
