"""Names within texts, which IPython or a library looks up among those of its caller.

They are `$x` and `{x}` in shell lines and magics, `@x` in queries of pandas, tables in SQL for DuckDB or
polars, and functions in formulas of statsmodels. No instruction reads them, so they are found by what such
texts look like.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from string import Formatter
from typing import Any

QUERYING = frozenset({"query", "eval"})
SHELL = frozenset({"system", "getoutput", "run_line_magic", "run_cell_magic"})
_SQL = frozenset({"sql", "from_query", "sql_expr", "SQLContext"})
_SQL_OF_ANY = frozenset({"query", "execute"})  # of any database, whose tables may be called as a frame is

_QUERY = re.compile(r"@([^\W\d]\w*)")
_TABLE = re.compile(r"\b(?:from|join)\s+([^\W\d]\w*)", re.IGNORECASE)
_FORMULA = re.compile(r"~(?![/~])")  # no path of a home
_CALLED = re.compile(r"(?<![\w.])([^\W\d]\w*)(?=\(|\.\w)")

_FRAMES = frozenset({"pandas", "polars", "pyarrow", "numpy"})
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)

# As IPython does: $x within single quotes is the shell's, and $$x is none.
_DOLLAR = re.compile(r"\$(\$?[\w.]+)(?=(?:[^']*'[^']*')*[^']*$)")

Fits = Callable[[Any], bool]


def names_of_query(text: str) -> list[str]:
    """The names that a query of pandas looks up among the caller's."""
    return _QUERY.findall(text)


def expressions_in(text: str) -> list[ast.expr]:
    """The Python that IPython evaluates in the line of a command or a magic.

    It leaves the line as it is if any of it fails, so none of these names must exist.
    """
    try:
        fields = list(_fields(text))
    except ValueError:  # a brace too many, as in awk's and JSON's: IPython expands nothing either
        return []
    found = []
    for field in fields:
        try:
            found.append(ast.parse(field.strip(), mode="eval").body)
        except (SyntaxError, ValueError):
            return []
    return found


def names_of_line(text: str) -> set[str]:
    """The names that the line of a command or a magic reads."""
    nodes = [node for part in expressions_in(text) for node in ast.walk(part)]
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _fields(text: str) -> Iterator[str]:
    for literal, field, specification, _ in Formatter().parse(text):
        for match in _DOLLAR.finditer(literal):
            if not match[1].startswith("$"):
                yield match[1]
        if field is not None:
            yield field
            yield from _fields(specification or "")


def sought_in(texts: Iterable[str], called: Collection[str]) -> Iterator[tuple[str, Fits]]:
    """Tables of SQL and functions of formulas in texts of code that calls these.

    Returns
    -------
    Each name, with which values of it are meant: SQL may be for any database, and a text with a tilde
    need not be a formula.
    """
    is_sql = not _SQL.isdisjoint(called) or ("duckdb" in called and not _SQL_OF_ANY.isdisjoint(called))
    for text in texts:
        if is_sql:
            yield from ((name, _is_table) for name in _TABLE.findall(text))
        if _FORMULA.search(text):
            yield from ((name, _is_code) for name in _CALLED.findall(text))


def with_sought(function: types.FunctionType, reduction: Any) -> Any:
    """What cloudpickle makes of a function, with the globals that its texts name."""
    if reduction is not NotImplemented and (found := sought_by(function)):
        _, slots = reduction[2]
        slots["__globals__"] = {**found, **slots["__globals__"]}
    return reduction


def sought_by(function: types.FunctionType) -> dict[str, Any]:
    """The globals that texts of a function name, and of those within it."""
    found, rest = {}, [function.__code__]
    while rest:
        code = rest.pop()
        texts = [it for it in code.co_consts if type(it) is str and it is not function.__doc__]
        own = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        sought = list(sought_in(texts, code.co_names))
        if not QUERYING.isdisjoint(code.co_names):
            sought += [(name, _is_any) for text in texts for name in names_of_query(text)]
        if "get_ipython" in code.co_names and not SHELL.isdisjoint(code.co_names):
            sought += [(name, _is_any) for text in texts for name in names_of_line(text)]
        for name, fits in sought:
            if name not in own and name in function.__globals__ and fits(function.__globals__[name]):
                found[name] = function.__globals__[name]
        rest += [it for it in code.co_consts if type(it) is types.CodeType]
    return found


def _is_any(value: Any) -> bool:
    return True


def _is_table(value: Any) -> bool:
    return (type(value).__module__ or "").partition(".")[0] in _FRAMES


def _is_code(value: Any) -> bool:
    return isinstance(value, _CODE) or type(value).__name__ == "ufunc"
