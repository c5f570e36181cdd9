"""One line per cell: live on a terminal, at the start and at the end elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

from odb_dllm.report.cells import Cell, Key
from odb_dllm.report.documents import Document
from odb_dllm.report.estimate import spoken
from odb_dllm.statistics import Row


class Progress:
    """Says how far a table is, on stderr as it was when this was made: cells send theirs to a file."""

    def __init__(self, count: int, expected: Mapping[Key, float]) -> None:
        """``count``: all cells; ``expected``: seconds that each of those to be run will take."""
        self.stream: TextIO = sys.stderr
        self.count = count
        self.expected = dict(expected)
        self.begun = 0
        self._spent = self._foreseen = 0.0  # seconds of the cells that have ended: taken, and as estimated

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def skip(self, cell: Cell) -> None:
        self.begun += 1
        self.say(f"{self._name(cell)}: finished before")

    def start(self, cell: Cell, done: Mapping[Document, Row]) -> "Line":
        self.begun += 1
        return Line(self, cell, done)

    def ended(self, cell: Cell, taken: float) -> str:
        """Count a cell; say what is left, the estimate corrected by how it held so far."""
        self._spent += taken
        self._foreseen += self.expected.pop(cell.key, 0.0)
        left = sum(self.expected.values())
        if not left:
            return ""
        return f"; about {spoken(left * self._spent / max(self._foreseen, 1e-9))} left"

    def _name(self, cell: Cell) -> str:
        return f"[{self.begun:{len(str(self.count))}}/{self.count}] {cell.task} {cell.setting}"


class Line:
    """The line of one cell."""

    def __init__(self, progress: Progress, cell: Cell, done: Mapping[Document, Row]) -> None:
        self.progress, self.cell = progress, cell
        self.name = progress._name(cell)
        self.live = progress.stream.isatty()
        self.new: list[Row] = []
        self.started = time.perf_counter()
        self.bar = tqdm(
            desc=self.name,
            total=cell.size,
            initial=len(done),
            file=progress.stream,
            leave=False,
            disable=not self.live,
            dynamic_ncols=True,
        )
        if not self.live:
            before = f", {len(done)} of them answered before" if done else ""
            progress.say(f"{self.name}: {cell.size} documents{before}")

    def row(self, row: Row) -> None:
        """A document is answered."""
        self.new.append(row)
        self.bar.set_postfix_str(self._pace(), refresh=False)
        self.bar.update()

    def end(self, outcome: str) -> None:
        """``outcome``: what the cell came to."""
        self.bar.close()
        taken = time.perf_counter() - self.started
        pace = f", {self._pace()}" if self.new else ""
        self.progress.say(f"{self.name}: {outcome}{pace}, {taken:.1f} s{self.progress.ended(self.cell, taken)}")

    def close(self) -> None:
        self.bar.close()

    def _pace(self) -> str:
        wall = sum(row.wall_seconds for row in self.new)
        speed = sum(row.tokens for row in self.new) / max(wall, 1e-9)
        return f"NFE {sum(row.nfe for row in self.new) / len(self.new):.1f}, {speed:.1f} tokens/s"
