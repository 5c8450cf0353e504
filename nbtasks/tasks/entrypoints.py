"""Finding tasks by what stands on a command line: `module:task` or `path.py:task`."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from nbtasks.tasks.definition import Task


class BadEntrypoint(Exception):
    """The message says in one line what is wrong with which entrypoint."""


def load_task(text: str) -> Task[..., Any]:
    """Import the module and give its task.

    A file is imported under its stem, with its folder in `sys.path`, as if it were run as a script: its
    tasks have the same keys then. Modules are looked for in the working directory, too.

    Raises
    ------
    BadEntrypoint
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise BadEntrypoint(f"{text!r} names no task: write module:task or path.py:task")
    is_file = where.endswith(".py") or os.sep in where
    module = _file(text, where) if is_file else _module(text, where)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadEntrypoint(f"{text!r}: {where} has no {name!r}") from None
    if not isinstance(found, Task):
        kind = type(found).__name__
        raise BadEntrypoint(f"{text!r}: {name!r} is a {kind}, not a task: decorate it with @task")
    return found


def _file(text: str, path: str) -> ModuleType:
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(path):
        raise BadEntrypoint(f"{text!r}: there is no file {path}")
    folder, file = os.path.split(path)
    if not file.endswith(".py"):
        raise BadEntrypoint(f"{text!r}: {path} is no Python file (.py)")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _imported(text, file.removesuffix(".py"))
    known = getattr(module, "__file__", None) or "a built-in module"
    if os.path.realpath(known) != os.path.realpath(path):
        raise BadEntrypoint(f"{text!r}: the name {module.__name__!r} means {known}: rename the file")
    return module


def _module(text: str, name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    return _imported(text, name)


def _imported(text: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # what a module raises when it is imported is the user's; one line of it is asked for
        line = str(error).strip().partition("\n")[0]
        words = f"{type(error).__name__}: {line}" if line else type(error).__name__
        raise BadEntrypoint(f"{text!r} cannot be imported: {words}") from error
