"""The journal: one SQLite file, one connection that writes, one transaction per pass of the broker's loop.

Nobody but the broker writes the file; a backup reads it from a process of its own. What a pass records is
safe before anything is said of it, either committed or in the redo log, from which it is committed
afterwards. A commit that fails ends the broker; a restart is reading the table. What can wait is read by
`reader`, in a thread of its own; read here is only what a push or a submit cannot go on without.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple

from nbtasks.broker import opening, redo, restoring
from nbtasks.broker.opening import NewerSchema as NewerSchema
from nbtasks.broker.queries import Queries
from nbtasks.broker.redo import Note, Redo, Rows
from nbtasks.broker.restoring import Restored
from nbtasks.broker.rows import LIVE, STATE_COLUMNS, Damaged, crc, marks, state_rows, text
from nbtasks.broker.upkeep import Upkeep
from nbtasks.core.messages import RunId
from nbtasks.core.records import NewRow, Output, WorkerRecord
from nbtasks.core.retention import Past
from nbtasks.wire.blobs import REFERENCE_BYTES_MAX, Blobs, reference_of

_RUN_COLUMNS = (
    "seq", "id", "batch", "spec", "parent", "submitted", "parameters", "args", "crc", "priority", "eta",
    "expires", "name", "cache_key", "refresh",
)  # fmt: skip
_STATEMENTS = {
    "run": f"INSERT INTO run ({', '.join(_RUN_COLUMNS)}) VALUES ({marks(_RUN_COLUMNS)})",
    "state": f"INSERT INTO state ({', '.join(STATE_COLUMNS)}, seq) VALUES ({marks(STATE_COLUMNS)}, ?)",
    "need": "INSERT INTO need (seq, run, tolerant) VALUES (?, ?, ?)",
    "change": f"UPDATE state SET {', '.join(f'{c} = ?' for c in STATE_COLUMNS)} WHERE seq = ?",
    "key": "INSERT OR IGNORE INTO idempotency (task, key, seq) VALUES (?, ?, ?)",
    "value": "INSERT OR REPLACE INTO result (seq, value) VALUES (?, ?)",
    "cache": "INSERT OR REPLACE INTO cache (key, seq, expires) VALUES (?, ?, ?)",
    "chunk": "INSERT OR REPLACE INTO output (seq, attempt, number, body) VALUES (?, ?, ?, ?)",
}
ROOM_PAUSE_S = 0.5  # between two looks whether a full disk has room again

JournalError = sqlite3.Error  # for callers: only this part knows what the journal is made of
# of rows that the tables do not take, however often they are tried
_UNFIT = (
    msgspec.MsgspecError,
    ValueError,
    KeyError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)

log = logging.getLogger("nbtasks.broker")


def is_full(error: JournalError) -> bool:
    """Whether there was no room on the disk."""
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


class Store:
    """The open journal of a home.

    Parameters
    ----------
    durability
        "process": what was committed survives the death of any process; "power": a power cut, too.
    waits
        Asked when the disk is full: whether to wait for room, instead of raising.
    """

    def __init__(
        self, path: str | Path, durability: str = "process", waits: Callable[[], bool] = lambda: False
    ) -> None:
        self.path = Path(path)
        self._waits = waits
        self._specs: dict[str, int] = {}  # digest -> key in the table
        self._durability = durability
        # the second: where a damaged journal lies now
        self._db, self.set_aside = opening.open_journal(self.path, durability)
        self._cursor = self._db.cursor()
        self._written = 0.0  # UNIX seconds; no two transactions have the same
        self._identities: list[tuple[int, int] | None] | None = None  # of file and log; None: not looked yet
        self._greatest: RunId | None = None  # no recorded id is greater; None: not known yet
        self._noted: Rows = []  # what is in the redo log
        self._refused: int | None = None  # the error for which there was none, as it was said
        self._reads = _Reads(self)
        if self.set_aside and self._redo_path.exists():
            self._redo_path.rename(f"{self.set_aside}-redo")
        self._commit_left()
        self._redo = self._open_redo()

    def is_in_place(self) -> bool:
        """Whether the file and the log that are written are the ones at their paths still."""
        found = [_identity(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal")]
        if self._identities is None:
            self._identities = found
        if self._redo is None or not self._redo.is_in_place:
            self._redo = self._open_redo()
        return None not in found and found == self._identities

    def rescue(self) -> Path:
        """Write all that is recorded to a new file: in place of ours, or beside one that was put there."""
        copy = self.path.with_name(f"{self.path.name}.rescued-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        with closing(sqlite3.connect(copy)) as target:
            self._db.backup(target)
        os.chmod(copy, 0o600)
        ours = self._identities[0] if self._identities else None
        if _identity(self.path) not in (None, ours):
            return copy
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)  # of the file that was
        return copy.replace(self.path)

    def damaged(self) -> list[Path]:
        """Journals of this home that were set aside."""
        return list(self.path.parent.glob(f"{self.path.name}.damaged-*"))

    def suspect(self, error: Exception) -> None:
        """If `error` means damage, the next start reads every page before anything else."""
        if isinstance(error, sqlite3.Error) and opening.is_damage(error):
            opening.suspect(self.path, error)

    def close(self) -> None:
        self._db.close()
        if self._redo is not None:
            self._redo.close()

    # -- writing ------------------------------------------------------------------------------------------

    def commit(self, output: Output) -> None:
        """Record all rows of `output`, or raise and record none."""
        self.settle()
        self._transaction(lambda: self._write(output))

    def note(self, output: Output) -> bool:
        """Make `output` safe without committing it: `settle` does, as does whatever is read here next.

        Returns
        -------
        False if it has to be committed: it is large, or more than runs and what comes of them.
        """
        if self._redo is None or self._durability != "process" or output.is_rare:
            return False
        rows = self._rows(output)
        if not self._redo.put(Note(self._written, rows)):
            return False
        self._noted = rows
        return True

    def settle(self) -> None:
        """Commit what was noted."""
        if self._noted and self._redo is not None:
            rows = self._noted
            self._transaction(lambda: self._execute(rows))
            self._noted = []
            self._redo.clear()

    def _transaction(self, work: Callable[[], None]) -> None:
        """All that `work` writes, or nothing; on a full disk as soon as there is room."""
        told = False
        at = max(time.time(), math.nextafter(self._written, math.inf))  # the clock may be set back
        while True:
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
                work()
                self._cursor.execute("INSERT OR REPLACE INTO mark VALUES ('written', ?)", (at,))
                self._cursor.execute("COMMIT")
                self._written = at
                return
            except BaseException as error:
                if self._db.in_transaction:
                    self._cursor.execute("ROLLBACK")
                if not (isinstance(error, JournalError) and is_full(error) and self._waits()):
                    raise
            if not told:
                log.critical("no room on the disk of %s: nothing is recorded until there is", self.path)
            told = True
            time.sleep(ROOM_PAUSE_S)

    def _write(self, output: Output) -> None:
        if output.specs:
            self._write_specs(output)
        self._execute(self._rows(output))
        if output.copies:
            self._db.executemany(
                "INSERT INTO result SELECT ?, value FROM result WHERE seq = ?", output.copies
            )
        self._write_peers(output)
        if output.limits or output.holdings:
            self._write_limits(output)
        if output.removed:
            self._remove(output.removed)
        if output.unused[1]:
            self._forget_specs(*output.unused)

    def _rows(self, output: Output) -> Rows:
        """The rows of runs and of what comes of them."""
        rows: Rows = []
        if output.new:
            if self._greatest is not None:
                self._greatest = max(self._greatest, *(new.record.run for new in output.new))
            rows.append(("run", [self._run_row(new) for new in output.new]))
            rows.append(("state", state_rows(new.record for new in output.new)))
            if needs := [need for new in output.new if new.record.terms.needs for need in _need_rows(new)]:
                rows.append(("need", needs))
        fresh = {new.record.seq for new in output.new}
        if changed := state_rows(record for seq, record in output.changed.items() if seq not in fresh):
            rows.append(("change", changed))
        parts = (
            ("key", output.keys),
            ("value", output.values),
            ("cache", output.caches),
            ("chunk", output.chunks),
        )
        rows += [(name, part) for name, part in parts if part]
        return rows

    def _execute(self, rows: Rows) -> None:
        for name, values in rows:
            # the connection's own methods make a new cursor each time
            self._cursor.executemany(_STATEMENTS[name], values)

    # -- the redo log -------------------------------------------------------------------------------------

    @property
    def _redo_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}-redo")

    def _open_redo(self) -> Redo | None:
        """None: everything is committed at once."""
        try:
            return Redo(self._redo_path)
        except OSError as error:
            if error.errno != self._refused:
                log.warning("there is no redo log for %s: %s", self.path, error.strerror)
            self._refused = error.errno
            return None

    def _commit_left(self) -> None:
        """Commit what a broker that was killed had noted; if it cannot be just now, there is no start."""
        try:
            self._written = self._last_written()
            note = redo.left(self._redo_path)
            if note and note.after > self._written:
                raise ValueError("the journal lacks what was recorded before it")
            if note and note.after == self._written:  # else it was committed, if not long ago
                self._transaction(lambda: self._execute(note.rows))
        except _UNFIT as error:
            aside = self._redo_path.rename(f"{self.path}.damaged-redo-{time.strftime('%Y%m%d-%H%M%S')}")
            log.critical("what was to be recorded last cannot be (%r); it is kept in %s", error, aside)
        except JournalError as error:
            self.suspect(error)
            raise

    def _write_specs(self, output: Output) -> None:
        for spec_id, spec, code in output.specs:
            row = (spec_id, spec.key, spec.name, text(spec.tags), spec.code, text(spec))
            self._db.execute(
                "INSERT OR IGNORE INTO spec (id, key, name, tags, code, body) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            (key,) = self._db.execute("SELECT spec FROM spec WHERE id = ?", (spec_id,)).fetchone()
            self._specs[spec_id] = key
            if code:
                self._db.execute("INSERT OR IGNORE INTO code VALUES (?, ?)", (spec.code, code))

    def _remove(self, removed: list[Past]) -> None:
        keys = [(past.seq,) for past in removed]
        for table in ("output", "result", "idempotency", "need", "cache", "state", "run"):
            self._db.executemany(f"DELETE FROM {table} WHERE seq = ?", keys)

    def _forget_specs(self, upto: int, spec_ids: list[str]) -> None:
        for spec_id in spec_ids:
            self._specs.pop(spec_id, None)  # the next submit with it says it anew
            self._db.execute(
                "DELETE FROM spec WHERE id = ? "
                "AND NOT EXISTS (SELECT 1 FROM run WHERE run.seq > ? AND run.spec = spec.spec)",
                (spec_id, upto),
            )
        self._db.execute("DELETE FROM code WHERE NOT EXISTS (SELECT 1 FROM spec WHERE spec.code = digest)")

    def _write_peers(self, output: Output) -> None:
        for peer, record in output.peers.items():
            if record is None:
                self._db.execute("DELETE FROM peer WHERE id = ?", (peer,))
            else:
                kind = "worker" if isinstance(record, WorkerRecord) else "pool"
                self._db.execute("INSERT OR REPLACE INTO peer VALUES (?, ?, ?)", (peer, kind, text(record)))

    def _write_limits(self, output: Output) -> None:
        for name, limit in output.limits.items():
            self._db.execute("DELETE FROM tag_limit WHERE name = ?", (name,))
            if limit is not None:
                self._db.execute("INSERT INTO tag_limit VALUES (?, ?, ?)", astuple(limit))
        for token, holding in output.holdings.items():
            self._db.execute("DELETE FROM holding WHERE token = ?", (token,))
            if holding is not None:
                self._db.execute("INSERT INTO holding VALUES (?, ?, ?, ?)", astuple(holding))

    def _run_row(self, new: NewRow) -> tuple[Any, ...]:
        r = new.record
        return (
            r.seq,
            r.run,
            r.batch,
            self._specs[r.spec_id],
            r.parent,
            r.submitted,
            new.parameters,
            new.args,
            crc(r.run, new.parameters, new.args),
            r.terms.priority,
            r.terms.eta,
            r.terms.expires,
            r.terms.name,
            r.terms.cache_key,
            r.terms.refresh,
        )

    # -- starting -----------------------------------------------------------------------------------------

    def restore(self) -> Restored:
        """Read live runs, peers and counts; what turns out to be damaged is set aside."""
        try:
            restored, keys = restoring.restore(self._db)
        except sqlite3.DatabaseError as error:
            if not opening.is_damage(error):
                raise
            self._db.close()
            self.suspect(error)
            self._db, self.set_aside = opening.open_journal(self.path, self._durability)
            self._cursor = self._db.cursor()
            self._written = self._last_written()
            restored, keys = restoring.restore(self._db)
        self._specs.update(keys)
        return restored

    def upkeep(self) -> Upkeep:
        """What is to be done beside the loop from now on."""
        row = self._db.execute("SELECT at FROM mark WHERE name = 'checked'").fetchone()
        return Upkeep(self.path, row[0] if row else 0.0, self._db)

    def _last_written(self) -> float:
        row = self._db.execute("SELECT at FROM mark WHERE name = 'written'").fetchone()
        return float(row[0]) if row else 0.0

    def checked(self, at: float) -> None:
        """Note that every page was found whole."""
        self._db.execute("INSERT OR REPLACE INTO mark VALUES ('checked', ?)", (at,))

    # -- reading ------------------------------------------------------------------------------------------

    def recorded(self, run: RunId) -> bool:
        # ids sort by time, so most new ones are greater than all that are here
        if self._greatest is None:
            (self._greatest,) = self._reads.execute("SELECT coalesce(max(id), '') FROM run").fetchone()
        if run > self._greatest:
            return False
        return self._reads.execute("SELECT 1 FROM run WHERE id = ?", (run,)).fetchone() is not None

    def keyed(self, task: str, key: str) -> RunId:
        """The run that was submitted for this task with this idempotency key; "" if there is none."""
        row = self._reads.execute(
            "SELECT run.id FROM idempotency JOIN run USING (seq) WHERE task = ? AND key = ?", (task, key)
        ).fetchone()
        return str(row[0]) if row else ""

    def cached(self, key: str, unix_s: float) -> int:
        """The run whose result stands for this cache key, if that is recorded itself; 0: there is none."""
        row = self._reads.execute(
            "SELECT cache.seq, substr(result.value, 1, ?) FROM cache JOIN result USING (seq) "
            "WHERE key = ? AND (expires = 0 OR expires > ?)",
            (REFERENCE_BYTES_MAX + 1, key, unix_s),
        ).fetchone()
        # a large value is a file of its own run: a worker makes a copy that is the new run's
        return row[0] if row and reference_of(row[1]) is None else 0

    def final(self, run: RunId) -> str:
        """The name of the state in which this run ended; "" if it is not recorded or not final."""
        row = self._reads.execute(
            "SELECT state.state FROM run JOIN state USING (seq) WHERE run.id = ? "
            f"AND state.state NOT IN ({marks(LIVE)})",
            (run, *LIVE),
        ).fetchone()
        return str(row[0]) if row else ""

    def queries(self, rows_max: int) -> Queries:
        """What must be read together with what the loop knows, on its own connection."""
        return Queries(self._reads, rows_max, Blobs(self.path.parent))

    def arguments(self, seq: int) -> bytes:
        """The pickled arguments of a run.

        Raises
        ------
        Damaged
            They are not what was submitted.
        """
        row = self._reads.execute(
            "SELECT id, parameters, args, crc FROM run WHERE seq = ?", (seq,)
        ).fetchone()
        if row is None or crc(*row[:3]) != row[3]:
            raise Damaged(f"the stored arguments of run number {seq} are damaged")
        return bytes(row[2])

    def arguments_of(self, run: RunId) -> bytes:
        """Those of a run that is known by its id; raises as `arguments`."""
        row = self._reads.execute("SELECT seq FROM run WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise Damaged(f"run {run} is not recorded any more")
        return self.arguments(row[0])

    def code(self, digest: str) -> bytes:
        """A pickled function by its digest; b"" if it never travelled."""
        row = self._reads.execute("SELECT body FROM code WHERE digest = ?", (digest,)).fetchone()
        return b"" if row is None else bytes(row[0])


class _Reads:
    """The journal with what is noted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def execute(self, question: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._store.settle()
        return self._store._db.execute(question, values)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _need_rows(new: NewRow) -> list[tuple[int, RunId, bool]]:
    return [(new.record.seq, need.run, need.tolerant) for need in new.record.terms.needs]
