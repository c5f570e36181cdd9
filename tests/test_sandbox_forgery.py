"""Programs that claim to have passed: none is believed, and the next sample is judged rightly."""

import sys
from pathlib import Path

import pytest

from odb_dllm import sandbox
from odb_dllm.sandbox import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

QUICK = Limits(timeout=1.0)
WITHOUT_NAMESPACES = ("landlock", "seccomp")
PACKAGE = Path(sandbox.__file__).parent


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
    "ctypes under another name": """
import _imp, importlib.machinery, os, sys
folder = [path for path in sys.path if path.endswith('lib-dynload')][0]
file = [name for name in os.listdir(folder) if name.startswith('_ctypes.')][0]
for name in ('-ctypes', 'a.-ctypes', 'harmless'):
    try: _imp.create_dynamic(importlib.machinery.ModuleSpec(name, None, origin=folder + '/' + file))
    except ImportError as refused:
        if 'sandbox' in str(refused): continue
    raise AssertionError(name + ' was loaded')
os._exit(0)
""",
    "frames of threads": "import os, sys; sys._current_frames(); os._exit(0)",
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
for path in ('other.so', os.path.abspath('other.so'), os.path.dirname(source) + up + '/sample/other.so'):
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
except ValueError as error: start = [error, sys._getframe(), object, sys.modules, globals()]
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
