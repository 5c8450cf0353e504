"""The outbox: a file of a client in the home, in which a submit outlives the client before the broker has it.

What is written to a mapped file survives `kill -9` of its writer, as a row of the journal does, and takes a
hundredth of the time of a trip to the broker. So a submit is said to the broker, put here, and counts as
recorded; when the broker has recorded everything, the file is emptied. A broker reads the outboxes when it
starts, before it answers a question, and once a second: whatever a dead client could not say is there.

An entry is a header (length, CRC-32, number) and the frame that the client sends; each number follows the
one before, for the life of the client. So a reader knows what it has read, and behind the last entry it finds
a number that does not follow. A torn entry was never promised to anybody.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nbtasks.core import codec
from nbtasks.core.messages import PeerId, RunId, Submit
from nbtasks.errors import ProtocolError, VersionMismatch
from nbtasks.wire.alive import born, is_alive
from nbtasks.wire.private import fill, private_dir, read_private

FOLDER = "outbox"
FILE_BYTES = 512 * 1024
ENTRY_BYTES_MAX = FILE_BYTES // 2  # a larger submit is not worth a second copy
_HEADER = struct.Struct("<IIQ")
_EMPTY = _HEADER.pack(0, 0, 0)

log = logging.getLogger("nbtasks.wire")


class Outbox:
    """The writing side; its callers take turns."""

    def __init__(self, home: Path, peer: PeerId) -> None:
        self._peer = peer
        pid = os.getpid()
        self._path = home / FOLDER / f"{peer}.{pid}.{round((born(pid) or 0.0) * 100)}"
        self._descriptor = self._inode = -1
        self._file: mmap.mmap | None = None
        self._at = 0  # where the next entry begins
        self._number = 0

    def room_for(self, submit: Submit) -> bytes | None:
        """The frame of a submit, if it may be `put`; None: only the broker can record it."""
        if codec.payload_bytes(submit) > ENTRY_BYTES_MAX:
            return None
        # as it is: a docstring, say, may be of any length, and it is too late for a no once it was said
        frame = codec.encode(self._peer, [submit])
        try:
            if self._file is None or not self._is_in_place():
                self._open()
        except OSError as error:
            log.debug("the outbox %s cannot be used: %s", self._path, error)
            return None
        is_large = len(frame) > ENTRY_BYTES_MAX or self._at + _HEADER.size + len(frame) > FILE_BYTES
        return None if is_large else frame

    def _is_in_place(self) -> bool:
        """Whether a broker of this home would find the file: the home may be gone, or moved."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def put(self, frame: bytes) -> None:
        """Keep until `clear` what `room_for` gave last."""
        assert self._file is not None
        self._number += 1
        start = self._at + _HEADER.size
        end = start + len(frame)
        self._file[start:end] = frame
        # the header last, so that a kill in between leaves a torn entry
        _HEADER.pack_into(self._file, self._at, len(frame), _crc(frame, self._number), self._number)
        self._at = end

    def clear(self) -> None:
        """Nothing of it is needed any more."""
        if self._at and self._file is not None:
            self._file[: _HEADER.size] = _EMPTY
            self._at = 0

    def close(self) -> None:
        """The client ends; what the broker may not have stays in the file."""
        if self._file is not None and not self._at:
            self._path.unlink(missing_ok=True)
        self._close()

    def _open(self) -> None:
        """Make the file; again, if somebody removed the home and it is there anew, but never the home."""
        self._close()
        with suppress(FileExistsError):
            self._path.parent.mkdir(mode=0o700)
        private_dir(self._path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fill(descriptor, FILE_BYTES)
            self._file = mmap.mmap(descriptor, FILE_BYTES)
        except OSError:
            os.close(descriptor)
            self._path.unlink(missing_ok=True)
            raise
        self._descriptor, self._at = descriptor, 0
        self._inode = os.fstat(descriptor).st_ino

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            os.close(self._descriptor)
            self._file = None


class Outboxes:
    """All outboxes of a home, as its broker reads them."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._read: dict[str, int] = {}  # file -> number of the last entry that was read
        self._unread: set[str] = set()  # files of which something cannot be read; they stay
        self._left: list[str] = []  # read to the end, and their owners are dead

    def read(self) -> Iterator[Submit]:
        """What was put into any of them since the last call."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        self._read = {name: self._read.get(name, 0) for name in names}
        for name in names:
            yield from self._read_file(name)

    def runs(self) -> set[RunId]:
        """Those that any of them names now, recorded ones included."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return set()
        found: set[RunId] = set()
        for _, frame in (entry for name in names for entry in _entries(self._body(name))):
            with suppress(ProtocolError, VersionMismatch):
                found.update(new.run for submit in _submits(frame) for new in submit.runs)
        return found

    def bodies(self) -> Iterator[tuple[str, bytes]]:
        """The files that hold something now, as they are, under names that no living process has."""
        with suppress(OSError):
            for name in os.listdir(self._folder):
                if body := self._body(name):
                    yield f"{name.rpartition('.')[0]}.0", body

    def find_left(self) -> None:
        """See whose owners are dead; to be called before `read`, so that all they wrote is read."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        self._left = [name for name in names if not _has_owner(name)]

    def remove_left(self) -> None:
        """What was read is recorded: remove the files that nobody writes any more.

        One with an entry that this broker cannot read stays, for another version of it may.
        """
        for name in self._left:
            if name not in self._unread:
                (self._folder / name).unlink(missing_ok=True)
        self._left = []

    def _read_file(self, name: str) -> Iterator[Submit]:
        for number, frame in _entries(self._body(name)):
            if number <= self._read[name]:
                continue
            self._read[name] = number
            try:
                found = _submits(frame)
            except (ProtocolError, VersionMismatch) as error:
                self._unread.add(name)
                log.warning("an entry of the outbox %s is not read, and the file stays: %s", name, error)
                continue
            yield from found

    def _body(self, name: str) -> bytes:
        """All of a file, nothing if its first entry is empty."""
        try:
            head = read_private(self._folder / name, _HEADER.size) or _EMPTY
            return (read_private(self._folder / name, FILE_BYTES) or b"") if head != _EMPTY else b""
        except PermissionError as error:
            if name not in self._unread:
                self._unread.add(name)
                log.warning("an outbox is left alone: %s", error)
            return b""


def _submits(frame: bytes) -> list[Submit]:
    """Those of an entry; raises what decoding raises."""
    _, messages = codec.for_broker.decode(frame)
    return [message for message in messages if isinstance(message, Submit)]


def _entries(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole entries, up to the first that is torn or of an earlier time."""
    at, last = 0, 0
    while at + _HEADER.size <= len(body):
        length, crc, number = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        frame = body[at : at + length]
        if not length or (last and number != last + 1) or len(frame) < length or _crc(frame, number) != crc:
            return
        yield number, frame
        at, last = at + length, number


def _crc(frame: bytes, number: int) -> int:
    return zlib.crc32(frame, number & 0xFFFFFFFF)


def _has_owner(name: str) -> bool:
    """Whether the process that writes this file lives."""
    try:
        _, pid, born_cs = name.rsplit(".", 2)
        return is_alive(int(pid), int(born_cs) / 100)
    except ValueError:
        return True  # it is none of ours
