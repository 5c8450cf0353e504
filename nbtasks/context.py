"""Whom tasks talk to, and which run this code is part of.

Tasks and runs know no sockets: they use a `Submitter`, which `nbtasks.connect()` puts in place for a
thread of execution and which otherwise is the process's default client.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from nbtasks.core.messages import Ended, Message, NewRun, RunFilter, RunId, RunInfo, Spec, Terms
from nbtasks.core.payload import Payload

PROGRESS_CHARACTERS_MAX = 200  # of the text of a progress


class Fate:
    """How one run ended, once that is known; shared by every handle on the run in this process.

    The submitter settles it, in whatever thread saw the message.
    """

    __slots__ = ("__weakref__", "_callbacks", "_forks", "ended", "missing", "run")

    def __init__(self, run: RunId) -> None:
        self.run = run
        self._forks = _forks
        self.ended: Ended | None = None
        self.missing = False  # no such run is recorded
        self._callbacks: dict[Callable[[], object], Callable[[BaseException], object] | None] = {}

    @property
    def is_settled(self) -> bool:
        return self.ended is not None or self.missing

    @property
    def is_of_parent(self) -> bool:
        """Whether nobody in this process will settle it: it was forked while the run went on."""
        return self._forks != _forks and not self.is_settled

    def add(
        self, callback: Callable[[], object], lost: Callable[[BaseException], object] | None = None
    ) -> None:
        """Have `callback()` called once: when this is settled, at once if it is.

        Parameters
        ----------
        lost
            Called instead, and perhaps more than once, when the broker has been stopped.
        """
        with _fates_lock:
            if not self.is_settled:
                self._callbacks[callback] = lost
                return
        callback()

    def discard(self, callback: Callable[[], object]) -> None:
        """Do not call this any more."""
        with _fates_lock:
            self._callbacks.pop(callback, None)

    def settle(self, ended: Ended | None) -> list[Callable[[], object]]:
        """Remember how the run ended (None: it is not recorded); returns what has to be called now."""
        with _fates_lock:
            if self.is_settled:
                return []
            self.ended, self.missing = ended, ended is None
            due, self._callbacks = list(self._callbacks), {}
        return due

    def losses(self) -> list[Callable[[BaseException], object]]:
        """Whom to tell that nobody will settle this."""
        with _fates_lock:
            return [lost for lost in self._callbacks.values() if lost is not None]


_fates_lock = threading.Lock()  # never held while anything is called
_forks = 0  # how many times this process is removed from the one that imported us


def _after_fork() -> None:
    global _fates_lock, _forks
    _fates_lock = threading.Lock()  # another thread of the parent may have held it
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


A = TypeVar("A", bound=Message)
Left = Callable[[], bool]  # whether nobody waits any more; asked whenever something arrives


def never() -> bool:
    return False


class Served(NamedTuple):
    """A task as a serving pool needs it."""

    key: str
    name: str
    code: bytes


class Submitter(Protocol):
    """What tasks and runs need of a client; every call may raise `BrokerUnavailable`."""

    def pack(self, payload: Payload, run: RunId) -> bytes:
        """What travels and is recorded of the arguments of `run`."""

    def unpack(self, body: bytes) -> Payload:
        """The value that travelled; raises `BlobCorrupt`."""

    def submit(self, spec: Spec, code: bytes, run: NewRun, parent: RunId, terms: Terms) -> Fate:
        """Record one run, or find the one that has its idempotency key; it is recorded when this returns."""

    def submit_many(
        self, spec: Spec, code: bytes, batches: Iterable[Sequence[NewRun]], parent: RunId, terms: Terms
    ) -> list[Fate]:
        """Record runs, each batch whole or not at all; all are recorded when this returns."""

    def page_of(self, run: RunId) -> str:
        """Where a page shows this run; "" if none does."""

    def fates(self, runs: Sequence[RunId]) -> list[Fate]:
        """The fates of runs that may be of other processes; watched from now on."""

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Let fates be settled until `is_done()`; False when the time is over."""

    def wake(self) -> None:
        """Let whoever waits look again whether it is done."""

    def ask(
        self, make: Callable[[int], Message], kind: type[A], wait_s: float | None = None, left: Left = never
    ) -> A:
        """The broker's answer to a question; TimeoutError if `wait_s` is given and over, or `left()`."""

    def waits(self, run: RunId, attempt: int, runs: Sequence[RunId]) -> AbstractContextManager[None]:
        """A block within which the code of `run` waits for `runs`; raises ValueError, `WouldDeadlock`."""

    def keep(self, fate: Fate) -> None:
        """Settle `fate` even if nobody waits and no handle is left: somebody wants to be called."""

    def info(self, run: RunId) -> RunInfo:
        """What is recorded of a run."""

    def infos(self, wanted: RunFilter) -> list[RunInfo]:
        """What is recorded of many runs, newest first."""

    def value(self, run: RunId) -> bytes:
        """The pickled result or failure of a run that ended."""

    def output(self, run: RunId, after: int = 0) -> list[bytes]:
        """JSON arrays of nbformat outputs, in order, without the first `after` of them."""

    def cancel(self, runs: Sequence[RunId]) -> None:
        """End runs; recorded when this returns."""

    def serve(self, tasks: Sequence[Served], limit: int | None) -> Any:
        """Execute the runs of these tasks: blocks in a script, returns a pool in a notebook."""


_active: ContextVar[Submitter | None] = ContextVar("nbtasks_submitter", default=None)
_default: list[Callable[[], Submitter]] = []


def submitter() -> Submitter:
    """The client that tasks of this thread of execution talk to."""
    found = _active.get()
    if found is None:
        if not _default:
            raise RuntimeError("nbtasks has no default client: import nbtasks first")
        found = _default[-1]()
    return found


@contextmanager
def use(chosen: Submitter) -> Iterator[None]:
    """Let tasks of this thread of execution talk to `chosen`; restores what was before."""
    token = _active.set(chosen)
    try:
        yield
    finally:
        _active.reset(token)


def set_default(factory: Callable[[], Submitter]) -> None:
    """Name who makes the client of a process in which nobody called `connect`."""
    _default[:] = [factory]


# -- waiting in a thread of a task runner ---------------------------------------------------------------

_lender = threading.local()


@contextmanager
def lends(lend: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """What this thread does around each wait within the block: a runner gives its place to another run."""
    _lender.lend = lend
    try:
        yield
    finally:
        del _lender.lend


@contextmanager
def lending() -> Iterator[None]:
    """Around a wait: lend the place of this thread, if it has one and has not lent it already."""
    lend = getattr(_lender, "lend", None)
    if lend is None:
        yield
        return
    _lender.lend = None
    try:
        with lend():
            yield
    finally:
        _lender.lend = lend


@contextmanager
def waiting(runs: Callable[[], Sequence[RunId]]) -> Iterator[None]:
    """Around a wait for runs: a recorded run whose code waits lends its worker's slot.

    Parameters
    ----------
    runs
        Gives those that have not ended; called if it matters.

    Raises
    ------
    ValueError, WouldDeadlock
        The wait could never end.
    """
    current = current_run()
    if current is None or not current.is_recorded:
        yield
        return
    with submitter().waits(current.run, current.token, runs()):
        yield


# -- inside a run -------------------------------------------------------------------------------------


def unheard(done: float, total: float, text: str) -> None:
    """Who is told of the progress of a call that nobody looks at."""


@dataclass(frozen=True)
class RunContext:
    """The run that this code is part of.

    Attributes
    ----------
    run
        Its id as text.
    attempt
        How many attempts were charged, this one included.
    bind
        Gives the arguments by name; called when somebody asks for them.
    is_recorded
        False: a plain call of the task, of which no broker knows.
    token
        The number of the attempt as the broker counts, those without user code included.
    report
        Told how far the code is: done, total (0: not known), text.
    """

    run: RunId
    name: str
    attempt: int
    tags: frozenset[str] = frozenset()
    bind: Callable[[], Mapping[str, Any]] = field(default=dict, repr=False)
    is_recorded: bool = True
    token: int = 0
    task_key: str = ""
    report: Callable[[float, float, str], object] = field(default=unheard, repr=False)

    @cached_property
    def id(self) -> UUID:
        return UUID(self.run)

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The arguments by name, defaults included."""
        return self.bind()


def bound(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> Mapping[str, Any]:
    """The arguments of a call by name, defaults included."""
    try:
        known = inspect.signature(function).bind(*arguments, **options)
    except (TypeError, ValueError):
        return dict(options)  # a callable without a signature
    known.apply_defaults()
    return dict(known.arguments)


_current: ContextVar[RunContext | None] = ContextVar("nbtasks_run", default=None)
_tags: ContextVar[frozenset[str]] = ContextVar("nbtasks_tags", default=frozenset())


def current_run() -> RunContext | None:
    """The run that this code is part of; None outside of runs."""
    return _current.get()


def parent_id() -> RunId:
    """The recorded run that this code is part of; "" if there is none."""
    run = _current.get()
    return run.run if run is not None and run.is_recorded else ""


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Show how far the run is that this code is part of; outside of runs nothing happens.

    It may be called as often as one likes: what is shown changes a few times a second.

    Parameters
    ----------
    done
        How much is done, in any unit, from 0 on.
    total
        How much there is; None: that is not known.
    text
        What is being done, in a few words.

    Raises
    ------
    TypeError, ValueError
        What is given is no number, is negative or not finite.
    """
    for name, number in (("done", done), ("total", total)):
        if number is None and name == "total":
            continue
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{name} is a number, not {number!r}")
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} is a finite number from 0 on, not {number!r}")
    run = _current.get()
    if run is not None:
        run.report(float(done), float(total or 0.0), str(text)[:PROGRESS_CHARACTERS_MAX])


class running:
    """What `current_run` says within this block."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def __enter__(self) -> RunContext:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *exc: object) -> None:
        _current.reset(self._token)


@contextmanager
def tags(*names: str) -> Iterator[frozenset[str]]:
    """Give these tags to every run that is made within this block."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a tag is a string, not {name!r}")
    token = _tags.set(_tags.get() | frozenset(names))
    try:
        yield _tags.get()
    finally:
        _tags.reset(token)


def ambient_tags() -> frozenset[str]:
    """The tags of the blocks around."""
    return _tags.get()


# -- calling what may be async ---------------------------------------------------------------------------


def finished(made: Any) -> Any:
    """What a call gave; an async function is awaited, if need be in a thread beside the running loop."""
    if not inspect.isawaitable(made):
        return made
    # here, for a broker has no use for them, and they take as long to import as all else that it needs
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(made))
    with ThreadPoolExecutor(1, "nbtasks-hook") as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, _awaited(made)).result()


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made
