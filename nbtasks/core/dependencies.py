"""Runs that wait for other runs: which they are, and what the end of one means for the others.

A run may start when every run that it needs has ended Completed, or in any way if it says so. Else it
ends UpstreamFailed, and whatever needs it hears of that in turn. Waiting runs hold no worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import Need, RunId
from nbtasks.core.records import RunRecord
from nbtasks.core.states import State, StateType


class Failed(NamedTuple):
    """A needed run that ended so that the other one cannot start."""

    run: RunId
    state: str  # its name; "": it is not recorded any more

    @property
    def message(self) -> str:
        return f"run {self.run}, which it needs, " + (
            f"ended {self.state}" if self.state else "is not recorded any more"
        )


class Dependencies:
    """Which live run waits for which.

    Parameters
    ----------
    final
        The name of the state in which a committed run ended; "" if it is not recorded or not final.
    """

    def __init__(self, ledger: Ledger, final: Callable[[RunId], str]) -> None:
        self._ledger = ledger
        self._final = final
        self._open: dict[RunId, set[RunId]] = {}  # run -> runs it waits for
        self._waiters: dict[RunId, list[RunRecord]] = {}  # run -> who waits for it
        self._needed: dict[RunId, int] = {}  # run -> how many live runs need its value

    def unknown(self, needs: Iterable[Need]) -> RunId:
        """The first of these that is not recorded; "": all are."""
        return next((need.run for need in needs if not self._is_live(need) and not self._end_of(need)), "")

    def blocks(self, needs: Iterable[Need]) -> bool:
        """Whether any of these is still to end."""
        return any(self._is_live(need) for need in needs)

    def enter(self, record: RunRecord) -> Failed | None:
        """A live run with needs; returns why it can never start."""
        for need in record.terms.needs:
            self._needed[need.run] = self._needed.get(need.run, 0) + 1
        for need in record.terms.needs:
            if self._is_live(need):
                if need.run not in self._open.setdefault(record.run, set()):
                    self._open[record.run].add(need.run)
                    self._waiters.setdefault(need.run, []).append(record)
            elif failed := _failure(need, self._end_of(need)):
                return failed
        return None

    def waits(self, record: RunRecord) -> bool:
        """Whether a run that this one needs is still to end."""
        return record.run in self._open

    def awaited(self, run: RunId) -> set[RunId]:
        """For whom this run waits."""
        return self._open.get(run, set())

    def is_needed(self, run: RunId) -> bool:
        """Whether a live run needs the value of this one."""
        return run in self._needed

    def concern(self, record: RunRecord) -> bool:
        """Whether the end of this run means anything here."""
        return record.run in self._waiters or bool(record.terms.needs)

    def ended(self, record: RunRecord) -> tuple[list[RunRecord], list[tuple[RunRecord, Failed]]]:
        """This run is final: who waits for nothing any more, and who can never start."""
        ready: list[RunRecord] = []
        failed: list[tuple[RunRecord, Failed]] = []
        self._leave(record)
        for waiter in self._waiters.pop(record.run, ()):
            left = self._open.get(waiter.run)
            if left is None:
                continue  # it ended meanwhile
            left.discard(record.run)
            need = next(need for need in waiter.terms.needs if need.run == record.run)
            if failure := _failure(need, record.state.value):
                self._close(waiter.run)
                failed.append((waiter, failure))
            elif not left:
                del self._open[waiter.run]
                ready.append(waiter)
        return ready, failed

    def _leave(self, record: RunRecord) -> None:
        for need in record.terms.needs:
            left = self._needed.get(need.run, 0) - 1
            if left > 0:
                self._needed[need.run] = left
            else:
                self._needed.pop(need.run, None)
        self._close(record.run)

    def _close(self, run: RunId) -> None:
        """This run waits for nothing any more."""
        for needed in self._open.pop(run, ()):
            if waiters := self._waiters.get(needed):
                waiters[:] = [waiter for waiter in waiters if waiter.run != run]
                if not waiters:
                    del self._waiters[needed]

    def _is_live(self, need: Need) -> bool:
        return need.run in self._ledger.runs

    def _end_of(self, need: Need) -> str:
        return self._ledger.ended.get(need.run) or self._final(need.run)


def _failure(need: Need, state: str) -> Failed | None:
    if state and (need.tolerant or State(state).type is StateType.COMPLETED):
        return None
    return Failed(need.run, state)
