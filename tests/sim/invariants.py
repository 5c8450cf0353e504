"""What must hold on any day, checked at every step against what really happened.

The judge sees both sides: what user code really did, in which process and when, and what the broker
wrote and said. It knows nothing of how the machines decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from nbtasks.core import messages as m
from nbtasks.core.broker import Broker
from nbtasks.core.events import ROWS_MAX, age, changed_of_record, row_of_record
from nbtasks.core.hooks import OF_TYPE, hook_run_id
from nbtasks.core.records import (
    Announce,
    Now,
    Output,
    PoolRecord,
    Publish,
    PushRun,
    RunRecord,
    Send,
    TellEnd,
    WorkerRecord,
)
from nbtasks.core.staff import AHEAD_MAX
from nbtasks.core.states import FINAL, MOVES, State, StateType
from nbtasks.core.streams import holds_values
from tests.sim.plan import Plan
from tests.sim.trace import short

if TYPE_CHECKING:
    from tests.sim.disk import Disk

Key = tuple[m.RunId, int]
HELD_MAX = 1 + AHEAD_MAX


class Judge:
    """Raises AssertionError at the first thing that must not happen."""

    def __init__(self, disk: Disk, plan: Plan) -> None:
        self._disk = disk
        self._plan = plan
        self._executing: dict[m.RunId, tuple[int, m.PeerId]] = {}
        self._entered: set[Key] = set()
        self._marked: dict[m.RunId, list[tuple[int, m.PeerId]]] = {}
        self._printed: dict[Key, list[bytes]] = {}
        self._progress: dict[Key, float] = {}
        self._endings: dict[Key, tuple[str, bytes]] = {}
        self._died: set[m.PeerId] = set()
        self._workers: dict[m.PeerId, WorkerRecord] = {}  # that were ever given a run
        self._bound_before: dict[str, list[m.PeerId]] = {}
        self._bound: dict[str, dict[m.PeerId, None]] = {}  # sticky name -> who was given runs with it
        self._kept: set[Key] = set()
        self._owners: dict[Key, m.PeerId] = {}
        self._not_before: dict[m.RunId, float] = {}  # mono seconds
        self._accepted: dict[m.RunId, float] = {}  # when (mono seconds) a client was told
        self._refused: dict[str, str] = {}  # batch -> boot that refused it
        self._takes_notice: set[Key] = set()
        self._hooked: set[tuple[m.RunId, str]] = set()  # whose hooks began, and which
        self._last: dict[m.RunId, Key] = {}  # attempts after which user code wants no other
        self._dismissed: set[tuple[str, m.PeerId]] = set()  # boot of the broker, worker
        self.submitted: dict[str, m.Submit] = {}
        self.cancelled: set[m.RunId] = set()

    # -- what really happens ---------------------------------------------------------------------------

    def marked(self, worker: m.PeerId, key: Key) -> None:
        """A worker wrote into its marker that user code begins."""
        run, attempt = key
        self._must_hold(worker, key)
        self._marked.setdefault(run, []).append((attempt, worker))

    def entered(self, worker: m.PeerId, key: Key, takes_notice: bool) -> None:
        """User code begins."""
        run, attempt = key
        if takes_notice:
            self._takes_notice.add(key)
        self._must_hold(worker, key)
        assert key not in self._entered, f"user code of {key} runs twice"
        assert run not in self._executing, f"{key} begins while {self._executing[run]} executes"
        self._entered.add(key)
        self._executing[run] = attempt, worker

    def _must_hold(self, worker: m.PeerId, key: Key) -> None:
        row = self._disk.rows.get(key[0])
        assert key[0] in self._disk.live, f"{key} begins, but it is over: {short(row)}"
        assert row is not None
        assert (row.worker, row.attempt) == (worker, key[1]), (
            f"{worker} begins {key}, but the table says {short(row)}"
        )

    def printed(self, key: Key, body: bytes) -> None:
        self._printed.setdefault(key, []).append(body)

    def progressed(self, key: Key, done: float) -> None:
        """User code says how far it is."""
        self._progress[key] = done

    def read(self, run: m.RunId, attempt: int, values: tuple[bytes, ...]) -> None:
        """A client read all that a run yielded, which is over."""
        row = self._disk.rows[run]
        assert row.is_final, f"not over: {short(row)}"
        assert attempt == row.attempt, f"read attempt {attempt} of {short(row)}"
        if row.state in (State.COMPLETED, State.FAILED):
            yielded = tuple(b for b in self._printed.get((run, attempt), ()) if holds_values(b))
            assert values == yielded, f"read {values}, but {yielded} were yielded: {short(row)}"

    def left(self, key: Key) -> None:
        """User code is over."""
        self._executing.pop(key[0], None)

    def hooked(self, run: m.RunId, hook: str) -> None:
        """User code of these hooks begins."""
        assert (run, hook) not in self._hooked, f"the {hook} hooks of {run} run twice"
        self._hooked.add((run, hook))

    def ended(self, key: Key, outcome: str, value: bytes, retry: bool) -> None:
        self._endings[key] = outcome, value
        if not retry:
            self._last[key[0]] = key

    def kept(self, key: Key) -> None:
        """How it ended is in the marker, so the death of the worker changes nothing."""
        self._kept.add(key)

    def killing(self, worker: m.PeerId, key: Key, disbanding: bool) -> None:
        """A pool is about to signal a worker, for an attempt or (run "") for whatever it does."""
        assert key[0] or disbanding, f"{worker} would be killed whatever it executes"
        row = self._disk.rows.get(key[0])
        if row and self._plan.calm and key in self._takes_notice and row.spec.grace_s >= 5:
            executing = self._executing.get(key[0])
            assert executing != (key[1], worker), f"{key} would have taken notice of an interrupt"

    def died(self, worker: m.PeerId) -> None:
        self._died.add(worker)
        for run, (_, where) in list(self._executing.items()):
            if where == worker:
                del self._executing[run]

    # -- what is written -------------------------------------------------------------------------------

    def committing(self, output: Output, now: Now, boot: str) -> None:
        """Judge rows that are about to be committed."""
        values, fresh = dict(output.values), set()
        self._bound_before = {name: list(bound) for name, bound in self._bound.items()}
        for new in output.new:
            assert new.record.run not in fresh, f"recorded twice: {short(new.record)}"
            self._accepting(new.record, new.args, output)
            fresh.add(new.record.run)
        for seq, row in output.changed.items():
            assert seq == row.seq
            old = self._disk.rows.get(row.run)
            if row.run not in fresh:
                assert old is not None, f"changed, but never recorded: {short(row)}"
                assert not old.is_final, f"a final row changed: {short(old)} -> {short(row)}"
            self._moving(old, row)
            if self._giving(old, row, output, now):
                assert (boot, row.worker) not in self._dismissed, (
                    f"given to a worker that leaves: {short(row)}"
                )
            self._charging(row)
            if row.is_final:
                self._ending(row, values.get(seq, b""), output, now)

    def _accepting(self, row: RunRecord, args: bytes, output: Output) -> None:
        assert row.run not in self._disk.rows, f"recorded twice: {short(row)}"
        assert row.seq > self._disk.last_seq, f"{row.run} got the used number {row.seq}"
        if row.spec.hook:
            self._following(row, output)
            return
        submit = self.submitted[row.batch]
        asked = next((run for run in submit.runs if run.run == row.run), None)
        assert asked is not None, f"nobody submitted {short(row)}"
        assert (submit.spec, asked.args) == (row.spec, args), f"not what was submitted: {short(row)}"
        known = {spec_id for spec_id, _, _ in output.specs} | self._disk.specs.keys()
        assert row.spec_id in known, f"its spec is not recorded: {short(row)}"

    def _following(self, row: RunRecord, output: Output) -> None:
        """Judge a hook run: it begins with the end of its run, whose hooks nobody has begun."""
        written = (*output.changed.values(), *(new.record for new in output.new))
        of = next((one for one in written if one.run == row.parent), None)
        assert of is not None, f"recorded later than the end of {row.parent}: {short(row)}"
        assert of.is_final, f"{short(row)}, but {short(of)}"
        hook = row.spec.hook
        assert row.run == hook_run_id(of.run), short(row)
        assert hook in of.spec.hooks, f"{hook} of {short(of)}"
        assert hook == OF_TYPE[of.state.type], f"{hook} of {short(of)}"
        assert (of.run, hook) not in self._hooked, f"the {hook} hooks of {short(of)} ran in its worker"

    def _moving(self, old: RunRecord | None, row: RunRecord) -> None:
        path = row.history
        before = old.history if old else ()
        assert path[: len(before)] == before, f"history changed: {before} -> {path}"
        first = {State.SCHEDULED} if row.terms.eta > row.submitted else {State.PENDING}
        if row.terms.needs and not row.terms.eta > row.submitted:
            first.add(State.AWAITING_DEPENDENCIES)
        assert path[0].state in first, short(row)
        assert path[-1].state == row.state.value, short(row)
        for a, b in pairwise(path):
            assert State(b.state) in MOVES[State(a.state)].values(), f"{a.state} -> {b.state} in {short(row)}"
            assert b.at >= a.at, f"time runs backwards in {path}"
        for attempt in row.attempts:
            assert not attempt.end or attempt.end >= attempt.start, attempt

    def _giving(self, old: RunRecord | None, row: RunRecord, output: Output, now: Now) -> bool:
        """Judge who holds the run, and when it was taken away from whom; whether it is given anew."""
        peers = {**self._disk.peers, **output.peers}
        before = (old.attempt, old.worker) if old else (0, "")
        if row.worker and not before[1]:
            self._slot_taken(row, output)
        assert row.attempt >= before[0], f"attempts decrease: {short(old)} -> {short(row)}"
        if executing := self._executing.get(row.run):
            assert executing == (row.attempt, row.worker), (
                f"taken away while {executing} executes: {short(row)}"
            )
        if old and row.failures > old.failures and not row.is_final:
            delays = (row.spec.retry_delay_s, *row.spec.later_delays_s)
            least_s = delays[min(row.failures, len(delays)) - 1] * (1 - row.spec.retry_jitter)
            self._not_before[row.run] = now.mono_s + least_s
        if row.worker and (row.attempt, row.worker) != before:
            key = (row.run, row.attempt)
            assert row.attempt > before[0], f"one attempt, two owners: {short(old)} -> {short(row)}"
            assert self._owners.setdefault(key, row.worker) == row.worker, f"{key} was {self._owners[key]}'s"
            last = self._last.get(row.run)
            assert last not in self._kept, f"its condition said no: {short(row)}"
            early_s = self._not_before.get(row.run, 0.0) - now.mono_s
            assert early_s < 1e-6 or self._plan.jumps, f"retried {early_s:.3f} s too early: {short(row)}"
            assert row.terms.eta <= now.unix_s, f"given before its time: {short(row)}"
            is_late = not row.attempts and 0 < row.terms.expires <= now.unix_s
            assert not is_late, f"given after it expired: {short(row)}"
            for need in row.terms.needs:
                assert self._is_met(need, output), f"given, but it needs {need}: {short(row)}"
            worker = peers.get(row.worker)
            self._workers.update((n, p) for n, p in peers.items() if isinstance(p, WorkerRecord))
            assert isinstance(worker, WorkerRecord), f"given to nobody: {short(row)}"
            assert self._is_able(row.worker, row), f"{worker} cannot run {short(row)}"
            if row.spec.sticky:
                self._sticky(row, peers)
            assert row.spec.python == worker.python, f"{worker} cannot run {short(row)}"
            return True
        return False

    def _sticky(self, row: RunRecord, peers: Mapping[m.PeerId, object]) -> None:
        """It goes to the worker that has its namespace, and among several to the first one."""
        # one that died may be among the peers again, by a Hello that came late
        bound = [
            w for w in self._bound_before.get(row.spec.sticky, ()) if peers.get(w) and w not in self._died
        ]
        able = [holder for holder in bound if self._is_able(holder, row)]
        able.sort(key=lambda holder: peers[holder].sticky[row.spec.sticky])  # type: ignore[attr-defined]
        assert row.worker in able[:1] or not able, f"{able[0]} has the namespace: {short(row)}"
        self._bound.setdefault(row.spec.sticky, {})[row.worker] = None

    def _is_able(self, name: m.PeerId, row: RunRecord) -> bool:
        worker = self._workers.get(name)
        if worker is None:
            return False
        return bool(row.spec.code) if worker.serves is None else row.spec.key in worker.serves

    def _slot_taken(self, row: RunRecord, output: Output) -> None:
        """A worker is given this run: no more of its tags are with workers than their limits allow."""
        rows = self._disk.rows | {r.run: r for r in output.changed.values()}
        rows |= {new.record.run: new.record for new in output.new}
        for tag in row.spec.tags:
            limit = self._disk.limits.get(tag)
            if limit is None or tag in output.limits:
                continue
            held = sum(bool(r.worker) and tag in r.spec.tags for r in rows.values())
            assert held <= limit.slots, f"{held} runs hold slots of {limit}: {short(row)}"

    def _is_met(self, need: m.Need, output: Output) -> bool:
        written = (*output.changed.values(), *(new.record for new in output.new))
        row = next((row for row in written if row.run == need.run), None) or self._disk.rows[need.run]
        return row.is_final and (need.tolerant or row.state.type is StateType.COMPLETED)

    def _charging(self, row: RunRecord) -> None:
        """Judge the charged attempts: exactly those whose user code began."""
        marked = self._marked.get(row.run, [])
        upto = row.attempt if row.started or not row.worker else row.attempt - 1
        begun = [worker for attempt, worker in marked if attempt <= upto]
        charged = [attempt.worker for attempt in row.attempts]
        assert charged == begun, f"charged {charged}, but begun {begun}: {short(row)}"
        spec = row.spec
        assert len(charged) <= 1 + spec.retries + spec.crash_retries, f"too many attempts: {short(row)}"

    def _ending(self, row: RunRecord, value: bytes, output: Output, now: Now) -> None:
        key = (row.run, row.attempt)
        outcome, told = self._endings.get(key, ("", b""))
        assert (row.worker, row.started) == ("", False), short(row)
        if row.state is State.COMPLETED:
            assert (outcome, told) == ("completed", value), f"nobody finished with {value!r}: {short(row)}"
        elif row.state is State.FAILED:
            assert (outcome, told) == ("raised", value), f"nobody raised {value!r}: {short(row)}"
        elif row.state is State.TIMED_OUT:
            assert row.spec.timeout_s > 0, short(row)
        elif row.state is State.CACHED:
            [source] = [source for seq, source in output.copies if seq == row.seq]
            others = [other for other in self._disk.rows.values() if other.seq == source]
            assert others, f"with the result of nobody: {short(row)}"
            earlier, until = others[0], self._disk.caches[row.terms.cache_key][1]
            assert earlier.terms.cache_key == row.terms.cache_key, f"{short(earlier)} is not {short(row)}"
            assert earlier.state is State.COMPLETED, short(earlier)
            assert not until or until > now.unix_s, f"an expired result is taken: {short(row)}"
            assert not row.attempts, f"its code began: {short(row)}"
        elif row.state is State.UPSTREAM_FAILED:
            assert not row.attempts, f"its code began: {short(row)}"
            assert not all(self._is_met(need, output) for need in row.terms.needs), short(row)
        elif row.state is State.CANCELLED:
            has_expired = row.terms.expires and not row.attempts and row.at >= row.terms.expires
            assert has_expired or row.run in self.cancelled, f"nobody cancelled {short(row)}"
        else:
            last = row.attempts[-1].worker
            assert key not in self._kept or outcome == "crashed", f"it ended with {outcome}: {short(row)}"
            assert last in self._died or outcome == "crashed", f"nothing crashed: {short(row)}"
        if row.state in (State.COMPLETED, State.FAILED):
            told = row.attempts[-1].progress
            last = self._progress.get(key)
            assert (told.done if told else None) == last, f"said {last}, recorded {told}: {short(row)}"
            chunks = {n: body for s, a, n, body in output.chunks if (s, a) == (row.seq, row.attempt)}
            chunks.update(self._disk.chunks.get((row.seq, row.attempt), {}))
            expected = dict(enumerate(self._printed.get(key, []), start=1))
            assert chunks == expected, f"output {chunks}, but printed {expected}: {short(row)}"

    def committed(self, broker: Broker) -> None:
        """Memory and table are the same."""
        disk = self._disk
        live = broker._ledger.runs
        if live != disk.live:
            wrong = [
                (short(live.get(r)), short(disk.live.get(r)))
                for r in live | disk.live
                if live.get(r) != disk.live.get(r)
            ]
            raise AssertionError(f"memory and table disagree: {wrong}")
        assert broker._ledger.counts == disk.counts, (broker._ledger.counts, disk.counts)
        assert broker._ledger.last_seq == disk.last_seq
        staff = broker._staff
        for seat in staff.seats.values():
            assert disk.peers.get(seat.record.worker) == seat.record, seat.record
            assert len(seat.held) <= HELD_MAX, f"{seat.record.worker} was given {list(seat.held)}"
        for pool in staff.pools.values():
            assert disk.peers.get(pool.record.pool) == pool.record, pool.record
        assert len(disk.peers) == len(staff.seats) + len(staff.pools), disk.peers
        broker.check()

    # -- what is said ----------------------------------------------------------------------------------

    def saying(self, item: Send | Publish | PushRun | TellEnd, boot: str) -> None:
        """Judge what the broker is about to say: it is in the table."""
        if isinstance(item, PushRun):
            record = item.record
            row = self._disk.rows[record.run]
            assert (row.attempt, row.worker) == (record.attempt, record.worker), f"pushed, but {short(row)}"
        elif isinstance(item, (Send, Publish)):
            self._saying(item.peer, item.message, boot)

    def _saying(self, peer: m.PeerId, message: m.Message, boot: str) -> None:
        rows = self._disk.rows
        if isinstance(message, m.Accepted) and message.run:
            self.held(message.batch, message.run)
        elif isinstance(message, m.Accepted):
            for run in self.submitted[message.batch].runs:
                assert run.run in rows, f"accepted, but not recorded: {run.run}"
            assert self._refused.get(message.batch) != boot, f"first refused, then accepted: {message}"
        elif isinstance(message, m.Refused):
            self._refused[message.batch] = boot
            for run in self.submitted[message.batch].runs:
                assert run.run not in rows, f"refused, but recorded: {run.run}"
        elif isinstance(message, m.Kept):
            row = rows[message.run]
            assert (row.attempt, row.worker) != (message.attempt, peer), f"kept, but still held: {short(row)}"
        elif isinstance(message, m.OutputKept):
            row = rows[message.run]
            if (row.attempt, row.worker) == (message.attempt, peer):
                chunks = self._disk.chunks.get((row.seq, row.attempt), {})
                assert all(n in chunks for n in range(1, message.upto + 1)), f"{message}, but only {chunks}"
        elif isinstance(message, m.Leave):
            self._dismissed.add((boot, peer))
        elif isinstance(message, m.ExitNoted):
            # the pool deletes the marker now, which may be needed no more
            for row in self._disk.live.values():
                begun = (row.attempt, message.worker) in self._marked.get(row.run, ())
                assert not (begun and row.worker == message.worker), f"{message}, but {short(row)}"

    def publishing(self, item: Announce) -> None:
        """Judge an event that is about to be told: it is what the table says."""
        message = item.message
        if isinstance(message, m.BoardChanged):
            board = message.board
            assert board.counts == self._counts(), f"told {board.counts}, but it is {self._counts()}"
            assert len(board.rows) <= ROWS_MAX, board.rows
            for told in board.rows:
                row = self._disk.rows[told.run]
                assert told == row_of_record(row), f"told {told}, but the table says {short(row)}"
        elif isinstance(message, m.RunChanged):
            row = self._disk.rows[message.run]
            assert message == changed_of_record(row), f"told {message}, but the table says {short(row)}"

    def _counts(self) -> dict[str, int]:
        return {kind: number for kind, number in self._disk.counts.items() if number}

    def agrees(self, board: m.Board | None) -> bool:
        """Whether an observer knows what the table says, task by task."""
        if board is None or board.counts != self._counts():
            return False
        tasks = Counter((row.spec.key, row.state.type.value) for row in self._disk.rows.values())
        return {(t.key, kind): n for t in board.tasks for kind, n in t.counts.items()} == dict(tasks)

    def sees_more(self, before: m.Board | None, board: m.Board) -> None:
        """An observer is about to believe this: time does not run backwards for it."""
        known = sum(before.counts.values()) if before else 0
        assert sum(board.counts.values()) >= known, f"after {before} came {board}"

    def sees_later(self, before: m.RunChanged | None, run: m.RunChanged) -> None:
        """The same of a run."""
        assert before is None or age(run) >= age(before), f"after {before} came {run}"

    def sees(self, board: m.Board | None, runs: dict[m.RunId, m.RunChanged | None]) -> None:
        """At the end: what a client that looks believes."""
        assert not self._plan.observes or self.agrees(board), f"{board}, but it is {self._counts()}"
        for run, seen in runs.items():
            if row := self._disk.rows.get(run):
                assert seen == changed_of_record(row), f"{seen}, but the table says {short(row)}"

    def promised(self, submit: m.Submit, mono_s: float) -> None:
        """A client put this into its outbox, and the caller goes on as if it were recorded."""
        self.submitted[submit.batch] = submit
        for run in submit.runs:
            self._accepted[run.run] = mono_s - 1e-6  # before its death at this very moment

    def held(self, batch: str, run: m.RunId) -> None:
        """A client was told that a run with the idempotency key of this batch is there already."""
        key = self.submitted[batch].terms.key
        assert key, batch
        assert self._disk.rows[run].terms.key == key, f"{run} has not the key of {batch}"
        assert run not in {new.run for new in self.submitted[batch].runs}, f"{batch} is told to be another"

    def accepted(self, batch: str, mono_s: float) -> None:
        """A client was told that its batch is recorded."""
        for run in self.submitted[batch].runs:
            assert run.run in self._disk.rows, f"told accepted, but not recorded: {run.run}"
            self._accepted.setdefault(run.run, mono_s)

    def told(self, ended: m.Ended) -> None:
        row = self._disk.rows.get(ended.run)
        assert row is not None, f"told {ended}, but it is not recorded"
        assert row.is_final, f"told {ended}, but {short(row)}"
        told = (ended.state, ended.message, ended.at, ended.value)
        truth = (row.state.value, row.message, row.at, self._disk.values.get(row.seq, b""))
        assert told == truth, f"told {told}, but the table says {truth}"

    def missing(self, run: m.RunId, asked: float) -> None:
        """A client that asked at `asked` was told that there is no such run."""
        assert self._accepted.get(run, asked) >= asked, f"{run} was accepted, but is said to be missing"

    # -- at the end ------------------------------------------------------------------------------------

    def at_end(self, broker: Broker, workers: set[m.PeerId], pools: set[m.PeerId]) -> None:
        """All is quiet: nothing is lost, nothing is left over."""
        rows = self._disk.rows
        assert not self._executing, self._executing
        for row in rows.values():
            assert row.state in FINAL, short(row)
            if (hook := OF_TYPE[row.state.type]) in row.spec.hooks and (row.run, hook) not in self._hooked:
                follower = rows.get(hook_run_id(row.run))
                assert follower, f"nobody ran {hook} of {short(row)}"
                assert follower.state is not State.COMPLETED, f"{short(follower)} did not run {hook}"
            begun = [worker for _, worker in self._marked.get(row.run, [])]
            assert [attempt.worker for attempt in row.attempts] == begun, f"begun {begun}: {short(row)}"
            assert all(attempt.end for attempt in row.attempts), short(row)
        lost = [run for run in self._accepted if run not in rows]
        assert not lost, lost
        assert not len(broker._queue), "the queue holds runs that are final"
        assert not any(broker._slots._runs.values()), broker._slots._runs
        assert not broker._credit._waits, broker._credit._waits
        assert not broker._queue._urgent, broker._queue._urgent
        assert not broker._finals._watchers, broker._finals._watchers
        known = {name for name, p in self._disk.peers.items() if isinstance(p, WorkerRecord)}
        assert known <= workers, f"the broker believes in {known - workers}"
        known = {name for name, p in self._disk.peers.items() if isinstance(p, PoolRecord)}
        assert known <= pools, f"the broker believes in {known - pools}"
        stopped = [p.pool for p in self._disk.peers.values() if isinstance(p, PoolRecord) and not p.most]
        assert not stopped, f"were to stop, but live: {stopped}"
        counts = Counter(row.state.type.value for row in rows.values())
        assert {k: n for k, n in self._disk.counts.items() if n} == dict(counts)
