"""Who is here: the workers with what they hold, and the pools that start and end them.

A seat is the broker's view of one worker. It outlives the worker's silence and ends with a fact: the
worker left, or its process is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from nbtasks.core.messages import Exited, Kept, PeerId, PoolInfo, RunId, WorkerInfo
from nbtasks.core.queue import Lane, lane_of
from nbtasks.core.records import Now, PoolRecord, RunRecord, WorkerRecord
from nbtasks.core.vocabulary import TO_START

AHEAD_MAX = 48  # runs a worker may hold besides the one it executes; fewer than its marker has slots
AHEAD_S = 0.02  # of expected work, up to which it gets more than one ahead
SHORT_S = 0.1  # only behind runs that are expected to be shorter it gets any
STALLED_S = 15.0  # a worker that has said nothing for so long is shown as stalled; it beats every 5 s
RUN_S = 0.0001  # what a run takes beside its user code
MEAN_WEIGHT = 0.2  # of a task's newest run in the average of its runs
MEANS_MAX = 10_000  # tasks whose average is remembered


def _is_able(worker: WorkerRecord, lane: Lane) -> bool:
    """Whether a worker can execute such runs, whatever namespaces it has."""
    if lane.python != worker.python:
        return False
    able = lane.travels if worker.serves is None else lane.key in worker.serves
    return able and (not lane.worker_tags or set(lane.worker_tags) <= set(worker.tags))


class Seat:
    """One worker, present or not yet heard of since the broker's start."""

    def __init__(self, record: WorkerRecord, bound: Mapping[str, Sequence[WorkerRecord]]) -> None:
        self.record = record
        self._bound = bound  # sticky name -> workers that have its namespace, the first one first
        self.said_hello = False
        self.heard_s = 0.0  # mono seconds of its last word
        self.ready = False  # its subscription was seen, so that a push reaches it
        self.leaving = False
        self.held: dict[RunId, RunRecord] = {}  # in order of assignment
        self.unacked: set[RunId] = set()
        self.revoked: set[RunId] = set()
        self.head_since = 0.0  # mono seconds, since when the first held run is first
        self.lender: RunId = ""  # the held run whose code waits for others: the slot is lent
        self.load_s = 0.0  # how long all that it holds is expected to take
        self.kept: list[Kept] = []  # to be said with the next push
        self.tell_kept_at = 0.0  # mono seconds, without a push
        self.tells_kept = False  # a timer for that is set
        self._expected: dict[RunId, float] = {}
        self.gone: Exited | None = None  # its process is gone, but a last word may be under way

    @property
    def takes(self) -> bool:
        """Whether it may be given a run at all."""
        return self.ready and not self.leaving and self.gone is None

    @property
    def waits(self) -> bool:
        """Whether it executes nothing because its run waits for others."""
        return bool(self.lender)

    @property
    def running(self) -> RunRecord | None:
        """The held run whose user code began."""
        return next((held for held in self.held.values() if held.started), None)

    @property
    def word(self) -> str:
        """What the worker does, for people."""
        if self.leaving:
            return "draining"
        if not self.ready:
            return "starting"
        if self.waits:
            return "waiting"
        return "busy" if self.running else "idle"

    def info(self, now: Now) -> WorkerInfo:
        """Who it is and what it does, as a status tells it."""
        r, running, state = self.record, self.running, self.word
        if (
            state in ("idle", "busy", "waiting")
            and self.heard_s + STALLED_S <= now.mono_s
            and self.gone is None
        ):
            state = "stalled"
        return WorkerInfo(
            worker=r.worker, pool=r.pool, pid=r.pid, host=r.host, python=r.python, state=state,
            serves=r.serves, run=running.run if running else "",
            busy_since=running.attempts[-1].start if running else 0.0,
        )  # fmt: skip

    def fits(self, lane: Lane) -> bool:
        """Whether this worker can execute such runs."""
        if not _is_able(self.record, lane):
            return False
        # another one only if they cannot: else it would wait for ever
        holders = (one for one in self._bound.get(lane.sticky, ()) if _is_able(one, lane))
        holder = next(holders, self.record) if lane.sticky else self.record
        return holder.worker == self.record.worker

    def can_run(self, record: RunRecord) -> bool:
        return self.fits(lane_of(record))

    def hold(self, record: RunRecord, expected_s: float) -> None:
        self.held[record.run] = record
        self._expected[record.run] = expected_s
        self.load_s += expected_s

    def let_go(self, run: RunId) -> None:
        if run == self.lender:
            self.lender = ""
        if self.held.pop(run, None):
            self.load_s -= self._expected.pop(run, 0.0)
            if not self.held:
                self.load_s = 0.0  # without the errors of so many sums
        self.unacked.discard(run)
        self.revoked.discard(run)

    def wants_ahead(self, unix_s: float) -> bool:
        """Whether another run is worth giving: what it holds is, and is expected to be, over soon."""
        if self.waits:
            return False
        number = len(self.held)
        if self.load_s > (SHORT_S if number == 1 else AHEAD_S) or not 0 < number <= AHEAD_MAX:
            return False
        head = next(iter(self.held.values()))
        return not head.stop and not (head.started and unix_s - head.attempts[-1].start > SHORT_S)


class PoolSeat:
    """One pool that said Hello or is known from the table."""

    def __init__(self, record: PoolRecord) -> None:
        self.record = record
        self.said_hello = False
        self.want = record.least
        self.shrinks = False  # it has more workers than it may have, and idle ones are to leave soon
        self.disband_s: float | None = None  # it was told to disband, with this drain

    @property
    def closes(self) -> bool:
        return self.disband_s is not None

    def fits(self, lane: Lane, python: str) -> bool:
        """Whether workers of this pool could execute such runs; `python` "": of any version."""
        own = self.record
        if python and lane.python != python:
            return False
        able = lane.travels if own.serves is None else lane.key in own.serves
        return able and set(lane.worker_tags) <= set(own.tags)


class Staff:
    """Seats and pools by name."""

    def __init__(self) -> None:
        self.seats: dict[PeerId, Seat] = {}
        self.pools: dict[PeerId, PoolSeat] = {}
        self.lends = False  # whether a run has ever lent its slot
        self.dead_pool_pid = 0  # of the pool that died last and was not replaced
        self._means_s: dict[str, float] = {}  # task key -> average length of its runs
        # sticky name -> who has its namespace: one worker, and others for what it cannot execute
        self._bound: dict[str, list[WorkerRecord]] = {}

    def seat(self, record: WorkerRecord) -> Seat:
        """A worker has come, or is known from the table."""
        seat = self.seats[record.worker] = Seat(record, self._bound)
        for name in record.sticky:
            self._enter(name, record)
        return seat

    def unseat(self, seat: Seat) -> None:
        """A worker is gone, and with it its namespaces."""
        del self.seats[seat.record.worker]
        for name in seat.record.sticky:
            self._bound[name].remove(seat.record)
            if not self._bound[name]:
                del self._bound[name]

    def could_start(self, pool: PoolSeat, python: str, lane: Lane) -> bool:
        """Whether one more worker of this pool could execute such runs."""
        holders = self._bound.get(lane.sticky, ())
        return pool.fits(lane, python) and not any(_is_able(holder, lane) for holder in holders)

    def bind(self, name: str, seat: Seat) -> bool:
        """Runs with this sticky name go to this worker from now on; whether that is news."""
        if name in seat.record.sticky:
            return False
        last = max((holder.sticky[name] for holder in self._bound.get(name, ())), default=0)
        seat.record.sticky = {**seat.record.sticky, name: last + 1}
        self._enter(name, seat.record)
        return True

    def _enter(self, name: str, record: WorkerRecord) -> None:
        holders = self._bound.setdefault(name, [])
        holders.append(record)
        holders.sort(key=lambda holder: holder.sticky[name])

    def expected_s(self, record: RunRecord) -> float:
        """How long this run will keep a worker, as far as its task is known."""
        return self._means_s.get(record.spec.key, SHORT_S)

    def ran(self, record: RunRecord, seconds: float) -> None:
        """A run of this task took so long."""
        key, seconds = record.spec.key, seconds + RUN_S
        mean_s = self._means_s.get(key)
        self._means_s[key] = seconds if mean_s is None else mean_s + MEAN_WEIGHT * (seconds - mean_s)
        if len(self._means_s) > MEANS_MAX:
            del self._means_s[next(iter(self._means_s))]

    def workers(self, now: Now) -> tuple[WorkerInfo, ...]:
        """All workers, for people."""
        return tuple(seat.info(now) for seat in self.seats.values())

    def pool_infos(self) -> tuple[PoolInfo, ...]:
        """All pools, for people."""
        records = [seat.record for seat in self.pools.values()]
        return tuple(
            PoolInfo(
                pool=r.pool, pid=r.pid, host=r.host, generic=r.generic, serves=r.serves, least=r.least,
                most=r.most, workers=len(self.seats_of(r.pool)),
            )
            for r in records
        )  # fmt: skip

    def seats_of(self, pool: PeerId) -> list[Seat]:
        return [seat for seat in self.seats.values() if seat.record.pool == pool]

    def idle(self) -> Iterator[Seat]:
        """Workers that could start a run at once; those that serve certain tasks come first."""
        free = [seat for seat in self.seats.values() if seat.takes and not seat.held]
        for seat in sorted(free, key=lambda seat: seat.record.serves is None):
            if self._has_slot(seat):
                yield seat

    def has_busy(self, number: int) -> bool:
        """Whether so many workers hold a run."""
        busy = (seat for seat in self.seats.values() if seat.held)
        return next(islice(busy, number - 1, None), None) is not None

    def _has_slot(self, seat: Seat) -> bool:
        """Whether its pool may execute one more; a pool may have more workers than slots for a while."""
        pool = self.pools.get(seat.record.pool)
        if pool is None or not self.lends:
            return True
        busy = sum(bool(other.held) and not other.waits for other in self.seats_of(seat.record.pool))
        return busy < pool.record.most

    def lent(self, pool: PeerId) -> int:
        """How many workers of this pool execute nothing because their runs wait."""
        return sum(seat.waits for seat in self.seats_of(pool)) if self.lends else 0

    def ahead(self, unix_s: float) -> list[Seat]:
        """Busy workers that may be given a run ahead."""
        return [seat for seat in self.seats.values() if seat.takes and seat.held and seat.wants_ahead(unix_s)]

    def generic_pool(self) -> PoolSeat | None:
        return next((p for p in self.pools.values() if p.record.generic and not p.closes), None)

    def waiting_reason(self, record: RunRecord) -> str:
        """Why nobody takes this queued run; "" if somebody will."""
        spec = record.spec
        present = [seat for seat in self.seats.values() if seat.said_hello and not seat.leaving]
        if any(seat.can_run(record) for seat in present):
            return ""
        pools = [p for p in self.pools.values() if not p.closes and p.record.most]
        if any(pool.fits(lane_of(record), "") for pool in pools):
            pythons = {seat.record.python for seat in present}
            if pythons and spec.python not in pythons:
                return f"waiting for a worker with Python {spec.python}"
            return TO_START
        if self.dead_pool_pid and not pools:
            return f"no worker: pool {self.dead_pool_pid} died"
        if any(seat.record.python != spec.python and seat.record.serves is None for seat in present):
            return f"waiting for a worker with Python {spec.python}"
        if spec.worker_tags:
            return f"waiting for a worker that offers {', '.join(spec.worker_tags)}"
        return f"waiting for a worker that serves {spec.key}"
