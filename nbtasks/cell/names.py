"""Which names a cell needs from its notebook, and which it binds."""

from __future__ import annotations

import ast
import warnings
from typing import NamedTuple

from nbtasks.cell.definitions import Walk
from nbtasks.cell.magics import without_magics
from nbtasks.cell.reads import reads_of as reads_of


class Names(NamedTuple):
    """The names of a cell; builtins are among them, for a name of the notebook may hide one.

    `needs`: read on some path on which the cell has bound them nowhere; the notebook must have them.
    `may_need`: perhaps read before they are bound; taken if they are there, no error if not.
    `binds`: may be bound at the cell's end.
    `stars`: the modules of `from m import *`.
    `doubts`: a sentence for each thing that may hide names.
    """

    needs: frozenset[str]
    may_need: frozenset[str]
    binds: frozenset[str]
    stars: tuple[str, ...]
    doubts: tuple[str, ...]


def names_of(source: str) -> Names:
    """The names of a cell, given as IPython has transformed it.

    Raises
    ------
    SyntaxError
        The cell is no Python; with the cell's own line and its text.
    """
    parsed = _parsed(source)
    tree, doubts = without_magics(parsed)
    walk = Walk(tree)
    walk.whole(tree)
    bound = walk.scope.bound
    alive = bound.names - bound.deleted if walk.end is None else walk.end.alive
    stars = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and _is_star(node)]
    return Names(
        needs=frozenset(walk.needs),
        may_need=frozenset(walk.may_need),
        binds=frozenset(name for name in alive | walk.far if name.isidentifier()),
        stars=tuple(dict.fromkeys(module for module in stars if module)),
        doubts=tuple(dict.fromkeys([*doubts, *walk.doubts])),
    )


def _is_star(node: ast.ImportFrom) -> bool:
    return any(alias.name == "*" for alias in node.names)


def _parsed(source: str) -> ast.Module:
    top_level_await = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the cell is run
            tree = compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | top_level_await, dont_inherit=True)
            # what only the compiler refuses: `return` outside a function, two parameters of one name
            compile(source, "<cell>", "exec", top_level_await, dont_inherit=True)
    except SyntaxError as error:
        lines = source.splitlines()
        if error.text is None and error.lineno is not None and 0 < error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]
        raise
    assert isinstance(tree, ast.Module)
    return tree
