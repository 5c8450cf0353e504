"""The output of one run: taken in from everywhere, in order, cut to its bound, and given away in chunks.

Text is kept as bytes until a chunk is made. The first part of the bound goes out as it comes; from then on
only the newest is kept, and the chunk at the end says how much is missing between the two.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nbtasks.core import codec
from nbtasks.runners.signals import Interrupts
from nbtasks.wire.spool import Spool

CHUNK_BYTES = 64 * 1024  # of pending output, above which a chunk is made at once
FLUSH_S = 0.25  # otherwise pending output waits so long for company
BLOCK_BYTES = 16 * 1024  # how finely the tail is cut
REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()
_ERRORS = "backslashreplace"  # lone surrogates have no place in JSON


class _Piece:
    """Text of one stream, or (without a name) one other output as JSON."""

    __slots__ = ("body", "name")

    def __init__(self, name: str, body: bytearray) -> None:
        self.name = name
        self.body = body


class Collector:
    """Takes in from any thread while it is open.

    Parameters
    ----------
    give
        Called with each chunk (JSON array of nbformat outputs), in order; returns its number.
    bytes_max, tail_bytes
        What is kept of a run's output, and how much of it from the end.
    """

    def __init__(
        self,
        give: Callable[[bytes], int],
        spool: Spool,
        interrupts: Interrupts,
        bytes_max: int,
        tail_bytes: int,
    ) -> None:
        self._give = give
        self._spool = spool
        self._interrupts = interrupts
        self._tail_max = min(tail_bytes, bytes_max)
        self._head_max = bytes_max - self._tail_max
        self._lock = threading.RLock()  # a user's signal handler may print while we hold it
        self.is_open = False
        self._marks: dict[int, int] = {}
        self.told_of_widgets = False
        self._reset()

    def _reset(self) -> None:
        self._pending: list[_Piece] = []
        self._pending_bytes = 0
        self._pending_since = 0.0  # mono seconds; 0: nothing is pending
        self._mark = 0
        self._head_left = self._head_max
        self._tail: deque[_Piece] = deque()
        self._tail_bytes = 0
        self._cut_bytes = 0
        self._half = b""  # a character of the spool of which only a part has come
        self._halves: dict[str, bytes] = {}  # the same of bytes that are written to streams
        self._is_giving = False
        self._is_used = False  # anything of the above may be otherwise

    # -- main thread ----------------------------------------------------------------------------------

    def open(self) -> None:
        """A run begins: what comes from now on is its output."""
        with self._lock:
            self.told_of_widgets = False
            if self._is_used:
                self._reset()
            self._marks.clear()
            self._spool.forget()
            self.is_open = True

    def close(self, last: dict[str, Any] | None = None) -> None:
        """The run is over: give away all that came up to now, the spool included, then `last`."""
        with self._lock:
            while self._take_spool():
                pass
            if self._half:
                self._take("stdout", REPLACEMENT)
            for name in list(self._halves):
                self._end_half(name)
            if last:
                self._take("", codec.pack_json(last))
            self.is_open = False
            self._join_tail()
            self._cut()

    # -- any thread -------------------------------------------------------------------------------------

    def text(self, name: str, text: str) -> None:
        """Take in text of the stream `name`, after what reached the spool before it."""
        body = text.encode("utf-8", _ERRORS)
        with self._interrupts, self._lock:
            if self.is_open:
                self._take_spool()
                if self._halves:
                    self._end_half(name)
                self._mark = self._spool.taken(body)
                self._take(name, body)

    def raw(self, name: str, body: bytes) -> None:
        """Take in bytes of the stream `name`: UTF-8, of which a character may come in parts."""
        with self._interrupts, self._lock:
            if self.is_open:
                self._take_spool()
                body = self._halves.pop(name, b"") + body
                if half := _unfinished(body):
                    self._halves[name] = half
                    self._is_used = True
                encoded = body[: len(body) - len(half)].decode("utf-8", "replace").encode()
                self._mark = self._spool.taken(encoded)
                self._take(name, encoded)

    def output(self, output: dict[str, Any]) -> None:
        """Take in any other nbformat output."""
        body = codec.pack_json(output)
        with self._interrupts, self._lock:
            if self.is_open:
                self._take_spool()
                self._take("", body)

    # -- agent ------------------------------------------------------------------------------------------

    def flush(self) -> float | None:
        """Give away what waited long enough; returns when to call again (mono seconds), None: not open."""
        with self._lock:
            if not self.is_open:
                return None
            self._take_spool()
            now_s = time.monotonic()
            if self._pending_since and self._pending_since + FLUSH_S <= now_s:
                self._cut()
            return (self._pending_since or now_s) + FLUSH_S

    def recorded(self, upto: int) -> None:
        """Chunks of the current run up to this number are in the journal."""
        for number in [number for number in self._marks if number <= upto]:
            self._spool.recorded(self._marks.pop(number))

    # -- pieces -------------------------------------------------------------------------------------------

    def _end_half(self, name: str) -> None:
        """What comes now is not the rest of a character."""
        if self._halves.pop(name, b""):
            self._mark = self._spool.taken(REPLACEMENT)
            self._take(name, REPLACEMENT)

    def _take_spool(self) -> bool:
        if not self._spool.has_more:
            return False
        self._is_used = True
        raw = self._spool.read()
        body = self._half + raw
        text = body.decode("utf-8", "replace")
        self._half = _unfinished(body)
        if self._half:
            text = body[: -len(self._half)].decode("utf-8", "replace")
        encoded = text.encode()
        self._mark = self._spool.taken(encoded, len(raw))
        self._take("stdout", encoded)
        return True

    def _take(self, name: str, body: bytes) -> None:
        self._is_used = True
        if not name and len(body) > max(self._head_left, self._tail_max):
            name, body = "stdout", f"\n… an output of {len(body):,} bytes was left out …\n".encode()
        if self._head_left > 0 and len(body) <= self._head_left:
            self._head_left -= len(body)
            self._pend(name, body)
            return
        if name and self._head_left > 0:
            head = body[: self._head_left]
            half = len(_unfinished(head))
            self._pend(name, head[: len(head) - half])
            body = body[len(head) - half :]
        self._head_left = 0
        self._to_tail(name, body)

    def _pend(self, name: str, body: bytes) -> None:
        if not self._pending_since:
            self._pending_since = time.monotonic()
        if name and self._pending and self._pending[-1].name == name:
            self._pending[-1].body += body
        else:
            self._pending.append(_Piece(name, bytearray(body)))
        self._pending_bytes += len(body)
        if self._pending_bytes >= CHUNK_BYTES:
            self._cut()

    def _to_tail(self, name: str, body: bytes) -> None:
        if len(body) > self._tail_max:
            kept = body[len(body) - self._tail_max :] if name else b""
            kept = kept[_stray(kept) :]
            self._cut_bytes += len(body) - len(kept)
            body = kept
        last = self._tail[-1] if self._tail else None
        if name and last and last.name == name and len(last.body) < BLOCK_BYTES:
            last.body += body
        elif body:
            self._tail.append(_Piece(name, bytearray(body)))
        self._tail_bytes += len(body)
        while self._tail_bytes > self._tail_max:
            self._trim(self._tail_bytes - self._tail_max)

    def _trim(self, excess: int) -> None:
        """Drop at least `excess` bytes from the start of the tail, or its first piece."""
        first = self._tail[0]
        if not first.name or len(first.body) <= excess:
            self._tail.popleft()
            dropped = len(first.body)
        else:
            dropped = excess + _stray(bytes(first.body[excess : excess + 4]))
            del first.body[:dropped]
        self._tail_bytes -= dropped
        self._cut_bytes += dropped

    def _join_tail(self) -> None:
        if self._cut_bytes:
            words = f"\n… {self._cut_bytes:,} bytes of output cut …\n"
            self._pend("stdout", words.encode())
        for piece in self._tail:
            self._pend(piece.name, bytes(piece.body))
        self._tail.clear()

    def _cut(self) -> None:
        if not self._pending or self._is_giving:
            # the latter: a signal handler of the run prints in the middle of giving; the next chunk has it
            return
        outputs: list[Any] = []
        for piece in self._pending:
            if piece.name:
                text = piece.body.decode("utf-8", "replace")
                outputs.append({"output_type": "stream", "name": piece.name, "text": text})
            else:
                outputs.append(msgspec.Raw(bytes(piece.body)))
        self._pending, self._pending_bytes, self._pending_since = [], 0, 0.0
        mark, self._is_giving = self._mark, True
        try:
            self._marks[self._give(msgspec.json.encode(outputs))] = mark
        finally:
            self._is_giving = False


def _unfinished(body: bytes) -> bytes:
    """The start of a UTF-8 character whose end has not come."""
    for back in range(1, min(4, len(body) + 1)):
        byte = body[-back]
        if byte < 0x80:
            return b""
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return body[-back:] if back < needs else b""
    return b""


def _stray(body: bytes) -> int:
    """How many bytes at the start belong to a character whose start is gone."""
    count = 0
    while count < min(3, len(body)) and 0x80 <= body[count] < 0xC0:
        count += 1
    return count
