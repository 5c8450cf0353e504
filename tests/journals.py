"""A journal with a past: finished runs written straight into the tables, without a million submits."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbtasks.broker.store import Store
from nbtasks.core.messages import Attempt, Moment, Spec
from nbtasks.core.records import NewRow, Output, RunRecord
from nbtasks.core.states import State

DAY_S = 86400.0
VALUE = b"\x80\x05K\x01."  # the pickled number 1
ROWS_PER_COMMIT = 10_000


def past_id(seq: int, unix_s: float) -> str:
    """A UUIDv7 of that time; the same for the same arguments."""
    milliseconds = int(unix_s * 1000)
    number = (milliseconds << 80) | (7 << 76) | ((seq >> 32 & 0xFFF) << 64) | (2 << 62) | (seq & 0xFFFFFFFF)
    return str(uuid.UUID(int=number))


def finished_runs(
    number: int, ended: float, *, first_seq: int = 1, state: State = State.COMPLETED, args: bytes = VALUE
) -> Iterator[tuple[RunRecord, bytes]]:
    """Records and arguments of runs that ended one millisecond after the other, the last one at `ended`."""
    spec = Spec("tests:past", "past", "3.11", "")
    for seq in range(first_seq, first_seq + number):
        at = ended - (first_seq + number - 1 - seq) * 0.001
        history = (Moment("Pending", at - 0.002), Moment("Running", at - 0.001), Moment(state.value, at))
        run = past_id(seq, at - 0.002)
        attempts = (Attempt(1, "w-past", 1, at - 0.001, at, state.value),)
        record = RunRecord(
            seq, run, run, spec, "past", "", at - 0.002, state, "", at, history, attempts, attempt=1
        )
        yield record, args


def fill(path: Path, number: int, *, age_s: float = 60 * DAY_S, **options: Any) -> list[str]:
    """Add `number` finished runs that ended `age_s` ago to the journal at `path`; returns their ids."""
    store = Store(path)
    first_seq = store.restore().last_seq + 1
    runs = finished_runs(number, time.time() - age_s, first_seq=first_seq, **options)
    found = []
    batch = Output()
    for record, args in runs:
        if not batch.new:
            batch.specs.append((record.spec_id, record.spec, b""))
        batch.new.append(NewRow(record, args, "{}"))
        batch.values.append((record.seq, VALUE))
        found.append(record.run)
        if len(batch.new) == ROWS_PER_COMMIT:
            store.commit(batch)
            batch = Output()
    if batch.new:
        store.commit(batch)
    store.close()
    return found


def rows_of(path: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a human sees who opens the journal with any SQLite tool."""
    db = sqlite3.connect(path)
    try:
        return db.execute(question, values).fetchall()
    finally:
        db.close()


def fill_queue(path: Path, number: int) -> None:
    """Add runs that wait for a worker that serves them."""
    spec = Spec("tests:waiting", "waiting", "3.11", "")
    store = Store(path)
    first_seq, now = store.restore().last_seq + 1, time.time()
    for start in range(first_seq, first_seq + number, ROWS_PER_COMMIT):
        batch = Output(specs=[("waiting", spec, b"")])
        for seq in range(start, min(start + ROWS_PER_COMMIT, first_seq + number)):
            history = (Moment("Pending", now),)
            run = past_id(seq, now)
            record = RunRecord(seq, run, run, spec, "waiting", "", now, at=now, history=history)
            batch.new.append(NewRow(record, VALUE, "{}"))
        store.commit(batch)
    store.close()
