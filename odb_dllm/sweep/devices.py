"""Where cells run: a slot per GPU, or any number of them on the CPU."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from odb_dllm.errors import InputError

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
ACCEPTED = "it takes numbers such as 0,1, or all, or cpu"
MARK = "The GPUs are:"  # comes before their names, whatever else is printed
NAMES = (
    "import torch; "
    f"print({MARK!r}, *map(torch.cuda.get_device_name, range(torch.cuda.device_count())), sep='\\n', flush=True)"
)


@dataclass(frozen=True, eq=False)
class Slot:
    """Room for one cell at a time."""

    name: str  # for people
    device: str  # as the process of a cell sees it: cuda or cpu
    environment: Mapping[str, str]  # that makes it see no other


def slots(words: str, usable: int, environment: Mapping[str, str], cores: int) -> list[Slot]:
    """The slots that --gpus asks for; raises ``InputError``.

    Args:
        words: numbers among the GPUs that are usable here, ``all``, ``cpu``, or several times ``cpu``.
        usable: how many GPUs there are.
        environment: this process's; GPUs that it hides have no number.
        cores: that the slots share, unless the environment says how many threads each may have.
    """
    names = [word.strip().lower() for word in words.split(",") if word.strip()]
    if not names:
        raise InputError(f"--gpus {words!r} names no device: {ACCEPTED}.")
    if names == ["all"]:
        names = [str(number) for number in range(usable)]
    threads = {} if THREADS in environment else {THREADS: str(max(1, cores // max(1, len(names))))}
    if names and set(names) == {"cpu"}:
        numbered = [f"cpu {number}" if len(names) > 1 else "cpu" for number in range(1, len(names) + 1)]
        return [Slot(name, "cpu", {VISIBLE: "", **threads}) for name in numbered]
    visible = [word.strip() for word in environment.get(VISIBLE, "").split(",") if word.strip()]
    numbers = _numbers(names, usable)
    return [
        Slot(f"GPU {number}", "cuda", {VISIBLE: visible[number] if visible else str(number), **threads})
        for number in numbers
    ]


def _numbers(names: Sequence[str], usable: int) -> list[int]:
    if "cpu" in names:
        raise InputError(f"--gpus {','.join(names)} mixes GPUs and cpu, which is not possible: {ACCEPTED}.")
    if not all(name.isdecimal() for name in names):
        raise InputError(f"--gpus {','.join(names)} names no GPUs: {ACCEPTED}.")
    if not usable:
        raise InputError("No GPU is usable here: give --gpus cpu to run on the processor.")
    numbers = [int(name) for name in names]
    if len(set(numbers)) < len(numbers):
        raise InputError("--gpus names a GPU twice, and cells run one per GPU.")
    if absent := [number for number in numbers if number >= usable]:
        there = "GPU 0 alone is" if usable == 1 else f"GPUs 0 to {usable - 1} are"
        raise InputError(f"GPU {absent[0]} was asked for, and {there} usable here.")
    return numbers


def find(words: str) -> list[Slot]:
    """The slots on this machine."""
    import torch

    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return slots(words, usable, os.environ, cores)


def gpu_name(of: Sequence[Slot]) -> str | None:
    """The name that all of the GPUs have, None for the CPU; raises ``InputError`` where they differ.

    A process of its own asks for it, so that this one takes no room on them.
    """
    if of[0].device == "cpu":
        return None
    environment = {**os.environ, VISIBLE: ",".join(slot.environment[VISIBLE] for slot in of)}
    done = subprocess.run([sys.executable, "-c", NAMES], env=environment, capture_output=True, text=True)
    names = done.stdout.partition(f"{MARK}\n")[2].splitlines()
    if done.returncode or len(names) != len(of):
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"The GPUs could not be asked for their names: {said}")
    if len(set(names)) > 1:
        named = ", ".join(f"{slot.name} is {name}" for slot, name in zip(of, names, strict=True))
        raise InputError(f"A table's times must be of one kind of GPU, and {named}: give --gpus of one kind.")
    return names[0]
