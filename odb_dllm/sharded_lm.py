"""What lm-eval asks of a model whose processes share the documents, and how their statistics become one."""

import socket
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from torch import Tensor

from odb_dllm import data_parallel
from odb_dllm.progress import Progress
from odb_dllm.statistics import Failure, Recorder, Row, Totals
from odb_dllm.tasks import shares

shares.attach()


@dataclass(frozen=True)
class Share:
    """What one process has done since it last told."""

    host: str
    device: str
    rows: list[Row]
    failures: list[Failure]
    wall_seconds: float  # since it began
    files: list[bytes]  # what its own files of statistics hold


class ShardedLM(TemplateLM):
    """A model that answers its process's share of the requests; alone, all of them.

    lm-eval calls ``barrier`` after each kind of request; the first process has the statistics of all from then on.
    """

    recorder: Recorder

    def __init__(self) -> None:
        super().__init__()
        self.processes = data_parallel.join()
        self._rank, self._world_size = self.processes.rank, self.processes.size
        if self._rank and "lm_eval._cli.run" in sys.modules:  # a command, not somebody's program
            data_parallel.hush()
        self._progress: Progress | None = None
        self._places: list[dict[str, str]] = []  # host and device of each process

    def device_name(self) -> str:
        """The GPU's name, or cpu."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def progress(self, description: str, total: int, disable: bool) -> Progress:
        """A bar for these requests; where there are several processes, ``barrier`` closes it."""
        self._progress = Progress(self.processes, description, total, disable)
        return self._progress

    def all_gather(self, tensor: Tensor) -> Tensor:
        """This process's count of requests in place of each other's.

        lm-eval pads the requests until all processes have as many. These need no lockstep: to none, any seem missing.
        """
        return tensor.repeat(self.world_size)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        gathered = self.processes.gather(obj)
        return None if gathered is None else [shares.complete(each) for each in gathered]

    def barrier(self) -> None:
        """Wait for the other processes, and put the statistics of all together in the first."""
        progress, self._progress = self._progress, None
        told = self.processes.gather(self._share(), progress.look if progress else None)
        if progress:
            progress.look()
            progress.close()
        if told:
            self._places = [{"host": share.host, "device": share.device} for share in told]
            for rank, share in enumerate(told[1:], start=1):
                self._take(rank, share)
        written = self.processes.broadcast(not any(writer.error for writer in self.recorder.writers))
        if self.rank:
            self.recorder.rows.clear()
            self.recorder.failures.clear()
            for writer in self.recorder.writers:
                if written and not writer.error:
                    writer.remove()

    def _share(self) -> Share:
        recorder = self.recorder
        paths = [writer.path for writer in recorder.writers if self.rank]
        files = [path.read_bytes() if path.is_file() else b"" for path in paths]
        where = (socket.gethostname(), self.device_name())
        return Share(*where, recorder.rows, recorder.failures, recorder.wall_seconds, files)

    def _take(self, rank: int, share: Share) -> None:
        self.recorder.rows.extend(share.rows)
        self.recorder.failures.extend(share.failures)
        self.recorder.elsewhere[rank] = share.wall_seconds
        for writer, data in zip(self.recorder.writers, share.files, strict=True):
            if data:
                writer.write(data)

    def by_process(self) -> dict[str, Totals]:
        """Totals of each process over its own wall time; by rank, device and host."""
        names = (f"{rank}: {place['device']} of {place['host']}" for rank, place in enumerate(self._places))
        return dict(zip(names, self.recorder.by_process(), strict=True))

    def speeds(self) -> dict[str, Any]:
        """Totals of the run, by task and, where there are several processes, of each."""
        recorder = self.recorder
        found: dict[str, Any] = {
            "failures": [asdict(failure) for failure in recorder.failures],
            "totals": asdict(recorder.totals()),
            "tasks": {task: asdict(totals) for task, totals in recorder.by_task().items()},
            "world_size": self.world_size,
        }
        if self.world_size > 1:
            each = [asdict(totals) for totals in recorder.by_process()]
            seconds = sum(totals["wall_seconds"] for totals in each)
            found["tokens_per_second_per_process"] = found["totals"]["tokens"] / seconds if seconds else None
            found["per_process"] = [{**place, **totals} for place, totals in zip(self._places, each, strict=True)]
        return found
