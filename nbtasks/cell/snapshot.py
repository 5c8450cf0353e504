"""The names of a capture, pickled together as they are now.

One pickle keeps what the values share. An anchor among them, a function over the notebook's own
namespace, gives all functions and classes of the notebook one namespace again where they are loaded: it is
the one in which the cell is executed, so they see what the cell assigns.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbtasks import pickling
from nbtasks.cell.capture import Capture
from nbtasks.errors import NotPicklable
from nbtasks.pickling import NamedOutput
from nbtasks.pickling.blame import Described, line_of, type_name, why_not
from nbtasks.pickling.upstream import Upstream, quote

LARGE_BYTES = 10_000_000  # what is above is mentioned


class Opened(NamedTuple):
    """A snapshot where the cell runs."""

    anchor: Any
    values: dict[str, Any]
    modules: dict[str, str]
    submodules: tuple[str, ...]

    def namespace(self) -> dict[str, Any]:
        """What functions of the notebook have as their globals, the values not yet in it."""
        namespace: dict[str, Any] = self.anchor.__globals__
        return namespace


class Part(NamedTuple):
    """One name that travels."""

    name: str
    kind: str  # type
    size: int | None  # bytes; None: not known, or next to nothing
    how: str


class Snapshot:
    """What travels to where the cell runs.

    Parameters
    ----------
    notebook
        The namespace that functions of the notebook have as their globals.

    Raises
    ------
    NotPicklable
        The message names the captured name, and which part of its value.
    """

    def __init__(self, captured: Capture, notebook: dict[str, Any]) -> None:
        self._captured = captured
        whole = Opened(_anchor(notebook), captured.values, captured.modules, captured.submodules)
        try:
            self.frozen = pickling.freeze(whole)
        except NotPicklable:
            raise  # it said itself why it cannot travel
        except Exception as error:
            raise NotPicklable(_blame(captured, error)) from None

    @property
    def names(self) -> set[str]:
        return self._captured.names

    def kept(self) -> Snapshot:
        """The same, sharing nothing with the notebook's values."""
        kept: Snapshot = object.__new__(Snapshot)
        kept._captured, kept.frozen = self._captured, self.frozen.copy()
        return kept

    def shown(self) -> dict[str, Any]:
        """The parameters of the run, for people."""
        shown = {}
        for name, value in self._captured.values.items():
            if isinstance(value, (types.FunctionType, type, types.ModuleType)):
                continue
            shown[name] = Described(_source(value) or pickling.safe_repr(value))
        return shown

    def parts(self) -> list[Part]:
        """Each name, by itself: what is shared is counted for each."""
        captured = self._captured
        found = [_part(name, value) for name, value in captured.values.items()]
        found += [Part(name, "module", None, f"by import of {of}") for name, of in captured.modules.items()]
        return sorted(found)

    def large(self) -> list[Part]:
        """The names whose values are large."""
        if self.frozen.payload.size < LARGE_BYTES:
            return []
        return [part for part in self.parts() if part.size is not None and part.size >= LARGE_BYTES]


def _part(name: str, value: Any) -> Part:
    if source := _source(value):
        return Part(name, "", None, source.strip("<>"))
    by_reference = _by_reference(value)
    how = f"by import of {by_reference}" if by_reference else "by value"
    size = None if by_reference else pickling.dump(value).size
    return Part(name, type_name(value), size, how)


def _by_reference(value: Any) -> str:
    """The module that it is, or that a function or class is taken from; "" if it travels itself."""
    if isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value:
        return value.__name__
    module = getattr(value, "__module__", None) or "__main__"
    is_code = isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type))
    return module if is_code and module != "__main__" else ""


def _source(value: Any) -> str:
    """What stands for the value of a run."""
    if isinstance(value, NamedOutput):
        return f"<from run {value.run.name!r}>"
    if isinstance(value, quote):
        return "<handle of a run>"
    if isinstance(value, Upstream):
        return f"<result of run {getattr(value, 'name', '')!r}>"
    return ""


def _anchor(notebook: dict[str, Any]) -> types.FunctionType:
    function = types.FunctionType((lambda: None).__code__, notebook, "anchor")
    function.__module__ = "__main__"  # whatever the notebook's __name__ is: it travels by value
    return function


def _blame(captured: Capture, error: BaseException) -> str:
    for name, value in _plain(captured.values).items():
        try:
            pickling.dumps(value)
        except Exception as inner:
            return f"{why_not('the name', repr(name), value, inner, pickling.dumps)}; make it in the cell"
    return f"the names of the cell cannot be pickled: {line_of(error)}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, (Upstream, quote))}
