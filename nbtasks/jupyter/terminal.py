"""IPython in a terminal: a line with a bar while a call waits for many runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbtasks import views
from nbtasks.run import bars

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_ERASE = "\r\x1b[K"


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Draw bars, if `shell` has a terminal; returns what takes that back."""
    if getattr(shell, "kernel", None) is not None or not sys.stderr.isatty():
        return lambda: None
    return bars.install(draw, erase)


def draw(done: int, total: int) -> None:
    # what is printed next goes over it
    print(f"{_ERASE}{views.bar_text(done, total)}\r", end="", file=sys.stderr, flush=True)


def erase() -> None:
    print(_ERASE, end="", file=sys.stderr, flush=True)
