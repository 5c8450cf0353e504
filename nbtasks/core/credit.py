"""Runs that wait for others inside their code: they lend their slot, and what they wait for goes first.

A worker whose run waits executes nothing, so its pool may have one more while it does. That is bounded,
because each is a process: beyond the bound a wait that could only end if another worker came is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nbtasks.core.dependencies import Dependencies
from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import Done, Message, NotDone, RunId, Waits
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.records import Now, RunRecord
from nbtasks.core.staff import Seat, Staff

EXTRA_MIN = 16  # workers that a pool may have for waiting runs, however small it is


class _Wait(msgspec.Struct):
    attempt: int
    number: int  # of the newest word of this attempt
    runs: tuple[RunId, ...] = ()
    urged: tuple[RunId, ...] = ()  # these, and what they in turn need


class Credit:
    """Who waits for whom."""

    def __init__(self, ledger: Ledger, queue: ReadyQueue, staff: Staff, dependencies: Dependencies) -> None:
        self._ledger = ledger
        self._queue = queue
        self._staff = staff
        self._dependencies = dependencies
        self._waits: dict[RunId, _Wait] = {}

    def waits(self, message: Waits, now: Now) -> tuple[Message, RunRecord | None]:
        """A run says for which runs it waits now; returns the answer, and the run if it lends its slot."""
        record = self._ledger.runs.get(message.run)
        seat = self._staff.seats.get(record.worker) if record else None
        known = self._waits.get(message.run)
        late = known and (message.attempt, message.number) < (known.attempt, known.number)
        if record is None or seat is None or record.attempt != message.attempt or late:
            return Done(message.request), None  # over by now
        open_runs = tuple(run for run in message.runs if run in self._ledger.runs)
        if open_runs and (refused := self._refuses(record, seat, open_runs)):
            return NotDone(message.request, refused[1], code=refused[0]), None
        self._forget_wishes(message.run)
        urged = self._with_needs(open_runs)
        self._waits[message.run] = _Wait(message.attempt, message.number, open_runs, urged)
        if open_runs:
            seat.lender = message.run
        elif seat.lender == message.run:
            seat.lender = ""
        self._staff.lends = True
        for run in urged:
            self._queue.urge(run, self._ledger.runs.get(run))
        return Done(message.request), record if open_runs else None

    def ended(self, run: RunId) -> None:
        """The attempt of this run is over."""
        if run in self._waits:
            self._forget_wishes(run)
            del self._waits[run]

    def _forget_wishes(self, run: RunId) -> None:
        if known := self._waits.get(run):
            for run_urged in known.urged:
                self._queue.calm(run_urged)

    def _with_needs(self, runs: tuple[RunId, ...]) -> tuple[RunId, ...]:
        """These runs, and what they in turn wait for."""
        found = dict.fromkeys(runs)
        pending = list(runs)
        while pending:
            for run in self._dependencies.awaited(pending.pop()):
                if run not in found:
                    found[run] = None
                    pending.append(run)
        return tuple(found)

    # -- what can never end ----------------------------------------------------------------------------

    def _refuses(self, record: RunRecord, seat: Seat, runs: tuple[RunId, ...]) -> tuple[str, str] | None:
        """Why this wait must not begin: a code, and a message."""
        if record.run in runs:
            return "itself", f"run {record.run} waits for itself"
        if ancestor := next((run for run in self._ancestors(record) if run in runs), ""):
            return (
                "itself",
                f"run {record.run} waits for run {ancestor}, which called it and waits for its end",
            )
        for run in runs:
            if self._leads_to(run, record.run):
                return "deadlock", f"run {record.run} waits for run {run}, which waits for it"
        if waiting := next((run for run in runs if not self._ledger.runs[run].started), ""):
            pool = self._staff.pools.get(seat.record.pool)
            most = max(pool.record.most, EXTRA_MIN) if pool else EXTRA_MIN
            lent = sum(other.waits for other in self._staff.seats_of(seat.record.pool) if other is not seat)
            if lent >= most:
                reason = (
                    f"run {record.run} waits for run {waiting}, which has not started, but {lent} runs of "
                    "its pool wait as well, and no more workers are started for them: let fewer runs wait "
                    "inside of others, or start more workers"
                )
                return "deadlock", reason
        return None

    def _ancestors(self, record: RunRecord) -> Iterator[RunId]:
        seen = {record.run}
        parent = record.parent
        while parent and parent not in seen:
            seen.add(parent)
            yield parent
            above = self._ledger.runs.get(parent)
            parent = above.parent if above else ""

    def _leads_to(self, start: RunId, end: RunId) -> bool:
        """Whether `start` cannot end before `end` has."""
        seen, pending = {start}, [start]
        while pending:
            run = pending.pop()
            wait = self._waits.get(run)
            record = self._ledger.runs.get(run)
            current = wait and record and wait.attempt == record.attempt
            for needed in (*(wait.runs if wait and current else ()), *self._dependencies.awaited(run)):
                if needed == end:
                    return True
                if needed not in seen:
                    seen.add(needed)
                    pending.append(needed)
        return False
