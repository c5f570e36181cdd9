"""Generations for several people on one model: who waits, whose turn it is, and what stops it."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from odb_dllm.demo.recording import Recording
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.settings import Setting
from odb_dllm.stream import Conversation, Snapshot, blank, settle, stream

POLL = 0.1  # seconds between two looks at whose turn it is, or at whether to stop


class Turns:
    """A line in which everyone waits for the model; the first in it has its turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: deque[object] = deque()

    @contextmanager
    def ticket(self) -> Iterator[object]:
        """Stand in the line, and leave it at the end, however that comes about."""
        ticket = object()
        with self._lock:
            self._line.append(ticket)
        try:
            yield ticket
        finally:
            with self._lock:
                self._line.remove(ticket)

    def ahead(self, ticket: object) -> int:
        """How many are before a ticket: 0 means that it is its turn."""
        with self._lock:
            return self._line.index(ticket)

    def __len__(self) -> int:
        with self._lock:
            return len(self._line)


@dataclass
class Session:
    """One open tab."""

    conversation: Conversation = field(default_factory=Conversation)
    recordings: list[Recording] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)  # of the generation under way
    busy: bool = False
    closed: bool = False  # nobody is to hear of it any more


class Sessions:
    """The open tabs by gradio's key."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def of(self, key: str | None) -> Session:
        return self._open.setdefault(key or "", Session())

    def close(self, key: str | None) -> None:
        """Forget a tab, and end what it has under way."""
        session = self._open.pop(key or "", None)
        if session is not None:
            session.closed = True
            session.stop.set()

    def __len__(self) -> int:
        return len(self._open)


def generate(
    model: DiffusionModel,
    turns: Turns,
    conversation: Conversation,
    settings: Sequence[Setting],
    stop: threading.Event,
    *,
    pause: float = 0.0,
) -> Generator[list[Recording], None, None]:
    """Answer a conversation's last question under each setting, and yield the recordings as they grow.

    Yields at once, while it waits for its turn, and after each forward. Setting ``stop``, or closing this generator,
    ends it before the next forward.

    Args:
        pause: seconds to wait after each forward, so that a fast model can be followed; counted in no statistic.

    Raises:
        InputError: what ``stream`` and ``Conversation.prompt_ids`` refuse.
        NonFiniteLogits: the model's logits are NaN or infinite.
    """
    # First, as it refuses a canvas that is too long for the model, and perhaps for the memory.
    prompts = [conversation.prompt_ids(model, each.gen_length).ids for each in settings]
    recordings = [Recording(each.name, blank(model, each), model.ids.mask) for each in settings]
    turn = sum(message.role == "user" for message in conversation.messages)
    try:
        with turns.ticket() as ticket:
            while (ahead := turns.ahead(ticket)) and not stop.is_set():
                for each in recordings:
                    each.ahead = ahead
                yield recordings
                stop.wait(POLL)
            for each in recordings:
                each.ahead, each.state = 0, "running"
            yield recordings
            settled = [settle(model, each) for each in settings]
            streams = [
                stream(model, prompt, setting, rule, sequence=turn)
                for prompt, (setting, rule) in zip(prompts, settled, strict=True)
            ]
            yield from _race(streams, recordings, stop, pause)
    except BaseException:
        for each in recordings:
            each.state = "failed"
        raise
    for each in recordings:
        if each.state != "done":
            each.state = "stopped"
    yield recordings


def _race(
    streams: Sequence[Generator[Snapshot, None, None]],
    recordings: list[Recording],
    stop: threading.Event,
    pause: float,
) -> Iterator[list[Recording]]:
    """Run the streams; the next forward is always of the one that has used the least time.

    As the time that one takes is not counted for the other, they advance side by side as if each had the machine to
    itself.
    """
    racing = list(zip(streams, recordings, strict=True))
    try:
        while racing and not stop.is_set():
            running = min(racing, key=lambda each: each[1].seconds)
            running[1].add(next(running[0]))
            if running[1].state == "done":
                racing.remove(running)
            yield recordings
            _sleep(pause, stop)
    finally:
        for each in streams:
            each.close()


def _sleep(seconds: float, stop: threading.Event) -> None:
    """Wait, unless told to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, POLL)):
        pass
