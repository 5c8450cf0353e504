"""To which scope a name belongs, by Python's own rules: module, class, function, comprehension, annotation.

A *key* stands for one variable: a `str` is a global of the notebook, a pair is a local of one scope.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

Key = str | tuple["Scope", str]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

MODULE, CLASS, FUNCTION, COMPREHENSION, ANNOTATION = (
    "module",
    "class",
    "function",
    "comprehension",
    "annotation",
)
_NAMELESS = frozenset({"ctx", "op", "ops", "type_ignores"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Bound:
    """The names that some statements bind in their own scope, or declare to be of another."""

    names: set[str] = field(default_factory=set)  # with those that are only deleted
    stored: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Scope:
    """One scope; `owner` is the class whose private names (`__x`) are spelled differently inside."""

    kind: str
    parent: Scope | None
    bound: Bound
    owner: str = ""

    def key(self, name: str) -> Key:
        """The variable that `name` means here."""
        name = self.mangled(name)
        if self.kind == MODULE or name in self.bound.globals:
            return name
        if name in self.bound.names and name not in self.bound.nonlocals:
            return (self, name)
        scope, sees_class = self.parent, self.kind == ANNOTATION
        while scope is not None and scope.kind != MODULE:
            if scope.kind == CLASS and not sees_class:
                if name == "__class__":
                    return (self, name)  # the variable that `super()` reads
            elif name in scope.bound.globals:
                return name
            elif name in scope.bound.names and name not in scope.bound.nonlocals:
                return (scope, name)
            sees_class = sees_class and scope.kind == ANNOTATION
            scope = scope.parent
        return name

    def around(self) -> Scope:
        """The scope in which `:=` binds."""
        scope = self
        while scope.kind == COMPREHENSION and scope.parent is not None:
            scope = scope.parent
        return scope

    def mangled(self, name: str) -> str:
        if not self.owner or not name.startswith("__") or name.endswith("__") or "." in name:
            return name
        return f"_{self.owner}{name}"

    def inner(self, kind: str, bound: Bound, owner: str = "") -> Scope:
        owner = owner.lstrip("_") or self.owner
        made = Scope(kind, self, bound, owner)
        bound.names = {made.mangled(name) for name in bound.names}
        bound.deleted = {made.mangled(name) for name in bound.deleted}
        bound.globals = {made.mangled(name) for name in bound.globals}
        bound.nonlocals = {made.mangled(name) for name in bound.nonlocals}
        return made


def bound_in(nodes: Iterable[ast.AST]) -> Bound:
    """What `nodes` bind in the scope in which they stand; what is nested in them has scopes of its own."""
    found = Bound()
    rest = list(nodes)
    while rest:
        node = rest.pop()
        _note(node, found)
        rest += _same_scope(node)
    found.names = (found.stored | found.deleted) - found.globals
    return found


def of_parameters(arguments: ast.arguments) -> set[str]:
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return {parameter.arg for parameter in every if parameter is not None}


def declared_global(tree: ast.AST) -> set[str]:
    """Every name that a function or class anywhere in `tree` declares global."""
    found: set[str] = set()
    rest = [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Global):
            found.update(node.names)
        elif not isinstance(node, ast.expr):
            rest += children(node)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """The parts of `node` in their order, as ast.iter_child_nodes gives them, in a third of the time.

    Without contexts and operators, which name nothing.
    """
    found: list[ast.AST] = []
    for name in node._fields:
        if name not in _NAMELESS:
            part = getattr(node, name, None)
            if isinstance(part, list):
                found += [one for one in part if isinstance(one, ast.AST)]
            elif isinstance(part, ast.AST):
                found.append(part)
    return found


def _note(node: ast.AST, found: Bound) -> None:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            found.stored.add(name)
        case ast.Name(id=name, ctx=ast.Del()):
            found.deleted.add(name)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            found.stored.add(name)
        case ast.Import() | ast.ImportFrom():
            found.stored |= {imported(alias) for alias in node.names} - {"*"}
        case ast.ExceptHandler(name=str(name)):
            found.deleted.add(name)  # on every way out of the handler
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            found.stored.add(name)
        case ast.Global():
            found.globals |= set(node.names)
        case ast.Nonlocal():
            found.nonlocals |= set(node.names)


def imported(alias: ast.alias) -> str:
    """The name that an import binds."""
    return alias.asname or alias.name.partition(".")[0]


def _same_scope(node: ast.AST) -> list[ast.AST]:
    """The parts of `node` that are evaluated in the scope in which it stands."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [*node.decorator_list, *defaults(node.args)]
    if isinstance(node, ast.Lambda):
        return [*defaults(node.args)]
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]
    if isinstance(node, _COMPREHENSIONS):
        # only `:=` gets out of a comprehension
        parts = [part for each in node.generators for part in (each.iter, *each.ifs)]
        return [*parts, *elements(node)]
    if type(node).__name__ == "TypeAlias":  # Python >= 3.12
        return [node.name]  # type: ignore[attr-defined]
    return children(node)


def defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(value for value in arguments.kw_defaults if value is not None)]


def elements(node: Comprehension) -> list[ast.expr]:
    """What a comprehension makes, in the order of evaluation."""
    return [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
