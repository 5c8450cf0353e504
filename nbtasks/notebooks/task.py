"""A notebook in a file, as a task."""

from __future__ import annotations

import os
from functools import partial
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtasks.notebooks import parameters
from nbtasks.notebooks.executed import ExecutedNotebook
from nbtasks.notebooks.execution import NotebookFunction
from nbtasks.tasks import identity, options
from nbtasks.tasks.definition import Task
from nbtasks.tasks.mapping import BoundCalls, Calls
from nbtasks.tasks.options import Options
from nbtasks.tasks.packing import Call

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nbtasks.tasks.words import Words


@options.spelled_out
def notebook_task(path: str | os.PathLike[str], /, **given: Unpack[Words]) -> Task[..., ExecutedNotebook]:
    """Make a task of a notebook: `notebook_task("report.ipynb").delay(year=2026)`.

    Its parameters are the names that the cell tagged `parameters` assigns, with their defaults. What a call
    gives is assigned in a new cell after that one, tagged `injected-parameters`; in a notebook without such a
    cell any names may be given, and the new cell is the first. Values are what can be written as a literal:
    numbers, strings, None, and lists, tuples, sets and dicts of these.

    A run executes a copy of the notebook as its file is when the run is made, in a kernel of its own: the
    one that the notebook names, or else that of the worker's Python. It starts in the working directory of
    whoever made the run. What the cells put out is the run's output, as it comes, its progress counts cells,
    and its result is the executed copy, an `ExecutedNotebook`. When a cell raises, that is a `FailedCell`,
    which has the copy, too. A cancel or a time-out interrupts the cell, and ends the kernel.

    Where it is executed it needs nbclient: `pip install 'nbtasks[notebook]'`.

    Parameters
    ----------
    path
        A notebook in Python; its file is read at each `.delay()`.
    given
        Options as in `Task`. The name is else the file's without its suffix.

    Raises
    ------
    OSError, ValueError
        There is no such file, or it is no notebook; so may `.delay()`.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"notebook_task() takes the path of a notebook, not {path!r}")
    return NotebookTask(NotebookFunction(os.path.abspath(path)), **given)


class NotebookTask(Task[..., ExecutedNotebook]):
    """A task whose function executes a notebook, and has the parameters that the notebook says."""

    fn: NotebookFunction

    def __init__(self, fn: NotebookFunction, **given: Any) -> None:
        own = {"name": Path(fn.path).stem, "key": f"notebook:{fn.path}", "description": ""}
        super().__init__(fn, **{**own, **given})

    def _become(self, fn: NotebookFunction, chosen: Options) -> None:
        super()._become(fn.with_grace(chosen.grace_s), chosen)

    @property
    def __signature__(self) -> Signature:
        return self.fn.__signature__

    @property
    def _signature(self) -> Signature:
        return self.fn.__signature__  # that of the file as it is now

    @property
    def version(self) -> str:
        """The one that was given, else a digest of the notebook as it is now."""
        return self._options.version or identity.source_digest(self.fn)

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        if args:
            raise TypeError(f"{self.name}() takes parameters of its notebook by name, not {args[0]!r}")
        signature = self._signature
        parameters.checked(self.name, signature, kwargs)
        bound = signature.bind(**kwargs)
        bound.apply_defaults()
        shown = kwargs if signature is parameters.ANY else bound.arguments
        return (), kwargs, shown

    def _calls(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCalls:
        if args:
            self._bound(args, kwargs)
        return BoundCalls(Calls(self.name, parameters.ANY, args, kwargs), partial(self._bound, ()))
