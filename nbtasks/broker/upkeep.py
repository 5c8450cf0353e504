"""What keeps the journal in order beside the loop: the log moved into the file, and every page read once.

A commit appends to the log; moving that into the file takes two syncs of the disk, which is no work
for the loop. A thread does it with a connection of its own while commits go on. It can never quite
catch up with a busy loop, and a log that is not moved entirely is not begun anew; so once it is long,
the loop moves the last pages itself.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path

from nbtasks.broker import opening
from nbtasks.core.records import Output

LOOK_PAGES = 4000  # written since the last time, roughly: 16 MB
LONG_PAGES = 16_000  # of log: 64 MB; from then on the loop moves the rest itself
REST_PAGES_MAX = 1000  # that the loop moves at once
LOGS_MAX = 4  # times LONG_PAGES: from then on it moves them however many are left
CHECK_EVERY_S = 86_400.0
CHECK_AFTER_S = 5.0  # after the start, when everybody has come back
CLOSE_S = 5.0

_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"
_OVERHEAD_PAGES = 5  # that any commit writes
_ROW_PAGES = 0.5  # that a small row adds, its indices included

log = logging.getLogger("nbtasks.broker")


class Upkeep:
    """Two threads: one moves the log, the other reads every page if nobody did so for a day."""

    def __init__(self, path: Path, checked_at: float, writer: sqlite3.Connection) -> None:
        self._path = path
        self._writer = writer
        self._pages = 0.0
        self._is_closing = threading.Event()
        self._due = threading.Event()
        self._rest_is_due = False  # the log is long, and little of it is left to be moved
        self.checked_at = 0.0  # UNIX seconds: when every page was found whole, by us
        self.damage: Exception | None = None
        self._connections = [opening.open_beside(path), opening.open_beside(path)]
        self._connections[0].execute("PRAGMA synchronous = NORMAL")
        work = [threading.Thread(target=self._move_always, name="nbtasks-log", daemon=True)]
        wait_s = max(CHECK_AFTER_S, checked_at + CHECK_EVERY_S - time.time())
        work.append(threading.Thread(target=self._check, args=(wait_s,), name="nbtasks-check", daemon=True))
        self._threads = work
        for thread in work:
            thread.start()

    # -- in the loop ----------------------------------------------------------------------------------------

    def committed(self, output: Output) -> None:
        """So much was appended to the log."""
        rows, size = len(output.changed), 0
        for new in output.new:
            size += len(new.args)
        for _, value in output.values:
            size += len(value)
        for chunk in output.chunks:
            size += len(chunk[3])
        rows += len(output.new) + len(output.values) + len(output.chunks)
        self.wrote(_OVERHEAD_PAGES + _ROW_PAGES * rows + size / 4096)

    def wrote(self, pages: float) -> None:
        """Likewise, known already."""
        self._pages += pages
        if self._rest_is_due:
            self._rest_is_due = False
            self._writer.execute(_PASSIVE)
        if self._pages > LOOK_PAGES and not self._due.is_set():
            self._pages = 0.0
            self._due.set()

    def close(self) -> None:
        self._is_closing.set()
        self._due.set()
        for db in self._connections:
            db.interrupt()
        for thread, db in zip(self._threads, self._connections, strict=True):
            thread.join(CLOSE_S)
            if not thread.is_alive():
                db.close()

    # -- in the threads -------------------------------------------------------------------------------------

    def _move_always(self) -> None:
        db = self._connections[0]
        while self._due.wait() and not self._is_closing.is_set():
            try:
                _, pages, moved = db.execute(_PASSIVE).fetchone()
                if pages > LONG_PAGES:
                    # what was written meanwhile is moved without the time that this took
                    _, pages, moved = db.execute(_PASSIVE).fetchone()
                    self._rest_is_due = pages - moved <= REST_PAGES_MAX or pages > LOGS_MAX * LONG_PAGES
            except sqlite3.Error as error:
                # the commits will fail as well if it is worth an end
                log.warning("the log of the journal could not be moved: %s", error)
            self._due.clear()

    def _check(self, wait_s: float) -> None:
        db = self._connections[1]
        while not self._is_closing.wait(wait_s):
            try:
                for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    opening.check(db, table)  # one transaction each, so that the log may move in between
                self.checked_at = time.time()
                wait_s = CHECK_EVERY_S
            except sqlite3.Error as error:
                if opening.is_damage(error):
                    self.damage = error
                    return
                if not self._is_closing.is_set():
                    log.warning("the journal could not be checked: %s", error)
                wait_s = CHECK_EVERY_S
