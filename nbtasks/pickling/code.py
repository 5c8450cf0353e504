"""The code of a task as it travels: its function, and the functions that its options bring along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbtasks.pickling.values import load_function


class Code(NamedTuple):
    """What a worker calls."""

    function: Callable[..., Any]
    around: Mapping[str, Any] = {}  # field of the task's `Options` -> what was given for it, if it was


def load_code(code: bytes) -> Code:
    loaded: Any = load_function(code)
    return loaded if isinstance(loaded, Code) else Code(loaded)
