"""One progress bar for all processes of an evaluation, with their speed together."""

import time
from collections import Counter
from types import TracebackType

from tqdm import tqdm

from odb_dllm.data_parallel import Processes

COUNTS = ("requests", "done", "tokens", "nfe")


class Progress:
    """Counts what all processes have done; the first of them draws.

    As a context, it is closed at the end only where this process is alone: others may go on.

    Args:
        processes: those that share the work.
        description: what is being done.
        total: requests of this process.
        disable: draw nothing.
    """

    def __init__(self, processes: Processes, description: str, total: int, disable: bool = False) -> None:
        self._processes = processes
        self._keys = {name: f"progress/{processes.exchanges}/{description}/{name}" for name in COUNTS}
        self._started = time.perf_counter()
        self._counts: Counter[str] = Counter()
        self._bar = tqdm(total=total, desc=description, disable=disable or processes.rank != 0)
        self._count(requests=total)

    def update(self, tokens: int = 0, nfe: int = 0) -> None:
        """One more request is done, with so many tokens and forwards."""
        self._count(done=1, tokens=tokens, nfe=nfe)
        self._draw()

    def look(self) -> None:
        """Draw what the other processes have done meanwhile."""
        self._count()
        self._draw()

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind or self._processes.size == 1:
            self.close()

    def _count(self, **more: int) -> None:
        if self._processes.size == 1:
            self._counts.update(more)
        else:
            for name, key in self._keys.items():
                self._counts[name] = self._processes.add(key, more.get(name, 0))

    def _draw(self) -> None:
        if self._bar.disable:
            return
        counts, bar = self._counts, self._bar
        bar.total = counts["requests"]
        if counts["tokens"]:
            speed = counts["tokens"] / max(time.perf_counter() - self._started, 1e-9)
            together = f" by {self._processes.size} processes" if self._processes.size > 1 else ""
            said = f"{speed:.1f} tokens/s{together}, NFE {counts['nfe'] / counts['done']:.1f}"
            bar.set_postfix_str(said, refresh=False)
        bar.update(counts["done"] - bar.n)
