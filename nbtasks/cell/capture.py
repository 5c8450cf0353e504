"""What of a notebook a cell needs: which names, and how each of them is to travel.

A module is imported where the cell runs. A name that a run will assign is what that run gives. Everything
else is a value; functions and classes of the notebook bring along what they use themselves.
"""

from __future__ import annotations

import ast
import builtins
import logging
import re
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks.cell.names import Names, reads_of
from nbtasks.pickling.texts import sought_in
from nbtasks.pickling.upstream import Upstream, quote
from nbtasks.run import Run

NEVER_TRAVELS = frozenset({"get_ipython"})  # each shell has its own
EXITS = frozenset({"exit", "quit"})  # no builtins in a shell, but each has them

Pending = Callable[[str], Upstream | None]  # what a run will assign to a name, if one will


@dataclass
class Capture:
    """The names that travel.

    Attributes
    ----------
    values
        Each with its value; with what gives it, if a run does.
    modules
        Name -> the module that is imported for it.
    submodules
        Modules that have to be imported besides, because the cell finds them as attributes.
    missing
        Names that are nowhere, but that what is hidden in the cell may bind before they are read.
    """

    values: dict[str, Any] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    submodules: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        return {*self.values, *self.modules}


def capture(
    source: str,
    names: Names,
    notebook: Mapping[str, Any],
    also: Iterable[str] = (),
    is_isolated: bool = False,
    pending: Pending = lambda name: None,
) -> Capture:
    """Take what a cell needs out of a notebook.

    Parameters
    ----------
    source
        Of the cell, transformed.
    names
        What it reads and binds.
    also
        Names that are taken as well, whether they seem to be needed or not.
    is_isolated
        Take only these.

    Raises
    ------
    NameError
        A name is needed, and is nowhere, and nothing in the cell may hide what binds it.
    """
    also = list(also)
    wanted = {*also} if is_isolated else {*names.needs, *names.may_need, *also}
    found = Capture()
    for name in sorted(wanted - NEVER_TRAVELS):
        if (upstream := pending(name)) is not None:
            found.values[name] = upstream
        elif name in notebook:
            _add(found, name, notebook[name])
    if not is_isolated:
        _add_sought(found, source, notebook, pending)
    found.missing = _missing(found, names, notebook, also, is_isolated)
    _follow_functions(found, notebook, pending)
    _keep_handles(found, source)
    found.submodules = tuple(_submodules(found.modules.values(), source))
    return found


def _add(found: Capture, name: str, value: Any) -> None:
    # the module logging brings along how its root is set up
    if isinstance(value, types.ModuleType) and _is_importable(value) and value is not logging:
        found.modules[name] = value.__name__
    else:
        found.values[name] = value


def _add_sought(found: Capture, source: str, notebook: Mapping[str, Any], pending: Pending) -> None:
    """Add what only texts in the cell name: tables of SQL, functions of formulas."""
    nodes = list(ast.walk(ast.parse(source)))
    said = [node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) is str]
    called = {str(getattr(node, "attr", getattr(node, "id", ""))) for node in nodes}
    for name, fits in sought_in(said, called):
        if name in found.names:
            continue
        if (upstream := pending(name)) is not None:
            found.values[name] = upstream
        elif name in notebook and fits(notebook[name]):
            _add(found, name, notebook[name])


def _is_importable(module: types.ModuleType) -> bool:
    return module.__name__ != "__main__" and sys.modules.get(module.__name__) is module


def _missing(
    found: Capture, names: Names, notebook: Mapping[str, Any], also: Collection[str], is_isolated: bool
) -> tuple[str, ...]:
    """The names that are nowhere, if the cell may hide what binds them; else they are an error."""
    missing = []
    for name in sorted({*names.needs, *also} - found.names - NEVER_TRAVELS):
        if name not in also and (name in EXITS or hasattr(builtins, name)):
            continue
        if is_isolated and name in notebook:
            raise NameError(f"name {name!r} is needed, but --isolated ships only what -i names", name=name)
        if name in also or not names.doubts:
            raise NameError(
                f"name {name!r} is not defined in the notebook, and no run will assign it", name=name
            )
        missing.append(name)
    return tuple(missing)


# -- through functions ----------------------------------------------------------------------------------


def _follow_functions(found: Capture, notebook: Mapping[str, Any], pending: Pending) -> None:
    """Add what runs will assign and only functions of the notebook read."""
    seen: set[int] = set()
    left = list(found.values.values())
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for function in _functions_in(value):
            for name in reads_of(function.__code__):
                if name not in found.values and (upstream := pending(name)) is not None:
                    found.values[name] = upstream
                elif name in notebook and _is_of_notebook(function):
                    left.append(notebook[name])


def _is_of_notebook(function: types.FunctionType) -> bool:
    return function.__module__ == "__main__"


def _functions_in(value: Any) -> Iterator[types.FunctionType]:
    """The functions of the notebook that calling `value`, or its methods, may call."""
    function = getattr(value, "__func__", value)  # of a method
    function = function if isinstance(function, types.FunctionType) else getattr(value, "fn", None)
    if isinstance(function, types.FunctionType):
        while isinstance(function, types.FunctionType):
            if _is_of_notebook(function):
                yield function
            function = getattr(function, "__wrapped__", None)
        return
    kind = value if isinstance(value, type) else type(value)
    for base in kind.__mro__:
        if base.__module__ == "__main__":
            for part in vars(base).values():
                part = getattr(part, "__func__", getattr(part, "fget", part))
                if isinstance(part, types.FunctionType):
                    yield part


# -- runs and modules -----------------------------------------------------------------------------------


def _keep_handles(found: Capture, source: str) -> None:
    """A run is replaced by its result, unless the cell uses what only a handle has: `run.result()`."""
    runs = {name for name, value in found.values.items() if isinstance(value, Run)}
    for node in ast.walk(ast.parse(source)) if runs else ():
        used = node.value if isinstance(node, (ast.Attribute, ast.Await)) else None
        if not isinstance(used, ast.Name) or used.id not in runs:
            continue
        if isinstance(node, ast.Await) or hasattr(Run, getattr(node, "attr", "")):
            runs.discard(used.id)
            found.values[used.id] = quote(found.values[used.id])


def _submodules(modules: Iterable[str], source: str) -> Iterator[str]:
    """`xml.dom.minidom`, say, where the cell has the name `xml`."""
    packages = [f"{module}." for module in modules if hasattr(sys.modules[module], "__path__")]
    words = set(re.findall(r"\w+", source)) if packages else set()
    for module in sorted(sys.modules) if packages else ():
        for package in packages:
            if module.startswith(package) and words.issuperset(module[len(package) :].split(".")):
                yield module
