"""The names that statements read and bind, along every path through a cell."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Sequence

from nbtasks.cell import scopes
from nbtasks.cell.expressions import Expressions
from nbtasks.cell.hidden import name_in_namespace
from nbtasks.cell.paths import SOFT, Paths, joined
from nbtasks.cell.scopes import ANNOTATION, CLASS, MODULE, Bound, Key, bound_in

LAZY_ANNOTATIONS = sys.version_info >= (3, 14)  # evaluated when somebody asks (PEP 649)
CATCHING = {"NameError", "Exception", "BaseException"}  # a handler of these outlives a missing name
SUPPRESSING = {"suppress", "raises", "assertRaises", "assertRaisesRegex"}


class Flow(Expressions):
    """The walk through statements."""

    def __init__(self, tree: ast.Module, evaluates_annotations: bool = True) -> None:
        far = scopes.declared_global(tree)
        super().__init__(scopes.Scope(MODULE, None, bound_in(tree.body)), far)
        self.breaks: list[Paths] = []
        self.continues: list[Paths] = []
        self.returns: list[Paths] = []
        self.caught: list[Key] = []  # names of `except ... as`, unbound on every way out
        self.asked_for: set[str] = set()
        self.stars: dict[str, None] = {}
        self.evaluates_annotations = evaluates_annotations

    def whole(self, tree: ast.Module) -> None:
        """Walk through a cell, then through what it left to be called later or never."""
        self.block(tree.body)
        self.end = self.here
        self.here = Paths() if self.end is None else self.end.copy()
        while left := [body for body in self.bodies if not body.runs]:
            for body in left:
                self.follow(body, SOFT)
        self.may_need |= self.needs & self.asked_for
        self.needs -= self.asked_for
        self.may_need -= self.needs

    def block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            if self.here is None:
                return
            self.visit(statement)

    def keys(self, bound: Bound) -> frozenset[Key]:
        """What these statements may bind, and what the functions that they may call bind."""
        return frozenset(self.scope.key(name) for name in bound.names | bound.globals) | self.far

    # Assignments

    def on_Assign(self, node: ast.Assign) -> None:
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self.bind(node.targets[0].id, self.given(node.value))
            return
        self.visit(node.value)
        for target in node.targets:
            self.assign(target)

    def assign(self, target: ast.expr) -> None:
        if (name := name_in_namespace(target)) is not None and self.scope.kind == MODULE:
            self.visit_all(part.func for part in ast.walk(target) if isinstance(part, ast.Call))
            self.bind(name)
        else:
            self.target(target)

    def on_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use(self.scope.key(node.target.id))
            self.visit(node.value)
            self.bind(node.target.id)
        else:
            self.visit_all([node.target, node.value])

    def on_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and isinstance(node.target, ast.Name):
            self.bind(node.target.id, self.given(node.value))
        elif node.value is not None:
            self.visit(node.value)
            self.target(node.target)
        elif not isinstance(node.target, ast.Name):
            self.target(node.target)
        if self.scope.kind in (MODULE, CLASS):
            self.annotation(node.annotation)

    def annotation(self, node: ast.expr | None) -> None:
        if node is None or not self.evaluates_annotations:
            return
        if LAZY_ANNOTATIONS:
            self.lazily(node)
        else:
            self.visit(node)

    def lazily(self, node: ast.expr) -> None:
        self.body(node, self.scope.inner(ANNOTATION, Bound()), at_call=False)

    def on_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Del) and self.here is not None:
                    key = self.scope.key(part.id)
                    if isinstance(key, str):
                        self.read(key)
                    self.here.unbind(key)
                elif isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Del):
                    self.visit_all(scopes.children(part))

    def on_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom) and alias.name == "*" and self.here is not None:
                self.here.starred = True
                if node.module:
                    self.stars[node.module] = None
            else:
                self.bind(scopes.imported(alias))

    on_ImportFrom = on_Import

    def on_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        """The scope knows it already."""

    on_Nonlocal = on_Global

    # Ways on and ways out

    def on_If(self, node: ast.If) -> None:
        self.choose(node.test, lambda: self.block(node.body), lambda: self.block(node.orelse))

    def on_Assert(self, node: ast.Assert) -> None:
        yes, no = self.test(node.test)
        self.here = no
        self.visit(node.msg)
        self.here = yes

    def on_Return(self, node: ast.Return) -> None:
        self.visit(node.value)
        self.leave(self.returns)

    def on_Raise(self, node: ast.Raise) -> None:
        self.visit_all([node.exc, node.cause])
        self.here = None

    def on_Break(self, node: ast.Break) -> None:
        self.leave(self.breaks)

    def on_Continue(self, node: ast.Continue) -> None:
        self.leave(self.continues)

    def leave(self, by: list[Paths]) -> None:
        if self.here is not None:
            for key in self.caught:
                self.here.unbind(key)
            by.append(self.here)
        self.here = None

    # Loops

    def on_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        at_least_once = isinstance(node.iter, ast.Tuple | ast.List | ast.Set) and any(
            not isinstance(part, ast.Starred) for part in node.iter.elts
        )
        self.loop(
            node,
            self.here,
            None if at_least_once else self.here,
            [node.target],
            lambda: self.target(node.target),
        )

    on_AsyncFor = on_For

    def on_While(self, node: ast.While) -> None:
        yes, no = self.test(node.test)
        self.loop(node, yes, no, [node.test], lambda: None)

    def loop(
        self,
        node: ast.For | ast.AsyncFor | ast.While,
        enters: Paths | None,
        passes: Paths | None,
        heads: Sequence[ast.AST],
        begin: Callable[[], None],
    ) -> None:
        """A loop that is entered as `enters`, and may be passed by without a turn as `passes`."""
        outer = self.breaks, self.continues, self.turns, self.caught
        self.breaks, self.continues, self.caught = [], [], []
        earlier = set() if enters is None else set(enters.earlier)
        passes, self.here = passes and passes.copy(), enters and enters.copy()
        inside = bound_in([*heads, *node.body])
        bound = self.keys(inside)
        if self.here is not None:
            self.here.decided -= self.deleted_from_class(inside)
            # the first turn sees nothing of later ones; of the loops around, it may be any turn
            self.here.earlier |= self.turns - bound
            self.turns |= bound
            begin()
            self.block(node.body)
        ends = joined([self.here, *self.continues])
        exits, (self.breaks, self.continues, self.turns, self.caught) = self.breaks, outer
        self.here = passes if isinstance(node, ast.While) else joined([passes, ends])
        if self.here is not None and ends is not None:
            self.here.perhaps(ends)
        self.block(node.orelse)
        self.here = joined([self.here, *exits])
        if self.here is not None:
            self.here.earlier = earlier | (self.turns if exits else set())
            if ends is not None:  # whoever leaves may do so in a later turn
                self.here.perhaps(ends)

    # What may end early

    def on_Try(self, node: ast.Try) -> None:
        if self.here is None:
            return
        before = self.here.copy()
        raised = self.interrupted(before, node.body)
        strength = self.strength
        if any(handler.type is None or last_names(handler.type) & CATCHING for handler in node.handlers):
            self.strength = SOFT
        self.block(node.body)
        self.strength = strength
        if self.here is not None:
            raised.perhaps(self.here)
        done = self.here
        ways: list[tuple[Paths | None, Callable[[], None]]] = [(done, lambda: self.block(node.orelse))]
        ways += [(raised, self.handling(handler)) for handler in node.handlers]
        self.here = raised
        self.branch(ways)
        if node.finalbody:
            handlers = [part for handler in node.handlers for part in handler.body]
            self.finally_(self.interrupted(before, [*node.body, *handlers, *node.orelse]), node.finalbody)

    on_TryStar = on_Try

    def interrupted(self, before: Paths, statements: Iterable[ast.AST]) -> Paths:
        """What is so when `statements` were left at any point."""
        found = before.copy()
        bound = bound_in(statements)
        for name in bound.names | bound.globals:
            key = self.scope.key(name)
            found.maybe.add(key)
            if isinstance(key, str) and name in bound.stored:
                found.alive.add(key)
        found.maybe |= self.far
        found.decided -= self.deleted_from_class(bound)
        return found

    def deleted_from_class(self, bound: Bound) -> set[Key]:
        """What a class body may delete here: unlike a global, such a name is looked for further out."""
        return {self.scope.key(name) for name in bound.deleted} if self.scope.kind == CLASS else set()

    def handling(self, handler: ast.ExceptHandler) -> Callable[[], None]:
        def go() -> None:
            self.visit(handler.type)
            if handler.name:
                self.bind(handler.name)
                self.caught.append(self.scope.key(handler.name))
            strength = self.strength
            if handler.type is not None and last_names(handler.type) == {"NameError"}:
                self.strength = SOFT  # comes to nothing where the notebook has the name
            self.block(handler.body)
            self.strength = strength
            if handler.name:
                gone = self.caught.pop()
                if self.here is not None:
                    self.here.unbind(gone)

        return go

    def finally_(self, anywhere: Paths, statements: Sequence[ast.stmt]) -> None:
        done, start = self.here, anywhere.copy()
        if done is not None:
            start.perhaps(done)
        end = self.after(statements, start)
        if done is None or end is None:
            self.here = None
            return
        self.here = done
        done.perhaps(end.beyond(start))
        done.decided |= end.decided - start.decided
        # what it deletes is gone on the way on as well
        done.alive -= start.alive - end.alive

    def after(self, statements: Sequence[ast.stmt], start: Paths) -> Paths | None:
        self.here = start.copy()
        self.block(statements)
        return self.here

    def on_With(self, node: ast.With | ast.AsyncWith) -> None:
        before: Paths | None = None
        strength = self.strength
        for item in node.items:
            self.visit(item.context_expr)
            match item.context_expr:
                case ast.Call(func=function, args=caught) if last_names(function) & SUPPRESSING:
                    before = self.here and self.here.copy()
                    if any(last_names(part) & CATCHING for part in caught):
                        self.strength = SOFT
            if item.optional_vars is not None:
                self.target(item.optional_vars)
        self.block(node.body)
        self.strength = strength
        if before is not None:
            self.here = joined([self.interrupted(before, node.body), self.here])

    on_AsyncWith = on_With

    def on_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        if self.here is None:
            return
        left: Paths | None = self.here
        ways: list[tuple[Paths | None, Callable[[], None]]] = []
        for case in node.cases:
            if left is None:
                break
            matched, left = self.matching(case, left)
            ways.append((matched, self.going_through(case.body)))
        self.branch([*ways, (left, lambda: None)])

    def matching(self, case: ast.match_case, start: Paths) -> tuple[Paths | None, Paths | None]:
        """The paths on which a case is taken, and those that go on to the next."""
        matched: Paths | None = start.copy()
        self.here = matched
        names = bound_in([case.pattern]).names
        bound = {self.scope.key(name) for name in names}
        self.visit(case.pattern)
        for name in names:
            self.bind(name)
        if irrefutable(case.pattern):
            missed = None
        else:
            missed = start.copy()
            missed.maybe |= bound
            missed.alive |= {key for key in bound if isinstance(key, str)}
        refused: Paths | None = None
        if case.guard is not None:
            matched, refused = self.test(case.guard)
        result = matched, joined([missed, refused])
        self.here = start
        return result

    def going_through(self, statements: Sequence[ast.stmt]) -> Callable[[], None]:
        return lambda: self.block(statements)


def last_names(node: ast.expr) -> set[str]:
    """The last part of what an expression calls or names: {"suppress"} of `contextlib.suppress(E)`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return {name}
        case ast.Call(func=function):
            return last_names(function)
        case ast.Tuple(elts=parts):
            return {name for part in parts for name in last_names(part)}
    return set()


def irrefutable(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or irrefutable(pattern.pattern))
