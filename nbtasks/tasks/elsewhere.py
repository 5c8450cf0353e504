"""The body of a task that a runner executes in another process: how it travels, and what it says there.

Only the function and its arguments go; retries, hooks and the cache stay with the call (`local`). What the
code logs and how far it is comes back while it goes on, its result or failure at the end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtasks import context, pickling
from nbtasks.context import RunContext
from nbtasks.core.messages import RunId
from nbtasks.core.payload import Payload
from nbtasks.pickling.mains import Main, main_of, standing_in
from nbtasks.runners import ThreadPoolTaskRunner
from nbtasks.runners.course import Course
from nbtasks.runners.interrupts import Interrupted
from nbtasks.runners.places import BEGAN, PRINTED, YIELDED, Channel, Place, Said, Terms
from nbtasks.tasks import loglines
from nbtasks.tasks.prints import LoggedPrints

LOGGED, PROGRESSED = "logged", "progressed"  # what a body says besides
RETURNED, RAISED = "returned", "raised"  # what it answers

Packed = tuple[bytes, list[bytearray]]  # a pickle, and the buffers outside of it, which may be written to
# frames of these lie between the call of a body and the user's code
_BETWEEN = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(asyncio.__file__) + os.sep,
)


@dataclass(frozen=True)
class Body:
    """What travels of one attempt; called where it is executed."""

    code: bytes
    arguments: Packed
    run: RunId
    name: str
    task_key: str
    tags: frozenset[str]
    log_prints: bool
    log_level: int
    around: frozenset[str]  # tags of the blocks around the call
    caller: int  # its process
    attempt: int = 1

    def __call__(self, channel: Channel) -> tuple[str, Any]:
        try:
            function = pickling.load_function(self.code)
            args, kwargs = _unpacked(self.arguments)
            channel.say((BEGAN,))
            main = main_of(function)
            main.brought += (*args, *kwargs.values())
            with self._surroundings(channel, lambda: context.bound(function, args, kwargs), main):
                value = _value_of(function(*args, **kwargs), channel)
            # after the block: what it submitted here has ended, so it has a value that can travel
            return RETURNED, _packed(value)
        except Interrupted:
            raise
        except BaseException as error:
            return RAISED, pickling.dump_failure(_users(error))

    @contextmanager
    def _surroundings(self, channel: Channel, bind: Callable[[], Any], main: Main) -> Iterator[None]:
        """What user code finds around itself."""

        def report(done: float, total: float, text: str) -> None:
            channel.say((PROGRESSED, done, total, text))

        run = RunContext(
            self.run, self.name, self.attempt, self.tags, bind,
            is_recorded=False, task_key=self.task_key, report=report,
        )  # fmt: skip
        with ExitStack() as stack:
            stack.enter_context(ThreadPoolTaskRunner())  # whose runs end before this one does
            stack.enter_context(context.tags(*self.around))
            stack.enter_context(context.running(run))
            if self.caller != os.getpid():
                stack.enter_context(_led_back(channel, self.log_level))
                if threading.current_thread() is threading.main_thread():
                    stack.enter_context(standing_in(main))
            if self.log_prints:
                stack.enter_context(LoggedPrints(self.name))
            yield


def _value_of(made: Any, channel: Channel) -> Any:
    """What the function gave; values of a generator are said, one by one."""
    if inspect.iscoroutine(made):
        return asyncio.run(_awaited(made, channel))
    if inspect.isasyncgen(made):
        return asyncio.run(_awaited(_all_of(made, channel), channel))
    if inspect.isgenerator(made):
        for value in made:
            channel.say((YIELDED, _packed(value)))
        return None
    return made


async def _all_of(generator: Any, channel: Channel) -> None:
    async for value in generator:
        channel.say((YIELDED, _packed(value)))


async def _awaited(coroutine: Any, channel: Channel) -> Any:
    own = asyncio.current_task()
    assert own is not None
    with channel.stopped_by(partial(asyncio.get_running_loop().call_soon_threadsafe, own.cancel)):
        return await coroutine


def _packed(value: Any) -> Packed:
    return _of_payload(pickling.dump_result(value))


def _of_payload(payload: Payload) -> Packed:
    return b"".join(payload.stream), [bytearray(buffer) for buffer in payload.buffers]


def _unpacked(packed: Packed) -> Any:
    stream, buffers = packed
    return pickling.load_result(Payload([stream], [memoryview(buffer) for buffer in buffers]))


def _users(error: BaseException) -> BaseException:
    """With a traceback that begins in user code."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_BETWEEN):
        tb = tb.tb_next
    return error.with_traceback(tb or error.__traceback__)


# -- log lines ----------------------------------------------------------------------------------------

_channel: ContextVar[Channel | None] = ContextVar("nbtasks_channel", default=None)


@contextmanager
def _led_back(channel: Channel, level: int) -> Iterator[None]:
    """Let the caller have what is logged about runs within this block, as if it had been logged there."""
    logger = loglines.logger_of("nbtasks")
    if not any(isinstance(handler, _LedBack) for handler in logger.handlers):
        logger.handlers[:] = [_LedBack()]
    logger.setLevel(level)
    token = _channel.set(channel)
    try:
        yield
    finally:
        _channel.reset(token)


class _LedBack(logging.Handler):
    def handle(self, record: logging.LogRecord) -> Any:
        # without the lock of handlers: an interrupt could come just after it was taken
        channel = _channel.get()
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + loglines.Lines().formatException(record.exc_info)
        if channel is None:
            print(f"{record.name} - {text}", file=sys.stderr)  # a thread that knows of no run
        else:
            task_run, task_run_id = getattr(record, "task_run", None), getattr(record, "task_run_id", None)
            channel.say((LOGGED, record.name, record.levelno, text, record.created, task_run, task_run_id))
        return True


# -- the caller ---------------------------------------------------------------------------------------


class Departure:
    """One call that is to be executed elsewhere.

    Parameters
    ----------
    function
        Whose body it is; pickled as it is now.

    Raises
    ------
    NotPicklable
        It cannot travel.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._code, _ = pickling.dump_function(function)
        self._arguments: Packed | None = None
        self._around = context.ambient_tags()

    def load(self, args: tuple[Any, ...], kwargs: dict[str, Any], names: Iterator[str]) -> None:
        """Pickle the arguments, of which no run is one any more; once. Raises `NotPicklable`."""
        if self._arguments is None:
            self._arguments = _of_payload(pickling.dump_values(args, kwargs, names))

    def body(self, run: RunContext, log_prints: bool) -> Body:
        """The body of an attempt."""
        assert self._arguments is not None
        level = loglines.logger_of("nbtasks").level
        return Body(
            self._code, self._arguments, run.run, run.name, run.task_key, run.tags, log_prints, level,
            self._around, os.getpid(), run.attempt,
        )  # fmt: skip


def value_of(place: Place, body: Body, course: Course, terms: Terms) -> Any:
    """Execute a body there; of a generator: the list of its values. Raises what it raises, and `Overdue`."""
    values: list[Any] = []

    def hear(said: Said) -> None:
        word, *what = said
        if word == YIELDED:
            values.append(_unpacked(what[0]))
            course.yielded(values[-1])
        elif word == PROGRESSED:
            course.progressed(*what)
        elif word == PRINTED:
            is_error, text = what
            stream = sys.stderr if is_error else sys.stdout
            if stream is not None:
                stream.write(text)
                stream.flush()
        elif word == LOGGED:
            _log(*what)

    word, what = place.perform(body, course, hear, terms)
    if word == RAISED:
        raise pickling.load_failure(what)
    value = _unpacked(what)
    return values if values and value is None else value


def _log(name: str, level: int, text: str, created: float, task_run: Any, task_run_id: Any) -> None:
    logger = loglines.logger_of(name)
    record = logging.LogRecord(name, level, "", 0, "%s", (text,), None)
    record.created = created
    for field, value in (("task_run", task_run), ("task_run_id", task_run_id)):
        if value is not None:
            setattr(record, field, value)
    if logger.isEnabledFor(level):
        logger.handle(record)
