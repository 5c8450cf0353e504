"""The redo log: what the next transaction records, readable after the broker's death.

A commit takes as long as all else that the broker does for a run, and for those who wait it need not be
in its tables, only safe. So small transactions are put into a mapped file first, which outlives the process
that wrote it; then what follows from them is said, and then they are committed. A broker that was killed
in between left one here, and the next one commits it before it reads anything. There is never more than
one, and it names the transaction before it: after any other one it is out of place.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbtasks.core.messages import RunId
from nbtasks.wire import private

Rows = list[tuple[str, Sequence[Sequence[Any]]]]  # name of a statement, and what it is executed with

FILE_BYTES = 64 * 1024
_MAGIC = b"nbtasks redo 1\0\0"
_STATE = struct.Struct("<II")  # length (0: nothing is to be done) and CRC-32 of what follows
_BODY = len(_MAGIC) + _STATE.size

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[float, list[tuple[str, list[list[Any]]]]]).decode


class Note(NamedTuple):
    """One transaction."""

    after: float  # which was committed before it, as `Store` counts them
    rows: Rows


def left(path: Path) -> Note | None:
    """What a broker put there and did not clear; None if that is nothing, or not whole.

    It is read without being mapped, which may need room that there is not.

    Raises
    ------
    PermissionError
        It is no file of ours alone, or cannot be read.
    ValueError, msgspec.MsgspecError
        It is of another version.
    """
    page = private.read_private(path, FILE_BYTES) or b""
    if not any(page[: len(_MAGIC)]) or len(page) < _BODY:
        return None  # killed when it was made
    if page[: len(_MAGIC)] != _MAGIC:
        raise ValueError("another version wrote it")
    length, crc = _STATE.unpack_from(page, len(_MAGIC))
    body = page[_BODY : _BODY + length]
    if not length or zlib.crc32(body) != crc:
        return None
    after, rows = _decode(body)
    return Note(after, list(rows))


def runs_of(note: Note) -> set[RunId]:
    """The runs that it records."""
    return {row[1] for name, rows in note.rows if name == "run" for row in rows}


class Redo:
    """The redo log of one journal, empty at first; its broker holds the lock of the home.

    Raises
    ------
    OSError
        There can be no such file, or no room for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            private.fill(descriptor, FILE_BYTES)
            found = os.fstat(descriptor)
            self._identity = found.st_dev, found.st_ino
            self._page = mmap.mmap(descriptor, FILE_BYTES)
        finally:
            os.close(descriptor)
        self._page[:_BODY] = _MAGIC + _STATE.pack(0, 0)

    @property
    def is_in_place(self) -> bool:
        """Whether the next broker would find it."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def put(self, note: Note) -> bool:
        """Keep this until `clear`; False if it is too large."""
        body = _encode(note)
        if len(body) > FILE_BYTES - _BODY:
            return False
        self._page[_BODY : _BODY + len(body)] = body
        # last, so that a kill in between leaves nothing instead of a part
        _STATE.pack_into(self._page, len(_MAGIC), len(body), zlib.crc32(body))
        return True

    def clear(self) -> None:
        """It is committed."""
        _STATE.pack_into(self._page, len(_MAGIC), 0, 0)

    def close(self) -> None:
        self._page.close()
