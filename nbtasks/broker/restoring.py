"""What a broker starts from: live runs, peers and counts.

Runs that are over are only counted, in the index over states: a million takes less than a tenth of a
second, and a count that every commit keeps would cost each run more than a start ever does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from nbtasks.broker import rows
from nbtasks.core.messages import Need, Spec, Terms
from nbtasks.core.records import Holding, Limit, PeerRecord, PoolRecord, RunRecord, WorkerRecord
from nbtasks.core.states import TYPES, State

NO_TERMS = Terms()  # shared by most runs
SPECS_MAX = 4096  # that are remembered


class Restored(NamedTuple):
    """What a broker starts from."""

    records: list[RunRecord]
    peers: list[PeerRecord]
    counts: dict[str, int]  # state type -> number of runs
    last_seq: int
    limits: list[Limit]
    holdings: list[Holding]


class Readable(Protocol):
    """What questions are put to: a connection, or what stands before one."""

    def execute(self, question: str, values: Sequence[Any] = ..., /) -> sqlite3.Cursor: ...


class Specs:
    """Specs by their key in the table, each read once."""

    def __init__(self, db: Readable) -> None:
        self._db = db
        self._bodies: dict[int, Spec] = {}

    def of(self, key: int) -> Spec:
        spec = self._bodies.get(key)
        if spec is None:
            (body,) = self._db.execute("SELECT body FROM spec WHERE spec = ?", (key,)).fetchone()
            if len(self._bodies) >= SPECS_MAX:
                self._bodies.clear()
            spec = self._bodies[key] = rows.spec_of(body)
        return spec


def restore(db: sqlite3.Connection) -> tuple[Restored, dict[str, int]]:
    """Read live runs, peers and counts; and the keys of the specs of live runs, by their digest."""
    specs, keys = Specs(db), {}
    records: list[RunRecord] = []
    counts: dict[str, int] = {}
    columns = ", ".join(f"state.{column}" for column in rows.STATE_COLUMNS)
    needs = _needs(db)
    for row in db.execute(
        "SELECT spec.id, run.spec, run.seq, run.id, run.batch, run.parent, run.submitted, "
        "run.priority, run.eta, run.expires, run.name, run.cache_key, run.refresh, "
        f"{columns} FROM state JOIN run USING (seq) JOIN spec USING (spec) "
        f"WHERE state.state IN ({rows.marks(rows.LIVE)}) ORDER BY run.seq",
        rows.LIVE,
    ):
        keys[row[0]] = row[1]
        record = _record(specs.of(row[1]), row, needs)
        records.append(record)
        _count(counts, record.state, 1)
    for name, number in db.execute(
        f"SELECT state, count(*) FROM state WHERE state IN ({rows.marks(rows.ENDED)}) GROUP BY state",
        rows.ENDED,
    ):
        _count(counts, State(name), number)
    peers: list[PeerRecord] = []
    for kind, body in db.execute("SELECT kind, body FROM peer"):
        known: type[PeerRecord] = WorkerRecord if kind == "worker" else PoolRecord
        peers.append(msgspec.json.decode(body, type=known))
    # no number is ever given twice, because retention leaves the newest run where it is
    (last_seq,) = db.execute("SELECT coalesce(max(seq), 0) FROM run").fetchone()
    limits = [Limit(*row) for row in db.execute("SELECT name, slots, period_s FROM tag_limit")]
    holdings = [Holding(*row) for row in db.execute("SELECT token, name, slots, run FROM holding")]
    return Restored(records, peers, counts, last_seq, limits, holdings), keys


def _needs(db: sqlite3.Connection) -> dict[int, tuple[Need, ...]]:
    """What live runs need, by sequence number."""
    found: dict[int, tuple[Need, ...]] = {}
    for seq, run, tolerant in db.execute(
        "SELECT need.seq, need.run, need.tolerant FROM need JOIN state USING (seq) "
        f"WHERE state.state IN ({rows.marks(rows.LIVE)})",
        rows.LIVE,
    ):
        found[seq] = (*found.get(seq, ()), Need(run, bool(tolerant)))
    return found


def _count(counts: dict[str, int], state: State, number: int) -> None:
    kind = TYPES[state].value
    counts[kind] = counts.get(kind, 0) + number


def _record(spec: Spec, row: tuple[Any, ...], all_needs: dict[int, tuple[Need, ...]]) -> RunRecord:
    spec_id, _, seq, run, batch, parent, submitted, *others = row
    priority, eta, expires, name, cache_key, refresh, *rest = others
    fields = dict(zip(rows.STATE_COLUMNS, rest, strict=True))
    fields["state"] = State(fields["state"])
    fields["history"] = rows.history_of(fields["history"])
    fields["attempts"] = rows.attempts_of(fields["attempts"])
    fields["started"] = bool(fields["started"])
    needs = all_needs.get(seq, ())
    has_terms = priority or eta or expires or needs or name or cache_key or refresh
    terms = Terms(priority, eta, expires, needs=needs, name=name, cache_key=cache_key, refresh=bool(refresh))
    return RunRecord(
        seq=seq, run=run, batch=batch, spec=spec, spec_id=spec_id, parent=parent, submitted=submitted,
        terms=terms if has_terms else NO_TERMS, **fields,
    )  # fmt: skip
