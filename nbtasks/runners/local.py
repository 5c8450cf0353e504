"""A run of this process: the handle that `.submit()` gives, and what happens to it.

Nothing of it is recorded by a broker. It has the interface of a background run and may stand in lists
and waits beside those; its states follow the same table.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any, Literal, NoReturn, overload
from uuid import UUID

from nbtasks import context
from nbtasks.context import Fate
from nbtasks.core.messages import Ended, Moment, Need, RunId, Spec
from nbtasks.core.states import FINAL, TYPES, Cause, State, StateType, move
from nbtasks.errors import CancelledRun, CrashedRun, NotPicklable, TimedOut, UnknownRun
from nbtasks.run.handle import Run
from nbtasks.run.moments import RunAttempt, RunProgress, RunState
from nbtasks.run.streaming import rest_of
from nbtasks.run.variables import R_co
from nbtasks.runners.course import Course, ProcessDied
from nbtasks.runners.interrupts import Interrupted, Interruptible
from nbtasks.states import Returned


class LocalRun(Run[R_co], Course):
    """One call of a task in this process, by a task runner.

    As an argument of `.delay()` it is replaced by its result; that it has to have already.

    Parameters
    ----------
    parent
        The run whose code made this one; "": none.
    name
        What it is called; "": as its task.
    never
        Called in the thread of the run, if it was cancelled before that came to it.
    """

    _fate: Fate

    def __init__(
        self,
        run: RunId,
        spec: Spec,
        parameters: str,
        parent: RunId,
        name: str = "",
        never: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(run, name or spec.name, spec.key, spec.tags, parameters, _local, Fate(run))
        self._parent = parent
        self._lock = threading.Lock()
        self._moments = [Moment(State.PENDING.value, time.time())]
        self._attempts: list[RunAttempt] = []
        self._result: Any = None
        self._error: BaseException | None = None
        self._own_timeout: Exception | None = None
        self._progress: RunProgress | None = None
        self._values: list[Any] = []  # of a generator, so far
        self._returned: Returned | None = None
        self._never = never
        self._is_elsewhere = False
        self._stop = Interruptible()
        self._stopped = threading.Event()
        self._stop_async: Callable[[], object] | None = None  # called instead of an interrupt
        _local.runs[run] = self

    # -- the handle ---------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        return RunState.of(self, self._moments[-1])

    @property
    def history(self) -> list[RunState]:
        return [RunState.of(self, moment) for moment in list(self._moments)]

    @property
    def attempts(self) -> list[RunAttempt]:
        return list(self._attempts)

    @property
    def progress(self) -> RunProgress | None:
        return self._progress

    @property
    def parent(self) -> UUID | None:
        return UUID(self._parent) if self._parent else None

    @property
    def output(self) -> list[dict[str, Any]]:
        """Nothing: what it printed was shown where it was printed, and is not kept."""
        return []

    def show(self, follow: bool = False) -> None:
        """Show nothing again; `follow`: wait until the run has ended."""
        if follow:
            self.wait()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self._wait(timeout):
            raise TimeoutError(f"run {self.name!r} ({self._run}) has not ended within {timeout:g} s")
        return self._error

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R_co: ...
    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co | BaseException: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        error = self.exception(timeout)
        if error is None:
            return self._result
        if raise_on_failure:
            raise error
        return error

    def __iter__(self) -> Iterator[Any]:
        given = 0
        while self._has_more(given):
            yield self._values[given]
            given += 1
        yield from rest_of(self, given)

    def _has_more(self, given: int) -> bool:
        """Wait for one more value; False: it is over."""
        _local.wait(lambda: len(self._values) > given or self._fate.is_settled, None)
        return len(self._values) > given

    async def __aiter__(self) -> AsyncIterator[Any]:
        values = iter(self)
        while (found := await asyncio.to_thread(next, values, _OVER)) is not _OVER:
            yield found

    def __await__(self) -> Generator[Any, None, R_co]:
        with context.lending():
            return (yield from super().__await__())

    def cancel(self) -> None:
        """End the run: at once if it waits.

        If it runs in a thread, it is interrupted before its next Python instruction, an async one where it
        awaits; code that blocks outside of Python goes on until it returns. A process of
        `ProcessPoolTaskRunner` is interrupted whatever it does, and killed if it goes on.
        """
        with self._lock:
            state = State(self._moments[-1].state)
            if state in FINAL or state is State.CANCELLING:
                return
            self._stopped.set()
            has_begun, stop_async = bool(self._attempts), self._stop_async
            if has_begun:
                self._move(Cause.CANCEL)
                due = []
            else:
                due = self._end(Cause.CANCELLED, error=self._cancelled())
        if not has_begun:
            _call_all(due)
        elif stop_async is not None:
            stop_async()
        else:
            self._stop.interrupt()

    def _cancelled(self) -> CancelledRun:
        return CancelledRun(f"{self._where} was cancelled")

    def need(self) -> Need | None:
        self._must_have_ended()
        return None

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._must_have_ended()
        if self._error is not None:
            raise NotPicklable(f"{self._where} ended {self.state}, so it has no value that could travel")
        return _value, (self._result,)

    def _must_have_ended(self) -> None:
        if not self.state.is_final:
            raise NotPicklable(
                f"{self._where} is a run of this process that has not ended, so its value cannot travel: "
                "call .result() first, or make it by .delay()"
            )

    @property
    def _where(self) -> str:
        return f"run {self.name!r} ({self._run})"

    def shielded(self) -> AbstractContextManager[None]:
        return self._stop.shielded()

    # -- executing it -------------------------------------------------------------------------------------

    def execute(self, call: Callable[[Course], Any]) -> None:
        """Execute it in this thread; every exception becomes its outcome."""
        if self._fate.is_settled:
            self._never()
            return
        value, raised = None, None
        try:
            value = self._stop.call(lambda: self._value_of(call(self)))
        except BaseException as error:
            # of what was raised elsewhere, the frames here are ours alone; those of the user are in its cause
            raised = error.with_traceback(None) if self._is_elsewhere else error
        with self._lock:
            if self.state.is_final:
                return  # it was cancelled before user code began
            if not self._attempts:
                self._move(Cause.STARTED)  # it failed on the way to user code
            cause, failure = (Cause.COMPLETED, None) if raised is None else self._judged(raised)
            due = self._end(cause, value, failure)
        _call_all(due)

    def _value_of(self, made: Any) -> Any:
        if inspect.iscoroutine(made):
            return asyncio.run(self._awaited(made))
        if inspect.isasyncgen(made):
            return asyncio.run(self._awaited(self._all_of(made)))
        if inspect.isgenerator(made):
            for value in made:
                self.yielded(value)
            return self._values
        return made

    async def _all_of(self, generator: Any) -> list[Any]:
        async for value in generator:
            self.yielded(value)
        return self._values

    async def _awaited(self, coroutine: Any) -> Any:
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        assert own is not None
        try:
            # what is left afterwards is asyncio's own, which an interrupt would break
            with self.stopped_by(partial(loop.call_soon_threadsafe, own.cancel), lambda: None):
                return await coroutine
        finally:
            coroutine.close()  # if it was not to begin

    def _judged(self, error: BaseException) -> tuple[Cause, BaseException]:
        """As a worker judges: an interrupt that nobody asked for wanted out of the interpreter."""
        if self._moments[-1].state == State.CANCELLING:
            return Cause.CANCELLED, self._cancelled()
        if self._returned is not None and self._returned.type is StateType.CANCELLED:
            self._move(Cause.CANCEL)  # it does so itself
            return Cause.CANCELLED, error
        if error is self._own_timeout:
            return Cause.TIMED_OUT, TimedOut(f"{self._where} {error}")
        if isinstance(error, (KeyboardInterrupt, SystemExit, ProcessDied)):
            crashed = CrashedRun(f"{self._where} crashed: {_line(error)}")
            crashed.__cause__ = error
            return Cause.CRASHED, crashed
        return Cause.RAISED, error

    def _end(self, cause: Cause, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """Returns what has to be called without the lock."""
        said_by = error.__cause__ if error is not None and cause is Cause.CRASHED else error
        message = "" if said_by is None or cause is Cause.CANCELLED else _line(said_by)
        if cause is Cause.TIMED_OUT:
            message = str(self._own_timeout)
        said, label = self._returned, ""
        if said is not None and said.type is TYPES[move(State(self._moments[-1].state), cause)]:
            message, label = said.message or message, said.name
        self._result, self._error = value, error
        self._move(cause, message, label)
        last = self._moments[-1]
        self._close_attempt(last.state)
        ended = Ended(0, 0, self._run, last.state, last.message, last.at, label=last.label)
        return self._fate.settle(ended)

    def _move(self, cause: Cause, message: str = "", label: str = "") -> None:
        before = State(self._moments[-1].state)
        after = move(before, cause)
        if after is not before:
            self._moments.append(Moment(after.value, time.time(), message, label))

    def _close_attempt(self, outcome: str) -> None:
        if self._attempts and self._attempts[-1].end is None:
            self._attempts[-1] = self._attempts[-1]._replace(end=_now(), outcome=outcome)

    # -- what the call tells ------------------------------------------------------------------------------

    def began(self, attempt: int) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise Interrupted
            self._move(Cause.STARTED)
            self._progress = None
            self._attempts.append(RunAttempt(attempt, "", os.getpid(), _now(), None, ""))

    @contextmanager
    def stopped_by(
        self, stop: Callable[[], object], afterwards: Callable[[], object] | None = None
    ) -> Iterator[None]:
        with self._lock:
            # set before the run can be asked to stop without it
            self._stop_async = stop
            is_stopped = self._stopped.is_set()
        try:
            if is_stopped:
                raise Interrupted
            yield
        finally:
            with self._lock:
                self._stop_async = afterwards

    def placed(self, pid: int) -> None:
        with self._lock:
            self._is_elsewhere = True
            self._attempts[-1] = self._attempts[-1]._replace(pid=pid)

    def yielded(self, value: Any) -> None:
        self._values.append(value)
        _local.ended()

    def timed_out(self, error: Exception) -> None:
        self._own_timeout = error

    def returned(self, state: Returned) -> None:
        self._returned = state

    def progressed(self, done: float, total: float, text: str) -> None:
        self._progress = RunProgress(done, total or None, text)

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def failed(self, error: Exception, pause_s: float) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise Interrupted
            is_timeout = error is self._own_timeout
            self._close_attempt(State.TIMED_OUT.value if is_timeout else State.FAILED.value)
            self._move(Cause.RAISED_RETRY_LATER if pause_s > 0 else Cause.RAISED_RETRY, _line(error))

    def pause(self, pause_s: float) -> None:
        if self._stopped.wait(pause_s):
            raise Interrupted


class _Local:
    """What handles need of a submitter, for the runs of this process."""

    def __init__(self) -> None:
        self.runs: weakref.WeakValueDictionary[RunId, LocalRun] = weakref.WeakValueDictionary()
        self._changed = threading.Condition()

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        with context.lending(), self._changed:
            return self._changed.wait_for(is_done, timeout_s)

    def ended(self) -> None:
        """Something happened: let those who wait look."""
        with self._changed:
            self._changed.notify_all()

    def wake(self) -> None:
        self.ended()

    def keep(self, fate: Fate) -> None:
        """The runner keeps what it executes."""

    def page_of(self, run: RunId) -> str:
        return ""

    def fates(self, runs: Sequence[RunId]) -> list[Fate]:
        return [self._run(run)._fate for run in runs]

    def cancel(self, runs: Sequence[RunId]) -> None:
        for run in runs:
            self._run(run).cancel()

    def _run(self, run: RunId) -> LocalRun:
        found = self.runs.get(run)
        if found is None:
            raise UnknownRun(f"run {run} is not one of this process")
        return found

    def _not_here(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("a run of this process is in no journal")

    submit = submit_many = info = infos = value = output = serve = _not_here


_local: Any = _Local()
os.register_at_fork(after_in_child=_local.__init__)


_OVER = object()


def _call_all(due: list[Callable[[], object]]) -> None:
    for callback in due:
        callback()
    _local.ended()


def _value(value: Any) -> Any:
    """What a pickled run becomes."""
    return value


def _line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _now() -> datetime:
    return datetime.now(timezone.utc)
