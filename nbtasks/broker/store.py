"""The journal: one SQLite file, one connection, one transaction per pass of the broker's loop.

Nobody else opens the file. A commit that fails ends the broker before anything was said; a restart
is reading the table. What is found damaged is set aside, never deleted, and said so.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbtasks.broker import schema
from nbtasks.core import codec
from nbtasks.core.messages import Attempt, Moment, RunFilter, RunId, RunInfo, Spec
from nbtasks.core.records import NewRow, Output, PeerRecord, PoolRecord, RunRecord, WorkerRecord
from nbtasks.core.states import FINAL, TYPES, State

CACHE_KIB = 32 * 1024  # pages kept in memory
CHECKPOINT_PAGES = 4000  # 16 MB of log are moved into the file at once
LIVE = tuple(state.value for state in State if state not in FINAL)

log = logging.getLogger("nbtasks.broker")

_json = msgspec.json.Encoder()
_history = msgspec.json.Decoder(tuple[Moment, ...])
_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_spec = msgspec.json.Decoder(Spec)

_STATE_COLUMNS = (
    "state",
    "message",
    "at",
    "history",
    "attempts",
    "attempt",
    "worker",
    "started",
    "stop",
    "due",
    "failures",
    "crashes",
    "chunks",
)
_INSERT_RUN = "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_STATE = (
    f"INSERT INTO state ({', '.join(_STATE_COLUMNS)}, seq) VALUES ({'?, ' * len(_STATE_COLUMNS)}?)"
)
_UPDATE_STATE = f"UPDATE state SET {', '.join(f'{c} = ?' for c in _STATE_COLUMNS)} WHERE seq = ?"
_SELECT_STATE = ", ".join(f"state.{column}" for column in _STATE_COLUMNS)


JournalError = sqlite3.Error  # for callers: only this file knows what the journal is made of


class Damaged(Exception):
    """What was read is not what was written."""


class NewerSchema(Exception):
    """The journal was written by a newer version of nbtasks."""


class Restored(NamedTuple):
    """What a broker starts from."""

    records: list[RunRecord]
    peers: list[PeerRecord]
    counts: dict[str, int]  # state type -> number of runs
    last_seq: int


class Ending(NamedTuple):
    """How a run ended; `value` is None if it is larger than what is told with the final."""

    state: str
    message: str
    at: float
    value: bytes | None


class Store:
    """The open journal of a home.

    Parameters
    ----------
    durability
        "process": what was committed survives the death of any process; "power": a power cut, too.
    """

    def __init__(self, path: str | Path, durability: str = "process") -> None:
        self._path = Path(path)
        self._durability = durability
        self._specs: dict[str, int] = {}  # digest -> key in the table
        self._spec_bodies: dict[int, Spec] = {}
        self.set_aside: Path | None = None  # where a damaged journal was found lies now
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # no space, no permission: nothing that a fresh file would mend
            self.set_aside = self._move_away(error)
            self._db = self._open()

    # -- opening ----------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'NORMAL'}")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute("PRAGMA temp_store = MEMORY")
            problems = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
            if problems != ["ok"]:
                raise sqlite3.DatabaseError("; ".join(problems))
            self._check_schema(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check_schema(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise NewerSchema(
                f"{self._path} has schema {version}, this nbtasks knows {schema.VERSION}: upgrade nbtasks"
            )
        if version == 0:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables:
                raise sqlite3.DatabaseError("it holds tables that are not ours")
            db.executescript(
                f"BEGIN IMMEDIATE; {schema.TABLES} PRAGMA application_id = {schema.APPLICATION};"
                f"PRAGMA user_version = {schema.VERSION}; COMMIT;"
            )

    def _move_away(self, error: sqlite3.Error) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self._path.with_name(f"{self._path.name}.damaged-{stamp}-{os.getpid()}")
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self._path}{suffix}")
            if part.exists():
                part.rename(f"{target}{suffix}")
        log.error("the journal %s is damaged (%s); it was set aside as %s", self._path, error, target)
        return target

    def close(self) -> None:
        self._db.close()

    # -- writing ------------------------------------------------------------------------------------------

    def commit(self, output: Output) -> None:
        """Record all rows of `output`, or raise and record none."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._write_specs(output)
            if output.new:
                db.executemany(_INSERT_RUN, map(self._run_row, output.new))
                db.executemany(_INSERT_STATE, [_state_row(new.record) for new in output.new])
            fresh = {new.record.seq for new in output.new}
            if changed := [_state_row(record) for seq, record in output.changed.items() if seq not in fresh]:
                db.executemany(_UPDATE_STATE, changed)
            if output.values:
                db.executemany("INSERT OR REPLACE INTO result VALUES (?, ?)", output.values)
            if output.chunks:
                db.executemany("INSERT OR REPLACE INTO output VALUES (?, ?, ?, ?)", output.chunks)
            self._write_peers(output)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _write_specs(self, output: Output) -> None:
        for spec_id, spec, code in output.specs:
            row = (spec_id, spec.key, spec.name, _text(spec.tags), spec.code, _text(spec))
            self._db.execute(
                "INSERT OR IGNORE INTO spec (id, key, name, tags, code, body) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            (key,) = self._db.execute("SELECT spec FROM spec WHERE id = ?", (spec_id,)).fetchone()
            self._specs[spec_id] = key
            if spec.code:
                self._db.execute("INSERT OR IGNORE INTO code VALUES (?, ?)", (spec.code, code))

    def _write_peers(self, output: Output) -> None:
        for peer, record in output.peers.items():
            if record is None:
                self._db.execute("DELETE FROM peer WHERE id = ?", (peer,))
            else:
                kind = "worker" if isinstance(record, WorkerRecord) else "pool"
                self._db.execute("INSERT OR REPLACE INTO peer VALUES (?, ?, ?)", (peer, kind, _text(record)))

    def _run_row(self, new: NewRow) -> tuple[Any, ...]:
        r = new.record
        crc = _crc(r.run, new.parameters, new.args)
        return (
            r.seq,
            r.run,
            r.batch,
            self._specs[r.spec_id],
            r.parent,
            r.submitted,
            new.parameters,
            new.args,
            crc,
        )

    # -- starting -----------------------------------------------------------------------------------------

    def restore(self) -> Restored:
        """Read live runs, peers and counts."""
        marks = ", ".join("?" * len(LIVE))
        rows = self._db.execute(
            "SELECT run.seq, run.id, run.batch, spec.spec, spec.id, run.parent, run.submitted, "
            f"{_SELECT_STATE} "
            "FROM state JOIN run USING (seq) JOIN spec USING (spec) "
            f"WHERE state.state IN ({marks}) ORDER BY run.seq",
            LIVE,
        )
        records = [self._record(row) for row in rows]
        peers: list[PeerRecord] = []
        for kind, body in self._db.execute("SELECT kind, body FROM peer"):
            known: type[PeerRecord] = WorkerRecord if kind == "worker" else PoolRecord
            peers.append(msgspec.json.decode(body, type=known))
        counts: dict[str, int] = {}
        for name, number in self._db.execute("SELECT state, count(*) FROM state GROUP BY state"):
            kind = TYPES[State(name)].value
            counts[kind] = counts.get(kind, 0) + number
        (last_seq,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM run").fetchone()
        return Restored(records, peers, counts, last_seq)

    def _record(self, row: tuple[Any, ...]) -> RunRecord:
        seq, run, batch, key, spec_id, parent, submitted, *rest = row
        self._specs[spec_id] = key
        fields = dict(zip(_STATE_COLUMNS, rest, strict=False))
        fields["state"] = State(fields["state"])
        fields["history"] = _history.decode(fields["history"])
        fields["attempts"] = _attempts.decode(fields["attempts"])
        fields["started"] = bool(fields["started"])
        return RunRecord(
            seq=seq,
            run=run,
            batch=batch,
            spec=self._spec_of(key),
            spec_id=spec_id,
            parent=parent,
            submitted=submitted,
            **fields,
        )

    def _spec_of(self, key: int) -> Spec:
        spec = self._spec_bodies.get(key)
        if spec is None:
            (body,) = self._db.execute("SELECT body FROM spec WHERE spec = ?", (key,)).fetchone()
            spec = self._spec_bodies[key] = _spec.decode(body)
        return spec

    # -- reading ------------------------------------------------------------------------------------------

    def recorded(self, run: RunId) -> bool:
        return self._db.execute("SELECT 1 FROM run WHERE id = ?", (run,)).fetchone() is not None

    def finals_by_task(self, first: int, last: int) -> list[tuple[Spec, str, int]]:
        """Final runs with these sequence numbers, as (spec, state type, number of runs)."""
        rows = self._db.execute(
            "SELECT run.spec, state.state, count(*) FROM state CROSS JOIN run USING (seq) "
            "WHERE state.seq BETWEEN ? AND ? GROUP BY run.spec, state.state",
            (first, last),
        ).fetchall()
        return [(self._spec_of(key), TYPES[State(s)].value, n) for key, s, n in rows if s not in LIVE]

    def arguments(self, seq: int) -> bytes:
        """The pickled arguments of a run.

        Raises
        ------
        Damaged
            They are not what was submitted.
        """
        row = self._db.execute("SELECT id, parameters, args, crc FROM run WHERE seq = ?", (seq,)).fetchone()
        if row is None or _crc(*row[:3]) != row[3]:
            raise Damaged(f"the stored arguments of run number {seq} are damaged")
        return bytes(row[2])

    def code(self, digest: str) -> bytes:
        """A pickled function by its digest; b"" if it never travelled."""
        row = self._db.execute("SELECT body FROM code WHERE digest = ?", (digest,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def ending(self, run: RunId) -> Ending | None:
        """How a run ended; None if it is not recorded, or not final."""
        row = self._db.execute(
            "SELECT state.state, state.message, state.at, "
            "CASE WHEN length(result.value) <= ? THEN result.value END, "
            "result.seq IS NULL FROM run JOIN state USING (seq) LEFT JOIN result "
            "USING (seq) WHERE run.id = ?",
            (codec.INLINE_BYTES_MAX, run),
        ).fetchone()
        if row is None or row[0] in LIVE:
            return None
        return Ending(row[0], row[1], row[2], b"" if row[4] else row[3])

    def value(self, run: RunId) -> bytes | None:
        """The pickled result or failure, however large; None if there is none."""
        row = self._db.execute(
            "SELECT result.value FROM run JOIN result USING (seq) WHERE run.id = ?", (run,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def chunks(self, run: RunId, after: int, bytes_max: int) -> tuple[tuple[bytes, ...], int]:
        """Output of a run, all attempts one after the other.

        Returns
        -------
        The chunks behind the first `after`, at most `bytes_max` bytes of them but at least one, and the
        number to ask for more with; 0: these were the last.
        """
        cursor = self._db.execute(
            "SELECT output.body FROM run JOIN output USING (seq) WHERE run.id = ? "
            "ORDER BY output.attempt, output.number LIMIT -1 OFFSET ?",
            (run, max(0, after)),
        )
        found: list[bytes] = []
        size = 0
        for (body,) in cursor:
            size += len(body)
            if found and size > bytes_max:
                cursor.close()
                return tuple(found), max(0, after) + len(found)
            found.append(bytes(body))
        return tuple(found), 0

    def run(self, run: RunId) -> RunInfo | None:
        found = self._infos("run.id = ?", [run], 1)
        return found[0][1] if found else None

    def runs(self, wanted: RunFilter, limit_max: int) -> tuple[list[RunInfo], int]:
        """Runs that match, newest first, and what to pass as `before` for more; 0: these were the last."""
        limit = max(1, min(wanted.limit, limit_max))
        conditions: list[str] = []
        values: list[Any] = []
        if wanted.states:
            names = _state_names(wanted.states)
            # the plus keeps SQLite from sorting all finished runs to find the newest
            plus = "+" if len(names) > 1 and not set(names) <= set(LIVE) else ""
            conditions.append(f"{plus}state.state IN ({', '.join('?' * len(names))})")
            values += names
        if wanted.key:
            conditions.append("run.spec IN (SELECT spec FROM spec WHERE key = ? OR name = ?)")
            values += [wanted.key, wanted.key]
        if wanted.tag:
            conditions.append("run.spec IN (SELECT spec FROM spec WHERE instr(tags, ?))")
            values.append(_text(wanted.tag))
        if wanted.before:
            conditions.append("state.seq < ?")
            values.append(wanted.before)
        found = self._infos(" AND ".join(conditions) or "1", values, limit + 1)
        more = found[limit - 1][0] if len(found) > limit else 0
        return [info for _, info in found[:limit]], more

    def _infos(self, condition: str, values: list[Any], limit: int) -> list[tuple[int, RunInfo]]:
        rows = self._db.execute(
            "SELECT run.seq, run.id, run.spec, run.submitted, run.parameters, run.parent, state.state, "
            "state.message, "
            "state.at, state.history, state.attempts, state.worker, "
            "(SELECT coalesce(sum(length(body)), 0) FROM output WHERE output.seq = run.seq) "
            f"FROM run JOIN state USING (seq) WHERE {condition} ORDER BY state.seq DESC LIMIT ?",
            [*values, limit],
        ).fetchall()
        return [(row[0], self._info(row)) for row in rows]

    def _info(self, row: tuple[Any, ...]) -> RunInfo:
        _, run, key, submitted, parameters, parent, state, message, at, history, attempts, worker, size = row
        return RunInfo(
            run=run,
            spec=self._spec_of(key),
            submitted=submitted,
            parameters=parameters,
            parent=parent,
            state=state,
            message=message,
            at=at,
            history=_history.decode(history),
            attempts=_attempts.decode(attempts),
            worker=worker,
            output_bytes=size,
        )


def _text(value: Any) -> str:
    return _json.encode(value).decode()


def _crc(run: str, parameters: str, args: bytes) -> int:
    return zlib.crc32(args, zlib.crc32(f"{run}{parameters}".encode()))


def _state_row(r: RunRecord) -> tuple[Any, ...]:
    return (
        r.state.value,
        r.message,
        r.at,
        _text(r.history),
        _text(r.attempts) if r.attempts else "[]",
        r.attempt,
        r.worker,
        r.started,
        r.stop,
        r.due,
        r.failures,
        r.crashes,
        r.chunks,
        r.seq,
    )


def _state_names(wanted: Iterable[str]) -> list[str]:
    """Names of states from names and types."""
    names = set(wanted)
    return [state.value for state in State if state.value in names or TYPES[state].value in names]
