"""Who is here: the workers with what they hold, and the pools that start and end them.

A seat is the broker's view of one worker. It outlives the worker's silence and ends with a fact: the
worker left, or its process is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from nbtasks.core.messages import Exited, PeerId, RunId
from nbtasks.core.records import PoolRecord, RunRecord, WorkerRecord

PREFETCH = 1  # runs a worker may hold besides the one it executes
SHORT_S = 0.1  # only workers whose runs are shorter on average get one ahead
MEAN_WEIGHT = 0.2  # of the newest run in that average


class Seat:
    """One worker, present or not yet heard of since the broker's start."""

    def __init__(self, record: WorkerRecord) -> None:
        self.record = record
        self.said_hello = False
        self.ready = False  # its subscription was seen, so that a push reaches it
        self.leaving = False
        self.held: dict[RunId, RunRecord] = {}  # in order of assignment
        self.unacked: set[RunId] = set()
        self.revoked: set[RunId] = set()
        self.head_since = 0.0  # mono seconds, since when the first held run is first
        self.mean_s = 0.0  # average length of its runs
        self.gone: Exited | None = None  # its process is gone, but a last word may be under way

    @property
    def takes(self) -> bool:
        """Whether it may be given a run at all."""
        return self.ready and not self.leaving and self.gone is None

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
        return "busy" if self.running else "idle"

    def can_run(self, record: RunRecord) -> bool:
        spec = record.spec
        if spec.python != self.record.python:
            return False
        return bool(spec.code) if self.record.serves is None else spec.key in self.record.serves

    def wants_ahead(self, unix_s: float) -> bool:
        """Whether a second run is worth giving: the first one is, and usually is, short."""
        if len(self.held) != PREFETCH or self.mean_s > SHORT_S:
            return False
        head = next(iter(self.held.values()))
        return not head.stop and not (head.started and unix_s - head.attempts[-1].start > SHORT_S)

    def ran(self, seconds: float) -> None:
        self.mean_s += MEAN_WEIGHT * (seconds - self.mean_s)


class PoolSeat:
    """One pool that said Hello or is known from the table."""

    def __init__(self, record: PoolRecord) -> None:
        self.record = record
        self.said_hello = False
        self.want = record.least
        self.disband_s: float | None = None  # it was told to disband, with this drain

    @property
    def closes(self) -> bool:
        return self.disband_s is not None


class Staff:
    """Seats and pools by name."""

    def __init__(self) -> None:
        self.seats: dict[PeerId, Seat] = {}
        self.pools: dict[PeerId, PoolSeat] = {}
        self.dead_pool_pid = 0  # of the pool that died last and was not replaced

    def seats_of(self, pool: PeerId) -> list[Seat]:
        return [seat for seat in self.seats.values() if seat.record.pool == pool]

    def idle(self) -> Iterator[Seat]:
        """Workers that could start a run at once; those that serve certain tasks come first."""
        free = [seat for seat in self.seats.values() if seat.takes and not seat.held]
        yield from sorted(free, key=lambda seat: seat.record.serves is None)

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
        if any(p.record.serves is None or spec.key in p.record.serves for p in pools):
            pythons = {seat.record.python for seat in present}
            if pythons and spec.python not in pythons:
                return f"waiting for a worker with Python {spec.python}"
            return "waiting for a worker to start"
        if self.dead_pool_pid and not pools:
            return f"no worker: pool {self.dead_pool_pid} died"
        if any(seat.record.python != spec.python and seat.record.serves is None for seat in present):
            return f"waiting for a worker with Python {spec.python}"
        return f"waiting for a worker that serves {spec.key}"
