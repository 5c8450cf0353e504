"""Syntax errors in `%%delay` and `%%task` cells, drawn as IPython draws those of any cell: file, line, caret.

IPython takes a syntax error that comes while code runs for one of an imported file and draws the frames that
led there, whatever the error says of its own looks; here these are the magic's.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def of_cell(error: SyntaxError, caller: FrameType | None) -> SyntaxError:
    """The error, known as one of the cell that `caller` is."""
    error._is_of_cell = True  # type: ignore[attr-defined]
    name = caller.f_code.co_filename if caller is not None else ""
    # where the file has such a line, IPython would show that one: a function called the magic
    if name and not linecache.getline(name, error.lineno or 0):
        error.filename = name
    return error


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Let `shell` draw them; returns what takes that back."""
    before = shell.showsyntaxerror

    def show(filename: str | None = None, running_compiled_code: bool = False, **options: Any) -> None:
        is_of_cell = getattr(sys.exc_info()[1], "_is_of_cell", False)
        before(filename, running_compiled_code and not is_of_cell, **options)

    shell.showsyntaxerror = show  # type: ignore[method-assign]

    def take_back() -> None:
        if vars(shell).get("showsyntaxerror") is show:
            del shell.showsyntaxerror

    return take_back
