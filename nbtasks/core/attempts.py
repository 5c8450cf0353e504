"""One attempt from its assignment to its end: push, interrupt, kill, verdict.

The broker machine routes messages here. An attempt is named by (run, number); whatever names another
one than the current is a late word and changes nothing.
"""

from __future__ import annotations

from collections import deque

from nbtasks.core import policy
from nbtasks.core.credit import Credit
from nbtasks.core.dependencies import Dependencies
from nbtasks.core.dispatching import INTERRUPT_S, PUSH_S_MAX, Dispatcher
from nbtasks.core.finals import Finals
from nbtasks.core.hooks import Hooks
from nbtasks.core.ledger import Ledger
from nbtasks.core.limits import TagLimits
from nbtasks.core.messages import (
    Acked,
    Exited,
    Finished,
    Interrupt,
    Kept,
    Kill,
    OutputKept,
    PeerId,
    Printed,
    Progressed,
    Returned,
    RunId,
    Started,
)
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.records import Now, RunRecord, Send, Signal
from nbtasks.core.staff import Seat, Staff
from nbtasks.core.states import Cause, State
from nbtasks.core.streams import Streams, holds_values
from nbtasks.core.timers import Calendar, Timers

KEPT_S = 0.05  # a Kept waits so long for a push that it can travel with
KILL_S = 1.5  # pause before a kill is said again; the pool needs 1 s from SIGTERM to SIGKILL
LOOK_S = 60.0  # between two looks at whether a retry is due

Key = tuple[RunId, int]


class Attempts:
    """The attempts under way."""

    def __init__(
        self,
        ledger: Ledger,
        queue: ReadyQueue,
        dispatcher: Dispatcher,
        staff: Staff,
        finals: Finals,
        timers: Timers,
        calendar: Calendar,
        dependencies: Dependencies,
        credit: Credit,
        limits: TagLimits,
        hooks: Hooks,
        streams: Streams,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._dispatcher = dispatcher
        self._staff = staff
        self._finals = finals
        self._timers = timers
        self._calendar = calendar
        self._dependencies = dependencies
        self._credit = credit
        self._limits = limits
        self._hooks = hooks
        self._streams = streams
        self._ended: deque[RunRecord] | None = None  # whose end is still to be told to who needs them

    # -- coming in -------------------------------------------------------------------------------------

    def admit(self, record: RunRecord, now: Now) -> None:
        """A run nobody holds, new or known from the table, waits: for its time, other runs, a worker."""
        if record.terms.expires and not record.attempts:
            self._calendar.add(record.terms.expires, "expire", record.run)
        if record.terms.needs and (failed := self._dependencies.enter(record)):
            self._end(record, Cause.UPSTREAM_FAILED, failed.message, now)
        elif record.state is State.SCHEDULED:
            self._calendar.add(record.due, "eta", record.run)
        elif not self._dependencies.waits(record):
            self._ready(record, now)

    def take_cached(self, record: RunRecord, source: int, now: Now) -> None:
        """A new run has the result of an earlier one (its sequence number): it is over."""
        self._ledger.out.copies.append((record.seq, source))
        self._end(record, Cause.CACHED, "", now)

    def _ready(self, record: RunRecord, now: Now) -> None:
        """Nothing is to be waited for but a worker, or the time of a retry."""
        if record.state is State.AWAITING_DEPENDENCIES:
            self._ledger.change(record, Cause.READY, now.unix_s)
        self.wait_or_queue(record, now)

    def come(self, kind: str, run: RunId, now: Now) -> None:
        """A moment of the wall clock has come."""
        record = self._ledger.runs.get(run)
        if record is None:
            return
        if kind == "eta":
            if record.state is State.SCHEDULED:
                waits = self._dependencies.waits(record)
                self._ledger.change(record, Cause.DUE_WAITING if waits else Cause.DUE, now.unix_s)
                record.due = 0.0
                if not waits:
                    self._queue.add(record)
        elif not record.attempts and not record.started:
            if not record.worker:
                self._expire(record, now)
            elif (seat := self._staff.seats.get(record.worker)) and not record.stop:
                # it comes back, unless it started meanwhile
                seat.revoked.add(record.run)
                self._dispatcher.revoke(record, now)

    def _expire(self, record: RunRecord, now: Now) -> None:
        self._queue.remove(record)
        self._end(record, Cause.CANCELLED, "expired before it could start", now)

    # -- what a worker hands back ------------------------------------------------------------------------

    def requeue(self, record: RunRecord, now: Now) -> None:
        """Its code did not start: it waits again, at no charge."""
        self._let_go(record, now)
        cancelled = record.stop == "cancel"
        self._ledger.release(record)
        if cancelled:
            self._end(record, Cause.CANCELLED, "", now)
        elif not record.attempts and 0 < record.terms.expires <= now.unix_s:
            self._expire(record, now)
        else:
            if record.terms.expires and not record.attempts:
                self._calendar.add(record.terms.expires, "expire", record.run)  # the clock may be set back
            self._queue.add(record)

    # -- from workers ----------------------------------------------------------------------------------

    def current(self, worker: PeerId, key: Key) -> RunRecord | None:
        """The record, if `worker` holds exactly this attempt."""
        record = self._ledger.runs.get(key[0])
        if record and record.worker == worker and record.attempt == key[1]:
            return record
        return None

    def acked(self, worker: PeerId, message: Acked, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record and (seat := self._staff.seats.get(worker)):
            seat.unacked.discard(record.run)

    def started(self, worker: PeerId, message: Started, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record is None or record.started:
            return
        self._charge(record, message.at)
        self._arm_deadline(record, now)

    def printed(self, worker: PeerId, message: Printed, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record is None:
            self._send(worker, OutputKept(message.run, message.attempt, message.number))
            return
        if message.number == record.chunks + 1:
            self._ledger.printed(record, message.body)
            if holds_values(message.body):
                self._streams.printed(record, message.number)
        self._send(worker, OutputKept(message.run, message.attempt, record.chunks))

    def progressed(self, worker: PeerId, message: Progressed, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record is not None and record.started:
            self._ledger.progress(record, message.progress)

    def finished(self, worker: PeerId, message: Finished, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record is None:
            self._send(worker, Kept(message.run, message.attempt))
            return
        if message.chunks > record.chunks or message.outcome not in policy.OUTCOMES:
            return  # its output comes first; the worker says everything again
        self._charge(record, message.start)
        self._staff.ran(record, message.end - message.start)
        if message.progress:
            self._ledger.progress(record, message.progress)
        self._keep(worker, Kept(message.run, message.attempt), now)
        self._conclude(record, message.outcome, message.message, message.value, message.end, now, message)
        if record.state is State.COMPLETED and (key := message.cache_key or record.terms.cache_key):
            lasts_s = record.spec.cache_s
            self._ledger.out.caches.append((key, record.seq, now.unix_s + lasts_s if lasts_s else 0.0))

    def _keep(self, worker: PeerId, kept: Kept, now: Now) -> None:
        """Tell a worker that this is recorded: at once only if it is to leave, else it would wake for it."""
        seat = self._staff.seats.get(worker)
        if seat is None or seat.leaving:
            self._send(worker, kept)
            return
        if not seat.kept:
            seat.tell_kept_at = now.mono_s + KEPT_S
            if not seat.tells_kept:
                self._tell_kept_later(seat)
        seat.kept.append(kept)

    def tell_kept(self, worker: PeerId, now: Now) -> None:
        """A timer of ours is due: tell what no push took along; what came since it was set waits on."""
        seat = self._staff.seats.get(worker)
        if seat is None:
            return
        seat.tells_kept = False
        if seat.kept and now.mono_s < seat.tell_kept_at:
            self._tell_kept_later(seat)
        else:
            self._dispatcher.flush_kept(seat)

    def _tell_kept_later(self, seat: Seat) -> None:
        seat.tells_kept = True
        self._timers.add(seat.tell_kept_at, "kept", seat.record.worker)

    def returned(self, worker: PeerId, message: Returned, now: Now) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record is None:
            return
        if record.started:
            # it said Started before; a worker that forgot what it ran cannot be asked again
            self._conclude(record, policy.DIED, "the worker lost the run", b"", now.unix_s, now)
        else:
            self.requeue(record, now)

    # -- interrupting ----------------------------------------------------------------------------------

    def cancel(self, record: RunRecord, now: Now) -> None:
        """End this live run: at once if nobody holds it, else when its worker confirms."""
        if record.stop == "cancel":
            return
        if not record.worker:
            self._queue.remove(record)
            self._end(record, Cause.CANCELLED, "", now)
            return
        self._ledger.change(record, Cause.CANCEL, now.unix_s)
        self._stop(record, "cancel", now)

    def resume_stop(self, record: RunRecord, now: Now) -> None:
        """Go on with an interrupt or a deadline that a former broker had begun."""
        if record.stop:
            self._stop(record, record.stop, now)
        elif record.started:
            self._arm_deadline(record, now)

    def _stop(self, record: RunRecord, reason: str, now: Now) -> None:
        record.stop = reason
        self._ledger.touch(record)
        self._interrupt(record, now)
        self._timers.add(now.mono_s + record.spec.grace_s, "kill", (record.run, record.attempt))

    def _interrupt(self, record: RunRecord, now: Now) -> None:
        self._send(record.worker, Interrupt(record.run, record.attempt, record.stop))
        self._timers.add(now.mono_s + INTERRUPT_S, "interrupt", (record.run, record.attempt))

    def _arm_deadline(self, record: RunRecord, now: Now) -> None:
        if record.spec.timeout_s > 0:
            passed_s = max(0.0, now.unix_s - record.attempts[-1].start)
            left_s = max(0.0, record.spec.timeout_s - passed_s)
            self._timers.add(now.mono_s + left_s, "deadline", (record.run, record.attempt))

    # -- the process is gone ---------------------------------------------------------------------------

    def lost(self, seat: Seat, exited: Exited, now: Now) -> None:
        """The worker's process is gone for good: judge everything it held by its marker."""
        for word in exited.said:
            if isinstance(word, Finished):
                self.finished(seat.record.worker, word, now)
            else:
                self.printed(seat.record.worker, word, now)
        marked = {(held.run, held.attempt) for held in exited.held if held.started}
        for record in list(seat.held.values()):
            key = (record.run, record.attempt)
            if record.started or key in marked:
                self._charge(record, now.unix_s)
                self._keep_last_words(record, exited)
                said = next((h.hooks for h in exited.held if (h.run, h.attempt) == key), "")
                self._conclude(record, policy.DIED, exited.status, b"", now.unix_s, now, hooks=said)
            else:
                self.requeue(record, now)

    def orphaned(self, record: RunRecord, now: Now) -> None:
        """No worker is known that holds it: the journal is a copy, and its workers stayed where they were."""
        if record.started:
            self._conclude(record, policy.DIED, "its worker is not known here", b"", now.unix_s, now)
        else:
            self.requeue(record, now)

    def _keep_last_words(self, record: RunRecord, exited: Exited) -> None:
        running = any((h.run, h.attempt) == (record.run, record.attempt) and not h.ended for h in exited.held)
        if exited.last_words and running:
            self._ledger.printed(record, exited.last_words)

    # -- timers ----------------------------------------------------------------------------------------

    def due(self, kind: str, key: Key, pause_s: float, now: Now) -> None:
        """A timer of ours is due; it matters only if the attempt is still the current one."""
        record = self._ledger.runs.get(key[0])
        seat = self._staff.seats.get(record.worker) if record else None
        if record is None or seat is None or record.attempt != key[1]:
            return
        if kind == "push":
            if record.run in seat.unacked and seat.gone is None:
                self._dispatcher.push(record, seat, now, again=True, pause_s=min(2 * pause_s, PUSH_S_MAX))
        elif kind == "revoke":
            if record.run in seat.revoked and not record.started:
                self._dispatcher.revoke(record, now)
        elif kind == "deadline":
            if not record.stop:
                self._stop(record, "timeout", now)
        elif kind == "interrupt":
            if record.stop:
                self._interrupt(record, now)
        elif kind == "kill" and record.stop:
            self._kill(record, seat, now)

    def _kill(self, record: RunRecord, seat: Seat, now: Now) -> None:
        if seat.record.pool in self._staff.pools:
            self._send(seat.record.pool, Kill(record.worker, record.run, record.attempt))
        else:
            self._ledger.out.signals.append(Signal(record.worker, "SIGKILL", record.run, record.attempt))
        self._timers.add(now.mono_s + KILL_S, "kill", (record.run, record.attempt))

    # -- endings ---------------------------------------------------------------------------------------

    def _charge(self, record: RunRecord, start: float) -> None:
        seat = self._staff.seats.get(record.worker)
        if seat:
            seat.unacked.discard(record.run)
            seat.revoked.discard(record.run)
        self._ledger.charge(record, seat.record.pid if seat else 0, start)

    def _conclude(
        self,
        record: RunRecord,
        outcome: str,
        message: str,
        value: bytes,
        end: float,
        now: Now,
        word: Finished | None = None,
        hooks: str = "",
    ) -> None:
        """The charged attempt is over: retry or end the run.

        Parameters
        ----------
        word
            What its worker said of it; None: its worker is gone.
        hooks
            Those that the worker, which is gone, began to run: it knew that this was the last attempt.
        """
        retry, label, hooks = (word.retry, word.label, word.hooks) if word else (not hooks, "", hooks)
        if word and hooks and record.stop == "timeout":
            record.stop = ""  # its end was on the way already, and hooks that tell of it have run
        verdict = policy.after_attempt(record, outcome, message, now.unix_s, retry)
        self._ledger.end_attempt(record, end, policy.outcome_name(outcome, record.stop))
        if verdict.cause in (Cause.CRASHED_RETRY, Cause.CRASHED):
            record.crashes += 1
        elif verdict.cause in (Cause.RAISED_RETRY, Cause.RAISED_RETRY_LATER, Cause.RAISED, Cause.TIMED_OUT):
            record.failures += 1
        self._let_go(record, now)
        if verdict.cause in policy.RETRIES:
            self._ledger.release(record)
            self._ledger.change(record, verdict.cause, now.unix_s, verdict.message)
            record.due = verdict.due
            self.wait_or_queue(record, now)
            return
        if value and verdict.cause in (Cause.COMPLETED, Cause.CACHED, Cause.RAISED):
            self._ledger.out.values.append((record.seq, value))
        if verdict.cause is Cause.CANCELLED and record.state is State.RUNNING:
            self._ledger.change(record, Cause.CANCEL, now.unix_s)  # it does so itself
        self._end(
            record, verdict.cause, verdict.message, now, label if verdict.confirms(outcome) else "", hooks
        )

    def wait_or_queue(self, record: RunRecord, now: Now, until: float | None = None) -> None:
        """An unassigned run becomes ready now or when it is due, as either clock says.

        Parameters
        ----------
        until
            Mono seconds when its pause is over at the latest; None: it begins to wait. The wall clock may be
            set back by a day, but nobody waits longer than the pause of the retry.
        """
        left_s = record.due - now.unix_s
        if until is None:
            longest_s = max(record.spec.retry_delay_s, *record.spec.later_delays_s, 0.0)
            until = now.mono_s + min(left_s, longest_s * (1 + record.spec.retry_jitter))
        if left_s <= 0 or until <= now.mono_s:
            self._queue.add(record)
        else:
            # the wall clock may be set forward, too
            look_at = min(until, now.mono_s + min(left_s, LOOK_S))
            self._timers.add(look_at, "due", (record.run, record.attempt, until))

    def _end(
        self, record: RunRecord, cause: Cause, message: str, now: Now, label: str = "", hooks: str = ""
    ) -> None:
        self._ledger.change(record, cause, now.unix_s, message, label)
        self._finals.ended(record.run, now, self._ledger.out)
        self._streams.ended(record.run)
        if record.spec.hooks and (follower := self._hooks.follow(record, hooks, now.unix_s)):
            self.admit(follower, now)
        if not self._dependencies.concern(record):
            return
        if self._ended is not None:
            self._ended.append(record)  # not by a call from here: chains may be long
            return
        self._ended = deque([record])
        while self._ended:
            ready, failed = self._dependencies.ended(self._ended.popleft())
            for waiter in ready:
                if waiter.state is not State.SCHEDULED:
                    self._ready(waiter, now)
            for waiter, failure in failed:
                self._end(waiter, Cause.UPSTREAM_FAILED, failure.message, now)
        self._ended = None

    def _let_go(self, record: RunRecord, now: Now) -> None:
        if seat := self._staff.seats.get(record.worker):
            if record.run in seat.held:
                self._limits.freed(record)
            seat.let_go(record.run)
            seat.head_since = now.mono_s
        self._credit.ended(record.run)
        self._limits.ended(record)

    def _send(self, peer: PeerId, message: object) -> None:
        self._ledger.out.sends.append(Send(peer, message))  # type: ignore[arg-type]
