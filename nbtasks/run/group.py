"""Several runs at once: the list that `map` gives, and waiting for whichever ends first."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, SupportsIndex, overload

from nbtasks import context
from nbtasks.context import Submitter
from nbtasks.core.messages import RunFilter
from nbtasks.core.states import State, StateType
from nbtasks.run import asked, bars, detaching, unserved
from nbtasks.run.handle import Run
from nbtasks.run.variables import R

ASKED_EACH_MAX = 20  # runs of whose states the broker is asked one by one


class RunList(list[Run[R]]):
    """The runs of one `map`, in the order of its input."""

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> list[R]: ...
    @overload
    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> list[R | BaseException]: ...
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """All results in order; the first failure is raised as soon as it is known.

        It says nothing meanwhile in a notebook, where a list that is displayed is a bar that moves. IPython
        in a terminal shows a bar if it takes more than a second.

        Raises
        ------
        TimeoutError
            Not all runs ended within `timeout` seconds.
        Detached
            In a notebook somebody pressed ■, and they go on; pressed again within 2 s, that cancels them.
        """
        if raise_on_failure:
            self._fail_fast(timeout)
        elif not self._wait(timeout):
            raise TimeoutError(f"not all of {len(self)} runs have ended within {timeout:g} s")
        return [run.result(raise_on_failure=raise_on_failure) for run in self]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all runs ended; False if the time was over before."""
        return self._wait(timeout)

    def cancel(self) -> None:
        """Cancel every run that has not ended."""
        for client, group in _by_client(run for run in self if run._state_type is None):
            client.cancel([run._run for run in group])

    @property
    def counts(self) -> dict[str, int]:
        """State type -> number of runs in such a state now; all eight are there."""
        types = Counter(run._state_type for run in self)
        unknown = [run for run in self if run._state_type is None]
        for client, group in _by_client(unknown):
            types.update(_types_now(client, group))
        return {str(kind): types[kind] for kind in StateType}

    def __await__(self) -> Generator[Any, None, list[R]]:
        """All results in order; the first failure is raised as soon as it is known."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if over.done():
                return
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        def in_loop(error: BaseException | None = None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        def look(endings: _Endings, run: Run) -> None:
            if not endings.left or run._state_type is not StateType.COMPLETED:
                in_loop()

        with context.lending(), _Endings(self, look, in_loop) as endings:
            endings.keep()
            if not endings.left or any(run._state_type is not StateType.COMPLETED for run in endings.fresh):
                in_loop()
            with detaching.awaiting(loop), bars.shown(len(self), lambda: endings.left):
                yield from over.__await__()
            for run in endings.fresh:
                if run._state_type is not StateType.COMPLETED:
                    run.result()
        return [run.result() for run in self]

    def _wait(self, timeout: float | None) -> bool:
        timeout_s = asked.timeout_s(timeout)
        with _Endings(self) as endings, bars.shown(len(self), lambda: endings.left):
            return endings.wait(timeout_s, len(self))

    def _fail_fast(self, timeout: float | None) -> None:
        timeout_s = asked.timeout_s(timeout)
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        with _Endings(self) as endings, bars.shown(len(self), lambda: endings.left):
            while endings.left or endings.fresh:
                if not endings.wait(_left_s(ends_at), 1):
                    raise TimeoutError(
                        f"{endings.left} of {len(self)} runs have not ended within {timeout_s:g} s"
                    )
                while endings.fresh:
                    run = endings.fresh.popleft()
                    if run._state_type is not StateType.COMPLETED:
                        run.result()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Run[R]: ...
    @overload
    def __getitem__(self, index: slice) -> RunList[R]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Run[R] | RunList[R]:
        found = super().__getitem__(index)
        return RunList(found) if isinstance(found, list) else found

    def __repr__(self) -> str:
        return f"RunList({super().__repr__()})"


def wait(runs: Iterable[Run[R]], timeout: float | None = None) -> tuple[set[Run[R]], set[Run[R]]]:
    """Wait until all runs ended, at most `timeout` seconds.

    Returns
    -------
    The runs that ended, and those that have not.
    """
    wanted, timeout_s = _listed(runs), asked.timeout_s(timeout)
    with _Endings(wanted) as endings:
        endings.wait(timeout_s, len(wanted))
        done = set(endings.fresh)
    return done, set(wanted) - done


def as_completed(runs: Iterable[Run[R]], timeout: float | None = None) -> Iterator[Run[R]]:
    """Give the runs as they end, each once.

    Parameters
    ----------
    timeout
        Seconds from this call on.

    Raises
    ------
    TimeoutError
        Not all ended within `timeout` seconds.
    """
    timeout_s = asked.timeout_s(timeout)
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    return _as_completed(list(dict.fromkeys(_listed(runs))), timeout_s, ends_at)


def _as_completed(wanted: list[Run], timeout_s: float | None, ends_at: float | None) -> Iterator[Run]:
    with _Endings(wanted) as endings:
        while endings.left or endings.fresh:
            if not endings.wait(_left_s(ends_at), 1):
                raise TimeoutError(
                    f"{endings.left} of {len(wanted)} runs have not ended within {timeout_s:g} s"
                )
            while endings.fresh:
                yield endings.fresh.popleft()


class _Endings:
    """Collects runs as they end, at a constant cost for each.

    Parameters
    ----------
    on_end
        Called for each run that ends, also while this is being made, in whatever thread learns of it.
    on_lost
        Called when it becomes known that nobody will say how runs end.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        on_end: Callable[[_Endings, Run], object] | None = None,
        on_lost: Callable[[BaseException], object] | None = None,
    ) -> None:
        self.fresh: deque[Run] = deque()  # ended and not looked at yet
        self._on_end = on_end
        self._lost = on_lost or self._on_lost
        self._changed = threading.Event()  # while threads of several clients listen
        self._trouble: BaseException | None = None
        self._is_kept = False
        open_runs = []
        for run in dict.fromkeys(runs):
            if not isinstance(run, Run):
                raise TypeError(f"what is waited for are runs, not {run!r}")
            if run._info is not None:
                self.fresh.append(run)
            else:
                open_runs.append(run)
        self._pending: dict[Run, Callable[[], object]] = {run: partial(self._ended, run) for run in open_runs}
        _watch(open_runs)
        self._clients = [client for client, _ in _by_client(open_runs)]
        listen = self._clients[0].wait if len(self._clients) == 1 else self._listen
        self._telling = unserved.telling(listen, lambda: next(iter(self._pending)))
        for run, callback in list(self._pending.items()):
            run._settled.add(callback, self._lost)

    @property
    def left(self) -> int:
        """How many have not ended."""
        return len(self._pending)

    def _ended(self, run: Run) -> None:
        self.fresh.append(run)
        self._pending.pop(run, None)
        self._changed.set()
        if self._on_end is not None:
            self._on_end(self, run)

    def _on_lost(self, error: BaseException) -> None:
        self._trouble = error
        self._changed.set()

    def keep(self) -> None:
        """Let the clients' own threads listen."""
        if not self._is_kept:
            self._is_kept = True
            for run in list(self._pending):
                run._client.keep(run._settled)

    def wait(self, timeout_s: float | None, number: int) -> bool:
        """Wait until so many runs are fresh, or all that there are."""
        if self._is_enough(number):
            return True
        with context.waiting(lambda: [run._run for run in self._pending]):
            wake = self._changed.set
            if len(self._clients) == 1:
                wake = self._clients[0].wake
            return detaching.wait(
                self._telling, wake, lambda: self._is_enough(number), timeout_s, lambda: list(self._pending)
            )

    def _listen(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Let the threads of several clients listen, and wait for what they hear."""
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self.keep()
        with context.lending():
            while not is_done():
                if self._trouble is not None:
                    raise self._trouble
                left_s = _left_s(ends_at)
                if left_s == 0 or not self._changed.wait(left_s):
                    return is_done()
                self._changed.clear()
        return True

    def _is_enough(self, number: int) -> bool:
        return len(self.fresh) >= number or not self.left

    def __enter__(self) -> _Endings:
        return self

    def __exit__(self, *exc: object) -> None:
        for run, callback in list(self._pending.items()):
            run._settled.discard(callback)


def _listed(runs: Iterable[Run]) -> list[Run]:
    if isinstance(runs, Run):
        raise TypeError(f"a list of runs is expected, not one run: [{runs!r}]")
    return list(runs)


def _watch(runs: Sequence[Run]) -> None:
    """Watch runs of other processes, in few messages."""
    new = (run for run in runs if run._fate is None or run._fate.is_of_parent)
    for client, group in _by_client(new):
        for run, fate in zip(group, client.fates([run._run for run in group]), strict=True):
            run._fate = fate


def _by_client(runs: Iterable[Run]) -> list[tuple[Submitter, list[Run]]]:
    groups: dict[int, tuple[Submitter, list[Run]]] = {}
    for run in runs:
        groups.setdefault(id(run._client), (run._client, []))[1].append(run)
    return list(groups.values())


def _types_now(client: Submitter, runs: Sequence[Run]) -> Iterator[StateType]:
    """What state each is in, with few questions if they are many."""
    listed: dict[str, str] = {}
    if len(runs) > ASKED_EACH_MAX:
        for key in {run.task_key for run in runs}:
            listed |= {info.run: info.state for info in client.infos(RunFilter(key=key, limit=2 * len(runs)))}
    for run in runs:
        yield State(listed[run._run]).type if run._run in listed else run.state.type


def _left_s(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(0.0, ends_at - time.monotonic())
