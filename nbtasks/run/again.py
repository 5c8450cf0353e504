"""A run once more, here or in the background; and where one is that runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nbtasks import context, pickling
from nbtasks.context import Submitter
from nbtasks.core.messages import CallFound, GetCall, GetStack, NewRun, RunId, StackFound, Terms
from nbtasks.errors import UnknownRun
from nbtasks.pickling.code import load_code
from nbtasks.pickling.offered import value_in
from nbtasks.pickling.upstream import ValueOf
from nbtasks.wire import ids

if TYPE_CHECKING:
    from nbtasks.run.handle import Run

STACK_S = 5.0  # a process that can answer does so in milliseconds


class Stack(str):
    """A text that shows itself as it is."""

    def __repr__(self) -> str:
        return str(self)


def submitted(run: Run) -> Run:
    """A new run of the same call; an earlier result is not taken for it."""
    call, client = _call_of(run), run._client
    spec, new = call.spec, ids.run_id()
    assert spec is not None
    # a file of arguments belongs to one run
    body = client.pack(client.unpack(call.args), new)
    wanted = NewRun(new, body, call.parameters, call.needs, call.name, call.cache_key)
    terms = Terms(priority=call.priority, refresh=True)
    fate = client.submit(spec, call.code, wanted, context.parent_id(), terms)
    return type(run)(new, call.name or spec.name, spec.key, spec.tags, call.parameters, client, fate)


def called_here(run: Run) -> Any:
    """Call the function in this process."""
    call, client = _call_of(run), run._client
    spec = call.spec
    assert spec is not None
    if not call.code:
        raise ValueError(f"{_name(run)} was made for workers that serve {spec.key!r}: its code is only there")

    with _importing(spec.sys_path):
        function = load_code(call.code).function
        with pickling.given(value_here(client)):
            args, kwargs = pickling.load_arguments(client.unpack(call.args))
        bind = partial(context.bound, function, args, kwargs)
        tags = frozenset(spec.tags)
        inside = context.RunContext(run._run, run.name, 1, tags, bind, is_recorded=False, task_key=spec.key)
        with context.running(inside):
            return value_in(context.finished(function(*args, **kwargs)))


def value_here(client: Submitter) -> ValueOf:
    """What gives the values of runs in this process; it waits for them."""

    def value_of(needed: RunId, tolerant: bool) -> Any:
        from nbtasks.run.handle import Run

        run = Run.of_info(client.info(needed), client)
        error = run.exception()
        if error is None:
            return run._stored()
        if tolerant:
            return error
        raise error

    return value_of


def stack_of(run: Run) -> Stack:
    """Where its code is now."""
    try:
        answer = run._client.ask(lambda number: GetStack(number, run._run), StackFound, STACK_S)
    except TimeoutError:
        raise TimeoutError(
            f"the worker of {_name(run)} has not answered within {STACK_S:g} s: code outside of Python holds "
            "its interpreter"
        ) from None
    return Stack(answer.text)


def _call_of(run: Run) -> CallFound:
    call = run._client.ask(lambda number: GetCall(number, run._run), CallFound)
    if call.spec is None:
        raise UnknownRun(f"{_name(run)} is not recorded any more")
    if call.spec.hook:
        raise ValueError(f"{_name(run)} executes the hooks of a run that is over, and does so once")
    return call


def _name(run: Run) -> str:
    return f"run {run.name!r} ({run._run})"


@contextmanager
def _importing(paths: tuple[str, ...]) -> Iterator[None]:
    """Find the modules that the submitter found."""
    added = [path for path in paths if path not in sys.path]
    sys.path += added
    try:
        yield
    finally:
        for path in added:
            if path in sys.path:
                sys.path.remove(path)
