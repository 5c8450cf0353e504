"""`__main__` as the code of a run finds it: with the names that it brought along from there.

pickle looks functions and classes of `__main__` up by their names, and so does whatever hands work to other
processes or saves objects to files. What works for code of a notebook has to work for it in a run.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from cloudpickle import cloudpickle

MAIN = "__main__"
WRAPPERS_MAX = 10  # around a function, through which is looked


class Main:
    """Stands in `sys.modules` for the module `__main__`.

    Parameters
    ----------
    names
        What it has; the dictionary itself, so that an assignment to the one is seen in the other.

    Attributes
    ----------
    brought
        Values that came in another way: what they are made of is found by name, too.
    """

    __slots__ = ("__dict__", "brought")

    __name__ = MAIN
    __spec__ = None

    def __init__(self, names: dict[str, Any], brought: tuple[Any, ...] = ()) -> None:
        self.__dict__ = names
        self.brought = brought

    @property
    def __file__(self) -> str:
        # a process that is spawned would execute that file to get its names, submits and all
        raise AttributeError("this __main__ is no file")

    def __getattr__(self, name: str) -> Any:
        for value in _named(self.brought, name):
            return value
        raise AttributeError(f"module '__main__' has no attribute {name!r}")

    def __repr__(self) -> str:
        # pickle says this of a name that it looked for
        return "<module '__main__' of a run: it has what the code of the run names>"


def main_of(function: Any) -> Main:
    """What stands for `__main__` while `function` is called; empty if it is of another module."""
    brought: tuple[Any, ...] = ()
    for _ in range(WRAPPERS_MAX):
        if isinstance(function, types.FunctionType) and function.__module__ == MAIN:
            return Main(function.__globals__, brought)
        if isinstance(function, partial):
            brought += (*function.args, *function.keywords.values())
        function = _wrapped(function)
        if function is None:
            break
    return Main({}, brought)


def _wrapped(function: Any) -> Any:
    """What a decorated, bound or partial function calls; None: it is none."""
    # every run asks for that, mostly in vain, and a loop over the names takes twice as long
    if (found := getattr(function, "__wrapped__", None)) is not None:
        return found
    if (found := getattr(function, "__func__", None)) is not None:
        return found
    return getattr(function, "func", None)


@contextmanager
def standing_in(main: Main) -> Iterator[None]:
    """A block in which this is `__main__`; of the main thread only, for it is so in all threads."""
    before = sys.modules.get(MAIN)
    sys.modules[MAIN] = main  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is not None:
            sys.modules[MAIN] = before


def _named(brought: Iterable[Any], name: str) -> Iterator[Any]:
    """What is called so in `__main__`, as far as it came along with these values."""
    functions = [value for value in brought if isinstance(value, types.FunctionType)]
    for value in functions:
        if value.__module__ == MAIN and value.__name__ == name:
            yield value
        if value.__module__ == MAIN and name in value.__globals__:
            yield value.__globals__[name]
    # the newest: after a class was changed there are two of its name
    for kind in reversed(list(_classes())):
        if kind.__module__ == MAIN and kind.__qualname__ == name:
            yield kind


def _classes() -> Iterable[type]:
    """Those that came here by value, oldest first; cloudpickle keeps them for when they come again."""
    known: Any = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
    return tuple(known.values())
