"""The code of a task: its function, and the functions that its options bring along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbtasks import pickling
from nbtasks.pickling.blame import name_of
from nbtasks.tasks import options
from nbtasks.tasks.options import Options


class Code(NamedTuple):
    """What a worker calls."""

    function: Callable[..., Any]
    around: Mapping[str, Any] = {}  # field of `Options` -> what was given for it, if it was


def dump(function: Callable[..., Any], chosen: Options) -> tuple[bytes, str]:
    """Pickle the code of a task; returns the bytes and their digest, raises `NotPicklable`."""
    around = options.around(chosen)
    if not around:
        return pickling.dump_function(function)
    return pickling.dump_function(Code(function, around), name_of(function))


def load(code: bytes) -> Code:
    loaded: Any = pickling.load_function(code)
    return loaded if isinstance(loaded, Code) else Code(loaded)
