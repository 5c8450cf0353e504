"""The broker's decisions: messages and the time in, rows and messages out.

What is in memory is a cache of the table: live runs, the workers and pools that are known. It is
rebuilt from committed rows alone by `restore`. Feed it a batch (`handle`, `subscribed`,
`process_gone`), let time pass (`tick`), then `take` the output: commit its rows, and only then send.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import msgspec

from nbtasks.core import consistency
from nbtasks.core import messages as m
from nbtasks.core.attempts import Attempts
from nbtasks.core.credit import Credit
from nbtasks.core.dependencies import Dependencies
from nbtasks.core.dispatching import Dispatcher
from nbtasks.core.events import Events
from nbtasks.core.finals import Finals
from nbtasks.core.hooks import Hooks
from nbtasks.core.intake import Intake
from nbtasks.core.ledger import Ledger
from nbtasks.core.limits import TagLimits
from nbtasks.core.messages import Message, PeerId, RunId, Spec
from nbtasks.core.presence import Presence
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.records import Holding, Limit, Look, Now, Output, PeerRecord, RunRecord, Send
from nbtasks.core.retention import Bounds, Past, leaving
from nbtasks.core.staff import Staff
from nbtasks.core.streams import Streams
from nbtasks.core.timers import Calendar, Timers


class Limits(msgspec.Struct, frozen=True):
    """Bounds that the owner of the home may set."""

    queue_limit: int = 200_000  # live runs
    idle_stop_s: float = 900.0  # without clients, live runs and pools that stay
    allows_promises: bool = True  # a submit counts as recorded once it is in an outbox


def _always_new(run: RunId) -> bool:
    return False


def _never_final(run: RunId) -> str:
    return ""


def _never_cached(key: str, unix_s: float) -> int:
    return 0


def _never_keyed(task: str, key: str) -> RunId:
    return ""


def _no_rows() -> list[m.BoardRow]:
    return []


class Broker:
    """The one that owns the journal of a home.

    Parameters
    ----------
    boot
        A name that no other start of a broker has.
    recorded
        Tells whether a run id is in the committed table; asked once per batch of runs, for a batch
        may be said again long after its runs are final.
    keyed
        The committed run of a task that has an idempotency key; "" if none has.
    cached
        The sequence number of the committed run whose result stands for a cache key at this time, if it can
        be copied; 0 if there is none.
    final
        The name of the state in which a committed run ended; "" if it is not recorded or not final.
    spec_id
        Names a spec; equal specs have equal names.
    newest
        The committed rows that a board shows first; asked when somebody begins to look.
    """

    def __init__(
        self,
        limits: Limits,
        boot: str,
        now: Now,
        *,
        pid: int = 0,
        recorded: Callable[[RunId], bool] = _always_new,
        keyed: Callable[[str, str], RunId] = _never_keyed,
        cached: Callable[[str, float], int] = _never_cached,
        final: Callable[[RunId], str] = _never_final,
        spec_id: Callable[[Any], str] = str,
        newest: Callable[[], list[m.BoardRow]] = _no_rows,
    ) -> None:
        self._limits = limits
        self._boot = boot
        self._pid = pid
        self._timers = Timers()
        self._ledger = Ledger()
        self._queue = ReadyQueue()
        self._staff = Staff()
        self._finals = Finals(self._timers)
        self._calendar = Calendar()
        self._dependencies = Dependencies(self._ledger, final)
        self._slots = TagLimits(self._ledger, self._timers)
        self._streams = Streams(self._ledger)
        self._credit = Credit(self._ledger, self._queue, self._staff, self._dependencies)
        self._dispatcher = Dispatcher(self._ledger, self._queue, self._staff, self._timers, self._slots)
        self._attempts = Attempts(
            self._ledger, self._queue, self._dispatcher, self._staff, self._finals, self._timers,
            self._calendar, self._dependencies, self._credit, self._slots, Hooks(self._ledger),
            self._streams,
        )  # fmt: skip
        self._intake = Intake(
            self._ledger, self._attempts, self._dependencies, self._finals, self._timers,
            recorded, keyed, cached, spec_id, limits.queue_limit, limits.allows_promises,
        )  # fmt: skip
        self._presence = Presence(
            boot, pid, self._ledger, self._queue, self._staff, self._finals, self._attempts, self._dispatcher,
            self._timers, self._slots,
        )  # fmt: skip
        self._events = Events(boot, self._ledger, self._staff, self._timers, newest)
        self._idle_from: float | None = now.mono_s
        self._handlers: dict[type, Callable[[PeerId, Any, Now], None]] = {
            m.Submit: self._intake.submit,
            m.Watch: self._on_watch,
            m.Noted: self._on_noted,
            m.Beat: self._on_beat,
            m.Cancel: self._on_cancel,
            m.Waits: self._on_waits,
            m.SetLimit: self._on_limits,
            m.GetLimits: self._on_limits,
            m.Occupy: self._on_limits,
            m.Vacate: self._on_limits,
            m.GetRuns: self._on_query,
            m.GetRun: self._on_query,
            m.GetValue: self._on_query,
            m.GetCached: self._on_query,
            m.GetOutput: self._on_query,
            m.GetCall: self._on_query,
            m.GetStack: self._on_get_stack,
            m.StackShown: self._on_stack_shown,
            m.GetYielded: self._streams.ask,
            m.StopReading: self._on_stop_reading,
            m.GetStatus: self._on_query,
            m.GetBoard: self._on_get_board,
            m.Prune: self._on_query,
            m.StopBroker: self._on_stop,
            m.SetPool: self._on_set_pool,
            m.Acked: self._attempts.acked,
            m.Started: self._attempts.started,
            m.Printed: self._attempts.printed,
            m.Progressed: self._attempts.progressed,
            m.Finished: self._attempts.finished,
            m.Returned: self._attempts.returned,
        }

    def restore(
        self,
        records: Iterable[RunRecord],
        peers: Iterable[PeerRecord],
        counts: dict[str, int],
        last_seq: int,
        now: Now,
        limits: Iterable[Limit] = (),
        holdings: Iterable[Holding] = (),
    ) -> None:
        """Take over from a broker that is gone.

        Parameters
        ----------
        records
            Rows of live runs, in order of `seq`.
        counts
            Number of all runs, final ones included, by state type.
        last_seq
            The highest sequence number ever given.
        limits, holdings
            Slots, and what of them the code of runs holds.
        """
        self._ledger.restore(records, counts, last_seq)
        self._presence.restore(peers)
        self._slots.restore(limits, holdings)
        orphans: list[RunRecord] = []
        for record in list(self._ledger.runs.values()):
            if record.is_final:
                continue  # it needs one that came before and did not complete
            seat = self._staff.seats.get(record.worker)
            if record.worker and record.terms.needs:
                self._dependencies.enter(record)
            if seat:
                seat.hold(record, self._staff.expected_s(record))
                self._slots.taken(record)
                seat.unacked.add(record.run)
                self._attempts.resume_stop(record, now)
            elif record.worker:
                orphans.append(record)
            else:
                self._attempts.admit(record, now)
        for record in orphans:  # when all are known that may wait for them
            self._attempts.orphaned(record, now)
        self._presence.size_pools(now)

    # -- inputs ----------------------------------------------------------------------------------------

    def handle(self, peer: PeerId, message: Message, now: Now) -> None:
        """Take one message from `peer`."""
        is_taken = self._presence.takes(peer, message, now)
        if seat := self._staff.seats.get(peer):
            seat.heard_s = now.mono_s
        if is_taken:
            return
        if not self._presence.knows(peer):
            self._send(peer, m.Stranger(self._boot))
            return
        self._handlers[type(message)](peer, message, now)

    def adopt(self, message: m.Submit, now: Now) -> None:
        """Take a promised submit that was read from an outbox; its sender may be gone."""
        self._intake.adopt(message, now)

    def subscribed(self, peer: PeerId, now: Now) -> None:
        """The subscription of `peer` was seen: what is published for it from now on reaches it."""
        self._presence.subscribed(peer, now)

    def observed(self, topic: str, is_on: bool) -> None:
        """Somebody began (or ceased) to hear the events of `topic`."""
        self._events.observed(topic, is_on)

    def unattributed(self, rows: int) -> tuple[int, int] | None:
        """Sequence numbers of at most `rows` runs whose tasks a board needs to know; None: all is known."""
        return self._ledger.unattributed(rows) if self._events.is_board_observed else None

    def attribute(self, upto: int, found: Iterable[tuple[Spec, str, int]]) -> None:
        """Final runs up to this number are of these tasks: (spec, state type, number of runs)."""
        self._ledger.attribute(upto, found)
        self._events.changed()

    def process_gone(self, peer: PeerId, exited: m.Exited | None, now: Now) -> None:
        """A local process ended, as seen by this machine's kernel.

        Parameters
        ----------
        exited
            For a worker: what its marker file holds.
        """
        self._presence.process_gone(peer, exited, now)

    def tick(self, now: Now) -> None:
        """Let time pass, and give queued runs to workers; once after each batch."""
        for kind, subject in self._timers.due(now.mono_s):
            self._due(kind, subject, now)
        for kind, run in self._calendar.due(now):
            self._attempts.come(kind, run, now)
        self._slots.grant(now)
        if not self._presence.closing:
            self._dispatcher.dispatch(now)
            self._presence.size_pools(now)
        self._presence.close_if_done(now)
        self._count_idle(now)
        self._events.tick(now)

    def take(self) -> Output:
        """What has to be committed, then sent, since the last call."""
        return self._ledger.take()

    def close(self, drain_s: float, now: Now) -> None:
        """Stop on purpose: pools and workers first, at most for `drain_s`."""
        self._presence.close(drain_s, now)

    def wake_at(self) -> float | None:
        """When `tick` has something to do next (mono seconds)."""
        times = [self._timers.next_at(), self._calendar.next_at()]
        if self._idle_from is not None:
            times.append(self._idle_from + self._limits.idle_stop_s)
        return min((at for at in times if at is not None), default=None)

    def has_busy_workers(self, number: int) -> bool:
        """Whether so many workers hold a run."""
        return self._staff.has_busy(number)

    def leaving(self, past: Iterable[Past], bounds: Bounds, now: Now) -> list[Past]:
        """Which of these final runs are to leave the table."""
        owed = self._finals.owed()

        def is_needed(one: Past) -> bool:
            # the newest run stays as well, so that a restart gives no number twice
            needed = self._ledger.is_parent(one.run) or self._dependencies.is_needed(one.run)
            return needed or one.run in owed or one.seq >= self._ledger.last_seq

        return leaving(past, bounds, now.unix_s, is_needed)

    def remove(self, past: Iterable[Past], now: Now, promised: Container[RunId] = ()) -> list[Past]:
        """Let these final runs leave the table, but for those that somebody needs by now.

        Parameters
        ----------
        promised
            Runs that an outbox names: a broker that starts anew would take them for new ones.
        """
        found = self.leaving((one for one in past if one.run not in promised), Bounds(now.unix_s), now)
        for one in found:
            self._ledger.remove(one)
        return found

    def forget_specs(self, spec_ids: list[str], upto: int) -> None:
        """No run with a sequence number up to `upto` has these specs: they leave if no later one has them."""
        self._intake.forget_specs(spec_ids, upto)

    def waiting_reason(self, run: RunId) -> str:
        """Why a queued run is not given to anybody; "" if it will be, or is not queued."""
        record = self._ledger.runs.get(run)
        if record is None or record not in self._queue:
            return ""
        return self._staff.waiting_reason(record) or self._slots.waiting_reason(record)

    def status(self, request: int, now: Now, home: str, started: float) -> m.Status:
        """All that is known without reading the table; `started` in UNIX seconds."""
        queues = {}
        for key, depth in self._queue.depths().items():
            oldest = self._queue.oldest(key)
            queues[key] = (depth, max(0.0, now.unix_s - oldest.submitted) if oldest else 0.0)
        return m.Status(
            request, self._pid, self._boot, home, started, self._presence.client_count,
            self._staff.workers(now), self._staff.pool_infos(),
            self._ledger.counts, queues,
        )  # fmt: skip

    # -- from clients ----------------------------------------------------------------------------------

    def _on_watch(self, peer: PeerId, message: m.Watch, now: Now) -> None:
        self._finals.watch_all(peer, message.runs, self._ledger.runs, now, self._ledger.out)
        self._send(peer, m.Done(message.request))

    def _on_noted(self, peer: PeerId, message: m.Noted, now: Now) -> None:
        self._finals.noted(peer, message.session, message.upto, now, self._ledger.out)

    def _on_beat(self, peer: PeerId, message: m.Beat, now: Now) -> None:
        if message.boot not in ("", self._boot):
            # a Hello to a former broker came late, and what was said to that one never reached us
            self._send(peer, m.Stranger(self._boot))

    def _on_cancel(self, peer: PeerId, message: m.Cancel, now: Now) -> None:
        for run in message.runs:
            if record := self._ledger.runs.get(run):
                self._attempts.cancel(record, now)
        self._send(peer, m.Done(message.request))

    def _on_query(self, peer: PeerId, message: Any, now: Now) -> None:
        self._ledger.out.sends.append(Look(peer, message))

    def _on_get_stack(self, peer: PeerId, message: m.GetStack, now: Now) -> None:
        record = self._ledger.runs.get(message.run)
        if record is None or not record.worker:
            self._send(peer, m.NotDone(message.request, f"run {message.run} is not running", code="value"))
        else:
            self._send(record.worker, m.ShowStack(record.run, record.attempt, peer, message.request))

    def _on_stack_shown(self, peer: PeerId, message: m.StackShown, now: Now) -> None:
        not_running = m.NotDone(message.request, f"run {message.run} is not running", code="value")
        found = m.StackFound(message.request, message.text)
        self._send(message.peer, found if message.text else not_running)

    def _on_stop_reading(self, peer: PeerId, message: m.StopReading, now: Now) -> None:
        self._streams.stop(message)
        self._send(peer, m.Done(message.request))

    def _on_get_board(self, peer: PeerId, message: m.GetBoard, now: Now) -> None:
        self._send(peer, m.BoardFound(message.request, self._events.board()))

    def _on_stop(self, peer: PeerId, message: m.StopBroker, now: Now) -> None:
        self._send(peer, m.Done(message.request))
        self._presence.close(message.drain_s, now)

    def _on_waits(self, peer: PeerId, message: m.Waits, now: Now) -> None:
        answer, lender = self._credit.waits(message, now)
        if lender is not None:
            self._dispatcher.give_back_behind(lender, now)
        self._send(peer, answer)

    def _on_limits(self, peer: PeerId, message: Message, now: Now) -> None:
        if answer := self._slots.answer(peer, message, now):
            self._send(peer, answer)

    def _on_set_pool(self, peer: PeerId, message: m.SetPool, now: Now) -> None:
        self._send(peer, self._presence.set_pool(message, now))

    # -- time ------------------------------------------------------------------------------------------

    def _due(self, kind: str, subject: Any, now: Now) -> None:
        if kind == "finals":
            self._finals.repeat(subject, now, self._ledger.out)
        elif kind == "accept":
            self._intake.accept_late(subject)
        elif kind == "due":
            run, attempt, until = subject
            record = self._ledger.runs.get(run)
            if record and record.attempt == attempt and not record.worker and record not in self._queue:
                self._attempts.wait_or_queue(record, now, until)
        elif kind in ("push", "revoke", "deadline", "interrupt", "kill"):
            run, attempt, *rest = subject
            self._attempts.due(kind, (run, attempt), rest[0] if rest else 0.0, now)
        elif kind == "kept":
            self._attempts.tell_kept(subject, now)
        elif kind not in ("look", "events", "grant"):
            self._presence.due(kind, subject, now)

    def _count_idle(self, now: Now) -> None:
        """Stop what nobody needs: pools that do not stay, then the broker."""
        if self._presence.client_count or self._ledger.runs or self._presence.closing:
            self._idle_from = None
        elif self._idle_from is None:
            self._idle_from = now.mono_s
        elif self._idle_from + self._limits.idle_stop_s <= now.mono_s:
            self._idle_from = now.mono_s
            self._presence.stop_idle(now)

    # -- pieces ----------------------------------------------------------------------------------------

    def _send(self, peer: PeerId, message: Message) -> None:
        self._ledger.out.sends.append(Send(peer, message))

    def check(self) -> None:
        """Raise AssertionError if the machine contradicts itself (simulator and tests)."""
        consistency.check(self._ledger, self._queue, self._staff, self._dependencies)
