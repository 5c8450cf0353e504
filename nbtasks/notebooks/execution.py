"""Executing a notebook here: what its cells put out is shown as if they were executed in this process."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from inspect import Signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbtasks import context
from nbtasks.errors import FailedCell
from nbtasks.notebooks import files, parameters
from nbtasks.notebooks.executed import ExecutedNotebook
from nbtasks.pickling.failures import RemoteTraceback

if TYPE_CHECKING:
    from nbtasks.notebooks.kernel import Failure, Session

GRAMMAR = "rfc3987_syntax"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookFunction:
    """A notebook as a function: called with parameters, it gives the executed copy.

    Pickled, it holds the notebook as its file is then.

    Parameters
    ----------
    path
        Of the file; absolute.
    frozen
        What is executed, of one that was pickled; else the file is read.
    grace_s
        How long whoever interrupts a call waits before it kills.
    """

    def __init__(self, path: str, frozen: str = "", grace_s: float = 3.0) -> None:
        self.path = path
        self.grace_s = grace_s
        self._frozen = frozen

    @property
    def source(self) -> str:
        """What is executed, as JSON."""
        return self._frozen or files.read(self.path)

    @property
    def __signature__(self) -> Signature:
        return parameters.signature_of(json.loads(self.source))

    def with_grace(self, grace_s: float) -> NotebookFunction:
        return NotebookFunction(self.path, self._frozen, grace_s)

    def __reduce__(self) -> Any:
        return NotebookFunction, (self.path, self.source, self.grace_s)

    def __call__(self, /, **given: Any) -> ExecutedNotebook:
        name = os.path.basename(self.path)
        notebook = json.loads(self.source)
        parameters.checked(name, parameters.signature_of(notebook), given, waits=False)
        return executed(name, parameters.injected(notebook, given), self.grace_s)


def executed(name: str, notebook: dict[str, Any], grace_s: float) -> ExecutedNotebook:
    """The executed copy of a notebook.

    Raises
    ------
    FailedCell
        A cell raised, or the kernel died.
    ImportError
        nbclient is not installed.
    """
    session = _session(notebook, grace_s)
    try:
        session.start()
        _show_all(session)
    except BaseException as error:  # an interrupt, mostly
        session.stop()
        _show_all(session)
        if session.failure is not None and (lines := session.failure.traceback):
            error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # where the cell was
        raise
    if session.error is not None:
        raise session.error
    copy = ExecutedNotebook(name, session.copy())
    if session.failure is not None:
        raise _failed(session.failure, session.total, copy)
    return copy


def _failed(failure: Failure, total: int, copy: ExecutedNotebook) -> FailedCell:
    text = f"{failure.name}: {failure.value}" if failure.name else failure.value
    message = f"{text} (cell {failure.number} of {total})"
    error = FailedCell(message, copy, failure.name, failure.value, failure.traceback)
    if failure.traceback:
        # what Python shows where IPython is not
        error.__cause__ = RemoteTraceback(COLOURS.sub("", "\n".join(failure.traceback)))
    return error


def _session(notebook: dict[str, Any], grace_s: float) -> Session:
    try:
        with _grammar_later():
            from nbtasks.notebooks.kernel import Session
    except ModuleNotFoundError as error:
        if error.name not in ("nbclient", "nbformat"):
            raise
        raise ImportError(
            f"a notebook is executed by {error.name}, which is not installed: pip install 'nbtasks[notebook]'"
        ) from None
    return Session(notebook, grace_s)


@contextmanager
def _grammar_later() -> Iterator[None]:
    """Within this block jsonschema is imported without its grammar of URIs, which takes most of the time.

    nbclient needs none of it, and imports it by nbformat. Who checks a URI later gets the grammar then.
    """
    if GRAMMAR in sys.modules or find_spec(GRAMMAR) is None:
        yield
        return
    stand_in: Any = ModuleType(GRAMMAR)
    stand_in.is_valid_syntax = lambda *rule: import_module(GRAMMAR).is_valid_syntax(*rule)
    sys.modules[GRAMMAR] = stand_in
    try:
        yield
    finally:
        del sys.modules[GRAMMAR]


def _show_all(session: Session) -> None:
    for kind, content in session.said():
        if kind == "progress":
            context.progress(content, session.total)
        elif kind == "stream":
            _print(content["name"], content["text"])
        elif kind == "error":  # the cell may raise, or showed it and went on
            _print("stderr", "\n".join(content["traceback"]) + "\n")
        else:
            _display(kind, content)


def _print(stream: str, text: str) -> None:
    # not a write: the option log_prints is about prints
    end = "\n" if text.endswith("\n") else ""
    print(text.removesuffix("\n"), end=end, file=getattr(sys, stream))


def _display(kind: str, content: Mapping[str, Any]) -> None:
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if kind == "clear_output":
        if shell is not None:
            shell.display_pub.clear_output(bool(content.get("wait")))
    elif shell is None:
        print(content["data"].get("text/plain", ""))
    else:
        shell.display_pub.publish(
            content["data"],
            content.get("metadata"),
            transient=content.get("transient"),
            update=kind == "update_display_data",
        )
