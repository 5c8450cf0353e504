"""Functions, classes and their kin: what runs where they stand, and what runs when they are called."""

from __future__ import annotations

import ast

from nbtasks.cell import scopes
from nbtasks.cell.expressions import yields
from nbtasks.cell.flow import Flow, last_names
from nbtasks.cell.hidden import NAMESPACES, name_in_namespace
from nbtasks.cell.paths import SOFT, Body, Paths, joined
from nbtasks.cell.scopes import ANNOTATION, CLASS, FUNCTION, MODULE, Bound, Function, Key, Scope, bound_in

# Decorators that do not call what they are given; any other may.
SERVING = {"deleter", "getter", "register", "setter"}
KEEPING = SERVING | {
    "abstractmethod",
    "asynccontextmanager",
    "cache",
    "cached_property",
    "classmethod",
    "contextmanager",
    "dataclass",
    "jit",
    "lru_cache",
    "njit",
    "overload",
    "property",
    "singledispatch",
    "staticmethod",
    "task",
    "total_ordering",
    "wraps",
}
SHELL = {
    "ev",
    "ex",
    "magic",
    "push",
    "run_cell",
    "run_cell_magic",
    "run_line_magic",
    "user_global_ns",
    "user_ns",
}
HIDES = "{} may use and bind names that cannot be seen in its text: name what it needs with -i"


class Walk(Flow):
    """The walk through a whole cell."""

    def on_FunctionDef(self, node: Function) -> None:
        served = [part for decorator in node.decorator_list for part in self.decorator(decorator)]
        self.visit_all(scopes.defaults(node.args))
        outer = self.scope
        self.scope = self.with_parameters_of(node)
        for parameter in ast.walk(node.args):
            if isinstance(parameter, ast.arg):
                self.annotation(parameter.annotation)
        self.annotation(node.returns)
        bound = bound_in(node.body)
        bound.names |= scopes.of_parameters(node.args)
        generator = yields(*node.body)
        made = self.body(
            node,
            self.scope.inner(FUNCTION, bound),
            at_call=not generator,
            awaited=isinstance(node, ast.AsyncFunctionDef),
        )
        self.scope = outer
        together = (*(body for key in served for body in self.functions_of(key)), made)
        for key in served:
            if self.here is not None:
                self.here.functions[key] = together
        self.bind(node.name, together)
        self.decorated(node.decorator_list, (made,))

    def decorator(self, node: ast.expr) -> list[Key]:
        """Evaluate a decorator; `@x.setter` and `@x.register` make x call one function more."""
        inner = node.func if isinstance(node, ast.Call) else node
        match inner:
            case ast.Attribute(value=ast.Name(id=name), attr=how) if how in SERVING:
                key = self.scope.key(name)
                self.read(key)
                if isinstance(node, ast.Call):
                    self.visit_all([*node.args, *node.keywords])
                return [key]
        self.visit(node)
        return []

    on_AsyncFunctionDef = on_FunctionDef

    def on_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all(node.decorator_list)
        outer = self.scope
        self.scope = self.with_parameters_of(node)
        self.visit_all([*node.bases, *(keyword.value for keyword in node.keywords)])
        bound = bound_in(node.body)
        bound.names |= {"__module__", "__qualname__"}
        inside = self.scope = self.scope.inner(CLASS, bound, owner=node.name)
        self.bind("__module__")
        self.bind("__qualname__")
        self.block(node.body)
        self.scope = outer
        if self.here is None:
            return
        methods: list[Body] = []
        for key, bodies in self.here.functions.items():
            if not isinstance(key, str) and key[0] is inside:
                methods += bodies
        for body in methods:
            body.at_call = False
        self.bind(node.name, tuple(methods))
        self.decorated(node.decorator_list, tuple(methods))

    def decorated(self, decorators: list[ast.expr], bodies: tuple[Body, ...]) -> None:
        if all(last_names(decorator) & KEEPING for decorator in decorators):
            return
        for body in bodies:
            self.follow(body, SOFT)

    def with_parameters_of(self, node: ast.AST) -> Scope:
        """The scope of the type parameters of `def f[T]` (PEP 695), else the one around."""
        parameters = getattr(node, "type_params", [])
        if not parameters:
            return self.scope
        scope = self.scope.inner(ANNOTATION, Bound({parameter.name for parameter in parameters}))
        for parameter in parameters:
            for late in (getattr(parameter, "bound", None), getattr(parameter, "default_value", None)):
                if late is not None:
                    self.body(late, scope, at_call=False)
        return scope

    def on_TypeAlias(self, node: ast.stmt) -> None:
        self.body(node.value, self.with_parameters_of(node), at_call=False)  # type: ignore[attr-defined]
        self.bind(node.name.id)  # type: ignore[attr-defined]

    def inside(self, body: Body) -> Paths | None:
        outer = self.breaks, self.continues, self.returns, self.caught
        self.breaks, self.continues, self.returns, self.caught = [], [], [], []
        if isinstance(body.node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.block(body.node.body)
        elif isinstance(body.node, ast.GeneratorExp):
            self.elements(body.node)
        else:
            self.visit(body.node)
        end = joined([self.here, *self.returns])
        self.breaks, self.continues, self.returns, self.caught = outer
        return end

    # What looks into the namespace

    def asked(self, name: str, function: str) -> None:
        self.read(self.scope.key(function))
        self.asked_for.add(name)
        self.read_softly([name])

    def on_Subscript(self, node: ast.Subscript) -> None:
        name = name_in_namespace(node)
        if name is None:
            self.visit_all([node.value, node.slice])
        else:
            self.read_in_namespace(name, node)

    def on_Attribute(self, node: ast.Attribute) -> None:
        match node.value:
            case ast.Call(func=ast.Name(id="get_ipython")) if node.attr in SHELL:
                self.doubt(f"get_ipython().{node.attr}")
        self.visit(node.value)

    def on_Call(self, node: ast.Call) -> None:
        name = name_in_namespace(node)
        if name is None:
            super().on_Call(node)
        else:
            self.read_in_namespace(name, node)
            self.visit_all(node.args)

    def read_in_namespace(self, name: str, node: ast.expr) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in NAMESPACES:
                self.read(self.scope.key(part.id))
        self.read_softly([name])

    def call_of_global(self, name: str, node: ast.Call) -> None:
        if name in {"exec", "eval"}:
            match node.args:
                case [ast.Constant(value=str(text))] if self.scope.kind == MODULE and not node.keywords:
                    self.text(text)
                case _:
                    self.doubt(f"{name}()")
        elif name == "globals" or (
            name in {"locals", "vars"} and not node.args and self.scope.kind == MODULE
        ):
            self.doubt(f"{name}()")

    def text(self, text: str) -> None:
        """Code in a string, run where it stands."""
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return  # fails when it is run, as it would in the notebook
        self.block(tree.body)

    def doubt(self, what: str) -> None:
        self.doubts[HIDES.format(what)] = None
