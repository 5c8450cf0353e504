"""Which names a cell needs from its notebook, and which it binds."""

from __future__ import annotations
import __future__

import ast
import warnings
from typing import NamedTuple

from nbtasks.cell.definitions import Walk
from nbtasks.cell.expressions import OWN
from nbtasks.cell.magics import without_magics
from nbtasks.cell.reads import reads_of as reads_of
from nbtasks.cell.scopes import bound_in, declared_global

DEEP = "The cell is nested too deeply to be followed: every name that it reads is taken if it is there"


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


def names_of(source: str, flags: int = 0) -> Names:
    """The names of a cell, given as IPython has transformed it.

    Parameters
    ----------
    flags
        Of `__future__` imports that earlier cells made.

    Raises
    ------
    SyntaxError
        The cell is no Python; with the cell's own line and its text.
    """
    tree, flags = _parsed(source, flags)
    doubts = list[str]()
    if "get_ipython" in source:
        tree, doubts = without_magics(tree)
    walk = Walk(tree, evaluates_annotations=not flags & __future__.annotations.compiler_flag)
    try:
        walk.whole(tree)
    except RecursionError:
        return _without_order(tree, doubts)
    bound = walk.scope.bound
    alive = bound.stored - bound.globals if walk.end is None else walk.end.alive
    return Names(
        needs=frozenset(walk.needs),
        may_need=frozenset(walk.may_need),
        binds=frozenset(name for name in alive | walk.far if name.isidentifier()),
        stars=tuple(walk.stars),
        doubts=tuple(dict.fromkeys([*doubts, *walk.doubts])),
    )


def _without_order(tree: ast.Module, doubts: list[str]) -> Names:
    """The names of code that is nested too deeply to be followed: all that it reads, none required."""
    nodes = list(ast.walk(tree))
    reads = {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    bound = bound_in(tree.body)
    binds = bound.stored | declared_global(tree)
    stars = [one.module for one in nodes if isinstance(one, ast.ImportFrom) and one.names[0].name == "*"]
    return Names(
        needs=frozenset(),
        may_need=frozenset(name for name in reads - OWN if name.isidentifier()),
        binds=frozenset(name for name in binds if name.isidentifier()),
        stars=tuple(dict.fromkeys(module for module in stars if module)),
        doubts=(*dict.fromkeys(doubts), DEEP),
    )


def _parsed(source: str, flags: int) -> tuple[ast.Module, int]:
    """The tree, and the flags with those of the cell's own `__future__` imports."""
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when the cell is run
            tree = compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST | flags, dont_inherit=True)
            # what only the compiler refuses: `return` outside a function, two parameters of one name
            code = compile(source, "<cell>", "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        lines = source.splitlines()
        if error.text is None and error.lineno is not None and 0 < error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]
        raise
    assert isinstance(tree, ast.Module)
    return tree, flags | code.co_flags
