"""The outbox: a file of a client in the home, in which a submit outlives the client before the broker has it.

What is written to a file survives `kill -9` of its writer, as a row of the journal does, and takes a
hundredth of the time of a trip to the broker. So a submit is put here, said to the broker, and counts as
recorded; when the broker has recorded everything, the file is emptied. A broker reads the outboxes when it
starts, before it answers a question, and once a second: whatever a dead client could not say is there.

An entry is a header (length, CRC-32, number) and the frame that the client sends. Numbers grow for the
life of the client, so that a reader knows what it has read; a torn entry was never promised to anybody.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from nbtasks.core import codec
from nbtasks.core.messages import PeerId, Submit
from nbtasks.errors import ProtocolError, VersionMismatch
from nbtasks.wire.alive import born, is_alive
from nbtasks.wire.private import private_dir, read_private

FOLDER = "outbox"
ENTRY_BYTES_MAX = 2**20  # a larger submit is not worth a second copy
FILE_BYTES_MAX = 4 * 2**20
_HEADER = struct.Struct("<IIQ")

log = logging.getLogger("nbtasks.wire")


class Outbox:
    """The writing side; its callers take turns."""

    def __init__(self, home: Path, peer: PeerId) -> None:
        self._peer = peer
        pid = os.getpid()
        self._path = home / FOLDER / f"{peer}.{pid}.{round((born(pid) or 0.0) * 100)}"
        self._descriptor = -1
        self._size = 0
        self._number = 0

    def put(self, submit: Submit) -> bool:
        """Keep this until `clear`; False: there is no room for it, nothing is kept."""
        frame = codec.encode(self._peer, [submit])
        if len(frame) > ENTRY_BYTES_MAX or self._size + len(frame) > FILE_BYTES_MAX:
            return False
        self._number += 1
        entry = _HEADER.pack(len(frame), zlib.crc32(frame, self._number), self._number) + frame
        try:
            if self._descriptor < 0 or os.fstat(self._descriptor).st_nlink == 0:
                self._open()
            if os.write(self._descriptor, entry) == len(entry):
                self._size += len(entry)
                return True
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            log.debug("the outbox %s cannot be used: %s", self._path, error)
        return False

    def clear(self) -> None:
        """Nothing of it is needed any more."""
        if self._size:
            os.ftruncate(self._descriptor, 0)
            self._size = 0

    def close(self) -> None:
        """The client ends; what the broker may not have stays in the file."""
        if self._descriptor >= 0:
            if not self._size:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        """Make the file; again, if somebody removed the home and it is there anew."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        private_dir(self._path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size


class Outboxes:
    """All outboxes of a home, as its broker reads them."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._read: dict[str, int] = {}  # file -> number of the last entry that was read
        self._unread: set[str] = set()  # files that cannot be read, which is said once
        self._left: list[str] = []  # read to the end, and their owners are dead

    def read(self) -> Iterator[Submit]:
        """What was put into any of them since the last call."""
        try:
            files = [(entry.name, entry.stat().st_size) for entry in os.scandir(self._folder)]
        except OSError:
            return
        self._read = {name: self._read.get(name, 0) for name, _ in files}
        for name, size in files:
            if size:
                yield from self._read_file(name)

    def find_left(self) -> None:
        """See whose owners are dead; to be called before `read`, so that all they wrote is read."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        self._left = [name for name in names if not _has_owner(name)]

    def remove_left(self) -> None:
        """What was read is recorded: remove the files that nobody writes any more."""
        for name in self._left:
            (self._folder / name).unlink(missing_ok=True)
        self._left = []

    def _read_file(self, name: str) -> Iterator[Submit]:
        try:
            body = read_private(self._folder / name, FILE_BYTES_MAX + ENTRY_BYTES_MAX) or b""
        except PermissionError as error:
            if name not in self._unread:
                self._unread.add(name)
                log.warning("an outbox is left alone: %s", error)
            return
        for number, frame in _entries(body):
            if number <= self._read[name]:
                continue
            self._read[name] = number
            try:
                _, messages = codec.for_broker.decode(frame)
            except (ProtocolError, VersionMismatch) as error:
                log.warning("an entry of the outbox %s is ignored: %s", name, error)
                continue
            yield from (message for message in messages if isinstance(message, Submit))


def _entries(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole entries, up to the first that is torn."""
    at = 0
    while at + _HEADER.size <= len(body):
        length, crc, number = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        frame = body[at : at + length]
        if len(frame) < length or zlib.crc32(frame, number & 0xFFFFFFFF) != crc:
            return
        yield number, frame
        at += length


def _has_owner(name: str) -> bool:
    """Whether the process that writes this file lives."""
    try:
        _, pid, born_cs = name.rsplit(".", 2)
        return is_alive(int(pid), int(born_cs) / 100)
    except ValueError:
        return True  # it is none of ours
