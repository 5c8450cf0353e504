"""Opening the journal: its tables made or brought up to date, and what is damaged set aside.

Reading every page takes seconds once a million runs are recorded, so a large journal is not checked
before it is used: `checking` does that afterwards, beside the loop. Whoever finds damage leaves a note
next to the file and ends the broker; the next start reads everything first, and if there is damage
indeed, moves the file away (it is never deleted) and begins a new one.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path

from nbtasks.broker import schema

CACHE_KIB = 16 * 1024  # pages kept in memory; the system keeps the others
READER_CACHE_KIB = 8 * 1024
CHECKED_FIRST_BYTES = 32 * 2**20  # a journal up to this size is read in a tenth of a second
PROBLEMS_MAX = 3  # that are said

log = logging.getLogger("nbtasks.broker")


class NewerSchema(Exception):
    """The journal was written by a newer version of nbtasks."""


def open_journal(path: Path, durability: str) -> tuple[sqlite3.Connection, Path | None]:
    """The one connection that writes, and where a damaged journal lies now, if there was one."""
    try:
        return _open(path, durability), None
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # no space, no permission: nothing that a fresh file would mend
        set_aside = _move_away(path, error)
        return _open(path, durability), set_aside


def open_beside(path: Path, cache_kib: int = READER_CACHE_KIB) -> sqlite3.Connection:
    """A connection that changes nothing and never makes a commit of the other one wait."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute(f"PRAGMA cache_size = -{cache_kib}")
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def suspect(path: Path, error: object) -> None:
    """Note that damage was seen, for the next start."""
    log.critical("the journal %s is damaged: %s", path, error)
    _note(path).write_text(f"{error}\n")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is not what SQLite wrote, rather than busy, full or forbidden."""
    return isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError


def check(db: sqlite3.Connection, table: str = "") -> None:
    """Read every page of a table, or of the whole file; raise what is wrong."""
    what = table or PROBLEMS_MAX
    problems = [row[0] for row in db.execute(f"PRAGMA quick_check({what})")]
    if problems != ["ok"]:
        raise sqlite3.DatabaseError("; ".join(problems[:PROBLEMS_MAX]))


def _open(path: Path, durability: str) -> sqlite3.Connection:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # `checkpoints` does that
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA temp_store = MEMORY")
        if size <= CHECKED_FIRST_BYTES or _note(path).exists():
            check(db)
        _bring_up_to_date(path, db)
        _note(path).unlink(missing_ok=True)
    except BaseException:
        db.close()
        raise
    return db


def _bring_up_to_date(path: Path, db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise NewerSchema(
            f"{path} has schema {version}, this nbtasks knows {schema.VERSION}: upgrade nbtasks"
        )
    if version == 0:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise sqlite3.DatabaseError("it holds tables that are not ours")
        steps = schema.TABLES
    else:
        steps = "".join(schema.STEPS[before] for before in range(version, schema.VERSION))
        if steps:
            log.info("the journal %s is brought from schema %d to %d", path, version, schema.VERSION)
    if steps:
        db.executescript(
            f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {schema.APPLICATION};"
            f"PRAGMA user_version = {schema.VERSION}; COMMIT;"
        )


def _move_away(path: Path, error: sqlite3.Error) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.name}.damaged-{stamp}-{os.getpid()}")
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{target}{suffix}")
    _note(path).unlink(missing_ok=True)
    log.error("the journal %s is damaged (%s); it was set aside as %s", path, error, target)
    return target


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}-suspect")
