"""Named limits: how many runs with a tag, or blocks of code in runs, may be under way at a time.

Limits count background runs only. In a run of this process (`t()`, `.submit()`) and outside of runs,
`concurrency` and `rate_limit` let everything pass.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from types import TracebackType
from typing import Any, NamedTuple

from nbtasks import context
from nbtasks.context import RunContext, submitter
from nbtasks.core.messages import Done, GetLimits, LimitsFound, Occupy, SetLimit, Vacate
from nbtasks.wire import ids

TURN_S = 1.0  # of a wait for slots


class LimitState(NamedTuple):
    """A limit, and how much of it is taken."""

    slots: int
    period_s: float  # of a rate: so many starts within this time; 0: slots at a time
    in_use: int
    waiting: int  # blocks of code that wait for a slot; runs that wait for a tag are AwaitingConcurrencySlot


def limit(name: str, slots: int | None, period_s: float | None = None) -> None:
    """Set how many slots a name has, from now on and for everybody who uses this home.

    Parameters
    ----------
    name
        A tag, or what `concurrency` and `rate_limit` are given.
    slots
        Runs with this tag, and blocks of `concurrency`, that may be under way at a time; 0 holds all back,
        None takes the limit away. Whoever is beyond a lowered limit goes on.
    period_s
        Makes it a rate: so many starts within these seconds, for `rate_limit`; it does not limit a tag.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a limit is a string, not {name!r}")
    if not name:
        raise ValueError("the name of a limit must not be empty")
    if slots is not None:
        _check_slots(slots, least=0)
    if period_s is not None and (isinstance(period_s, bool) or not isinstance(period_s, (int, float))):
        raise TypeError(f"period_s is a number of seconds, not {period_s!r}")
    if period_s is not None and not 0 < period_s < float("inf"):
        raise ValueError(f"period_s must be finite and more than 0, not {period_s}")
    if period_s is not None and slots == 0:
        raise ValueError("a rate allows at least one start within its period; None takes it away")
    submitter().ask(lambda number: SetLimit(number, name, slots, float(period_s or 0.0)), Done)


def limits() -> dict[str, LimitState]:
    """All limits of this home by name."""
    found = submitter().ask(GetLimits, LimitsFound).limits
    return {one.name: LimitState(one.slots, one.period_s, one.in_use, one.waiting) for one in found}


class concurrency:
    """A block of a task's code that takes slots of a limit, `with` or `async with`.

    The run holds its worker while it waits for the slots. They are free again after the block, and when
    the attempt ends in whatever way. A run that has `name` as a tag holds that slot already.

    Parameters
    ----------
    name
        A limit set by `nbtasks.limit`; without one, everybody passes.
    timeout_s
        So long it waits at most, then it raises TimeoutError.
    """

    def __init__(self, name: str, slots: int = 1, timeout_s: float | None = None) -> None:
        _check_slots(slots, least=1)
        self._name = name
        self._slots = slots
        self._timeout_s = timeout_s
        self._tokens: list[str] = []
        self._gave_up = threading.Event()

    def __enter__(self) -> None:
        if current := _recorded_run():
            token = ids.run_id()
            self._tokens.append(token)
            try:
                _occupy(current, token, self._name, self._slots, self._timeout_s, False, self._gave_up)
            except BaseException:
                self._vacate()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._vacate()

    async def __aenter__(self) -> None:
        try:
            await asyncio.to_thread(self.__enter__)
        except asyncio.CancelledError:
            self._gave_up.set()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._vacate)

    def _vacate(self) -> None:
        if self._tokens:
            token = self._tokens.pop()
            submitter().ask(lambda number: Vacate(number, token), Done)


class rate_limit:
    """Wait until one more start is within the rate of this name: `rate_limit("api")`, or `await` it.

    Called in synchronous code it has waited when it returns; in a coroutine `await rate_limit("api")` waits
    without holding up the event loop.

    Parameters
    ----------
    name
        A limit with a period, set by `nbtasks.limit(name, slots, period_s=…)`; without one, everybody passes.
    """

    def __init__(self, name: str, slots: int = 1, timeout_s: float | None = None) -> None:
        _check_slots(slots, least=1)
        self._call = (name, slots, timeout_s)
        self._gave_up = threading.Event()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._wait()

    def _wait(self) -> None:
        name, slots, timeout_s = self._call
        if current := _recorded_run():
            _occupy(current, ids.run_id(), name, slots, timeout_s, True, self._gave_up)

    async def _wait_async(self) -> None:
        try:
            await asyncio.to_thread(self._wait)
        except asyncio.CancelledError:
            self._gave_up.set()
            raise

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait_async().__await__()


def _recorded_run() -> RunContext | None:
    current = context.current_run()
    return current if current is not None and current.is_recorded else None


def _occupy(
    run: RunContext,
    token: str,
    name: str,
    slots: int,
    timeout_s: float | None,
    rate: bool,
    gave_up: threading.Event,
) -> None:
    """Wait for slots, in turns, so that a thread whose coroutine was cancelled ends soon."""

    def asked(number: int) -> Occupy:
        return Occupy(number, run.run, run.token, token, name, slots, rate)

    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    while not gave_up.is_set():
        left_s = TURN_S if ends_at is None else min(TURN_S, ends_at - time.monotonic())
        try:
            submitter().ask(asked, Done, max(0.0, left_s))
            return
        except TimeoutError:
            if ends_at is not None and ends_at <= time.monotonic():
                submitter().ask(lambda number: Vacate(number, token), Done)
                raise TimeoutError(f"no slot of {name!r} was free within {timeout_s:g} s") from None


def _check_slots(slots: Any, least: int) -> None:
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise TypeError(f"slots is a whole number, not {slots!r}")
    if not least <= slots < 2**63:
        raise ValueError(f"slots is a number from {least} on that fits in 64 bits, not {slots}")
