"""A task that is called: its run here and now, with the options that mean something without a broker.

Nothing is recorded. A time-out interrupts the main thread at once, coroutines where they await, and
code in another thread before its next Python instruction: what blocks there outside of Python goes on
until it returns, and is judged then.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from types import FrameType
from typing import Any

from nbtasks import context
from nbtasks.core import policy
from nbtasks.core.messages import RunId, Spec
from nbtasks.errors import TimedOut
from nbtasks.run.values import resolved, runs_in
from nbtasks.runners.interrupts import Interrupted, call_within
from nbtasks.runners.local import Course
from nbtasks.tasks import loglines
from nbtasks.wire import ids


class LocalCall:
    """One call.

    Parameters
    ----------
    function
        The bare function.
    parameters
        The arguments by name.
    name
        What the run is called; "": as its task.
    run
        The id of the run that it is; "": a new one.
    wait_for
        Runs that have to complete first.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parameters: dict[str, Any],
        spec: Spec,
        name: str = "",
        run: RunId = "",
        wait_for: Any = None,
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._parameters = parameters
        self._spec = spec
        self._name = name or spec.name
        self._id = run or ids.run_id()
        self._wait_for = wait_for
        self._course = Course()

    def start(self, course: Course | None = None) -> Any:
        """The result; a coroutine or a generator if the function makes one.

        Parameters
        ----------
        course
            Who is told how it goes.
        """
        self._course = course or self._course
        target = self._function
        if not inspect.isroutine(target):
            target = type(target).__call__  # an object that can be called
        if inspect.iscoroutinefunction(target):
            return self._run_async()
        if inspect.isasyncgenfunction(target):
            self._resolve()
            return self._steps_async(self._function(*self._args, **self._kwargs))
        if inspect.isgeneratorfunction(target):
            self._resolve()
            return self._steps(self._function(*self._args, **self._kwargs))
        return self._run()

    def _inside(self, attempt: int) -> ExitStack:
        """What user code finds around itself."""
        stack = ExitStack()
        stack.enter_context(
            context.running(
                context.RunContext(
                    run=self._id,
                    name=self._name,
                    attempt=attempt,
                    tags=frozenset(self._spec.tags),
                    bind=lambda: self._parameters,
                    is_recorded=False,
                )
            )
        )
        if self._spec.log_prints:
            stack.enter_context(_LoggedPrints(self._name))
        return stack

    def _pause_s(self, failures: int, error: Exception) -> float:
        """How long to wait before the next attempt; raises if there is none."""
        pause_s = policy.retry_delay_s(self._spec, failures, self._id)
        if pause_s is None:
            raise error
        with self._course.shielded():
            self._course.failed(error, pause_s)
            loglines.retrying(self._name, failures, error, pause_s)
        return pause_s

    def _resolve(self) -> None:
        """Put values in the place of runs; waits for them."""
        call = (self._args, self._kwargs, self._parameters)
        found = resolved((call, self._wait_for))
        self._args, self._kwargs, self._parameters = found[0]

    async def _resolve_async(self) -> None:
        for run in runs_in(((self._args, self._kwargs), self._wait_for)):
            await asyncio.to_thread(run.wait)
        self._resolve()

    def _run(self) -> Any:
        self._resolve()
        attempt = 0
        while True:
            attempt += 1
            self._course.began(attempt)
            try:
                with self._inside(attempt):
                    return self._within(lambda: self._function(*self._args, **self._kwargs))
            except Exception as error:
                pause_s = self._pause_s(attempt, error)
            self._course.pause(pause_s)

    async def _run_async(self) -> Any:
        await self._resolve_async()
        attempt = 0
        while True:
            attempt += 1
            self._course.began(attempt)
            try:
                with self._inside(attempt):
                    return await self._await_within(self._function(*self._args, **self._kwargs))
            except Exception as error:
                pause_s = self._pause_s(attempt, error)
            await asyncio.sleep(pause_s)

    async def _await_within(self, coroutine: Any) -> Any:
        if not self._spec.timeout_s:
            return await coroutine
        # not wait_for: a TimeoutError of the user's own must stay one
        running = asyncio.ensure_future(coroutine)
        try:
            done, _ = await asyncio.wait({running}, timeout=self._spec.timeout_s)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if not done:
            running.cancel()
            await asyncio.wait({running}, timeout=self._spec.grace_s)
            raise self._timed_out()
        return running.result()

    def _within(self, call: Callable[[], Any]) -> Any:
        timeout_s = self._spec.timeout_s
        if not timeout_s:
            return call()
        is_main = threading.current_thread() is threading.main_thread()
        try:
            return _interrupted_within(timeout_s, call) if is_main else call_within(timeout_s, call)
        except (_Alarm, Interrupted) as alarm:
            if type(alarm) not in (_Alarm, Interrupted):
                raise  # that of a call around this one
        raise self._timed_out()

    def _timed_out(self) -> TimedOut:
        error = TimedOut(f"exceeded {self._spec.timeout_s:g} s")
        self._course.timed_out(error)
        return error

    def _steps(self, generator: Iterator[Any]) -> Iterator[Any]:
        self._course.began(1)
        while True:
            with self._inside(1):
                try:
                    value = next(generator)
                except StopIteration:
                    return
            yield value

    async def _steps_async(self, generator: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._course.began(1)
        while True:
            with self._inside(1):
                try:
                    value = await generator.__anext__()
                except StopAsyncIteration:
                    return
            yield value


# -- time-outs ----------------------------------------------------------------------------------------


class _Alarm(BaseException):
    """The time is over; not an Exception, so that user code does not handle it by chance."""


def _interrupted_within(timeout_s: float, call: Callable[[], Any]) -> Any:
    fired = False

    def on_alarm(number: int, frame: FrameType | None) -> None:
        nonlocal fired
        if not fired:
            fired = True
            raise _Alarm

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, on_alarm)
    outer_s, _ = signal.setitimer(signal.ITIMER_REAL, timeout_s)
    value = None
    try:
        try:
            value = call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, handler)
        if outer_s:
            # a call around this one has a time-out of its own
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, outer_s - (time.monotonic() - began)))
    if fired:
        raise _Alarm  # user code caught it and went on
    return value


# -- prints -------------------------------------------------------------------------------------------

_prints_of: ContextVar[str | None] = ContextVar("nbtasks_prints", default=None)
_plain_print = builtins.print
_users = 0
_users_lock = threading.Lock()


class _LoggedPrints:
    """Turns what this thread of execution prints to stdout into log lines."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        global _users, _plain_print
        with _users_lock:
            if not _users:
                _plain_print = builtins.print
                builtins.print = _print
            _users += 1
        self._token = _prints_of.set(self._name)

    def __exit__(self, *exc: object) -> None:
        global _users
        _prints_of.reset(self._token)
        with _users_lock:
            _users -= 1
            if not _users and builtins.print is _print:
                builtins.print = _plain_print


def _print(
    *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
) -> None:
    name = _prints_of.get()
    if name is None or file not in (None, sys.stdout):
        _plain_print(*values, sep=sep, end=end, file=file, flush=flush)
    else:
        loglines.printed(name, (" " if sep is None else sep).join(map(str, values)))
