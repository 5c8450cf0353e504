"""Where an interrupt detaches from a wait: in the cell of a notebook and at the prompt of IPython.

It is told by the handler of SIGINT. A kernel has Python's own while a cell is executed and ignores the
signal in between; a handler that the user set is his.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from nbtasks.run import detaching

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Let whoever waits in `shell` leave; returns what takes that back."""
    key = "Ctrl-C" if getattr(shell, "kernel", None) is None else "■"
    return detaching.install(detaching.Desk(key, partial(cell_of, shell)))


def cell_of(shell: InteractiveShell) -> str:
    """The cell that the main thread executes, if an exception would end it and nothing else; else ""."""
    handler = signal.getsignal(signal.SIGINT)
    of_await = getattr(handler, "__module__", "") == "ipykernel.ipkernel"
    if handler is not signal.default_int_handler and not (of_await and _is_in_cell_itself()):
        return ""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return f"In [{shell.execution_count}]"
    # not its number, which is always the same for tools that execute notebooks
    return str(kernel.get_parent().get("header", {}).get("msg_id", ""))


def _is_in_cell_itself() -> bool:
    """Of a cell with `await`: whether this is its own code.

    In a task that it started, a KeyboardInterrupt would leave the kernel's loop and end the kernel.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and getattr(task.get_coro(), "__name__", "") == "run_cell_async"
