"""Programs in, outcomes out: starts a warden per program and reads what it says."""

import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

logger = logging.getLogger(__name__)

LAYERS = ("user", "root", "pid", "net", "ipc", "landlock", "seccomp", "uid")
_FOLDER = Path(__file__).resolve().parent
_GRACE_S = 15.0  # for the warden, past the sample's deadline
_DETAIL = 500  # characters
# The interpreter finds the package `inside` and the standard library, nothing else of the project.
_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside import warden; sys.path.pop(0); warden.main()"


class SandboxError(RuntimeError):
    """The sandbox itself failed; the program was not run to a verdict."""


@dataclass(frozen=True)
class Outcome:
    """What came of a program. ``detail`` is the program's own words in part: text to show, never to trust."""

    passed: bool
    reason: str  # passed, failed, timed out, memory, crashed, ended early, lost
    detail: str = ""


@dataclass(frozen=True)
class Limits:
    """What one program may use. Raises ``ValueError`` for limits that are not positive."""

    timeout: float = 10.0  # seconds on the clock, from the start of its interpreter
    cpu: int | None = None  # whole seconds of CPU time; None: as many as on the clock
    memory_mb: int = 1024  # address space of each process, MiB
    file_mb: int = 16  # of the largest file, and of its folder where that has a file system of its own; MiB
    processes: int = 1  # its own included; more than one lets it fork

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"The limit {name} is {value}, but must be more than 0.")


def run(program: str, limits: Limits | None = None, *, layers: Iterable[str] | None = None) -> Outcome:
    """Run ``program`` in the sandbox and wait for its outcome.

    layers: those to use; None: the strongest that this machine allows, found out once.
    Raises ``SandboxError`` where a layer cannot be had or the sandbox fails, ``ValueError`` for an unknown one.
    """
    if layers is None:
        from odb_dllm.sandbox.layers import strongest

        layers = strongest().layers
    limits, layers = limits or Limits(), sorted(layers)
    unknown = next((layer for layer in layers if layer not in LAYERS), None)
    if unknown is not None:
        raise ValueError(f"Unknown layer {unknown!r}; there are {', '.join(LAYERS)}.")
    with TemporaryDirectory(prefix="odb-dllm-sample-", ignore_cleanup_errors=True) as work:
        answer, errors = _warden(_job(program, limits, layers, work), limits.timeout + _GRACE_S)
    try:
        said = json.loads(answer)
    except ValueError:
        why = _printable(errors[-_DETAIL:]) or "the process that watched it was killed"
        logger.warning("A generated program counts as failed, because its sandbox ended: %s", why)
        return Outcome(False, "lost", why)
    if "error" in said:
        raise SandboxError(f"The sandbox could not be set up ({', '.join(layers)}): {_printable(said['error'])}")
    return Outcome(said["reason"] == "passed", said["reason"], _printable(said["detail"]))


def run_many(
    programs: Iterable[str],
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    layers: Iterable[str] | None = None,
) -> list[Outcome]:
    """Outcomes of ``programs`` in their order, ``workers`` at a time (None: as many as there are CPUs)."""
    listed = list(programs)
    chosen = None if layers is None else tuple(layers)
    count = max(1, min(workers or len(os.sched_getaffinity(0)), len(listed)))
    with ThreadPoolExecutor(count, thread_name_prefix="sandbox") as pool:
        try:
            return list(pool.map(partial(run, limits=limits, layers=chosen), listed))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _job(program: str, limits: Limits, layers: list[str], work: str) -> bytes:
    cpu = limits.cpu if limits.cpu is not None else max(1, -int(-limits.timeout // 1))
    job = {
        "program": program,
        "layers": layers,
        "work": work,
        "user": secrets.randbelow(1_000_000),
        "supervisor": os.getpid(),
        "timeout_s": limits.timeout,
        "cpu_s": cpu,
        "memory_mb": limits.memory_mb,
        "file_mb": limits.file_mb,
        "processes": limits.processes,
    }
    return json.dumps(job).encode("ascii")


def _warden(job: bytes, timeout: float) -> tuple[str, str]:
    """What a warden writes on standard output and standard error for ``job``."""
    if sys.platform != "linux":
        raise SandboxError(f"Generated code can be run on Linux alone, and this is {sys.platform}.")
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", _START, str(_FOLDER)]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env={"LC_ALL": "C.UTF-8"}, start_new_session=True
        ) as process:
            try:
                answer, errors = process.communicate(job, timeout)
            except BaseException:
                process.kill()
                raise
    except subprocess.TimeoutExpired:
        return "", f"no answer within {timeout:g} s"
    except OSError as error:
        raise SandboxError(f"The sandbox could not be started: {error}") from error
    return answer.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def _printable(text: str) -> str:
    """One short line without control characters, whatever a program put into it."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_DETAIL])
    return shown[:_DETAIL]
