"""The code of a task, on its way to a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks import pickling
from nbtasks.pickling.blame import name_of
from nbtasks.pickling.code import Code
from nbtasks.tasks import options
from nbtasks.tasks.options import Options


def dump(function: Callable[..., Any], chosen: Options) -> tuple[bytes, str]:
    """Pickle the code of a task; returns the bytes and their digest, raises `NotPicklable`."""
    around = options.around(chosen)
    if not around:
        return pickling.dump_function(function)
    return pickling.dump_function(Code(function, around), name_of(function))
