"""The names that expressions read and bind, in the order in which Python evaluates them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable

from nbtasks.cell import scopes
from nbtasks.cell.hidden import asked_names, text_of_query
from nbtasks.cell.paths import CALLED, ESCAPED, SOFT, Body, Paths, joined
from nbtasks.cell.scopes import CLASS, COMPREHENSION, FUNCTION, Bound, Comprehension, Key, Scope, bound_in

# Every namespace has its own of these.
OWN = frozenset(
    {
        "get_ipython",
        "__builtin__",
        "__builtins__",
        "__debug__",
        "__doc__",
        "__loader__",
        "__name__",
        "__package__",
        "__spec__",
    }
)


class Expressions:
    """A walk through code along its paths; `here` is where it is, None where nobody comes."""

    def __init__(self, scope: Scope, far: Collection[str]) -> None:
        self.scope = scope
        self.here: Paths | None = Paths()
        self.needs: set[str] = set()
        self.may_need: set[str] = set()
        self.doubts: dict[str, None] = {}
        self.far = frozenset(far)  # bound by functions, by their `global`
        self.anywhere = scope.bound.names | self.far
        self.turns: frozenset[Key] = frozenset()  # what the loops around here bind
        self.strength = CALLED
        self.bodies: list[Body] = []

    # Names

    def read(self, key: Key) -> None:
        here = self.here
        if here is None or key in here.decided:
            return
        if not isinstance(key, str):
            scope, name = key
            if scope.kind != CLASS:
                return
            # a class body looks for what it has not bound (yet) among the globals
            key = name
            if key in here.decided:
                return
            unsure: bool = (scope, name) in here.maybe
        else:
            unsure = key in here.maybe or key in here.earlier
        if key in OWN or not key.isidentifier():
            return
        unsure |= here.starred or self.strength == SOFT or (self.strength == ESCAPED and key in self.anywhere)
        (self.may_need if unsure else self.needs).add(key)

    def read_softly(self, names: Iterable[str]) -> None:
        before, self.strength = self.strength, SOFT
        for name in names:
            self.read(self.scope.key(name))
        self.strength = before

    def bind(self, name: str, functions: tuple[Body, ...] = ()) -> None:
        if self.here is not None:
            self.here.bind(self.scope.key(name), functions)

    def functions_of(self, key: Key) -> tuple[Body, ...]:
        return () if self.here is None else self.here.functions.get(key, ())

    def use(self, key: Key) -> None:
        """Hand on what `key` stands for: from here on, somebody may call it."""
        self.read(key)
        for body in self.functions_of(key):
            self.follow(body, ESCAPED)

    # Bodies

    def body(self, node: ast.AST, scope: Scope, *, at_call: bool, awaited: bool = False) -> Body:
        made = Body(node, scope, at_call, awaited)
        self.bodies.append(made)
        return made

    def follow(self, body: Body, strength: int) -> None:
        """Run `body` from here, as surely as `strength` says; a call leaves behind what it decides."""
        here, strength = self.here, max(strength, self.strength)
        if here is None or body.running:
            return
        known = self._known(body, strength, here)
        if known is None:
            start = here.copy()
            known = start, self._run(body, strength) or start
            body.runs.append((strength, *known))
        start, end = known
        here.perhaps(end.beyond(start))
        if strength == CALLED and body.at_call:
            here.decided |= end.decided - start.decided
        self.here = here

    def _known(self, body: Body, strength: int, here: Paths) -> tuple[Paths, Paths] | None:
        """An earlier run of `body` from which no less was to be seen."""
        for was, start, end in body.runs:
            sees_no_less = start.decided <= here.decided
            sees_no_less &= start.maybe | start.earlier <= here.maybe | here.earlier
            if was <= strength and sees_no_less:
                return start, end
        return None

    def _run(self, body: Body, strength: int) -> Paths | None:
        before = self.here, self.scope, self.strength
        body.running = True
        self.here, self.scope, self.strength = self.here and self.here.copy(), body.scope, strength
        end = self.inside(body)
        self.here, self.scope, self.strength = before
        body.running = False
        return end

    def inside(self, body: Body) -> Paths | None:
        """Walk through a body from `here`; returns what is so when it returns."""
        raise NotImplementedError

    def strength_of_call(self, body: Body, awaited: bool) -> int:
        return CALLED if body.at_call and (awaited or not body.awaited) else ESCAPED

    # Branches

    def branch(self, ways: Iterable[tuple[Paths | None, Callable[[], None]]]) -> None:
        """Go several ways, of which Python takes one; which one may hang on the turn of a loop."""
        if self.here is None:
            return
        earlier, ends = set(self.here.earlier), []
        for start, go in ways:
            self.here = start and start.copy()
            if self.here is not None:
                self.here.earlier |= self.turns
                go()
            ends.append(self.here)
        self.here = joined(ends)
        if self.here is not None:
            # whoever comes past a way that ended did so on a condition
            self.here.earlier = earlier if all(ends) else earlier | self.turns

    def choose(self, condition: ast.expr, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        if self.here is None:
            return
        earlier = set(self.here.earlier)
        yes, no = self.test(condition)
        self.here = joined([yes, no])
        if self.here is not None:
            self.here.earlier = earlier
        self.branch([(yes, then), (no, otherwise)])

    def test(self, node: ast.expr) -> tuple[Paths | None, Paths | None]:
        """Evaluate a condition; returns the paths on which it holds, and those on which it does not."""
        if self.here is None:
            return None, None
        if isinstance(node, ast.Constant):
            return (self.here, None) if node.value else (None, self.here)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yes, no = self.test(node.operand)
            return no, yes
        if isinstance(node, ast.BoolOp):
            goes_on_if_true = isinstance(node.op, ast.And)
            out: list[Paths | None] = []
            for place, value in enumerate(node.values):
                if place and self.here is not None:
                    self.here.earlier |= self.turns
                yes, no = self.test(value)
                self.here, leaves = (yes, no) if goes_on_if_true else (no, yes)
                out.append(leaves and leaves.copy())
            end, left = self.here, joined(out)
            return (end, left) if goes_on_if_true else (left, end)
        self.visit(node)
        return self.here, self.here and self.here.copy()

    def value_of_test(self, node: ast.expr) -> None:
        if self.here is None:
            return
        earlier = set(self.here.earlier)
        self.here = joined(self.test(node))
        if self.here is not None:
            self.here.earlier = earlier

    # Expressions

    def visit(self, node: ast.AST | None) -> None:
        if node is None or self.here is None:
            return
        handler = getattr(self, f"on_{type(node).__name__}", None)
        if handler is not None:
            handler(node)
        else:
            self.visit_all(scopes.children(node))

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            self.visit(node)

    def on_Name(self, node: ast.Name) -> None:
        self.use(self.scope.key(node.id))

    def on_NamedExpr(self, node: ast.NamedExpr) -> None:
        functions = self.given(node.value)
        if self.here is not None:
            self.here.bind(self.scope.around().key(node.target.id), functions)

    def given(self, node: ast.expr) -> tuple[Body, ...]:
        """Evaluate what an assignment gives a name: a function under another name is not called by that."""
        if isinstance(node, ast.Lambda):
            return (self.of_lambda(node),)
        if isinstance(node, ast.Name):
            key = self.scope.key(node.id)
            self.read(key)
            return self.functions_of(key)
        self.visit(node)
        return ()

    def of_lambda(self, node: ast.Lambda) -> Body:
        self.visit_all(scopes.defaults(node.args))
        bound = bound_in([node.body])
        bound.names |= scopes.of_parameters(node.args)
        return self.body(node.body, self.scope.inner(FUNCTION, bound), at_call=not yields(node.body))

    def on_Lambda(self, node: ast.Lambda) -> None:
        self.follow(self.of_lambda(node), ESCAPED)

    def on_BinOp(self, node: ast.BinOp) -> None:
        operands, left = [node.right], node.left
        while isinstance(left, ast.BinOp):  # a sum of a thousand parts is as deep as it is long
            operands.append(left.right)
            left = left.left
        self.visit_all([left, *reversed(operands)])

    def on_BoolOp(self, node: ast.BoolOp) -> None:
        self.value_of_test(node)

    def on_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.value_of_test(node) if isinstance(node.op, ast.Not) else self.visit(node.operand)

    def on_IfExp(self, node: ast.IfExp) -> None:
        self.choose(node.test, lambda: self.visit(node.body), lambda: self.visit(node.orelse))

    def on_Compare(self, node: ast.Compare) -> None:
        if asked := asked_names(node):
            self.asked(*asked)
            return
        self.visit_all([node.left, node.comparators[0]])
        if len(node.comparators) > 1 and self.here is not None:
            start = self.here
            self.branch([(start, lambda: None), (start, lambda: self.visit_all(node.comparators[1:]))])

    def asked(self, name: str, function: str) -> None:
        """`'x' in globals()`: whoever asks knows that it may be missing."""
        raise NotImplementedError

    def on_Await(self, node: ast.Await) -> None:
        if isinstance(node.value, ast.Call):
            self.call(node.value, awaited=True)
        else:
            self.visit(node.value)

    def on_Call(self, node: ast.Call) -> None:
        self.call(node, awaited=False)

    def call(self, node: ast.Call, awaited: bool) -> None:
        bodies: tuple[Body, ...]
        match node.func:
            case ast.Name(id=name):
                key = self.scope.key(name)
                self.read(key)
                bodies = self.functions_of(key)
                if isinstance(key, str) and self.here is not None and key not in self.here.decided:
                    self.call_of_global(key, node)
            case ast.Lambda() as made:
                bodies = (self.of_lambda(made),)
            case other:
                self.visit(other)
                bodies = ()
        self.visit_all([*node.args, *(keyword.value for keyword in node.keywords)])
        self.read_softly(text_of_query(node))
        one_of_many = len(bodies) > 1
        for body in bodies:
            self.follow(body, ESCAPED if one_of_many else self.strength_of_call(body, awaited))

    def call_of_global(self, name: str, node: ast.Call) -> None:
        """A call of what may be a builtin that looks into the namespace."""
        raise NotImplementedError

    # Comprehensions

    def on_ListComp(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        before = self.here
        if before is None:
            return
        turns, outer, scope = self.turns, self.scope, self.of_comprehension(node)
        around = outer.around()
        self.here, self.scope = before.copy(), scope
        self.turns |= {around.key(name) for name in bound_in([node]).names}
        self.here.earlier |= turns
        self.elements(node)
        earlier, self.here = before.earlier, joined([before, self.here])
        self.scope, self.turns = outer, turns
        if self.here is not None:
            self.here.earlier = set(earlier)

    on_SetComp = on_DictComp = on_ListComp

    def on_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        self.follow(self.body(node, self.of_comprehension(node), at_call=False), ESCAPED)

    def of_comprehension(self, node: Comprehension) -> Scope:
        return self.scope.inner(COMPREHENSION, Bound(bound_in(each.target for each in node.generators).names))

    def elements(self, node: Comprehension) -> None:
        """All of a comprehension but its first iterable, which belongs to the scope around."""
        for place, each in enumerate(node.generators):
            if place:
                self.visit(each.iter)
            self.target(each.target)
            for condition in each.ifs:
                self.here, _ = self.test(condition)
        self.visit_all(scopes.elements(node))

    def target(self, node: ast.expr) -> None:
        """Assign to `node`."""
        match node:
            case ast.Name(id=name):
                self.bind(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self.target(part)
            case ast.Starred(value=part):
                self.target(part)
            case _:
                self.visit_all(scopes.children(node))


def yields(*nodes: ast.AST) -> bool:
    """Whether a body of these is a generator's."""
    rest: list[ast.AST] = list(nodes)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            rest += scopes.children(node)
    return False
