"""The spool: where file descriptors 1 and 2 of a worker end, and what of its output outlives it.

Two files. The spool takes whatever C code and child processes write, append only. The note beside it
is a mapped page ring: how far the spool was read, and the newest text that the worker took in but the
broker has not recorded yet. Both survive SIGKILL, so whoever sees the worker dead can tell its last words.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from pathlib import Path

import msgspec

from nbtasks.wire import private

LAST_WORDS_BYTES_MAX = 64 * 1024
READ_BYTES_MAX = 1024 * 1024
_HEADER_BYTES = 4096
_NUMBERS = struct.Struct("<QQQ")  # text taken in, text recorded, spool read; bytes since the start
_NUMBER = struct.Struct("<Q")
_PUNCH_HOLE = 0x03  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH_BYTES_MIN = 4 * 1024 * 1024


def note_path(path: str | Path) -> Path:
    """The note that belongs to a spool."""
    path = Path(path)
    return path.with_name(path.name + ".note")


class Spool:
    """The worker's side. Its callers take turns; nothing here is guarded against two threads."""

    def __init__(self, path: str | Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self._note = _map(note_path(path))
        self._read = 0
        self._punched = 0
        self._taken = 0
        self._recorded = 0

    def redirect(self) -> None:
        """Let descriptors 1 and 2 of this process end here, for us and for every child."""
        for descriptor in (1, 2):
            os.dup2(self._descriptor, descriptor)

    @property
    def has_more(self) -> bool:
        return self._size() > self._read

    def _size(self) -> int:
        # a quarter of the time of a stat; where the position is matters to nobody, for all append
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self) -> bytes:
        """At most `READ_BYTES_MAX` of what was written and not yet said to be `taken`."""
        return os.pread(self._descriptor, READ_BYTES_MAX, self._read)

    def taken(self, text: bytes, spooled_bytes: int = 0) -> int:
        """Remember this text until it is recorded; `spooled_bytes` of the spool are in it.

        Returns
        -------
        A mark for `recorded`.
        """
        self._taken = _write_ring(self._note, self._taken, text)
        # the text is there before the numbers say so: a kill in between tells it twice or not at all
        _NUMBER.pack_into(self._note, 0, self._taken)
        if spooled_bytes:
            self._read += spooled_bytes
            _NUMBER.pack_into(self._note, 16, self._read)
            if self._read - self._punched >= _PUNCH_BYTES_MIN:
                self._give_back()
        return self._taken

    def recorded(self, mark: int) -> None:
        """What was taken up to `mark` need not be told after a death."""
        if mark > self._recorded:
            self._recorded = mark
            _NUMBER.pack_into(self._note, 8, mark)

    def forget(self) -> None:
        """What came so far belongs to nobody."""
        size = self._size()
        if size == self._read and self._recorded == self._taken:
            return
        self._read = size
        self._recorded = self._taken
        _NUMBERS.pack_into(self._note, 0, self._taken, self._recorded, self._read)

    def write(self, text: bytes) -> None:
        """Append; for a forked child, which has no other way to be heard."""
        os.write(self._descriptor, text)

    def _give_back(self) -> None:
        """Free the disk blocks of what was read; the file keeps its size, so positions stay right."""
        if sys.platform == "linux":
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            offset, length = ctypes.c_longlong(self._punched), ctypes.c_longlong(self._read - self._punched)
            libc.fallocate64(self._descriptor, _PUNCH_HOLE, offset, length)
        self._punched = self._read


def last_words(path: str | Path) -> bytes:
    """What a dead worker put out and the broker may not have: JSON array of nbformat outputs, or nothing."""
    text = _unrecorded(path)
    if not text:
        return b""
    output = {"output_type": "stream", "name": "stdout", "text": text.decode("utf-8", "replace")}
    return msgspec.json.encode([output])


def remove(path: str | Path) -> None:
    Path(path).unlink(missing_ok=True)
    note_path(path).unlink(missing_ok=True)


def _unrecorded(path: str | Path) -> bytes:
    try:
        note = note_path(path).read_bytes()
        taken, recorded, read = _NUMBERS.unpack_from(note, 0)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, struct.error):
        return b""
    try:
        size = os.fstat(descriptor).st_size
        spooled = os.pread(descriptor, LAST_WORDS_BYTES_MAX, max(read, size - LAST_WORDS_BYTES_MAX))
    finally:
        os.close(descriptor)
    return _read_ring(note, recorded, taken) + spooled


def _map(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        private.fill(descriptor, _HEADER_BYTES + LAST_WORDS_BYTES_MAX)
        return mmap.mmap(descriptor, _HEADER_BYTES + LAST_WORDS_BYTES_MAX)
    finally:
        os.close(descriptor)


def _write_ring(note: mmap.mmap, at: int, text: bytes) -> int:
    """Write `text` at position `at` of the endless ring; return the position behind it."""
    end = at + len(text)
    kept = text[-LAST_WORDS_BYTES_MAX:]
    start = (end - len(kept)) % LAST_WORDS_BYTES_MAX
    first = kept[: LAST_WORDS_BYTES_MAX - start]
    note[_HEADER_BYTES + start : _HEADER_BYTES + start + len(first)] = first
    if rest := kept[len(first) :]:
        note[_HEADER_BYTES : _HEADER_BYTES + len(rest)] = rest
    return end


def _read_ring(note: bytes, start: int, end: int) -> bytes:
    ring = note[_HEADER_BYTES:]
    start = max(start, end - LAST_WORDS_BYTES_MAX)
    if start >= end or len(ring) < LAST_WORDS_BYTES_MAX:
        return b""
    first, last = start % LAST_WORDS_BYTES_MAX, end % LAST_WORDS_BYTES_MAX
    return ring[first:last] if first < last else ring[first:] + ring[:last]
