"""The user's handle on a run: what became of it, how to wait for it, how to end it.

A handle knows by itself how its run ended; everything else is asked of the submitter, and kept once
it cannot change any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Literal, overload
from uuid import UUID

from nbtasks import pickling
from nbtasks.context import Fate, Submitter, submitter, waiting
from nbtasks.core.messages import Moment, Need, RunInfo
from nbtasks.core.states import FINAL, State, StateType
from nbtasks.errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    ResultCorrupt,
    TimedOut,
    UnknownRun,
    UpstreamFailed,
)
from nbtasks.pickling import offered
from nbtasks.pickling.upstream import Upstream
from nbtasks.run import again, asked, detaching, outputs, unserved
from nbtasks.run.moments import RunAttempt, RunProgress, RunState
from nbtasks.run.replay import replayed
from nbtasks.run.streaming import Reader
from nbtasks.run.variables import R_co

log = logging.getLogger("nbtasks.runs")


class Run(Upstream, Generic[R_co]):
    """One call of a task in the background.

    Handles on the same run are equal, in whatever process or notebook they were made. As an argument of
    a background run it is replaced by its result; elsewhere it travels as a handle.
    """

    def __init__(
        self,
        run: str,
        name: str,
        task_key: str,
        tags: Iterable[str],
        parameters: str,
        client: Submitter,
        fate: Fate | None = None,
    ) -> None:
        self._run = run
        self.name = name
        self.task_key = task_key
        self.tags = frozenset(tags)
        self._parameters = parameters
        self._client = client
        self._fate = fate
        self._info: RunInfo | None = None  # kept once it is final
        self._value: tuple[Any] | None = None
        self._told_unserved = False  # that no worker can execute it

    @classmethod
    def of_info(cls, info: RunInfo, client: Submitter) -> Run:
        """A handle on a run that is recorded."""
        run = cls(info.run, info.name, info.spec.key, info.spec.tags, info.parameters, client)
        if State(info.state) in FINAL:
            run._info = info
        return run

    @property
    def id(self) -> UUID:
        return UUID(self._run)

    @property
    def parameters(self) -> dict[str, str]:
        """The arguments by name, each as a short text; the values themselves only workers see."""
        return dict(json.loads(self._parameters))

    def __repr__(self) -> str:
        return f"Run(id={self._run!r}, name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._run == self._run

    def __hash__(self) -> int:
        return hash(self._run)

    def need(self) -> Need | None:
        return Need(self._run)

    def __reduce__(self) -> Any:
        return _found_again, (self._run, self.name, self.task_key, self.tags, self._parameters)

    # -- what is recorded ---------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """The state as the broker knows it now."""
        if self._fate is not None and self._fate.ended is not None:
            ended = self._fate.ended
            return RunState.of(self, Moment(ended.state, ended.at, ended.message, ended.label))
        info = self._recorded()
        label = info.history[-1].label if info.history else ""
        return RunState.of(self, Moment(info.state, info.at, info.message, label))

    @property
    def history(self) -> list[RunState]:
        """All states so far, oldest first."""
        return [RunState.of(self, moment) for moment in self._recorded().history]

    @property
    def attempts(self) -> list[RunAttempt]:
        return [RunAttempt.of(attempt) for attempt in self._recorded().attempts]

    @property
    def progress(self) -> RunProgress | None:
        """How far its code said that it is, last; None if it never did."""
        attempts = self._recorded().attempts
        told = attempts[-1].progress if attempts else None
        return RunProgress(told.done, told.total or None, told.text) if told else None

    @property
    def parent(self) -> UUID | None:
        """The run whose code made this one."""
        parent = self._recorded().parent
        return UUID(parent) if parent else None

    @property
    def output(self) -> list[dict[str, Any]]:
        """What the run printed and displayed, as outputs of a notebook, with all that it took back."""
        return outputs.joined(self._client.output(self._run))

    @property
    def logs(self) -> str:
        """What is to be seen after all that the run printed and displayed, as text."""
        return replayed(self.output).text

    def show(self, follow: bool = False) -> None:
        """Show the output again, in a notebook as it was, else as text; `follow`: until the run has ended."""
        if follow:
            outputs.follow(self._client, self._run, lambda pause_s: self.wait(pause_s).is_final)
        else:
            outputs.show(self.output)

    def _recorded(self) -> RunInfo:
        if self._info is not None:
            return self._info
        info = self._client.info(self._run)
        if State(info.state) in FINAL:
            self._info = info
        return info

    # -- how it ended -------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> RunState:
        """Wait until the run ended, at most `timeout` seconds; says nothing if it has not.

        After 3 s it warns, once, if there is no worker that could execute the run.

        Returns
        -------
        The final state, or the one that the run is in when the time is over.
        """
        self._wait(timeout)
        return self.state

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R_co: ...
    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co | BaseException: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """What the task returned.

        Parameters
        ----------
        timeout
            Seconds; None: as long as it takes.
        raise_on_failure
            False: an exception is returned instead of raised.

        Raises
        ------
        TimeoutError
            The run has not ended yet; it goes on.
        Detached
            In a notebook somebody pressed ■, and it goes on; pressed again within 2 s, that cancels it.
        CancelledRun, CrashedRun, TimedOut
            It ended so.
        Exception
            Whatever the task raised, with the remote traceback as its cause.
        """
        error = self.exception(timeout)
        if error is not None:
            if raise_on_failure:
                raise error
            return error
        return offered.result_of(self._run, self._stored())

    def _stored(self) -> Any:
        if self._value is None:
            self._value = (pickling.load_result(self._client.unpack(self._bytes())),)
        return self._value[0]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Why the run has no result; None if it has one.

        Raises
        ------
        TimeoutError
            The run has not ended yet.
        """
        if not self._wait(timeout):
            raise TimeoutError(f"run {self.name!r} ({self._run}) has not ended within {timeout:g} s")
        ended = self._fate.ended if self._fate is not None else None
        state = State(ended.state if ended is not None else self._recorded().state)
        if state.type is StateType.COMPLETED:
            return None
        body = self._bytes() if state is State.FAILED else b""
        return failure_of(f"run {self.name!r} ({self._run})", state, self.state.message, body)

    @property
    def _state_type(self) -> StateType | None:
        """The type of the final state; None if it is not known, or the run is not recorded."""
        if self._info is not None:
            return State(self._info.state).type
        ended = self._fate.ended if self._fate is not None else None
        return State(ended.state).type if ended is not None else None

    def _bytes(self) -> bytes:
        """The pickled result or failure; kept nowhere, so that a list of runs stays small."""
        ended = self._fate.ended if self._fate is not None else None
        if ended is not None and not ended.fetch:
            if not ended.value and ended.state == State.COMPLETED:
                raise ResultCorrupt(f"run {self.name!r} ({self._run}) completed, but its result is not there")
            return ended.value
        return self._client.value(self._run)

    @property
    def _settled(self) -> Fate:
        """The fate, watched from now on."""
        if self._fate is None or self._fate.is_of_parent:
            [self._fate] = self._client.fates([self._run])
        return self._fate

    def _wait(self, timeout: float | None) -> bool:
        timeout_s = asked.timeout_s(timeout)
        if self._info is not None:
            return True
        fate = self._settled
        if not fate.is_settled:
            with waiting(lambda: [self._run]):
                listen, wake = unserved.telling(self._client.wait, lambda: self), self._client.wake
                if not detaching.wait(listen, wake, lambda: fate.is_settled, timeout_s, lambda: [self]):
                    return False
        if fate.missing:
            raise UnknownRun(f"no run {self._run} is recorded in this home")
        return True

    def add_done_callback(self, callback: Callable[[Run[R_co]], Any]) -> None:
        """Call `callback(run)` once, when the run ended or now if it has, in whatever thread learns of it.

        What it prints in a notebook belongs to the cell that adds it.
        """
        here = contextvars.copy_context()
        self._when_settled(lambda: here.run(_call, callback, self))

    def _when_settled(
        self, callback: Callable[[], Any], lost: Callable[[BaseException], None] | None = None
    ) -> None:
        if self._info is not None:
            callback()
            return
        fate = self._settled
        fate.add(callback, lost)
        if not fate.is_settled:
            self._client.keep(fate)

    def __await__(self) -> Generator[Any, None, R_co]:
        """What `result()` gives; ■ leaves the cell at once, and the run goes on."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None = None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def in_loop(error: BaseException | None = None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        self._when_settled(in_loop, in_loop)
        if not future.done():
            with waiting(lambda: [self._run]), detaching.awaiting(loop):
                yield from future.__await__()
        return self.result()

    # -- what a generator yields ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The values of a generator, as it yields them; `result()` gives the list of all.

        While somebody iterates, the generator pauses after 256 values that are not read.

        Raises
        ------
        Restarted
            Values were given, and the run is executed again from its beginning.
        Detached
            As of `result()`.
        """
        reader = Reader(self)
        try:
            while (values := reader.more()) is not None:
                yield from values
        finally:
            reader.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        reader, loop = Reader(self), asyncio.get_running_loop()
        try:
            while True:
                with detaching.awaiting(loop):
                    values = await asyncio.to_thread(reader.more)
                if values is None:
                    return
                for value in values:
                    yield value
        finally:
            reader.close()

    # -- changing it --------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the run: at once if it waits; if it runs by an interrupt, then by a kill."""
        self._client.cancel([self._run])

    @overload
    def rerun(self, here: Literal[False] = False) -> Run[R_co]: ...
    @overload
    def rerun(self, here: bool) -> Any: ...
    def rerun(self, here: bool = False) -> Any:
        """Call it once more, with the code, the arguments and the options that it had.

        Parameters
        ----------
        here
            In this process, with no time-out and no retries: `%debug` then shows where it fails.

        Returns
        -------
        The new run; `here`: what the function gives.

        Raises
        ------
        ValueError
            It has no code or arguments of its own that could be called again.
        """
        return again.called_here(self) if here else again.submitted(self)

    def stack(self) -> again.Stack:
        """Where the code of a running run is now: a text, the innermost call last.

        Raises
        ------
        ValueError
            It is not running.
        TimeoutError
            Its process does not answer: code outside of Python holds the interpreter.
        """
        return again.stack_of(self)


def failure_of(where: str, state: State, message: str, body: bytes) -> BaseException:
    """Why a run that ended so has no result.

    Parameters
    ----------
    where
        What the message calls the run.
    body
        The pickled failure, of one that raised.
    """
    if state.type is StateType.CANCELLED:
        return CancelledRun(f"{where} was cancelled")
    if state.type is StateType.CRASHED:
        return CrashedRun(f"{where} crashed: {message or 'its worker is gone'}")
    if state is State.TIMED_OUT:
        return TimedOut(f"{where} {message or 'timed out'}")
    if state is State.UPSTREAM_FAILED:
        return UpstreamFailed(f"{where}: {message}")
    return pickling.load_failure(body) if body else FailedRun(f"{where}: {message}")


# -- pieces -------------------------------------------------------------------------------------------


def _found_again(run: str, name: str, task_key: str, tags: frozenset[str], parameters: str) -> Run:
    return Run(run, name, task_key, tags, parameters, submitter())


def _call(callback: Callable[[Run], Any], run: Run) -> None:
    try:
        callback(run)
    except Exception:
        log.exception("a done callback of run %r (%s) raised", run.name, run.id)
