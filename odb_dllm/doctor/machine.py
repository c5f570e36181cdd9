"""The machine: GPUs and their driver, CPU threads, what computes attention, what confines generated code."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import torch

from odb_dllm.doctor.finding import PIP, Finding
from odb_dllm.doctor.packages import declared


def gpu() -> Iterator[Finding]:
    """CUDA devices as torch sees them, and the driver."""
    driver, boards = _nvidia_smi()
    built = torch.version.cuda
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            size = about.total_memory / 2**30
            text = f"{about.name}, {size:.0f} GiB, driver {driver or 'unknown'}, torch for CUDA {built}"
            yield Finding("ok", f"gpu {index}", text)
        return
    if not boards:
        yield Finding("ok", "gpu", "none found: runs use the CPU")
    elif built is None:
        text = f"{boards} found, but torch {torch.__version__} is a build for the CPU"
        wanted = next((r.specifier for r in declared() if r.name == "torch"), "")
        yield Finding("warning", "gpu", text, f'{PIP} --force-reinstall "torch{wanted}"')
    elif "CUDA_VISIBLE_DEVICES" in os.environ:
        hidden = os.environ["CUDA_VISIBLE_DEVICES"]
        yield Finding(
            "warning", "gpu", f"{boards} found, hidden by CUDA_VISIBLE_DEVICES={hidden!r}", "unset CUDA_VISIBLE_DEVICES"
        )
    else:
        text = f"{boards} found, but driver {driver} does not serve torch's CUDA {built}: update the driver"
        yield Finding("warning", "gpu", text, "sudo apt-get install --only-upgrade 'nvidia-driver-*'")


def _nvidia_smi() -> tuple[str | None, str | None]:
    """Driver version, and the boards' names; None where there is no such tool or no board."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None, None
    query = [tool, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    rows = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not rows:
        return None, None
    return rows[0][0], f"{len(rows)} x {rows[0][1]}"


def threads() -> Finding:
    """CPU threads against the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = torch.get_num_threads()
    text = f"{count} threads on {cores} cores"
    if count > cores:
        return Finding("warning", "cpu", f"{text}: they wait for each other", f"export OMP_NUM_THREADS={cores}")
    return Finding("ok", "cpu", text)


def kernels() -> Finding:
    """What computes attention."""
    if not torch.cuda.is_available():
        return Finding("ok", "attention", "torch SDPA on the CPU")
    backends = torch.backends.cuda
    known = {
        "flash": backends.flash_sdp_enabled(),
        "memory-efficient": backends.mem_efficient_sdp_enabled(),
        "cudnn": getattr(backends, "cudnn_sdp_enabled", lambda: False)(),
        "math": backends.math_sdp_enabled(),
    }
    enabled = ", ".join(name for name, on in known.items() if on)
    return Finding("ok", "attention", f"torch SDPA, which chooses among {enabled}")


def sandbox() -> Iterator[Finding]:
    """What confines the code that humaneval and mbpp run."""
    try:
        from odb_dllm.sandbox import SandboxError, capabilities
    except ImportError as error:  # of what only some systems have
        yield Finding("warning", "sandbox", f"humaneval and mbpp cannot be scored here: {error}")
        return
    try:
        found: Any = capabilities()
    except SandboxError as error:
        yield Finding("warning", "sandbox", f"humaneval and mbpp cannot be scored here: {error}")
        return
    layers, missing = found["layers"], found["missing"]
    gaps = [f"{name} {text}" for name, text in found.items() if str(text).startswith("OPEN")]
    yield Finding("ok", "sandbox", f"generated code runs behind {', '.join(layers) or 'limits alone'}")
    if gaps or missing:
        causes = [f"no {layer} ({cause})" for layer, cause in missing.items()]
        mend = "sudo sysctl -w user.max_user_namespaces=15000"
        yield Finding("warning", "sandbox", "; ".join([*gaps, *causes]), mend)
