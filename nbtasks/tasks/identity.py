"""What a function is called, by people and by tables, and how to find it by that name."""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def key_of(function: Callable[..., Any]) -> str:
    """What tells a task from others, the same in every process that has its code: `module:qualname`.

    The module of a script is its file's stem, as if it were imported; that of a notebook is "notebook".
    """
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{_main_module() if module == '__main__' else module}:{qualname_of(function)}"


def _main_module() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")  # started by `python -m`
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "notebook"


def qualname_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def source_digest(function: Callable[..., Any]) -> str:
    """A short digest of the function's source, for people who ask which version ran; "" if there is none."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError, ValueError):
        source = getattr(function, "source", "")  # a cell and a notebook have it themselves
    if not isinstance(source, str) or not source:
        return ""
    return hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=6).hexdigest()


def found(module: str, qualname: str) -> Any:
    """What a module holds under this name; None if there is nothing."""
    if module not in sys.modules:
        __import__(module)
    value: Any = sys.modules[module]
    for name in qualname.split("."):
        if not isinstance(value, (type, types.ModuleType)):
            return None
        value = vars(value).get(name)
    return value
