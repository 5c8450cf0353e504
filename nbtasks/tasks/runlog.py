"""The logger that the code of a run has, and who else hears what is logged about runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from nbtasks import context
from nbtasks.tasks.loglines import Lines, logger_of


class RunLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic from Python 3.11 on only
    """Logs in the name of a run."""

    def process(
        self, message: Any, options: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        options["extra"] = {**(options.get("extra") or {}), **(self.extra or {})}
        return message, options


class _OwnLogger(logging.Logger):
    """One that the logging module does not know, so that it ends with its run."""

    def isEnabledFor(self, level: int) -> bool:
        # the inherited one remembers its answers, and only known loggers are told to forget them
        return self.manager.disable < level >= self.getEffectiveLevel()


def get_run_logger() -> RunLogger:
    """A logger of the run that this code is part of: its lines are output of the run, and of its worker.

    It is this run's alone, so a level that is set on it (INFO at first) ends with the run.

    Raises
    ------
    RuntimeError
        This code is not part of a run, or is in a thread that does not know it.
    """
    run = context.current_run()
    if run is None:
        raise RuntimeError(
            "get_run_logger() was called outside of a run: call it in the code of a task (in a thread of "
            "one: within contextvars.copy_context().run), elsewhere use logging.getLogger(__name__)"
        )
    parent = logger_of("nbtasks.runs")
    logger = _OwnLogger(parent.name)
    logger.parent = parent
    return RunLogger(logger, {"task_run": run.name, "task_run_id": run.run})


def also(say: Callable[[str, str], object]) -> None:
    """Tell every line about a run to somebody else, too: called with level and text."""
    logger_of("nbtasks.runs").addHandler(_Also(say))


class _Also(logging.Handler):
    def __init__(self, say: Callable[[str, str], object]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        run = getattr(record, "task_run", None)
        source = record.name if run is None else f"Task run '{run}'"
        text = f"{source} - {record.getMessage()}"
        if record.exc_info:
            text += "\n" + Lines().formatException(record.exc_info)
        self._say(record.levelname, text)
