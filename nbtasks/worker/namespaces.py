"""The namespaces of sticky runs: what one of them assigns to a global, the next one finds.

Code that travelled brings the globals that it uses. Of these, functions and whatever its submitter has
changed since the last run are taken over; for the rest the namespace has what runs made of it.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable
from typing import Any

from nbtasks import pickling


class Namespaces:
    """Those of one worker, by name."""

    def __init__(self) -> None:
        self._globals: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, dict[str, bytes]] = {}  # digests of what submitters sent

    def bound(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with this namespace as its globals; one of an importable module has its module's."""
        if not isinstance(function, types.FunctionType) or _is_of_module(function):
            return function
        shared = self._globals.setdefault(name, {})
        seen = self._seen.setdefault(name, {})
        own = function.__globals__
        for key, value in own.items():
            if isinstance(value, types.FunctionType) and value.__globals__ is own:
                shared[key] = _with_globals(value, shared)
            elif (digest := _digest(value)) != seen.get(key) or key not in shared:
                shared[key], seen[key] = value, digest
        return _with_globals(function, shared)


def _is_of_module(function: types.FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    return isinstance(module, types.ModuleType) and vars(module) is function.__globals__


def _digest(value: Any) -> bytes:
    try:
        return hashlib.blake2b(pickling.dumps(value), digest_size=16).digest()
    except Exception:
        return b""


def _with_globals(function: types.FunctionType, namespace: dict[str, Any]) -> types.FunctionType:
    made = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__, made.__module__, made.__doc__ = (
        function.__qualname__,
        function.__module__,
        function.__doc__,
    )
    return made
