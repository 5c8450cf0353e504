"""`!cmd` and `x = !cmd` in a run: an interrupt ends the run, not only the command.

IPython takes an interrupt to itself while a command runs, tells the command, and goes on with the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ipykernel import zmqshell
from IPython.core import interactiveshell

from nbtasks.runners.signals import Interrupts


def install(interrupts: Interrupts) -> None:
    """Have commands of shells in this process end so."""
    # the functions under the shell's methods: these look at the frame that calls them
    for module, name in ((zmqshell, "system"), (interactiveshell, "getoutput")):
        setattr(module, name, _renewing(getattr(module, name), interrupts))


def _renewing(function: Callable[..., Any], interrupts: Interrupts) -> Callable[..., Any]:
    @wraps(function)
    def renewing(*args: Any, **kwargs: Any) -> Any:
        done = function(*args, **kwargs)
        interrupts.renew()
        return done

    return renewing
