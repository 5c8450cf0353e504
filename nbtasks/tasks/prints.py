"""Prints of a task with `log_prints`, turned into log lines: those of its thread of execution alone."""

from __future__ import annotations

import builtins
import sys
import threading
from contextvars import ContextVar
from typing import Any

from nbtasks.tasks import loglines

_prints_of: ContextVar[str | None] = ContextVar("nbtasks_prints", default=None)
_plain_print = builtins.print
_users = 0
_users_lock = threading.Lock()


class LoggedPrints:
    """Turns what this thread of execution prints to stdout into log lines."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        global _users, _plain_print
        with _users_lock:
            if not _users:
                _plain_print = builtins.print
                builtins.print = _print
            _users += 1
        self._token = _prints_of.set(self._name)

    def __exit__(self, *exc: object) -> None:
        global _users
        _prints_of.reset(self._token)
        with _users_lock:
            _users -= 1
            if not _users and builtins.print is _print:
                builtins.print = _plain_print


def _print(
    *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
) -> None:
    name = _prints_of.get()
    if name is None or file not in (None, sys.stdout):
        _plain_print(*values, sep=sep, end=end, file=file, flush=flush)
    else:
        loglines.printed(name, (" " if sep is None else sep).join(map(str, values)))
