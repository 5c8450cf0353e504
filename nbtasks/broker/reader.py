"""The reader: a thread with a connection of its own, so that no question ever stalls the push.

The loop hands work over and gets what came of it back through a pipe that it polls; sockets stay in
the loop's thread. What is asked after a commit sees it: the read begins later than the commit ended.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nbtasks.broker import opening
from nbtasks.broker.queries import Queries
from nbtasks.wire.blobs import Blobs

JOBS_MAX = 256  # that wait; the next one is refused, and whoever asked asks again
CLOSE_S = 5.0  # for the work in hand to end

log = logging.getLogger("nbtasks.broker")


class Failed(NamedTuple):
    """What came of work that did not succeed."""

    reason: str


class _Job(NamedTuple):
    key: Hashable
    work: Callable[[Queries], Any]
    done: Callable[[Any], None]


class Reader:
    """Reads for the loop, one thing after the other.

    Parameters
    ----------
    before
        Called before anything is asked, so that it is there to be found.
    """

    def __init__(self, path: Path, rows_max: int, before: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._before = before
        self._blobs = Blobs(path.parent)
        self._rows_max = rows_max
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open: dict[Hashable, None] = {}  # keys of what is not taken back yet; the loop's
        self._results: deque[tuple[_Job, Any]] = deque()
        self._reading, self._writing = os.pipe()
        for descriptor in (self._reading, self._writing):
            os.set_blocking(descriptor, False)
        self._is_closing = False
        self.damage: Exception | None = None  # seen in the file; the broker must end
        self._db = opening.open_beside(path)
        self._thread = threading.Thread(target=self._run, name="nbtasks-reader", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anybody reads; if not, the broker must exit."""
        return self._thread.is_alive()

    def fileno(self) -> int:
        """A descriptor that is readable when `take` has something."""
        return self._reading

    def ask(self, key: Hashable, work: Callable[[Queries], Any], done: Callable[[Any], None]) -> bool:
        """Have `work` done in the thread, and what comes of it (or Failed) given to `done` by `take`.

        Returns
        -------
        False if too much waits already. What is asked again under the key of something that waits is
        answered once.
        """
        if key in self._open:
            return True
        if len(self._open) >= JOBS_MAX:
            return False
        self._before()
        self._open[key] = None
        self._jobs.put(_Job(key, work, done))
        return True

    def take(self) -> None:
        """Hand over what was read; in the loop's thread."""
        with suppress(BlockingIOError):
            os.read(self._reading, 4096)
        while self._results:
            job, result = self._results.popleft()
            del self._open[job.key]
            job.done(result)

    def close(self) -> None:
        self._is_closing = True
        self._db.interrupt()
        self._jobs.put(None)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._db.close()
            os.close(self._reading)
            os.close(self._writing)

    # -- in the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        queries = Queries(self._db, self._rows_max, self._blobs)
        while (job := self._jobs.get()) is not None and not self._is_closing:
            self._results.append((job, self._result(job, queries)))
            with suppress(BlockingIOError):  # it is full of such signs
                os.write(self._writing, b"!")
            del job  # a large result must not stay until the next question

    def _result(self, job: _Job, queries: Queries) -> Any:
        try:
            return job.work(queries)
        except sqlite3.Error as error:
            if opening.is_damage(error):
                self.damage = error
            elif not self._is_closing:
                log.exception("the journal could not be read")
            return Failed(f"the journal could not be read: {error}")
        except Exception as error:
            # a bug in one question must not end the others
            log.exception("a question could not be answered")
            return Failed(f"the broker failed to answer: {error!r}")
