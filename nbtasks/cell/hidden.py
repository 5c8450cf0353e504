"""Names within texts: `@x` in queries, `'x' in globals()`."""

from __future__ import annotations

import ast

from nbtasks.pickling import texts

NAMESPACES = {"globals", "locals", "vars", "dir"}


def text_of_query(call: ast.Call) -> list[str]:
    """Names that `frame.query("a > @x")` or `frame.eval(...)` looks up among the caller's."""
    match call:
        case ast.Call(func=ast.Attribute(attr=method), args=[text, *_]) if method in texts.QUERYING:
            return names_of_query(text)
    return []


def names_of_query(text: ast.expr) -> list[str]:
    parts = [node.value for node in ast.walk(text) if isinstance(node, ast.Constant)]
    return [name for part in parts if isinstance(part, str) for name in texts.names_of_query(part)]


def asked_names(node: ast.Compare) -> tuple[str, str] | None:
    """The name that `'x' in globals()` asks for, and the function it asks."""
    match node:
        case ast.Compare(
            left=ast.Constant(value=str(asked)),
            ops=[ast.In() | ast.NotIn()],
            comparators=[ast.Call(func=ast.Name(id=function), args=[], keywords=[])],
        ) if function in NAMESPACES:
            return asked, function
    return None


def name_in_namespace(node: ast.expr) -> str | None:
    """The x of `globals()['x']` and of `globals().get('x')`."""
    match node:
        case ast.Subscript(
            value=ast.Call(func=ast.Name(id="globals" | "locals" | "vars"), args=[], keywords=[]),
            slice=ast.Constant(value=str(name)),
        ):
            return name
        case ast.Call(
            func=ast.Attribute(
                value=ast.Call(func=ast.Name(id="globals" | "locals" | "vars"), args=[], keywords=[]),
                attr="get",
            ),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return name
    return None
