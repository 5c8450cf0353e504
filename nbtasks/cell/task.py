"""A cell with a snapshot of names, as a task: each call runs it with the names as they were."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterable
from functools import partial
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from nbtasks.cell.capture import EXITS
from nbtasks.cell.execution import Cell
from nbtasks.cell.snapshot import Snapshot
from nbtasks.pickling import Frozen
from nbtasks.pickling.offered import value_in
from nbtasks.tasks.definition import Task
from nbtasks.tasks.mapping import BoundCalls, Calls
from nbtasks.tasks.options import Options
from nbtasks.tasks.packing import Call


class CellTask(Task[..., Any]):
    """Its parameters are the names that the cell reads; each has the value that was captured.

    Parameters
    ----------
    snapshot
        What travels; later changes to the notebook's values must not reach it, see `Snapshot.kept`.
    reads
        The names that a call may replace.
    given
        Options of the task; `name` is one of them.
    """

    def __init__(self, cell: Cell, snapshot: Snapshot, reads: Iterable[str], **given: Any) -> None:
        self._know(_Names(snapshot.frozen, snapshot.shown(), frozenset(reads)))
        version = hashlib.blake2b(cell.source.encode(), digest_size=6).hexdigest()
        given = {"description": "", **given}
        super().__init__(cell, key=f"cell:{given['name']}", version=version, **given)

    def _know(self, names: _Names) -> None:
        self._names = names
        self.__signature__ = names.signature()

    @property
    def _signature(self) -> Signature:
        return _SIGNATURE

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        if args:
            raise TypeError(f"{self.name}() takes names of its cell as keyword arguments, not {args[0]!r}")
        if unknown := sorted(kwargs.keys() - self._names.reads):
            known = ", ".join(sorted(self._names.reads)) or "none"
            raise TypeError(f"the cell of {self.name}() reads no name {unknown[0]!r}; it reads {known}")
        return (self._names.frozen,), kwargs, {**self._names.shown, **kwargs}

    def _calls(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCalls:
        self._bound(args, kwargs)
        return BoundCalls(Calls(self.name, _SIGNATURE, args, kwargs), partial(self._bound, ()))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it here and now, in the shell of this process."""
        return value_in(super().__call__(*args, **kwargs))

    def _copy(self, fn: Any, chosen: Options) -> Task[..., Any]:
        copy = super()._copy(fn, chosen)
        assert isinstance(copy, CellTask)
        copy._know(self._names)
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._know(state["names"])


class _Names(NamedTuple):
    """Of one cell."""

    frozen: Frozen
    shown: dict[str, Any]  # parameters, for people
    reads: frozenset[str]  # what a call may replace

    def signature(self) -> Signature:
        """What help and completion show: the names with their values, without builtins."""
        own = [name for name in self.reads if name in self.shown or not hasattr(builtins, name)]
        parameters = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=_Shown(self.shown.get(name, "...")))
            for name in sorted(set(own) - EXITS)
        ]
        return Signature(parameters)


class _Shown:
    """A value that people see and nobody uses."""

    def __init__(self, text: str) -> None:
        self._text = str(text)

    def __repr__(self) -> str:
        return self._text


_SIGNATURE = Signature([Parameter("names", Parameter.VAR_KEYWORD)])
