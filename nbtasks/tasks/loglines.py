"""The lines that submitting and running a task write to stderr, in the form that users know.

A program that configures the logger `nbtasks` itself gets the records instead of the lines. Where runs
show themselves, nothing is written of their being made: in a notebook it would stand in red above each.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

_displays: list[object] = []  # faces in which runs show themselves


class Lines(logging.Formatter):
    """`22:56:01.765 | INFO    | nbtasks.tasks - …`; lines about a run name the run instead of the logger."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._clock = ""

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            # writing the time costs more than all the rest of the line
            self._second, self._clock = second, time.strftime("%H:%M:%S", time.localtime(second))
        run = getattr(record, "task_run", None)
        source = record.name if run is None else f"Task run '{run}'"
        milliseconds = int(record.created % 1 * 1000)
        line = f"{self._clock}.{milliseconds:03d} | {record.levelname:<7} | {source} - {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # generic from Python 3.11 on only
    """Writes to what `sys.stderr` is when a line is written: notebooks and tests replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(Lines())

    @property
    def stream(self) -> Any:
        return sys.stderr

    def handle(self, record: logging.LogRecord) -> Any:
        # before Python 3.13 logging takes its lock outside of a `try`: a thread that is interrupted there, by
        # a time-out of a run in it, would keep it for ever
        passed = self.filter(record)
        if passed and self.lock is not None:
            with self.lock:
                self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        stderr = sys.stderr
        if stderr is None or (_displays and getattr(record, "shows_itself", False)):
            return
        try:
            stderr.write(self.format(record) + self.terminator)
            stderr.flush()
        except Exception:
            self.handleError(record)


def logger_of(name: str) -> logging.Logger:
    top = logging.getLogger("nbtasks")
    if not top.handlers:
        top.addHandler(_Stderr())
        top.propagate = False
        if top.level == logging.NOTSET:
            top.setLevel(logging.INFO)
    return logging.getLogger(name)


def leave_to_displays() -> Callable[[], None]:
    """Write nothing of runs that are made, since they show themselves; returns what takes that back.

    It is still logged, for handlers that the user added.
    """
    display = object()
    _displays.append(display)

    def take_back() -> None:
        if display in _displays:
            _displays.remove(display)

    return take_back


def created(name: str, number: int = 1, page: str = "") -> None:
    """Runs were made; `page` is where a dashboard shows it."""
    logger, extra = logger_of("nbtasks.tasks"), {"shows_itself": True}
    if page:
        logger.info("Created task run '%s'. View it in the UI at '%s'", name, page, extra=extra)
    elif number == 1:
        logger.info("Created task run '%s'.", name, extra=extra)
    else:
        logger.info("Created %d task runs '%s'.", number, name, extra=extra)


def serving(names: list[str]) -> None:
    logger = logger_of("nbtasks.worker")
    logger.info("Starting task worker...")
    logger.info("Subscribing to runs of task(s): %s", " | ".join(names))


def printed(name: str, text: str) -> None:
    """What a run in this process printed, of a task with `log_prints`."""
    logger_of("nbtasks.runs").info("%s", text, extra={"task_run": name})


def raised(name: str, words: str, error: BaseException) -> None:
    """User code around a run raised: a hook, or a condition."""
    logger_of("nbtasks.runs").error("%s", words, exc_info=error, extra={"task_run": name})


def uncached(name: str, reason: str) -> None:
    """A call has no cache key."""
    logger_of("nbtasks.tasks").warning("Task %r: %s", name, reason)


def retrying(name: str, attempt: int, error: BaseException, delay_s: float) -> None:
    """A run in this process failed and will be tried again."""
    words = "Attempt %d failed with %s: %s; it is tried again in %g s"
    logger = logger_of("nbtasks.runs")
    logger.warning(words, attempt, type(error).__name__, error, delay_s, extra={"task_run": name})
