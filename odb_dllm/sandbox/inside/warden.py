"""Sets the sandbox up, watches one sample in it, ends its processes and says what came of it.

Reads a job as JSON on standard input and writes an outcome as JSON on standard output:
``{"reason": ..., "detail": ...}``, or ``{"error": ...}`` where the sandbox could not be set up as told.
The sample's processes have neither of the two files, and the warden cannot be signalled or read by them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time

from . import landlock, linux, seccomp, tree
from .runner import JOB, REPORT, TOKEN_BYTES

TYPE_CHECKING = False  # typing and pathlib are left out: a warden is started for every sample
if TYPE_CHECKING:
    from typing import Any, NoReturn

KEPT_BYTES = 4096  # of what the sample reports; more is read and dropped
_OPEN_FILES = 128
_UNUSED_USERS = 0x70000000  # ids that nobody is given; a sample takes one of the million from here on
_NOBODY = 65534
_TREE_GONE_S = 5.0


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin.buffer)
    try:
        outcome = supervise(job)
    except Exception as error:
        outcome = {"error": f"{error}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)


def supervise(job: dict[str, Any]) -> dict[str, str]:
    """Run the job's program; raises ``OSError`` for a layer that cannot be had."""
    layers = set(job["layers"])
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != job["supervisor"]:
        os._exit(1)
    with contextlib.suppress(OSError):  # when memory runs out, rather this than the evaluation
        _write("/proc/self/oom_score_adj", "1000")
    if "user" in layers:
        enter_user_namespace()
    for layer, flags in (("net", linux.CLONE_NEWNET), ("ipc", linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)):
        if layer in layers:
            linux.unshare(flags, layer)
    if "ipc" in layers:
        linux.set_host_name("sandbox")
    if "pid" in layers:
        linux.unshare(linux.CLONE_NEWPID, "process")
        first = os.fork()
        if first:  # the first process of the namespace goes on; when it ends, the kernel ends all others
            _, status = os.waitpid(first, 0)
            os._exit(0 if status == 0 else 1)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # not to be traced or read by a process of the same user
    try:
        return watch(job, layers)
    finally:
        end_all("pid" in layers)


def enter_user_namespace() -> None:
    """Gain the right to make the other namespaces; inside, the user stays the same, root becomes nobody."""
    user, group = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER, "user")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user or _NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{group or _NOBODY} {group} 1")


def watch(job: dict[str, Any], layers: set[str]) -> dict[str, str]:
    """Start the sample, hand it its program, and wait for its end or the deadline."""
    token = os.urandom(TOKEN_BYTES)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    runner, job_pipe, report = start(job, layers)
    deadline = time.monotonic() + job["timeout_s"]
    _hand_over(job_pipe, token + job["program"].encode("utf-8", "surrogatepass"))
    said, status, cpu_s, reading = b"", None, 0.0, [wake_read, report]
    while status is None and (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select(reading, [], [], left)
        if report in ready:
            part = os.read(report, 1 << 16)
            said = (said + part)[:KEPT_BYTES]
            reading = reading if part else [wake_read]
        if wake_read in ready:
            os.read(wake_read, 1 << 12)
            status, cpu_s = _reap(runner)
    if status is None:
        return {"reason": "timed out", "detail": f"after {job['timeout_s']:g} s"}
    said = (said + _rest(report))[:KEPT_BYTES]
    return verdict(token, said, status, cpu_s, job["cpu_s"])


def verdict(token: bytes, said: bytes, status: int, cpu_s: float, cpu_limit_s: int) -> dict[str, str]:
    """What came of the sample: passed only with the token, the whole token and nothing but the token."""
    if said == token and status == 0:
        return {"reason": "passed", "detail": ""}
    text = said.replace(token, b"").decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        if name == "SIGXCPU" or (name == "SIGKILL" and cpu_s >= cpu_limit_s):
            return {"reason": "timed out", "detail": f"after {cpu_limit_s} s of CPU time"}
        return {"reason": "crashed", "detail": f"{name} {text}".strip()}
    if not text:
        return {"reason": "ended early", "detail": f"exit code {os.WEXITSTATUS(status)} before the end"}
    return {"reason": "memory" if text.startswith("MemoryError") else "failed", "detail": text}


def start(job: dict[str, Any], layers: set[str]) -> tuple[int, int, int]:
    """Fork the sample's process; return its id, the pipe for its job and the pipe of its report.

    Raises ``OSError`` where it could not be confined as told.
    """
    source = _read(os.path.join(os.path.dirname(__file__), "runner.py"))
    command = [tree.interpreter(), "-s", "-S", "-B", "-c", source]
    job_read, job_write = os.pipe2(os.O_CLOEXEC)
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    trouble_read, trouble_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _become(command, job, layers, job_read, report_write, trouble_write)
    for each in (job_read, report_write, trouble_write):
        os.close(each)
    trouble = b""
    while part := os.read(trouble_read, 1 << 12):  # ends with the exec, which closes the other end
        trouble += part
    os.close(trouble_read)
    if trouble:
        raise OSError(trouble.decode("utf-8", "replace"))
    return child, job_write, report_read


def _become(
    command: list[str], job: dict[str, Any], layers: set[str], job_read: int, report_write: int, trouble: int
) -> NoReturn:
    """Turn this fork of the warden into the sample's interpreter, or tell ``trouble`` why not."""
    trouble = fcntl.fcntl(trouble, fcntl.F_DUPFD_CLOEXEC, 10)
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _confine(job, layers)
        nothing = os.open("/dev/null", os.O_RDWR)
        # First to numbers past all that are given next: the five take the place of what is there.
        given = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (nothing, job_read, report_write)]
        for source, number in ((0, 0), (0, 1), (0, 2), (1, JOB), (2, REPORT)):
            os.dup2(given[source], number, inheritable=True)
        environment = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        os.execve(command[0], command, environment)
    except BaseException as error:
        os.write(trouble, f"{error}".encode("utf-8", "replace")[:KEPT_BYTES] or b"?")
    os._exit(1)


def _confine(job: dict[str, Any], layers: set[str]) -> None:
    """Take from this process all that the sample shall not have; what needs a right comes before its loss."""
    os.setsid()
    os.umask(0o022)
    user, group = _identity(job["user"], layers)
    # Threads count as processes; the count is per user, so a shared user's own tasks come on top.
    alone = "uid" in layers or "user" in layers
    tasks = 32 + job["processes"] + (0 if alone else _tasks_of(user))
    if "root" in layers:
        tree.enter((user, group), job["file_mb"])
    else:
        os.chown(job["work"], user, group)
        os.chdir(job["work"])
    if "user" not in layers and os.getuid() == 0:
        os.setgroups([])
    _limit(job, tasks)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if "landlock" in layers:
        landlock.restrict([*tree.readable(), "/dev/random", "/dev/urandom"], [".", "/dev/null", "/dev/zero"])
    if "uid" in layers:
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    linux.drop_capabilities()
    if "seccomp" in layers:
        seccomp.install(forks=job["processes"] > 1, other_signals="pid" in layers)


def _identity(number: int, layers: set[str]) -> tuple[int, int]:
    """User and group of the sample: its own where root can give it one."""
    if "uid" not in layers:
        return os.getuid(), os.getgid()
    own = _UNUSED_USERS + number % 1_000_000
    known = [line.split() for line in _read("/proc/self/uid_map").splitlines()]
    if any(int(first) <= own < int(first) + int(count) for first, _, count in known):
        return own, own
    return _NOBODY, _NOBODY


def _limit(job: dict[str, Any], tasks: int) -> None:
    """Set the resource limits; ``tasks`` are the processes and threads that the sample's user may have."""
    mega = 1 << 20
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, job["memory_mb"] * mega),
        (resource.RLIMIT_FSIZE, job["file_mb"] * mega),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, tasks),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"] + 1))


def _tasks_of(user: int) -> int:
    """Threads of all processes of ``user``."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _hand_over(pipe: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(pipe, data) :]
    os.close(pipe)


def _reap(runner: int) -> tuple[int | None, float]:
    """Collect whatever has ended; the runner's status and CPU time in seconds once it is among them."""
    while True:
        try:
            child, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return None, 0.0
        if child == 0:
            return None, 0.0
        if child == runner:
            return status, usage.ru_utime + usage.ru_stime


def _rest(report: int) -> bytes:
    """What is left in the pipe; its other end may still be open in another process of the sample."""
    os.set_blocking(report, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(report, 1 << 16)
    return b""


def end_all(own_namespace: bool) -> None:
    """Kill every process that the sample left and wait until none is there."""
    until = time.monotonic() + _TREE_GONE_S
    while time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for process in [-1] if own_namespace else _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.001)


def _descendants(ancestor: int) -> list[int]:
    """Every process below ``ancestor``, whose orphans become its children."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = int(_read(f"/proc/{name}/stat").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found, unseen = [], [ancestor]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
