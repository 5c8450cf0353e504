"""One run, from its code to its outcome, on the bare main thread.

User code is more than the function: unpickling imports modules, pickling the result and describing an
exception call methods. All of that comes after the mark that it begins, and can be interrupted.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from nbtasks import context, pickling
from nbtasks.core import policy
from nbtasks.core.messages import Push
from nbtasks.core.states import StateType
from nbtasks.errors import NbtasksError
from nbtasks.pickling import Offered
from nbtasks.pickling.code import Code, load_code
from nbtasks.pickling.mains import main_of
from nbtasks.pickling.offered import value_in
from nbtasks.runners.signals import Interrupts
from nbtasks.states import Returned
from nbtasks.wire.blobs import Blobs
from nbtasks.wire.marker import Marker
from nbtasks.worker import offered
from nbtasks.worker.aftermath import Aftermath, Outcome, run_hooks_of
from nbtasks.worker.agent import Agent
from nbtasks.worker.cached import Cached
from nbtasks.worker.collector import Collector
from nbtasks.worker.loglines import LogLines
from nbtasks.worker.namespaces import Namespaces
from nbtasks.worker.stream import ValueStream
from nbtasks.worker.surroundings import Surroundings
from nbtasks.worker.upstream import Upstreams

MESSAGE_CHARACTERS_MAX = 300
TRACEBACK_CHARACTERS_MAX = 100_000
ROOM_PAUSE_S = 0.5  # between two looks whether the disk has room again
ASYNC_PAUSE_S = 0.01  # between two looks of an async generator whether its values were read
_UNFINISHED = (CoroutineType, AsyncGeneratorType, GeneratorType)
# frames of these come before those of the user's code
_OWN_PARTS = ("worker", "cell", "notebooks")
_OWN_FOLDERS = tuple(str(Path(__file__).parent.with_name(part)) + os.sep for part in _OWN_PARTS)


class Executor:
    """Executes runs one after the other.

    Parameters
    ----------
    serves
        Task key -> file of the function's code, of a worker that serves certain tasks; None: any task.
    shell
        The kernel's shell: it draws figures and tracebacks.
    """

    def __init__(
        self,
        agent: Agent,
        collector: Collector,
        stream: ValueStream,
        marker: Marker,
        interrupts: Interrupts,
        surroundings: Surroundings,
        blobs: Blobs,
        log: LogLines,
        shell: Any,
        serves: Mapping[str, Path] | None,
    ) -> None:
        self._agent = agent
        self._collector = collector
        self._stream = stream
        self._marker = marker
        self._interrupts = interrupts
        self._surroundings = surroundings
        self._blobs = blobs
        self._log = log
        self._shell = shell
        self._serves = serves
        self._codes: dict[str, Code] = {}
        self._namespaces = Namespaces()
        self._pid = os.getpid()

    def execute(self, push: Push) -> None:
        """Execute what `Agent.next_push` gave, and say how it ended."""
        self._log.received(push)
        self._collector.open()
        self._stream.open()
        self._marker.started(push.run, push.attempt)
        start = self._agent.started()
        outcome = self._interruptible(push)
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the run forked came back here; the run is its parent's
        self._surroundings.restore_output()
        self._flush_streams()
        self._stream.close()
        self._collector.close(outcome.error)
        said = (
            outcome.word,
            outcome.message,
            outcome.value,
            start,
            outcome.retry,
            outcome.label,
            outcome.hooks,
            outcome.cache_key,
        )
        self._agent.ended(*said)
        self._surroundings.restore()  # while the broker records the result
        self._log.finished(push, outcome.word, outcome.message)

    def rest(self) -> None:
        """No run follows at once."""
        self._surroundings.rest()

    def _interruptible(self, push: Push) -> Outcome:
        after = Aftermath(push, self._marker, lambda: self._agent.broken, self._agent.progressed)
        try:
            try:
                self._interrupts.open((push.run, push.attempt))
                outcome = self._completed(push, after)
            except BaseException as error:
                outcome = self._judge(error, push)
            if os.getpid() == self._pid:
                outcome = after.conclude(outcome)
            if outcome.hooks:
                self._draw_figures()
            self._interrupts.close()
        except BaseException as error:
            # hit in hooks, while an exception was judged, or in the last moment
            self._interrupts.close()
            outcome = after.decided or self._judged_simply(error, push)
        return outcome

    # -- user code ----------------------------------------------------------------------------------------

    def _completed(self, push: Push, after: Aftermath) -> Outcome:
        if warning := self._surroundings.enter(push.spec, self._agent.arrived_s):
            self._collector.text("stderr", warning)
        if push.spec.log_prints:
            self._log_prints(push)
        code = self._code(push)
        main = main_of(code.function)
        self._surroundings.stand_in(main)
        if push.subject:
            run_hooks_of(push.subject, push, code, self._blobs)
            return self._with_value(None, push)
        with pickling.given(Upstreams(push.given, self._blobs).value_of):
            arguments, options = pickling.load_arguments(self._blobs.unpack(push.args))
        main.brought += (*arguments, *options.values())
        bind = partial(context.bound, code.function, arguments, options)
        key = ""
        if push.cache_key or code.around.get("caching"):
            cached = Cached(push, code, bind, self._blobs, partial(self._collector.text, "stderr"))
            key = cached.key
            if found := cached.find():
                return self._with_value(found[0], push)._replace(word=policy.CACHED, cache_key=key)
        with after.inside(code, bind):
            after.begin()
            value = self._value_of(code.function(*arguments, **options), push.spec.serializer)
        self._draw_figures()
        returned = isinstance(value, Returned)
        outcome = self._returned(value, push) if returned else self._with_value(value, push)
        return outcome._replace(cache_key=key) if key else outcome

    def _value_of(self, value: Any, serializer: str) -> Any:
        """What a call gives in the end: coroutines are run, generators give all that they yield."""
        if not isinstance(value, _UNFINISHED):
            return value
        if isinstance(value, CoroutineType):
            return asyncio.run(value)
        if isinstance(value, AsyncGeneratorType):
            return asyncio.run(self._all_of(value, serializer))
        values = []
        for one in value:
            self._stream.put(one, serializer)
            self._stream.wait()
            values.append(one)
        return values

    async def _all_of(self, generator: AsyncIterator[Any], serializer: str) -> list[Any]:
        values = []
        async for one in generator:
            self._stream.put(one, serializer)
            while self._stream.is_full:
                await asyncio.sleep(ASYNC_PAUSE_S)
            values.append(one)
        return values

    def _with_value(self, value: Any, push: Push) -> Outcome:
        if isinstance(value, Offered):
            payload = offered.dumped(value, partial(self._collector.text, "stderr"))
        else:
            payload = pickling.dump_result(value, push.spec.serializer)
        write = partial(self._blobs.pack, payload, push.run, push.attempt)
        body = once_there_is_room(write, partial(self._collector.text, "stderr"))
        return Outcome("completed", value=body, data=value_in(value))

    def _returned(self, state: Returned, push: Push) -> Outcome:
        """The code says itself in which state the run ends."""
        label = state.name if state.name != type(state).__name__ else ""
        if state.type is StateType.COMPLETED:
            return self._with_value(state.data, push)._replace(message=state.message, label=label)
        if state.type is StateType.CANCELLED:
            return Outcome("cancelled", state.message, retry=False, label=label)
        error = state.result(raise_on_failure=False)
        message = state.message or _one_line(error)
        return Outcome("raised", message, pickling.dump_failure(error), data=error, retry=False, label=label)

    def _code(self, push: Push) -> Code:
        if self._serves is None:
            # always afresh, so that no run sees what another one did to its globals
            found = load_code(push.code)
            if push.spec.sticky:
                found = found._replace(function=self._namespaces.bound(push.spec.sticky, found.function))
            return found
        key = push.spec.key
        if key not in self._codes:
            self._codes[key] = load_code(self._serves[key].read_bytes())
        return self._codes[key]

    def _log_prints(self, push: Push) -> None:
        """Let print() also write log lines; restored with the other surroundings."""
        plain = builtins.print

        def logging_print(*values: Any, **options: Any) -> None:
            plain(*values, **options)
            if options.get("file") in (None, sys.stdout):
                separator = options.get("sep")
                self._log.printed(push, (" " if separator is None else separator).join(map(str, values)))

        builtins.print = logging_print

    def _draw_figures(self) -> None:
        # what a notebook does after each cell: matplotlib's inline backend waits for it
        self._shell.events.trigger("post_execute")

    # -- how it ended -------------------------------------------------------------------------------------

    def _judge(self, error: BaseException, push: Push) -> Outcome:
        if os.getpid() != self._pid:
            os._exit(1)
        # the errors that are ours by intent tell all in their message
        ours = isinstance(error, NbtasksError)
        error = error.with_traceback(None if ours else _users_part(error.__traceback__))
        outcome = self._judged_simply(error, push)
        if outcome.word == "raised":
            self._draw_figures()
            outcome = outcome._replace(value=pickling.dump_failure(error), data=error)
        return outcome._replace(error=self._error_output(error))

    def _judged_simply(self, error: BaseException, push: Push) -> Outcome:
        """Like `_judge`, without calling anything of the user's that could be interrupted again."""
        if isinstance(error, KeyboardInterrupt):
            if self._agent.broken == "timeout":
                return Outcome("timed_out", f"exceeded {push.spec.timeout_s:g} s")
            if self._agent.broken:
                return Outcome("cancelled")
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return Outcome("crashed", _one_line(error))
        return Outcome("raised", _one_line(error))

    def _error_output(self, error: BaseException) -> dict[str, Any]:
        try:
            text = "\n".join(self._traceback(error))
        except Exception:
            text = _one_line(error)
        if len(text) > TRACEBACK_CHARACTERS_MAX:
            half = TRACEBACK_CHARACTERS_MAX // 2
            text = f"{text[:half]}\n…\n{text[-half:]}"
        name, _, value = _one_line(error).partition(": ")
        return {"output_type": "error", "ename": name, "evalue": value, "traceback": text.split("\n")}

    def _traceback(self, error: BaseException) -> list[str]:
        if (render := getattr(error, "_render_traceback_", None)) is not None:
            return list(render())  # as IPython does
        lines = self._shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        return list(lines)

    def _flush_streams(self) -> None:
        """Push what Python and C keep in buffers of descriptors 1 and 2 into the spool."""
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                continue  # closed by the run
        _flush_c_stdout()


def once_there_is_room(write: Callable[[], bytes], say: Callable[[str], object]) -> bytes:
    """What `write` gives, called again while the disk is full: the code that gave the value has ended."""
    told = False
    while True:
        try:
            return write()
        except NbtasksError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not told:
                say(f"nbtasks: {error}; the run waits until there is room, or it is cancelled\n")
            told = True
        time.sleep(ROOM_PAUSE_S)


def _users_part(tb: TracebackType | None) -> TracebackType | None:
    """Without the frames of ours through which the call went."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDERS):
        tb = tb.tb_next
    return tb


def _one_line(error: BaseException) -> str:
    """`ValueError: …`, whatever the exception does when it is asked."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    text = " ".join(text.split())
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return f"{name}: {text}" if text else name


def _flush_c_stdout() -> None:
    import ctypes

    global _c_stdout
    if _c_stdout is None:
        libc = ctypes.CDLL(None)
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        try:
            _c_stdout = (libc.fflush, ctypes.c_void_p.in_dll(libc, name))
        except (AttributeError, ValueError):
            _c_stdout = (lambda stream: 0, None)
    # only this stream: flushing all would wait for any that a thread of the run reads from
    _c_stdout[0](_c_stdout[1])


_c_stdout: tuple[Callable[[Any], Any], Any] | None = None
