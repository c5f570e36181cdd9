"""What the tests share: small models on disk and in memory."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from checkpoints import Checkpoint

from odb_dllm import DiffusionModel, load_model

DEVICE = os.environ.get("ODB_DLLM_TEST_DEVICE", "cpu")  # cuda runs the goldens and the fuzzing there
os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches out
os.environ["HF_DATASETS_OFFLINE"] = "1"
# Of processes that tests start: they find this package, and beside it whatever this process finds.
PATHS = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PATHS)}
# A shell's background jobs ignore Ctrl-C, and so would all that they start: tests of interrupts would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The matrices are tiny, and the tests run side by side: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an empty folder, offline and without local data."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DATA_DIR", raising=False)
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DiffusionModel]:
    """Write a checkpoint and load it: ``model_of(checkpoint, dtype="float64")``."""
    folders: dict[int, tuple[Checkpoint, Path]] = {}

    def load(checkpoint: Checkpoint, dtype: str = "float64") -> DiffusionModel:
        known = folders.get(id(checkpoint))
        if known is None or known[0] is not checkpoint:
            folder = checkpoint.write(tmp_path_factory.mktemp("checkpoint"))
            folders[id(checkpoint)] = known = (checkpoint, folder)
        return load_model(known[1], device=DEVICE, dtype=dtype)

    return load


@pytest.fixture(scope="session")
def tiny() -> DiffusionModel:
    """The embedded model."""
    return load_model("tiny", device="cpu", dtype="float32")
