"""What would wait for somebody at a keyboard: refused in a run, whose stdin is empty.

A client that is attached to the worker can answer, so for its code all is as in any kernel.
"""

from __future__ import annotations

import builtins
import getpass
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from nbtasks.worker import capture


def install(shell: Any) -> None:
    """Have input() and %debug say to a run what to do instead of them."""
    own = sys.stdin
    # a run may put answers of its own in its place
    builtins.input = _refused(builtins.input, lambda: sys.stdin is own)
    getpass.getpass = _refused(getpass.getpass)
    for table in shell.magics_manager.magics.values():
        if "debug" in table:
            table["debug"] = _refused(table["debug"])


def refuse(*args: Any, **options: Any) -> NoReturn:
    """What breakpoint() does in a run; the debugger would stop in any function put around it."""
    raise RuntimeError(
        "nobody can answer in a run, so it has no input(), %debug or breakpoint(): give a task the answer as "
        "an argument, a cell as a name of the notebook; run.rerun(here=True) calls it where they work"
    )


def _always() -> bool:
    return True


def _refused(ask: Callable[..., Any], is_empty: Callable[[], bool] = _always) -> Callable[..., Any]:
    @wraps(ask)
    def asks(*args: Any, **options: Any) -> Any:
        if capture.is_of_run() and is_empty():
            refuse()
        return ask(*args, **options)

    return asks
