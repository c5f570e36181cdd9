"""Two thousand generations of the embedded model in one process: nothing grows, nothing is left over."""

import os
import threading
from pathlib import Path

import pytest

from odb_dllm import DiffusionModel, generate

GENERATIONS, WARM = 2000, 100


def resident() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_threads_and_files_stay_as_they_are(tiny: DiffusionModel) -> None:
    assert tiny.tokenizer is not None
    prompts = [tiny.tokenizer.encode(f"Question: {n} plus {n % 7}?\nAnswer:") for n in range(20)]
    settings = ("jump-share", "fast_dllm_baseline", "streaming", "parallel")
    for index in range(GENERATIONS):
        if index == WARM:
            before = (resident(), threading.active_count(), len(os.listdir("/proc/self/fd")))
        generate(tiny, prompts[index % 20], setting=settings[index % 4], gen_length=32, block_length=32, threshold=0.1)
    memory, threads, files = before
    assert resident() - memory < 20
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
