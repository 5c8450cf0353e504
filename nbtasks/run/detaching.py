"""An interrupt while a user waits for runs: he gets his cell back and they go on, or he cancels them.

So it is where a user types, which a face says by `install`; in a script Ctrl-C is what it always was, and
in a worker SIGINT cancels the run that waits. The signal itself only leaves a note: an exception
wherever the client happens to be would tear what it has just read.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from nbtasks.context import current_run
from nbtasks.core.states import StateType
from nbtasks.errors import CancelledRun, Detached

if TYPE_CHECKING:
    from nbtasks.run.handle import Run

DETACH_S = 2.0  # in which a second interrupt cancels
LOOK_UP_S = 0.2  # between two looks of a loop in which a cell awaits
UNHEARD_MAX = 2  # interrupts that nothing was done about; the next one is a KeyboardInterrupt

Listen = Callable[[Callable[[], bool], "float | None"], bool]


class Desk(NamedTuple):
    """Where a user types code, and can interrupt it.

    Attributes
    ----------
    key
        What he presses for that.
    cell
        What of it the main thread executes now, by any name that no other has; "": nothing.
    """

    key: str
    cell: Callable[[], str]


class Countdown(NamedTuple):
    """What was announced last: when a wait of this cell is left, in monotonic seconds."""

    cell: str
    leaves_s: float


_desks: list[Desk] = []
_countdown = Countdown("", 0.0)


def install(desk: Desk) -> Callable[[], None]:
    """Let interrupts at this desk detach; returns what takes that back."""
    _desks.append(desk)

    def take_back() -> None:
        if desk in _desks:
            _desks.remove(desk)

    return take_back


def wait(
    listen: Listen,
    wake: Callable[[], object],
    is_done: Callable[[], bool],
    timeout_s: float | None,
    open_runs: Callable[[], Sequence[Run]],
) -> bool:
    """Wait for runs as `listen(is_done, timeout_s)` does, and let the user leave.

    Parameters
    ----------
    wake
        Makes `listen` ask again whether it is done; called in a thread of its own.
    open_runs
        Gives those that are waited for and have not ended.

    Raises
    ------
    Detached
        The user left; the runs go on.
    CancelledRun
        He cancelled them.
    """
    cell = _cell()
    if not cell:
        return listen(is_done, timeout_s)
    with _Presses(wake) as presses:
        return _until_left(listen, is_done, timeout_s, open_runs, presses, cell)


@contextmanager
def awaiting(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Around an await: an interrupt cancels the cell at once, as that of any `await`, and the run goes on.

    ipykernel 7.4 leaves the cancelling to the loop without waking it, so that an await in which nothing
    else happens would not notice; hence the loop looks up now and then.
    """
    if not _desks or threading.current_thread() is not threading.main_thread():
        yield
        return

    due: list[asyncio.TimerHandle] = []

    def look_up() -> None:
        due[:] = [loop.call_later(LOOK_UP_S, look_up)]

    look_up()
    try:
        yield
    finally:
        due[0].cancel()


def _cell() -> str:
    """The cell whose user waits; "": nobody does who could leave."""
    if not _desks or threading.current_thread() is not threading.main_thread():
        return ""
    run = current_run()
    return "" if run is not None and run.is_recorded else _desks[-1].cell()


def _until_left(
    listen: Listen,
    is_done: Callable[[], bool],
    timeout_s: float | None,
    open_runs: Callable[[], Sequence[Run]],
    presses: _Presses,
    cell: str,
) -> bool:
    global _countdown
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    # a loop that waits for one run after the other is left in the middle of whichever it is, and one that
    # waits for each value is seldom in a wait just when the time is over
    if cell != _countdown.cell:
        if not listen(lambda: is_done() or presses.number > 0, timeout_s):
            return False
        if is_done():
            return True
        what = _named(open_runs(), "the run")
        print(f"Detaching in {DETACH_S:g} s; {_desks[-1].key} again cancels {what}", flush=True)
        presses.heard = 1
        _countdown = Countdown(cell, time.monotonic() + DETACH_S)
    heard, leaves_s = presses.heard, _countdown.leaves_s
    if ends_s is not None:
        leaves_s = min(leaves_s, ends_s)
    listen(lambda: is_done() or presses.number > heard, max(0.0, leaves_s - time.monotonic()))
    if is_done():
        presses.heard = presses.number
        return True
    if presses.number > heard:
        _countdown = Countdown("", 0.0)
        return _cancelled(listen, open_runs(), presses)
    if leaves_s == ends_s:
        return False
    _countdown = Countdown("", 0.0)
    raise Detached(_left_words(open_runs()))


def _cancelled(listen: Listen, runs: Sequence[Run], presses: _Presses) -> bool:
    """Cancel runs, and wait until they ended; a further interrupt leaves them to it."""
    heard = presses.heard = presses.number
    for client in {id(run._client): run._client for run in runs}.values():
        client.cancel([str(run.id) for run in runs if run._client is client])
    rest = deque(runs)

    def is_over() -> bool:
        while rest and rest[0]._settled.is_settled:
            rest.popleft()
        return not rest

    listen(lambda: is_over() or presses.number > heard, None)
    presses.heard = presses.number
    if not is_over():
        raise Detached(f"{_named(list(rest), 'the run')} will be cancelled; nobody waits for that")
    cancelled = [run for run in runs if run._state_type is StateType.CANCELLED]
    if not cancelled:
        return True  # they had ended when the cancel came
    one = f"run {cancelled[0].name!r} ({cancelled[0].id}) was"
    raise CancelledRun(f"{one if len(cancelled) == 1 else f'{len(cancelled)} runs were'} cancelled")


def _named(runs: Sequence[Run], one: str) -> str:
    return one if len(runs) == 1 else f"the {len(runs)} runs"


def _left_words(runs: Sequence[Run]) -> str:
    if len(runs) != 1:
        return f"{len(runs)} runs go on; wait for them again, or find them by nbtasks.runs()"
    [run] = runs
    return f"run {run.name!r} goes on; wait for it again, or find it by nbtasks.get_run('{run.id}')"


class _Presses:
    """Counts interrupts within its block instead of raising KeyboardInterrupt; the main thread only.

    Attributes
    ----------
    heard
        How many of them were acted on; at the end of the block the others count as KeyboardInterrupt.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._before: Any = None
        self.number = self.heard = 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number += 1
        if self.number - self.heard > UNHEARD_MAX:
            raise KeyboardInterrupt  # something hangs that should have heard it
        # in a thread, because the code under this handler may hold the lock that waking takes
        threading.Thread(target=self._wake, name="nbtasks-interrupt", daemon=True).start()

    def __enter__(self) -> _Presses:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        if kind is None and self.number > self.heard:
            raise KeyboardInterrupt  # it came in the last moment, and what was waited for is there
