"""What the paths that lead to one point of a cell have done to its names: for all of them, and for some."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from nbtasks.cell.scopes import CLASS, Key, Scope

CALLED, ESCAPED, SOFT = range(
    3
)  # how surely a body runs at a point: now, some time from now on, perhaps never


@dataclass(eq=False)
class Body:
    """Code that runs later than where it stands: of a function, a lambda, a generator expression.

    `runs` remembers from where it was followed already, and what it decided then.
    """

    node: ast.AST
    scope: Scope
    at_call: bool  # a call runs it: neither a generator nor a method, which a call of its class may not run
    awaited: bool = False  # only `await` runs what a call made
    running: bool = False
    runs: list[tuple[int, Paths, Paths]] = field(default_factory=list)


@dataclass
class Paths:
    """All paths to one point, joined.

    No global ever leaves `decided`: after `del x` the notebook's x is no more to be seen than after `x = 1`.
    So one pass forward sees everything, and loops need no second one.
    """

    decided: set[Key] = field(default_factory=set)  # bound or deleted on every path
    maybe: set[Key] = field(default_factory=set)  # on one of them
    alive: set[str] = field(default_factory=set)  # globals that are bound at this point, on some path
    earlier: set[Key] = field(default_factory=set)  # bound when an earlier turn of a loop may have come by
    functions: dict[Key, tuple[Body, ...]] = field(default_factory=dict)  # what a name may stand for
    starred: bool = False  # a star import may have bound anything

    def copy(self) -> Paths:
        return Paths(
            set(self.decided),
            set(self.maybe),
            set(self.alive),
            set(self.earlier),
            dict(self.functions),
            self.starred,
        )

    def bind(self, key: Key, functions: tuple[Body, ...] = ()) -> None:
        self.decided.add(key)
        self.maybe.add(key)
        if isinstance(key, str):
            self.alive.add(key)
        self.functions.pop(key, None)
        if functions:
            self.functions[key] = functions

    def unbind(self, key: Key) -> None:
        self.bind(key)
        if isinstance(key, str):
            self.alive.discard(key)
        elif key[0].kind == CLASS:
            self.decided.discard(key)  # and a class body looks among the globals again

    def beyond(self, start: Paths) -> Paths:
        """What has happened since `start`."""
        return Paths(
            self.decided - start.decided,
            self.maybe - start.maybe,
            self.alive - start.alive,
            functions={
                key: bodies for key, bodies in self.functions.items() if bodies != start.functions.get(key)
            },
            starred=self.starred,
        )

    def perhaps(self, other: Paths) -> None:
        """What happened on the way of `other` may have happened here as well."""
        self.maybe |= other.maybe
        self.alive |= other.alive
        self.starred = self.starred or other.starred
        for key, bodies in other.functions.items():
            mine = self.functions.get(key, ())
            if bodies is not mine:
                self.functions[key] = mine + tuple(body for body in bodies if body not in mine)


def joined(ways: Iterable[Paths | None]) -> Paths | None:
    """The paths that come together; None is a way that nobody goes."""
    found: Paths | None = None
    for way in ways:
        if way is None:
            continue
        if found is None:
            found = way.copy()
        else:
            found.decided &= way.decided
            found.earlier |= way.earlier
            found.perhaps(way)
    return found
