"""The parameters of a notebook: names that one of its cells gives defaults, and a cell that replaces some.

The cells are known by papermill's tags, so that the same notebooks serve both.
"""

from __future__ import annotations

import ast
import difflib
import keyword
from collections.abc import Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from numbers import Integral, Rational, Real
from typing import Any

from nbtasks.pickling.blame import Described, type_name
from nbtasks.pickling.upstream import Upstream

DEFAULTS, INJECTED = "parameters", "injected-parameters"  # tags of cells
ANY = Signature([Parameter("parameters", Parameter.VAR_KEYWORD)])  # of a notebook that does not say

Notebook = Mapping[str, Any]  # as `files.read` gives it


# -- what a notebook takes ------------------------------------------------------------------------------


def signature_of(notebook: Notebook) -> Signature:
    """That of a function with the notebook's parameters; a default that is no literal is its source text.

    `ANY` if no cell is tagged, or the one that is holds no plain Python.
    """
    place = _place_of(notebook, DEFAULTS)
    if place is None:
        return ANY
    try:
        tree = ast.parse(_without_magics(notebook["cells"][place]["source"]))
    except (SyntaxError, ValueError):
        return ANY
    defaults = {name: _default(value) for name, value in _assigned(tree.body)}
    return Signature([Parameter(name, Parameter.KEYWORD_ONLY, default=it) for name, it in defaults.items()])


def _place_of(notebook: Notebook, tag: str) -> int | None:
    tagged = (
        place
        for place, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code" and tag in (cell["metadata"].get("tags") or ())
    )
    return next(tagged, None)


def _without_magics(source: str) -> str:
    return "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines())


def _assigned(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Names and what they are assigned to, in order; None: an annotation alone."""
    for statement in body:
        match statement:
            case ast.Assign(targets, value):
                for target in targets:
                    yield from _unpacked(target, value)
            case ast.AnnAssign(ast.Name(name), value=value):
                yield name, value
            case ast.If() | ast.Try() | ast.With():
                for field in ("body", "orelse", "finalbody"):
                    yield from _assigned(getattr(statement, field, ()))


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    match target, value:
        case ast.Name(name), _:
            yield name, value
        case ((ast.Tuple(targets) | ast.List(targets)), (ast.Tuple(values) | ast.List(values))) if len(
            targets
        ) == len(values):
            for one, its in zip(targets, values, strict=True):
                yield from _unpacked(one, its)
        case ((ast.Tuple(targets) | ast.List(targets)), _):
            for one in targets:
                yield from _unpacked(one, value)
        case ast.Starred(inner), _:
            yield from _unpacked(inner, value)


def _default(value: ast.expr | None) -> Any:
    if value is None:
        return Parameter.empty
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return Described(ast.unparse(value))


# -- what it is given -----------------------------------------------------------------------------------


def checked(name: str, signature: Signature, given: Mapping[str, Any], waits: bool = True) -> None:
    """Refuse what cannot be given to the notebook.

    Parameters
    ----------
    name
        What is called.
    waits
        Whether a run may stand for its result.

    Raises
    ------
    TypeError
        It names the parameter.
    """
    for word, value in given.items():
        _known(name, signature, word)
        _writable(name, word, value, waits)
    for word, parameter in signature.parameters.items():
        is_required = parameter.kind is Parameter.KEYWORD_ONLY and parameter.default is Parameter.empty
        if is_required and word not in given:
            raise TypeError(f"{name}() is missing the parameter {word!r}, which has no default")


def _known(name: str, signature: Signature, word: str) -> None:
    known = list(signature.parameters)
    if signature is not ANY and word not in known:
        close = difflib.get_close_matches(word, known, 1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise TypeError(
            f"{name}() got an unexpected parameter {word!r}{hint}; "
            f"the notebook has {', '.join(known) or 'no parameters'}"
        )
    if not word.isidentifier() or keyword.iskeyword(word):
        raise TypeError(f"{name}() got a parameter {word!r}, which is no name in Python")


def _writable(name: str, word: str, value: Any, waits: bool) -> None:
    try:
        literal(value, waits)
    except _NoLiteral as found:
        what = type_name(found.value)
        what = f"of type {what}" if found.value is value else f"a {type_name(value)} with a {what} in it"
        raise TypeError(
            f"the parameter {word!r} of {name}() is {what}; it can be a number, a string, bytes, None, "
            "or a list, tuple, set or dict of these"
        ) from None
    except RecursionError:
        raise TypeError(f"the parameter {word!r} of {name}() is nested too deeply") from None


class _NoLiteral(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


def literal(value: Any, waits: bool = False) -> str:
    """How the value is written in Python; a NumPy number as the plain one that it equals.

    Parameters
    ----------
    waits
        Whether a run may stand in it, for its result.
    """
    kind = type(value)
    if value is None or kind in (bool, str, bytes):
        return repr(value)
    if isinstance(value, Integral):
        return repr(int(value))
    if isinstance(value, Real) and not isinstance(value, Rational):
        return _real(float(value))
    if kind is complex:
        return f"complex({_real(value.real)}, {_real(value.imag)})"
    if waits and isinstance(value, Upstream):
        return "..."
    if kind not in (list, tuple, set, frozenset, dict):
        raise _NoLiteral(value)
    if kind is dict:
        return "{" + ", ".join(f"{literal(k, waits)}: {literal(v, waits)}" for k, v in value.items()) + "}"
    parts = [literal(part, waits) for part in value]
    if kind in (set, frozenset):
        text = "{" + ", ".join(sorted(parts)) + "}" if parts else ""
        return text if text and kind is set else f"{kind.__name__}({text})"
    if kind is list:
        return f"[{', '.join(parts)}]"
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _real(value: float) -> str:
    return repr(value) if value - value == 0 else f'float("{value}")'  # nan and inf have no literals


def injected(notebook: Notebook, given: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook with a cell that assigns what is given, after the defaults or at the top."""
    cells = list(notebook["cells"])
    if given:
        lines = ["# Parameters", *(f"{name} = {literal(value)}" for name, value in given.items())]
        cell: dict[str, Any] = {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": [INJECTED]},
            "outputs": [],
            "source": "\n".join(lines),
        }
        if (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5):
            cell["id"] = INJECTED
        before = _place_of(notebook, INJECTED)
        defaults = _place_of(notebook, DEFAULTS)
        if before is not None:
            cells[before] = cell  # the notebook is an executed copy
        else:
            cells.insert(0 if defaults is None else defaults + 1, cell)
    return {**notebook, "cells": cells}
