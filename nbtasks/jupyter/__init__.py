"""nbtasks in IPython: loading and unloading `%nbtasks`, its completion and how runs are displayed.

What a load changed is remembered per shell, so that loading twice changes nothing and unloading puts
back what was there. The memory is kept here and not in `nbtasks/__init__.py`, because `%reload_ext`
executes that file again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_undo: WeakKeyDictionary[InteractiveShell, list[Callable[[], None]]] = WeakKeyDictionary()


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext nbtasks` does; nothing if it was done already."""
    from nbtasks.jupyter import cells, completion, display, interrupts, magics, terminal, widgets

    if shell not in _undo:
        _undo[shell] = [
            magics.register(shell),
            cells.register(shell),
            completion.register(shell),
            display.register(shell),
            interrupts.register(shell),
            terminal.register(shell),
            widgets.close_all,
        ]


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What `%unload_ext nbtasks` does: the shell is as it was before the load. Runs and the broker go on."""
    for undo in reversed(_undo.pop(shell, [])):
        undo()
