"""The journal seen from outside its broker: copied while that writes it, checked, and asked what it names.

A copy is what was committed at one moment: a read transaction holds it for as long as the pages take.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from nbtasks.broker import opening, schema
from nbtasks.broker.opening import NewerSchema
from nbtasks.broker.redo import Note
from nbtasks.core.messages import RunId
from nbtasks.errors import BlobCorrupt
from nbtasks.wire.blobs import REFERENCE, REFERENCE_BYTES_MAX, Reference, reference_of

CopyError = sqlite3.Error  # for callers
PAGES_PER_STEP = 2000  # 8 MB

_MARKED_SINCE = 2  # the schema


def copy(journal: Path, target: Path, step: Callable[[int, int], None]) -> None:
    """Write what is committed in `journal` to a new file, without workers and pools: they stay.

    Parameters
    ----------
    step
        Called with pages done and pages in all.

    Raises
    ------
    CopyError
        It cannot be read, or is damaged.
    NewerSchema
        It is of a newer version.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(opening.open_beside(journal)) as source, closing(_connect(target)) as db:
        source.execute("BEGIN")
        (version,) = source.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise NewerSchema(
                f"{journal} has schema {version}, this nbtasks knows {schema.VERSION}: upgrade nbtasks"
            )
        if not version:
            raise sqlite3.DatabaseError("it holds no tables of ours")
        source.execute("SELECT count(*) FROM peer").fetchone()  # from here on nothing changes for us
        source.backup(
            db, pages=PAGES_PER_STEP, progress=lambda status, left, total: step(total - left, total)
        )
        source.execute("COMMIT")
        opening.check(db)
        db.execute("DELETE FROM peer")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


class Contents:
    """What is committed in a journal, or in a copy of one; raises `CopyError` where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._db = opening.open_beside(path)

    def close(self) -> None:
        self._db.close()

    def schema(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def check(self) -> None:
        """Read every page."""
        for (table,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            opening.check(self._db, table)  # one transaction each, so that the log may be moved in between

    def count(self) -> int:
        """How many runs are in it."""
        (number,) = self._db.execute("SELECT count(*) FROM run").fetchone()
        return int(number)

    def lacks(self, runs: Iterable[RunId]) -> set[RunId]:
        """Those of `runs` that are not in it."""
        question = "SELECT 1 FROM run WHERE id = ?"
        return {run for run in runs if not self._db.execute(question, (run,)).fetchone()}

    def is_followed_by(self, note: Note) -> bool:
        """Whether `note` holds the transaction that comes next."""
        row = None
        if self.schema() >= _MARKED_SINCE:
            row = self._db.execute("SELECT at FROM mark WHERE name = 'written'").fetchone()
        return note.after == (row[0] if row else 0.0)

    def references(self) -> Iterator[Reference]:
        """The blobs of which arguments and results consist."""
        for table, column in (("run", "args"), ("result", "value")):
            bodies = self._db.execute(
                f"SELECT {column} FROM {table} WHERE length({column}) <= ? AND substr({column}, 1, ?) = ?",
                (REFERENCE_BYTES_MAX, len(REFERENCE), REFERENCE),
            )
            yield from references_in(bodies)


def references_in(rows: Iterable[Sequence[object]]) -> Iterator[Reference]:
    """The blobs that values of these rows stand for."""
    for row in rows:
        for value in row:
            with suppress(BlobCorrupt):  # it stands for nothing, in the home as well
                if isinstance(value, bytes) and (found := reference_of(value)):
                    yield found
