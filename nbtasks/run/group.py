"""Several runs at once: the list that `map` gives, and waiting for whichever ends first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, SupportsIndex, overload

from nbtasks.core.states import StateType
from nbtasks.run.handle import Run


class RunList(list[Run]):
    """The runs of one `map`, in the order of its input."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """All results in order; the first failure is raised as soon as it is known.

        Raises
        ------
        TimeoutError
            Not all runs ended within `timeout` seconds.
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
        if self:
            self[0]._client.cancel([run._run for run in self])

    def _wait(self, timeout_s: float | None) -> bool:
        with _Endings(self) as endings:
            return endings.wait(timeout_s, len(self))

    def _fail_fast(self, timeout_s: float | None) -> None:
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        with _Endings(self) as endings:
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
    def __getitem__(self, index: SupportsIndex) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> RunList: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Run | RunList:
        found = super().__getitem__(index)
        return RunList(found) if isinstance(found, list) else found

    def __repr__(self) -> str:
        return f"RunList({super().__repr__()})"


def wait(runs: Iterable[Run], timeout: float | None = None) -> tuple[set[Run], set[Run]]:
    """Wait until all runs ended, at most `timeout` seconds.

    Returns
    -------
    The runs that ended, and those that have not.
    """
    wanted = list(runs)
    with _Endings(wanted) as endings:
        endings.wait(timeout, len(wanted))
        done = set(endings.fresh)
    return done, set(wanted) - done


def as_completed(runs: Iterable[Run], timeout: float | None = None) -> Iterator[Run]:
    """Give the runs as they end.

    Raises
    ------
    TimeoutError
        Not all ended within `timeout` seconds.
    """
    ends_at = None if timeout is None else time.monotonic() + timeout
    wanted = list(dict.fromkeys(runs))
    with _Endings(wanted) as endings:
        while endings.left or endings.fresh:
            if not endings.wait(_left_s(ends_at), 1):
                raise TimeoutError(
                    f"{endings.left} of {len(wanted)} runs have not ended within {timeout:g} s"
                )
            while endings.fresh:
                yield endings.fresh.popleft()


class _Endings:
    """Collects runs as they end, at a constant cost for each."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.fresh: deque[Run] = deque()  # ended and not looked at yet
        self._pending: dict[Run, Callable[[], object]] = {}
        open_runs = []
        for run in dict.fromkeys(runs):
            if run._info is not None:
                self.fresh.append(run)
            else:
                open_runs.append(run)
        _watch(open_runs)
        self._clients = list({id(run._client): run._client for run in open_runs}.values())
        self._pending = {run: partial(self._on_end, run) for run in open_runs}
        for run, callback in list(self._pending.items()):
            run._settled.add(callback)

    @property
    def left(self) -> int:
        """How many have not ended."""
        return len(self._pending)

    def _on_end(self, run: Run) -> None:
        self.fresh.append(run)
        self._pending.pop(run, None)

    def wait(self, timeout_s: float | None, number: int) -> bool:
        """Wait until so many runs are fresh, or all that there are."""
        if self._is_enough(number):
            return True
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        for client in self._clients:
            client.wait(lambda: self._is_enough(number), _left_s(ends_at))
        return self._is_enough(number)

    def _is_enough(self, number: int) -> bool:
        return len(self.fresh) >= number or not self.left

    def __enter__(self) -> _Endings:
        return self

    def __exit__(self, *exc: object) -> None:
        for run, callback in list(self._pending.items()):
            run._settled.discard(callback)


def _watch(runs: Sequence[Run]) -> None:
    """Watch runs of other processes, in few messages."""
    unwatched: dict[int, list[Run]] = {}
    for run in runs:
        if run._fate is None:
            unwatched.setdefault(id(run._client), []).append(run)
    for group in unwatched.values():
        for run, fate in zip(group, group[0]._client.fates([run._run for run in group]), strict=True):
            run._fate = fate


def _left_s(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(0.0, ends_at - time.monotonic())
