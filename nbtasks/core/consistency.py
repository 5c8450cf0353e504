"""What must hold of the broker's memory after each pass; asked by the simulator and by tests."""

from __future__ import annotations

from nbtasks.core.dependencies import Dependencies
from nbtasks.core.ledger import Ledger
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.staff import Staff

_FINAL_TYPES = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def check(ledger: Ledger, queue: ReadyQueue, staff: Staff, dependencies: Dependencies) -> None:
    """Raise AssertionError if these contradict each other."""
    held = {run: seat for seat in staff.seats.values() for run in seat.held}
    for run, record in ledger.runs.items():
        assert not record.is_final, record
        assert bool(record.worker) == (run in held), record
        assert not (record.worker and record in queue), record
        assert not record.worker or held[run].record.worker == record.worker, record
        assert record.started <= bool(record.worker), record
        assert len(record.attempts) <= record.attempt, record
        assert all(a.end for a in record.attempts[:-1]), record
        waits = record in queue or record.due > 0 or dependencies.waits(record)
        assert record.worker or waits, record
    for seat in staff.seats.values():
        assert set(seat.held) <= set(ledger.runs), seat.record
        assert seat.unacked | seat.revoked <= set(seat.held), seat.record
    live = sum(n for t, n in ledger.counts.items() if t not in _FINAL_TYPES)
    assert live == len(ledger.runs), (ledger.counts, len(ledger.runs))
