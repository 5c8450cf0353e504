"""Rules of the core, taken away one at a time: the simulator must notice each.

A mutation is a patch of the real machines (or of the order in which the daemon acts). Some of these
were bugs that a seed showed; here they are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from nbtasks.core import dependencies, observer, policy
from nbtasks.core import messages as m
from nbtasks.core.attempts import Attempts
from nbtasks.core.broker import Broker
from nbtasks.core.client import Client
from nbtasks.core.credit import Credit
from nbtasks.core.dependencies import Dependencies
from nbtasks.core.events import Events, row_of_record
from nbtasks.core.finals import Finals
from nbtasks.core.happenings import OutboxDone
from nbtasks.core.hooks import Hooks
from nbtasks.core.intake import Intake
from nbtasks.core.ledger import Ledger
from nbtasks.core.limits import TagLimits
from nbtasks.core.observer import Observer
from nbtasks.core.pool import Pool
from nbtasks.core.presence import Presence
from nbtasks.core.records import Effects, Output, RunRecord
from nbtasks.core.retention import Past
from nbtasks.core.staff import Seat, Staff
from nbtasks.core.states import Cause, State
from nbtasks.core.streams import Streams
from nbtasks.core.worker import Worker
from tests.sim import daemon
from tests.sim.daemon import BrokerProcess
from tests.sim.disk import Disk
from tests.sim.world import Red, simulate

Patch = pytest.MonkeyPatch
MUTATIONS: dict[str, Callable[[Patch], None]] = {}


def mutation(change: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MUTATIONS[change.__name__.replace("_", " ")] = change
    return change


def first_red(change: Callable[[Patch], None], seeds: Iterable[int]) -> int | None:
    """The first of these seeds that notices the change; None: none does."""
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        for seed in seeds:
            try:
                simulate(seed)
            except Red:
                return seed
    return None


def nothing(*args: Any, **options: Any) -> None:
    """A rule that is gone."""


# -- fencing and idempotence ---------------------------------------------------------------------------


@mutation
def words_of_old_attempts_count(patch: Patch) -> None:
    def current(self: Attempts, worker: str, key: tuple[str, int]) -> RunRecord | None:
        record = self._ledger.runs.get(key[0])
        return record if record and record.worker else None

    patch.setattr(Attempts, "current", current)


@mutation
def words_of_other_workers_count(patch: Patch) -> None:
    def current(self: Attempts, worker: str, key: tuple[str, int]) -> RunRecord | None:
        record = self._ledger.runs.get(key[0])
        return record if record and record.worker and record.attempt == key[1] else None

    def assign(self: Ledger, record: RunRecord, worker: str, real: Any = Ledger.assign) -> None:
        real(self, record, worker)
        record.attempt = 1

    patch.setattr(Attempts, "current", current)
    patch.setattr(Ledger, "assign", assign)


@mutation
def a_repeated_submit_is_a_new_run(patch: Patch) -> None:
    patch.setattr(Intake, "_is_recorded", lambda self, run: False)


@mutation
def a_submit_repeated_within_a_pass_is_a_new_run(patch: Patch) -> None:
    patch.setattr(Ledger, "is_new", lambda self, run: False)


@mutation
def a_refused_batch_is_accepted_when_it_is_said_again(patch: Patch) -> None:
    def refuses(self: Intake, message: m.Submit, real: Any = Intake._refuses) -> Any:
        self._refused.clear()
        return real(self, message)

    patch.setattr(Intake, "_refuses", refuses)


@mutation
def a_worker_forgets_what_it_has_done(patch: Patch) -> None:
    patch.setattr(Worker, "_remember", nothing)


@mutation
def a_worker_takes_a_second_copy_of_a_push(patch: Patch) -> None:
    def holds(self: Worker, key: tuple[str, int]) -> bool:
        return any((push.run, push.attempt) == key for push in self._waiting)

    patch.setattr(Worker, "_holds", holds)
    patch.setattr(Worker, "_remember", nothing)


# -- outboxes -----------------------------------------------------------------------------------------


@mutation
def nobody_looks_into_the_outbox_of_a_dead_client(patch: Patch) -> None:
    patch.setattr(BrokerProcess, "_adopt", nothing)


@mutation
def outboxes_are_looked_into_only_now_and_then(patch: Patch) -> None:
    patch.setattr(daemon, "names_runs", lambda message: False)


@mutation
def an_outbox_is_removed_before_it_is_committed(patch: Patch) -> None:
    def adopt(self: BrokerProcess, now: Any, real: Any = BrokerProcess._adopt) -> None:
        real(self, now)
        for name in self._adopted:
            self.world.outboxes.pop(name, None)

    patch.setattr(BrokerProcess, "_adopt", adopt)


@mutation
def an_outbox_is_emptied_with_the_first_answer(patch: Patch) -> None:
    def keep(self: Client, run: str, effects: Any) -> None:
        del self._promised[run]
        effects.events.append(OutboxDone())

    patch.setattr(Client, "_keep_promise", keep)


@mutation
def a_promise_is_forgotten_by_who_gives_up(patch: Patch) -> None:
    def abandon(self: Client, batch: str) -> None:
        self._submits.pop(batch, None)

    patch.setattr(Client, "abandon", abandon)


# -- terms --------------------------------------------------------------------------------------------


@mutation
def an_eta_does_not_wait(patch: Patch) -> None:
    def admit(self: Attempts, record: RunRecord, now: Any, real: Any = Attempts.admit) -> None:
        if record.state is State.SCHEDULED:
            self._calendar.add(now.unix_s, "eta", record.run)
        else:
            real(self, record, now)

    patch.setattr(Attempts, "admit", admit)


@mutation
def a_new_broker_forgets_etas(patch: Patch) -> None:
    def restore(self: Broker, records: Any, *rest: Any, real: Any = Broker.restore) -> None:
        real(self, records, *rest)
        self._calendar._heap.clear()

    patch.setattr(Broker, "restore", restore)


@mutation
def what_expired_is_given_away_when_it_comes_back(patch: Patch) -> None:
    patch.setattr(Attempts, "_expire", lambda self, record, now: self._queue.add(record))


@mutation
def a_key_is_for_one_pass(patch: Patch) -> None:
    patch.setattr(Disk, "keyed", lambda self, task, key: "")


@mutation
def two_runs_of_a_pass_may_have_one_key(patch: Patch) -> None:
    def claim(self: Ledger, task: str, key: str, record: RunRecord, real: Any = Ledger.claim) -> None:
        real(self, task, key, record)
        self.claimed.clear()

    patch.setattr(Ledger, "claim", claim)


# -- what observers hear ------------------------------------------------------------------------------


@mutation
def an_observer_does_not_ask_when_it_hears_nothing(patch: Patch) -> None:
    def believe(self: Observer, subject: Any, *rest: Any, real: Any = Observer._believe) -> Any:
        seen = real(self, subject, *rest)
        subject.ask_at = 1e9
        return seen

    patch.setattr(Observer, "_believe", believe)
    patch.setattr(Observer, "restarted", nothing)


@mutation
def an_observer_believes_what_comes_late(patch: Patch) -> None:
    patch.setattr(observer, "_is_newer", lambda board, seen, least: True)


@mutation
def an_observer_believes_of_a_run_what_comes_late(patch: Patch) -> None:
    patch.setattr(observer, "_is_later", lambda run, seen, or_same=False: True)


@mutation
def a_board_shows_rows_as_they_were(patch: Patch) -> None:
    def remember(self: Events, run: str, item: Any, *rest: Any, real: Any = Events._remember) -> None:
        real(self, run, row_of_record(item) if isinstance(item, RunRecord) else item, *rest)

    patch.setattr(Events, "_remember", remember)
    patch.setattr(Events, "_note", lambda self, record: self.changed())


@mutation
def a_board_is_told_before_everything_has_happened(patch: Patch) -> None:
    def handle(self: Broker, peer: str, message: Any, now: Any, real: Any = Broker.handle) -> None:
        real(self, peer, message, now)
        self._events.tick(now)

    patch.setattr(Broker, "handle", handle)


@mutation
def runs_that_end_late_are_counted_twice(patch: Patch) -> None:
    def change(self: Ledger, *words: Any, real: Any = Ledger.change) -> None:
        attributed, self._attributed = self._attributed, self._former_seq
        try:
            real(self, *words)
        finally:
            self._attributed = attributed

    patch.setattr(Ledger, "change", change)


# -- what is lost is said again ------------------------------------------------------------------------


def _without(kind: str) -> Callable[[Patch], None]:
    def change(patch: Patch) -> None:
        def due(self: Attempts, what: str, *rest: Any, real: Any = Attempts.due) -> None:
            if what != kind:
                real(self, what, *rest)

        patch.setattr(Attempts, "due", due)

    return change


MUTATIONS["a lost push is not repeated"] = _without("push")
MUTATIONS["a lost interrupt is not repeated"] = _without("interrupt")
MUTATIONS["who takes no notice is not killed"] = _without("kill")
MUTATIONS["deadlines are not kept"] = _without("deadline")


@mutation
def finals_are_not_repeated(patch: Patch) -> None:
    patch.setattr(Finals, "repeat", nothing)


@mutation
def an_unkept_finish_is_not_repeated(patch: Patch) -> None:
    def tick(self: Worker, now: Any, real: Any = Worker.tick) -> Effects:
        endings, self._endings = self._endings, {}
        try:
            return real(self, now)  # type: ignore[no-any-return]
        finally:
            self._endings = endings

    def wake_at(self: Worker, real: Any = Worker.wake_at) -> Any:
        endings, self._endings = self._endings, {}
        try:
            return real(self)
        finally:
            self._endings = endings

    patch.setattr(Worker, "tick", tick)
    patch.setattr(Worker, "wake_at", wake_at)


@mutation
def a_lost_start_is_not_repeated(patch: Patch) -> None:
    patch.setattr(Worker, "_say_current", nothing)


@mutation
def an_unanswered_submit_is_not_repeated(patch: Patch) -> None:
    def handle(self: Client, message: Any, now: Any, real: Any = Client.handle) -> Any:
        if isinstance(message, m.Welcome):
            submits, self._submits = self._submits, {}
            effects = real(self, message, now)
            self._submits.update(submits)
            return effects
        return real(self, message, now)

    def tick(self: Client, now: Any, real: Any = Client.tick) -> Any:
        for opened in self._submits.values():
            opened.say_at = 1e9
        return real(self, now)

    patch.setattr(Client, "handle", handle)
    patch.setattr(Client, "tick", tick)


@mutation
def watches_are_not_repeated_to_a_new_broker(patch: Patch) -> None:
    def handle(self: Client, message: Any, now: Any, real: Any = Client.handle) -> Any:
        if isinstance(message, m.Welcome):
            watched, self._watched = self._watched, {}
            effects = real(self, message, now)
            self._watched = watched
            return effects
        return real(self, message, now)

    patch.setattr(Client, "handle", handle)


@mutation
def a_welcome_counts_for_any_session(patch: Patch) -> None:
    def handle(self: Client, message: Any, now: Any, real: Any = Client.handle) -> Any:
        if isinstance(message, m.Welcome):
            message = msgspec.structs.replace(message, session=self._hello.session)
        return real(self, message, now)

    patch.setattr(Client, "handle", handle)


@mutation
def nobody_is_a_stranger(patch: Patch) -> None:
    patch.setattr(Presence, "knows", lambda self, peer: True)


@mutation
def a_worker_does_not_say_what_it_holds(patch: Patch) -> None:
    def on_hello(
        self: Presence, peer: str, message: Any, now: Any, real: Any = Presence._on_hello_worker
    ) -> None:
        real(self, peer, message, now)
        for record in self._staff.seats[peer].held.values():
            self._staff.seats[peer].unacked.discard(record.run)

    patch.setattr(Presence, "_on_hello_worker", on_hello)


# -- the table -----------------------------------------------------------------------------------------


@mutation
def the_broker_speaks_before_it_writes(patch: Patch) -> None:
    def act(self: BrokerProcess, now: Any, real: Any = BrokerProcess._act) -> None:
        output = self.machine.take()
        for item in [s for s in output.sends if hasattr(s, "message")]:
            self.world.down(item.peer, [item.message])
        output.sends = [s for s in output.sends if not hasattr(s, "message")]
        self.machine._ledger.out = output
        real(self, now)

    patch.setattr(BrokerProcess, "_act", act)


@mutation
def a_new_broker_forgets_assignments(patch: Patch) -> None:
    def restore(self: Broker, records: Any, peers: Any, *rest: Any, real: Any = Broker.restore) -> None:
        real(self, records, peers, *rest)
        for seat in self._staff.seats.values():
            for record in list(seat.held.values()):
                self._attempts.requeue(record, rest[-1])

    patch.setattr(Broker, "restore", restore)


@mutation
def a_new_broker_forgets_interrupts(patch: Patch) -> None:
    patch.setattr(Attempts, "resume_stop", nothing)


@mutation
def a_charge_is_not_written(patch: Patch) -> None:
    def charge(self: Ledger, record: RunRecord, pid: int, start: float, real: Any = Ledger.charge) -> None:
        real(self, record, pid, start)
        self.out.changed.pop(record.seq, None)

    patch.setattr(Ledger, "charge", charge)


@mutation
def a_value_is_not_written(patch: Patch) -> None:
    def take(self: Ledger, real: Any = Ledger.take) -> Output:
        output: Output = real(self)
        output.values.clear()
        return output

    patch.setattr(Ledger, "take", take)


@mutation
def output_may_come_after_the_finish(patch: Patch) -> None:
    def finished(
        self: Attempts, worker: str, message: m.Finished, now: Any, real: Any = Attempts.finished
    ) -> None:
        real(self, worker, msgspec.structs.replace(message, chunks=0), now)

    patch.setattr(Attempts, "finished", finished)


@mutation
def output_with_a_gap_is_kept(patch: Patch) -> None:
    def printed(self: Attempts, worker: str, message: m.Printed, real: Any = Attempts.printed) -> None:
        record = self.current(worker, (message.run, message.attempt))
        if record and message.number > record.chunks:
            record.chunks = message.number - 1
        real(self, worker, message)

    patch.setattr(Attempts, "printed", printed)


# -- attempts ------------------------------------------------------------------------------------------


@mutation
def a_started_run_is_queued_again(patch: Patch) -> None:
    def lost(self: Attempts, seat: Seat, exited: Any, now: Any) -> None:
        for record in list(seat.held.values()):
            self.requeue(record, now)

    patch.setattr(Attempts, "lost", lost)


@mutation
def what_a_dead_worker_had_ended_is_forgotten(patch: Patch) -> None:
    def lost(self: Attempts, seat: Seat, exited: m.Exited, now: Any, real: Any = Attempts.lost) -> None:
        real(self, seat, msgspec.structs.replace(exited, said=()), now)

    patch.setattr(Attempts, "lost", lost)


@mutation
def the_marker_is_ignored(patch: Patch) -> None:
    def lost(self: Attempts, seat: Seat, exited: m.Exited, now: Any, real: Any = Attempts.lost) -> None:
        real(self, seat, msgspec.structs.replace(exited, held=()), now)

    patch.setattr(Attempts, "lost", lost)


@mutation
def an_exit_is_noted_before_it_is_judged(patch: Patch) -> None:
    def exited(self: Presence, worker: str, exited: m.Exited, now: Any, real: Any = Presence._exited) -> None:
        if seat := self._staff.seats.get(worker):
            self._send(seat.record.pool, m.ExitNoted(worker))
        real(self, worker, exited, now)

    patch.setattr(Presence, "_exited", exited)


@mutation
def unstarted_work_is_charged(patch: Patch) -> None:
    def lost(self: Attempts, seat: Seat, exited: m.Exited, now: Any, real: Any = Attempts.lost) -> None:
        held = tuple(m.Held(r.run, r.attempt, started=True) for r in seat.held.values())
        real(self, seat, msgspec.structs.replace(exited, held=held), now)

    patch.setattr(Attempts, "lost", lost)


@mutation
def crashes_are_retried_for_ever(patch: Patch) -> None:
    def after(
        record: RunRecord, outcome: str, *rest: Any, real: Any = policy.after_attempt
    ) -> policy.Verdict:
        if outcome == policy.DIED and not record.stop:
            return policy.Verdict(Cause.CRASHED_RETRY)
        return real(record, outcome, *rest)  # type: ignore[no-any-return]

    patch.setattr(policy, "after_attempt", after)


@mutation
def one_retry_too_many(patch: Patch) -> None:
    patch.setattr(
        policy, "retry_delay_s", lambda spec, n, run: spec.retry_delay_s if n <= spec.retries + 1 else None
    )


@mutation
def a_retry_does_not_wait(patch: Patch) -> None:
    def wait(self: Attempts, record: RunRecord, now: Any, until: Any = None) -> None:
        self._queue.add(record)

    patch.setattr(Attempts, "wait_or_queue", wait)


@mutation
def a_retry_waits_for_a_clock_that_was_set_back(patch: Patch) -> None:
    def wait(
        self: Attempts, record: RunRecord, now: Any, until: Any = None, real: Any = Attempts.wait_or_queue
    ) -> None:
        real(self, record, now, 1e12)

    patch.setattr(Attempts, "wait_or_queue", wait)


@mutation
def cancelled_is_a_relabel(patch: Patch) -> None:
    def cancel(self: Attempts, record: RunRecord, now: Any) -> None:
        if record.worker:
            self._ledger.change(record, Cause.CANCEL, now.unix_s)
            self._send(record.worker, m.Interrupt(record.run, record.attempt, "cancel"))
        self._let_go(record, now)
        self._queue.remove(record)
        self._end(record, Cause.CANCELLED, "", now)

    patch.setattr(Attempts, "cancel", cancel)


@mutation
def an_unstarted_cancelled_run_is_queued_again(patch: Patch) -> None:
    def requeue(self: Attempts, record: RunRecord, now: Any) -> None:
        self._let_go(record, now)
        self._ledger.release(record)
        self._queue.add(record)

    patch.setattr(Attempts, "requeue", requeue)


@mutation
def a_run_that_executes_is_handed_back(patch: Patch) -> None:
    def handle(self: Worker, message: Any, now: Any, real: Any = Worker.handle) -> Effects:
        effects: Effects = real(self, message, now)
        if isinstance(message, m.Revoke):
            effects.sends.append(m.Returned(message.run, message.attempt))
        return effects

    patch.setattr(Worker, "handle", handle)


@mutation
def a_worker_leaves_with_its_hands_full(patch: Patch) -> None:
    patch.setattr(Worker, "is_empty_handed", property(lambda self: True))


@mutation
def what_is_given_ahead_has_no_bound(patch: Patch) -> None:
    patch.setattr(Seat, "wants_ahead", lambda self, unix_s: True)


@mutation
def a_leaving_worker_is_given_more(patch: Patch) -> None:
    patch.setattr(Seat, "takes", property(lambda self: self.gone is None))


@mutation
def a_worker_that_left_takes_its_runs_along(patch: Patch) -> None:
    def left(self: Presence, peer: str, now: Any, real: Any = Presence._on_left) -> None:
        if seat := self._staff.seats.get(peer):
            seat.held.clear()
        real(self, peer, now)

    patch.setattr(Presence, "_on_left", left)


@mutation
def a_kill_takes_no_look_at_what_executes(patch: Patch) -> None:
    def end(
        self: Pool, worker: str, member: Any, run: str, attempt: int, *rest: Any, real: Any = Pool._end
    ) -> None:
        real(self, worker, member, "", 0, *rest)

    patch.setattr(Pool, "_end", end)


# -- dependencies --------------------------------------------------------------------------------------


@mutation
def a_run_starts_before_what_it_needs_has_ended(patch: Patch) -> None:
    patch.setattr(Dependencies, "_is_live", lambda self, need: False)
    patch.setattr(dependencies, "_failure", lambda need, state: None)


@mutation
def a_run_starts_although_one_that_it_needs_failed(patch: Patch) -> None:
    patch.setattr(dependencies, "_failure", lambda need, state: None)


@mutation
def whoever_tolerates_a_failure_is_hindered_by_it(patch: Patch) -> None:
    def failure(need: m.Need, state: str, real: Any = dependencies._failure) -> Any:
        return real(m.Need(need.run), state)

    patch.setattr(dependencies, "_failure", failure)


@mutation
def the_end_of_a_run_is_not_told_to_who_needs_it(patch: Patch) -> None:
    patch.setattr(Dependencies, "concern", lambda self, record: False)


@mutation
def needs_are_forgotten_by_a_new_broker(patch: Patch) -> None:
    def restore(self: Broker, records: Any, *args: Any, real: Any = Broker.restore) -> None:
        plain = [
            msgspec.structs.replace(r, terms=msgspec.structs.replace(r.terms, needs=())) for r in records
        ]
        real(self, plain, *args)

    patch.setattr(Broker, "restore", restore)


# -- credit --------------------------------------------------------------------------------------------


@mutation
def workers_that_were_started_for_waits_stay(patch: Patch) -> None:
    patch.setattr(Presence, "_shrink", nothing)


@mutation
def the_end_of_a_run_does_not_end_its_wait(patch: Patch) -> None:
    patch.setattr(Credit, "ended", nothing)


# -- limits --------------------------------------------------------------------------------------------


@mutation
def a_full_tag_holds_nobody_back(patch: Patch) -> None:
    patch.setattr(TagLimits, "room", lambda self, tags: None)


@mutation
def a_slot_is_never_free_again(patch: Patch) -> None:
    patch.setattr(TagLimits, "freed", nothing)


@mutation
def a_new_broker_forgets_limits(patch: Patch) -> None:
    patch.setattr(TagLimits, "restore", nothing)


@mutation
def a_new_broker_forgets_who_holds_slots(patch: Patch) -> None:
    def restore(self: Broker, *args: Any, real: Any = Broker.restore) -> None:
        real(self, *args)
        self._slots._runs.clear()

    patch.setattr(Broker, "restore", restore)


# -- cached results ------------------------------------------------------------------------------------


@mutation
def an_expired_result_is_taken(patch: Patch) -> None:
    patch.setattr(Disk, "cached", lambda self, key, unix_s: self.caches.get(key, (0, 0.0))[0])


@mutation
def a_failure_is_taken_as_a_result(patch: Patch) -> None:
    def finished(
        self: Attempts, worker: str, message: m.Finished, now: Any, real: Any = Attempts.finished
    ) -> None:
        record = self.current(worker, (message.run, message.attempt))
        real(self, worker, message, now)
        if record is not None and record.state is State.FAILED and record.terms.cache_key:
            self._ledger.out.caches.append((record.terms.cache_key, record.seq, 0.0))

    patch.setattr(Attempts, "finished", finished)


# -- hooks and conditions ------------------------------------------------------------------------------


@mutation
def hooks_that_ran_in_the_worker_run_again(patch: Patch) -> None:
    def follow(self: Hooks, record: RunRecord, told: str, *args: Any, real: Any = Hooks.follow) -> Any:
        return real(self, record, "", *args)

    patch.setattr(Hooks, "follow", follow)


@mutation
def hooks_that_a_dead_worker_had_begun_run_again(patch: Patch) -> None:
    def lost(self: Attempts, seat: Seat, exited: m.Exited, now: Any, real: Any = Attempts.lost) -> None:
        held = tuple(msgspec.structs.replace(h, hooks="") for h in exited.held)
        real(self, seat, msgspec.structs.replace(exited, held=held), now)

    patch.setattr(Attempts, "lost", lost)


@mutation
def hooks_without_a_worker_are_forgotten(patch: Patch) -> None:
    patch.setattr(Hooks, "follow", nothing)


@mutation
def a_hook_run_that_crashed_runs_again(patch: Patch) -> None:
    def spec(self: Hooks, record: RunRecord, hook: str, real: Any = Hooks._spec) -> m.Spec:
        found: m.Spec = msgspec.structs.replace(real(self, record, hook), crash_retries=3)
        return found

    patch.setattr(Hooks, "_spec", spec)


@mutation
def a_condition_that_says_no_is_not_heard(patch: Patch) -> None:
    def after(record: RunRecord, *args: Any, real: Any = policy.after_attempt) -> policy.Verdict:
        return real(record, *args[:3])  # type: ignore[no-any-return]

    patch.setattr(policy, "after_attempt", after)


# -- retention -----------------------------------------------------------------------------------------


@mutation
def a_run_that_leaves_is_counted_on(patch: Patch) -> None:
    def remove(self: Ledger, past: Past) -> None:
        self.out.removed.append(past)

    patch.setattr(Ledger, "remove", remove)


@mutation
def a_parent_stays_for_ever(patch: Patch) -> None:
    def count(self: Ledger, record: RunRecord, step: int, real: Any = Ledger._count_child) -> None:
        if step > 0:
            real(self, record, step)

    patch.setattr(Ledger, "_count_child", count)


@mutation
def the_newest_run_leaves_too(patch: Patch) -> None:
    patch.setattr(Broker, "leaving", lambda self, past, bounds, now: list(past))


@mutation
def what_somebody_is_to_be_told_leaves(patch: Patch) -> None:
    patch.setattr(Finals, "owed", lambda self: set())


# -- progress ------------------------------------------------------------------------------------------


@mutation
def the_last_word_about_progress_is_lost(patch: Patch) -> None:
    def finished(
        self: Attempts, worker: str, said: m.Finished, now: Any, real: Any = Attempts.finished
    ) -> None:
        real(self, worker, msgspec.structs.replace(said, progress=None), now)

    patch.setattr(Attempts, "finished", finished)


@mutation
def an_attempt_begins_with_the_progress_of_the_last(patch: Patch) -> None:
    def take(self: Worker, real: Any = Worker.take) -> Any:
        before = self._progress
        push = real(self)
        self._progress = before or m.Progress(1, 9.0)
        return push

    patch.setattr(Worker, "take", take)


# -- what generators yield -----------------------------------------------------------------------------


@mutation
def a_question_about_a_run_that_is_over_waits(patch: Patch) -> None:
    def ask(self: Streams, peer: str, message: m.GetYielded, now: Any, real: Any = Streams.ask) -> None:
        if message.run in self._ledger.runs:
            real(self, peer, message, now)
        else:
            self._keep(peer, message)

    patch.setattr(Streams, "ask", ask)


# -- what workers are like -----------------------------------------------------------------------------


@mutation
def a_sticky_run_goes_to_any_worker(patch: Patch) -> None:
    patch.setattr(Staff, "bind", lambda self, name, seat: False)


@mutation
def a_worker_that_leaves_does_not_say_so(patch: Patch) -> None:
    def retire(self: Worker, effects: Effects) -> None:
        self._leaving = False

    patch.setattr(Worker, "_retire", retire)
