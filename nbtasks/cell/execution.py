"""Executing a cell in the shell of this process, as that shell would, in a namespace of its own.

The shell's namespace is swapped for the cell's while it runs, so that magics, `!cmd` and `get_ipython()`
see the cell's names, and is put back whatever happened.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import importlib
import inspect
import sys
import threading
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any, NamedTuple

from nbtasks import context, pickling
from nbtasks.cell.capture import EXITS
from nbtasks.cell.snapshot import Opened
from nbtasks.pickling import Frozen, Offered, sources
from nbtasks.pickling.mains import Main, standing_in
from nbtasks.run.again import value_here

FUTURE = 0
for _name in __future__.all_feature_names:
    FUTURE |= getattr(__future__, _name).compiler_flag


class Host(NamedTuple):
    """A shell in which cells can be executed."""

    shell: Any
    is_worker: bool  # what is last is displayed, and exit() ends the run alone


_hosts: list[Host] = []


def install(shell: Any, is_worker: bool = False) -> Callable[[], None]:
    """Let cells be executed in this shell; returns what takes that back."""
    host = Host(shell, is_worker)
    _hosts.append(host)

    def take_back() -> None:
        if host in _hosts:
            _hosts.remove(host)

    return take_back


class Cell:
    """A cell as a function: called with a snapshot of names, it gives what it offers.

    Parameters
    ----------
    source
        Transformed by IPython.
    filename
        What tracebacks call it; the source is found under it.
    outputs
        Names that are offered; whether each has to be bound: what is bound in the notebook may be left so.
    flags
        Of `__future__` imports that earlier cells made.
    """

    def __init__(
        self, source: str, filename: str, outputs: Mapping[str, bool] | None = None, flags: int = 0
    ) -> None:
        self.source = self.__doc__ = source  # help shows the cell
        self.filename = filename
        self.outputs = dict(outputs or {})
        self.flags = flags
        sources.remember(((filename, source),))  # what it gives comes back here, and may raise here

    def __call__(self, captured: Opened | Frozen, /, **overrides: Any) -> Offered:
        host = _host()
        if isinstance(captured, Frozen):  # a call in this process
            with pickling.given(value_here(context.submitter())):
                captured = captured.thawed()
        assert isinstance(captured, Opened)
        namespace = captured.namespace()
        for module in (*captured.modules.values(), *captured.submodules):
            _import(module, must=module not in captured.submodules)
        namespace.update({name: sys.modules[module] for name, module in captured.modules.items()})
        namespace.update(captured.values)
        namespace.update(overrides)
        with _swapped(host, namespace):
            value = self._executed(host, namespace)
            for name in [name for name, must in self.outputs.items() if must and name not in namespace]:
                raise NameError(f"name {name!r} is wanted by -o, but the cell did not bind it", name=name)
            return Offered(value, {name: namespace[name] for name in self.outputs if name in namespace})

    def _executed(self, host: Host, namespace: dict[str, Any]) -> Any:
        body, last = self._compiled()

        async def in_loop() -> Any:
            for code in filter(None, (body, last)):
                value = eval(code, namespace)
                value = await value if _awaits(code) else value
            return value if last else None

        if _awaits(body) or (last and _awaits(last)):
            value = asyncio.run(in_loop()) if host.is_worker else context.finished(in_loop())
        else:
            exec(body, namespace)
            value = eval(last, namespace) if last else None
        if value is not None and host.is_worker and not _is_silenced(self.source):
            _display(host.shell, value)
        return value

    def _compiled(self) -> tuple[types.CodeType, types.CodeType | None]:
        """All but a last expression, and the last expression."""
        sources.remember(((self.filename, self.source),))
        flags = self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(self.source, self.filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        body = compile(tree, self.filename, "exec", flags, dont_inherit=True)
        if last is None:
            return body, None
        flags |= body.co_flags & FUTURE
        expression = ast.Expression(last.value)
        return body, compile(expression, self.filename, "eval", flags, dont_inherit=True)


def _host() -> Host:
    if not _hosts:
        raise RuntimeError(
            "a cell is executed in an IPython shell, and there is none here that has loaded nbtasks: "
            "use a notebook or a terminal IPython with %load_ext nbtasks"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a cell is executed in the main thread only: use .delay()")
    return _hosts[-1]


def _import(module: str, must: bool) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        if must:
            raise


def _awaits(code: types.CodeType) -> bool:
    """Whether there is an `await` in it: evaluated, it gives a coroutine."""
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _is_silenced(source: str) -> bool:
    """Whether it ends in a semicolon."""
    last = ""
    try:
        for token in tokenize.generate_tokens(StringIO(source).readline):
            if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER, tokenize.STRING):
                last = token.string
    except tokenize.TokenError:
        return False
    return last == ";"


def _display(shell: Any, value: Any) -> None:
    """As the shell would, but for keeping it in `_` and `Out`, where it would live on."""
    hook = shell.displayhook
    data, metadata = shell.display_formatter.format(value)
    if data:
        hook.start_displayhook()
        hook.write_output_prompt()
        hook.write_format_data(data, metadata)
        hook.finish_displayhook()


# -- the shell ------------------------------------------------------------------------------------------


@contextmanager
def _swapped(host: Host, namespace: dict[str, Any]) -> Iterator[None]:
    shell = host.shell
    before, module = shell.user_ns, shell.user_module
    for name in EXITS if host.is_worker else ():
        # those of a kernel's shell stop its loop, and the cell goes on
        namespace.setdefault(name, sys.exit)
    for name in shell.user_ns_hidden:
        if name in before:
            namespace.setdefault(name, before[name])  # get_ipython, Out and the like
    own = Main(namespace)
    shell.user_ns, shell.user_module = namespace, own
    try:
        with standing_in(own):
            yield
    finally:
        shell.user_ns, shell.user_module = before, module
