"""A task that is called: its run here and now, with the options that mean something without a broker.

Nothing is recorded. A time-out interrupts the main thread at once, coroutines where they await, and
code in another thread before its next Python instruction: what blocks there outside of Python goes on
until it returns, and is judged then.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from types import FrameType
from typing import Any

from nbtasks import context, pickling, states
from nbtasks.core import policy
from nbtasks.core.hooks import OF_TYPE, RUNNING
from nbtasks.core.messages import RunId, Spec
from nbtasks.core.states import StateType
from nbtasks.errors import TimedOut
from nbtasks.pickling.blame import line_of
from nbtasks.run.values import resolved, runs_in
from nbtasks.runners.course import Course, ProcessDied
from nbtasks.runners.interrupts import Interrupted, call_within
from nbtasks.runners.places import Overdue, Place, Terms
from nbtasks.states import Returned, State
from nbtasks.tasks import loglines, packing
from nbtasks.tasks.around import CONDITION, Around
from nbtasks.tasks.caching import local_results
from nbtasks.tasks.elsewhere import Departure, value_of
from nbtasks.tasks.prints import LoggedPrints
from nbtasks.wire import ids

COMPLETION, CANCELLATION = OF_TYPE[StateType.COMPLETED], OF_TYPE[StateType.CANCELLED]
LAST = 10**9  # number of an attempt after which there is none

Questions = Generator[tuple[str, State], bool, Any]  # what user code is asked, and its answers


class LocalCall:
    """One call.

    Parameters
    ----------
    task
        Whose it is.
    call
        Positional arguments, keyword arguments, and all by name.
    around
        The functions that were given besides the task's own, by the names of their options.
    name
        What the run is called; "": as its task.
    run
        The id of the run that it is; "": a new one.
    wait_for
        Runs that have to complete first.
    """

    def __init__(
        self,
        task: Any,
        call: tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]],
        spec: Spec,
        around: Mapping[str, Any],
        name: str = "",
        run: RunId = "",
        wait_for: Any = None,
    ) -> None:
        self._task = task
        self._function = task.fn
        self._args, self._kwargs, self._parameters = call
        self._spec = spec
        self._given = around
        self._name = name or spec.name
        self._id = run or ids.run_id()
        self._wait_for = wait_for
        self._key = ""  # cache key
        self._course = Course()
        self._place: Place | None = None
        self._departure: Departure | None = None

    def pack(self) -> None:
        """Let it be executed elsewhere, as it is now; arguments with runs among them are packed later.

        Raises
        ------
        NotPicklable
            The message names what cannot travel.
        """
        self._departure = Departure(self._function)
        if not runs_in((self._args, self._kwargs)):
            self._resolve_arguments()
            self._load()

    def start(self, course: Course | None = None, place: Place | None = None) -> Any:
        """The result; a coroutine or a generator if the function makes one.

        Parameters
        ----------
        course
            Who is told how it goes.
        place
            Where the body is executed, of a call that was packed; else here.
        """
        self._course = course or self._course
        self._place = place
        target = self._function
        if not inspect.isroutine(target):
            target = type(target).__call__  # an object that can be called
        if place is not None:
            is_generator = inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target)
            return self._values_elsewhere() if is_generator else self._run()
        if inspect.iscoroutinefunction(target):
            return self._run_async()
        if inspect.isasyncgenfunction(target):
            self._resolve_or_fail()
            return self._steps_async(self._function(*self._args, **self._kwargs))
        if inspect.isgeneratorfunction(target):
            self._resolve_or_fail()
            return self._steps(self._function(*self._args, **self._kwargs))
        return self._run()

    def never(self) -> None:
        """It was cancelled before its code began."""
        self._inform(self._around(0), CANCELLATION, self._cancelled())

    def _around(self, attempt: int) -> Around:
        """The user code around an attempt."""
        run = context.RunContext(
            run=self._id,
            name=self._name,
            attempt=attempt,
            tags=frozenset(self._spec.tags),
            bind=lambda: self._parameters,
            is_recorded=False,
            task_key=self._spec.key,
            report=lambda done, total, text: self._course.progressed(done, total, text),
        )
        return Around(lambda: self._task, run, self._given)

    def _inside(self, around: Around) -> ExitStack:
        """What user code finds around itself."""
        stack = ExitStack()
        stack.enter_context(context.running(around.run))
        if self._spec.log_prints:
            stack.enter_context(LoggedPrints(self._name))
        return stack

    # -- hooks and conditions -----------------------------------------------------------------------------

    def _inform(self, around: Around, word: str, state: State) -> bool:
        if not around.has(word):
            return True
        with self._course.shielded(), self._inside(around):
            return around.ask(word, state)

    async def _inform_async(self, around: Around, word: str, state: State) -> bool:
        if not around.has(word):
            return True
        with self._inside(around):
            return await around.ask_async(word, state)

    def _failed(self, attempt: int, error: BaseException) -> Questions:
        """What follows from an exception: asks, and gives the pause before the next attempt, or raises."""
        if self._course.is_stopped or isinstance(error, asyncio.CancelledError):
            yield CANCELLATION, self._cancelled()
        elif isinstance(error, (SystemExit, KeyboardInterrupt, ProcessDied)):
            yield OF_TYPE[StateType.CRASHED], State(StateType.CRASHED, "Crashed", line_of(error))
        elif isinstance(error, Exception):
            state = states.failed(error, str(error) if isinstance(error, TimedOut) else line_of(error))
            pause_s = policy.retry_delay_s(self._spec, attempt, self._id)
            if pause_s is not None and (yield CONDITION, state):
                with self._course.shielded():
                    self._course.failed(error, pause_s)
                    loglines.retrying(self._name, attempt, error, pause_s)
                return pause_s
            yield OF_TYPE[StateType.FAILED], state
        raise error

    def _ended(self, value: Any) -> Questions:
        """What follows from what the function gave: asks, and gives the result, or raises."""
        if not isinstance(value, Returned):
            yield COMPLETION, State(StateType.COMPLETED, "Completed", "", value)
            return value
        self._course.returned(value)
        yield OF_TYPE[value.type], value
        return value.result()

    def _cancelled(self) -> State:
        return State(StateType.CANCELLED, "Cancelled", "")

    def _settled(self, around: Around, questions: Questions) -> Any:
        """Put the questions to user code; returns what they lead to."""
        try:
            word, state = next(questions)
            while True:
                word, state = questions.send(self._inform(around, word, state))
        except StopIteration as end:
            return end.value

    async def _settled_async(self, around: Around, questions: Questions) -> Any:
        try:
            word, state = next(questions)
            while True:
                word, state = questions.send(await self._inform_async(around, word, state))
        except StopIteration as end:
            return end.value

    # -- executing it -------------------------------------------------------------------------------------

    def _resolve(self) -> None:
        """Put values in the place of runs; waits for them."""
        resolved(self._wait_for)
        self._resolve_arguments()
        if self._departure is not None:
            self._load()

    def _resolve_arguments(self) -> None:
        self._args, self._kwargs, self._parameters = resolved((self._args, self._kwargs, self._parameters))

    def _load(self) -> None:
        assert self._departure is not None
        names = packing.names(self._task._signature, len(self._args))
        self._departure.load(self._args, self._kwargs, names)

    def _resolve_or_fail(self) -> None:
        try:
            self._resolve()
        except BaseException as error:
            self._settled(self._around(0), self._failed(LAST, error))

    async def _resolve_async(self) -> None:
        try:
            for run in runs_in(((self._args, self._kwargs), self._wait_for)):
                await asyncio.to_thread(run.wait)
            self._resolve()
        except BaseException as error:
            await self._settled_async(self._around(0), self._failed(LAST, error))

    def _cached(self) -> tuple[Any] | None:
        """The result of an earlier run of this process, if it is to be taken."""
        self._key = self._task.cache_key(self._id, self._parameters)
        if not self._key or self._task.refresh_cache:
            return None
        return local_results.find(self._key)

    def _written(self, value: Any) -> Any:
        """The result as anybody will read it who asks for it."""
        serializer = self._spec.serializer
        if serializer != "pickle" and not isinstance(value, Returned):
            value = pickling.load_result(pickling.dump_result(value, serializer))
        if self._key and not isinstance(value, Returned):
            local_results.keep(self._key, value, self._spec.cache_s)
        return value

    def _run(self) -> Any:
        self._resolve_or_fail()
        if found := self._cached():
            return found[0]
        attempt, pause_s = 0, 0.0
        while True:
            attempt += 1
            around = self._around(attempt)
            try:
                if attempt > 1:
                    self._course.pause(pause_s)
                self._course.began(attempt)
                self._inform(around, RUNNING, states.running(attempt))
                with self._inside(around):
                    value = self._written(self._value(around))
            except BaseException as error:
                pause_s = self._settled(around, self._failed(attempt, error))
            else:
                return self._settled(around, self._ended(value))

    def _value(self, around: Around) -> Any:
        """What the body gives, here or elsewhere."""
        if self._place is None or self._departure is None:
            return self._within(lambda: self._function(*self._args, **self._kwargs))
        body = self._departure.body(around.run, self._spec.log_prints)
        terms = Terms(self._spec.timeout_s, self._spec.grace_s)
        try:
            return value_of(self._place, body, self._course, terms)
        except Overdue:
            pass
        raise self._timed_out()

    def _values_elsewhere(self) -> list[Any]:
        """Of a generator."""
        self._resolve_or_fail()
        around = self._around(1)
        try:
            self._course.began(1)
            self._inform(around, RUNNING, states.running(1))
            values = self._value(around)
        except BaseException as error:
            self._settled(around, self._failed(LAST, error))
        self._settled(around, self._ended(None))
        return values or []

    async def _run_async(self) -> Any:
        await self._resolve_async()
        if found := self._cached():
            return found[0]
        attempt, pause_s = 0, 0.0
        while True:
            attempt += 1
            around = self._around(attempt)
            try:
                if attempt > 1:
                    await asyncio.sleep(pause_s)
                self._course.began(attempt)
                await self._inform_async(around, RUNNING, states.running(attempt))
                with self._inside(around):
                    value = await self._await_within(self._function(*self._args, **self._kwargs))
                    value = self._written(value)
            except BaseException as error:
                pause_s = await self._settled_async(around, self._failed(attempt, error))
            else:
                return await self._settled_async(around, self._ended(value))

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
        around = self._around(1)
        self._inform(around, RUNNING, states.running(1))
        while True:
            try:
                with self._inside(around):
                    value = next(generator)
            except StopIteration:
                self._settled(around, self._ended(None))
                return
            except BaseException as error:
                self._settled(around, self._failed(LAST, error))
            yield value

    async def _steps_async(self, generator: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._course.began(1)
        around = self._around(1)
        await self._inform_async(around, RUNNING, states.running(1))
        while True:
            try:
                with self._inside(around):
                    value = await generator.__anext__()
            except StopAsyncIteration:
                await self._settled_async(around, self._ended(None))
                return
            except BaseException as error:
                await self._settled_async(around, self._failed(LAST, error))
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
