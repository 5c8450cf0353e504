"""Giving runs to workers, and taking back what waits behind others.

A worker executes one run at a time and may hold more ahead, as long as those are short; an idle one gets
what waits behind a busy one, and what is more urgent goes first. What is assigned is pushed until it is
acked.
"""

from __future__ import annotations

import math

from nbtasks.core.ledger import Ledger
from nbtasks.core.limits import TagLimits
from nbtasks.core.messages import Revoke
from nbtasks.core.queue import ReadyQueue, Room
from nbtasks.core.records import Now, Publish, PushRun, RunRecord, Send
from nbtasks.core.staff import Seat, Staff
from nbtasks.core.states import Cause, State
from nbtasks.core.timers import Timers

PUSH_S = 0.1  # pause before an unacked push is said again; doubled up to PUSH_S_MAX
PUSH_S_MAX = 2.0
PUSH_STEP_S = 0.05
REVOKE_AFTER_S = 0.02  # a run ahead is taken back once it waited so long behind another
INTERRUPT_S = 0.5  # pause before an interrupt or a revoke is said again


class Dispatcher:
    """Decides which worker gets which run."""

    def __init__(
        self, ledger: Ledger, queue: ReadyQueue, staff: Staff, timers: Timers, limits: TagLimits
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._staff = staff
        self._timers = timers
        self._limits = limits

    def dispatch(self, now: Now) -> None:
        """Give queued runs to workers: first to idle ones, then ahead to busy ones, one each in turn."""
        if len(self._queue):
            for seat in self._staff.idle():
                self._give(seat, self._limits.room, now)
                if not len(self._queue):
                    break
            gave = True
            while gave and len(self._queue):
                # ahead, what is limited would hold a slot and not run
                given = [self._give(seat, self._unlimited, now) for seat in self._staff.ahead(now.unix_s)]
                gave = any(given)
            if self._limits.any:
                self._say_blocked(now)
            if len(self._queue):
                self._let_pass(now)
        self._take_back(now)

    def _unlimited(self, tags: tuple[str, ...]) -> int | None:
        return 0 if self._limits.limits(tags) else None

    def _say_blocked(self, now: Now) -> None:
        """Let those that are next say why they wait."""
        for record in self._queue.blocked(self._limits.room):
            if record.state is State.PENDING:
                self._ledger.change(record, Cause.NO_SLOT, now.unix_s)

    def _give(self, seat: Seat, room: Room, now: Now) -> bool:
        record = self._queue.first(seat.fits, room)
        if record is None:
            return False
        self._queue.remove(record)
        self._ledger.assign(record, seat.record.worker)
        if not seat.held:
            seat.head_since = now.mono_s
        seat.hold(record, self._staff.expected_s(record))
        self._limits.taken(record)
        if record.spec.sticky and self._staff.bind(record.spec.sticky, seat):
            self._ledger.out.peers[seat.record.worker] = seat.record
        self.push(record, seat, now, again=False)
        return True

    def push(self, record: RunRecord, seat: Seat, now: Now, again: bool, pause_s: float = PUSH_S) -> None:
        seat.unacked.add(record.run)
        self.flush_kept(seat)
        self._ledger.out.sends.append(PushRun(record, again))
        # in steps, so that the many that are answered by then are looked at together
        at = math.ceil(round((now.mono_s + pause_s) / PUSH_STEP_S, 6)) * PUSH_STEP_S
        self._timers.add(at, "push", (record.run, record.attempt, pause_s))

    def flush_kept(self, seat: Seat) -> None:
        """Tell the worker what is recorded, by the way that pushes go."""
        if seat.kept:
            self._ledger.out.sends += [Publish(seat.record.worker, kept) for kept in seat.kept]
            seat.kept.clear()

    def _let_pass(self, now: Now) -> None:
        """Take back what waits behind a run and is less urgent than what is queued."""
        top = self._queue.top
        for seat in self._staff.seats.values():
            behind = [r for r in self._behind(seat) if r.terms.priority < top and r.run not in seat.revoked]
            first = self._queue.first(seat.fits, self._limits.room) if behind and seat.takes else None
            if first is None:
                continue
            if now.mono_s < seat.head_since + REVOKE_AFTER_S:
                self._timers.add(seat.head_since + REVOKE_AFTER_S, "look", None)
                continue
            for record in behind:
                if record.terms.priority < first.terms.priority:
                    seat.revoked.add(record.run)
                    self.revoke(record, now)

    @staticmethod
    def _behind(seat: Seat) -> list[RunRecord]:
        """What waits at a worker behind the run that it executes."""
        if len(seat.held) < 2 or seat.gone:
            return []
        return [r for r in list(seat.held.values())[1:] if not r.started and not r.stop]

    def _take_back(self, now: Now) -> None:
        """Let idle workers have what waits behind a busy one."""
        donors = [seat for seat in self._staff.seats.values() if len(seat.held) > 1 and not seat.revoked]
        idle = list(self._staff.idle()) if donors else []
        if not idle:
            return
        for donor in donors:
            behind = self._behind(donor)
            taker = next((seat for seat in idle if behind and seat.can_run(behind[-1])), None)
            if taker is None:
                continue
            if now.mono_s < donor.head_since + REVOKE_AFTER_S:
                self._timers.add(donor.head_since + REVOKE_AFTER_S, "look", None)
                continue
            idle.remove(taker)
            for record in behind[len(behind) // 2 :]:
                donor.revoked.add(record.run)
                self.revoke(record, now)

    def give_back_behind(self, record: RunRecord, now: Now) -> None:
        """The code of this run waits: what its worker holds besides goes to others."""
        seat = self._staff.seats[record.worker]
        for held in seat.held.values():
            if held is not record and not held.stop and held.run not in seat.revoked:
                seat.revoked.add(held.run)
                self.revoke(held, now)

    def revoke(self, record: RunRecord, now: Now) -> None:
        self._ledger.out.sends.append(Send(record.worker, Revoke(record.run, record.attempt)))
        self._timers.add(now.mono_s + INTERRUPT_S, "revoke", (record.run, record.attempt))
