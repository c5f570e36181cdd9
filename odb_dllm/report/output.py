"""Keeps what lm-eval prints, logs and draws away from the terminal, which belongs to one line per cell."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what is printed and logged to a file."""
    loggers = [logging.getLogger(), logging.getLogger("lm_eval")]  # the latter has a handler and a level of its own
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    with path.open("a", encoding="utf-8", buffering=1) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for logger in loggers:
            logger.handlers[:] = [handler] if logger.handlers or logger.parent is None else []
        loggers[1].setLevel(logging.INFO)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for logger, handlers, level in before:
                logger.handlers[:] = handlers
                logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop progress bars and notes on what takes no time; warnings pass."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
