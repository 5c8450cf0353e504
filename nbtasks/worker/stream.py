"""What a generator yields, on its way to whoever iterates over the run.

Values are given away in chunks, in order, among the chunks of the output. While somebody reads, the
generator pauses when too many are unread; while nobody does, it goes on, and what it yields is recorded
up to a bound. Behind the first value that was not given away none is: a reader finds the rest in the
result, which is the list of all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nbtasks import pickling
from nbtasks.core.streams import VALUES
from nbtasks.runners.signals import Interrupts

UNREAD_MAX = 256  # values, while somebody reads
UNREAD_BYTES_MAX = 16 * 2**20  # while nobody does
VALUE_BYTES_MAX = 4 * 2**20  # a larger one comes with the result
CHUNK_BYTES = 256 * 1024
TOGETHER_S = 0.01  # after a chunk, the values of so long make the next one
READER_S = 60.0  # after the last sign of a reader, nobody reads
PAUSE_S = 0.002  # between two looks whether values were read


class ValueStream:
    """The values of one attempt after the other.

    Parameters
    ----------
    give
        Called with each chunk; returns its number.
    hurry
        Sees that `flush` is called soon.
    """

    def __init__(
        self, give: Callable[[bytes], int], hurry: Callable[[], None], interrupts: Interrupts
    ) -> None:
        self._give = give
        self._hurry = hurry
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._counts = threading.Lock()  # of what is unread; not held while something is given away
        self._is_used = True  # by the current attempt
        self.open()

    # -- main thread --------------------------------------------------------------------------------------

    def open(self) -> None:
        """An attempt begins."""
        if not self._is_used:
            return  # as it was: most runs are no generators
        self._is_used = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._first = 0  # place of the first pending value among all
        self._gave_at = 0.0  # mono seconds
        self._unread: deque[tuple[int, int, int]] = deque()  # of chunks: number, values, bytes
        self._unread_values = self._unread_bytes = 0
        self._reader_until = 0.0  # mono seconds
        self._is_cut = False

    def put(self, value: Any, serializer: str) -> None:
        """Take in one more value; raises `NotPicklable`."""
        self._is_used = True
        if self._is_cut:
            return
        body = _body_of(value, serializer)
        with self._interrupts, self._lock:
            if len(body) > VALUE_BYTES_MAX or (
                self._unread_bytes > UNREAD_BYTES_MAX and not self._has_reader
            ):
                self._is_cut = True
                self._cut()
                return
            self._pending.append(body)
            self._pending_bytes += len(body)
            waits_for = self._gave_at + TOGETHER_S > time.monotonic() and self._unread_values
            if self._pending_bytes >= CHUNK_BYTES or not waits_for:
                self._cut()
            elif len(self._pending) == 1:
                self._hurry()

    @property
    def is_full(self) -> bool:
        """Whether somebody reads who has not come so far."""
        return self._has_reader and self._unread_values + len(self._pending) >= UNREAD_MAX

    def wait(self) -> None:
        """Wait until it is not full; can be interrupted."""
        while self.is_full:
            time.sleep(PAUSE_S)  # on no lock, which an interrupt might leave taken

    def close(self) -> None:
        """The attempt is over."""
        if not self._is_used:
            return
        with self._interrupts, self._lock:
            self._cut()

    # -- agent --------------------------------------------------------------------------------------------

    def flush(self) -> float | None:
        """Give away what waited long enough; returns when to call again (mono seconds)."""
        if not self._pending:
            return None
        with self._lock:
            if self._gave_at + TOGETHER_S > time.monotonic():
                return self._gave_at + TOGETHER_S
            self._cut()
        return None

    def read(self, upto: int) -> None:
        """Somebody reads, and has the chunks up to this number (-1: no more). Takes no other lock."""
        with self._counts:
            self._is_used = True
            self._reader_until = 0.0 if upto < 0 else time.monotonic() + READER_S
            while self._unread and self._unread[0][0] <= upto:
                _, values, size = self._unread.popleft()
                self._unread_values -= values
                self._unread_bytes -= size

    # -- pieces -------------------------------------------------------------------------------------------

    @property
    def _has_reader(self) -> bool:
        return time.monotonic() < self._reader_until

    def _cut(self) -> None:
        if not self._pending:
            return
        pending, size, first = self._pending, self._pending_bytes, self._first
        self._pending, self._pending_bytes, self._first = [], 0, first + len(pending)
        self._gave_at = time.monotonic()
        number = self._give(VALUES + msgspec.msgpack.encode((first, pending)))
        with self._counts:
            self._unread.append((number, len(pending), size))
            self._unread_values += len(pending)
            self._unread_bytes += size


def _body_of(value: Any, serializer: str) -> bytes:
    payload = pickling.dump_result(value, serializer)
    # what lies outside of the pickle goes into it: a chunk is one message
    return pickling.dumps(value) if payload.buffers else b"".join(payload.stream)
