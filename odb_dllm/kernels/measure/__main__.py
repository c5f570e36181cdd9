"""The command: measure all kernels, each in a process of its own, so that one that breaks takes no other with it."""

import argparse
import os
import subprocess
import sys
import time

import torch

from odb_dllm.kernels import available

COMPILERS = {"attend": 6, "layer": 0}  # processes that compile a kernel's candidates at a time; else 1
ABOUT = """Measure the fused kernels on this machine's GPU, at the shapes of a model's steps. A line is a kernel at a
shape (tokens or rows; for attention then cached slots and sequences): time of a call in a CUDA graph, bytes that it
has to move over that time, the same by the models' own code, and both errors against float64 (norm of the difference
over norm of the truth)."""


def main() -> int:
    """Measure what the arguments ask for; 0, or 1 where there is no GPU or something failed."""
    parser = argparse.ArgumentParser(prog="python -m odb_dllm.kernels.measure", description=ABOUT)
    parser.add_argument("--model", choices=["llada", "dream"], default="llada", help="whose shapes (default: llada)")
    parser.add_argument("--kernel", help="only this one, in this process")
    parser.add_argument("--sweep", action="store_true", help="also try other tiles; print the fastest for each shape")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a kernel may take (default: 300)")
    parser.add_argument("--compile", metavar="I/K", help=argparse.SUPPRESS)  # that share of the candidates, untimed
    arguments = parser.parse_args()
    found, why = available()
    if not (found and torch.cuda.is_available()):
        print(f"Nothing can be measured here: {why or 'there is no CUDA device.'}", file=sys.stderr)
        return 1
    from odb_dllm.kernels.measure.cases import KERNELS, MODELS
    from odb_dllm.kernels.measure.one import compile_ways, measure

    if not arguments.kernel:
        return _each_in_a_process(arguments, list(KERNELS))
    if arguments.kernel not in KERNELS:
        parser.error(f"--kernel: {arguments.kernel!r} is none of {', '.join(KERNELS)}")
    if arguments.compile:
        compile_ways(arguments.kernel, MODELS[arguments.model], *map(int, arguments.compile.split("/")))
        return 0
    return min(measure(arguments.kernel, MODELS[arguments.model], arguments.sweep), 1)


def _each_in_a_process(arguments: argparse.Namespace, kernels: list[str]) -> int:
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.model}", flush=True)
    command = [sys.executable, "-m", "odb_dllm.kernels.measure", "--model", arguments.model]
    if arguments.sweep:
        _compile(command, kernels, arguments.timeout)
        command.append("--sweep")
    failed = 0
    for kernel in kernels:
        try:
            failed |= subprocess.run([*command, "--kernel", kernel], timeout=arguments.timeout).returncode != 0
        except subprocess.TimeoutExpired:
            print(f"{kernel}: ended after {arguments.timeout:g} s", flush=True)
            failed = 1
    return failed


def _compile(command: list[str], kernels: list[str], timeout: float) -> None:
    """Fill Triton's cache on disk in many processes, since compiling takes far longer than measuring."""
    started = time.perf_counter()
    running = []
    for kernel in kernels:
        shares = COMPILERS.get(kernel, 1)
        for share in range(shares):
            running.append(
                subprocess.Popen(
                    [*command, "--kernel", kernel, "--compile", f"{share}/{shares}"],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
    for process in running:
        try:
            process.wait(max(1.0, started + timeout - time.perf_counter()))
        except subprocess.TimeoutExpired:
            process.kill()
    print(f"compiled in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
