"""Blobs: files in the home for values too large to travel in a message.

A blob is written once under a temporary name, renamed into place before anybody is told of it, then
only read and unlinked. Its name, `<run>.<attempt>.<number>`, says to which run it belongs (attempt 0:
its arguments), so nobody has to open a payload to know what may be removed.

The file: a header, a table of segments, then the segments, each at a multiple of 64 bytes: the
out-of-band buffers of a pickle first, the pickle itself last. A reader maps the file privately, so
an array is there without a copy and may be written to.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import secrets
import stat
import struct
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from nbtasks.core.codec import INLINE_BYTES_MAX
from nbtasks.core.payload import Payload
from nbtasks.errors import BlobCorrupt, NbtasksError
from nbtasks.wire.private import private_dir, sync_folder

Buffer = bytes | bytearray | memoryview

FOLDER = "blobs"
ALIGNMENT = 64
TEMPORARY = ".new-"  # names of blobs that are being written begin so
ORPHAN_S = 3600.0  # a file that nothing refers to is younger while its message may be under way
ATTEMPTS_TRIED = 3  # whose results are removed with their run without looking for more
MAPPINGS_MAX = 256  # at a time; before Python 3.13 each one keeps a descriptor of its own
_MAGIC = b"nbtblob1"
_HEADER = struct.Struct("<8sQQ72s")  # magic, bytes of the whole file, number of segments, its name
_SEGMENT = struct.Struct("<QQ")  # offset, bytes
_SEGMENTS_MAX = 2**20
_NAME = re.compile(r"([0-9a-f-]{36})\.(\d{1,9})\.(\d{1,9})")
_WRITE_BYTES_MAX = 2**30  # at once; the kernel takes no more than 2 GiB
_PARTS_MAX = 512  # at once; below every system's IOV_MAX
_mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
REFERENCE = b"\x00blob "  # no pickle begins so
REFERENCE_BYTES_MAX = 256  # of a payload that stands for a blob


class Reference(msgspec.Struct, frozen=True):
    """What travels and is recorded instead of a large value."""

    name: str
    size: int  # bytes of the file


def encoded(reference: Reference) -> bytes:
    """The payload that stands for a blob."""
    return REFERENCE + msgspec.json.encode(reference)


def reference_of(payload: bytes) -> Reference | None:
    """The blob that a payload stands for; None if it is the value itself."""
    if not payload.startswith(REFERENCE):
        return None
    try:
        return msgspec.json.decode(payload[len(REFERENCE) :], type=Reference)
    except msgspec.MsgspecError as error:
        raise BlobCorrupt(f"a payload refers to a blob in words that cannot be read: {error}") from None


def run_of(name: str) -> tuple[str, int] | None:
    """Run and attempt that a file's name tells; None if it is not a blob's."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


class Blobs:
    """The blobs of one home.

    Parameters
    ----------
    syncs
        Whether a blob has to survive a power cut.
    """

    def __init__(self, home: Path, syncs: bool = False) -> None:
        self._folder = home / FOLDER
        self._syncs = syncs
        self._is_there = False

    # -- writing ------------------------------------------------------------------------------------------

    def pack(self, payload: Payload, run: str, attempt: int = 0, number: int = 0) -> bytes:
        """What travels of a value: all of it, or if it is large the reference to its blob, which is in place.

        Raises
        ------
        NbtasksError
            The blob cannot be written.
        """
        if payload.size <= INLINE_BYTES_MAX and not payload.buffers:
            return b"".join(payload.stream)
        return encoded(self.write(payload, run, attempt, number))

    def write(self, payload: Payload, run: str, attempt: int, number: int = 0) -> Reference:
        """Write a value and put it into place.

        Raises
        ------
        NbtasksError
            There is no room, or the folder cannot be written to.
        """
        name = f"{run}.{attempt}.{number}"
        temporary = self._folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"
        try:
            if not self._is_there:
                private_dir(self._folder)
                self._is_there = True
            size = self._write(temporary, name, payload)
            os.rename(temporary, self._folder / name)
            if self._syncs:
                sync_folder(self._folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                raise NbtasksError(
                    f"a value of {payload.size:,} bytes cannot be stored in {self._folder}: {_reason(error)}"
                ) from error
            raise
        return Reference(name, size)

    def _write(self, path: Path, name: str, payload: Payload) -> int:
        pieces, size = _laid_out(name, payload)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _write_all(descriptor, pieces)
            if self._syncs:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return size

    # -- reading ------------------------------------------------------------------------------------------

    def unpack(self, body: bytes) -> Payload:
        """The value that `pack` gave this body for; raises `BlobCorrupt`."""
        reference = reference_of(body)
        return Payload([body]) if reference is None else self.open(reference)

    def open(self, reference: Reference) -> Payload:
        """Map a blob privately.

        Raises
        ------
        BlobCorrupt
            It is not there, or not what was written; the message names the file.
        """
        path = self._folder / reference.name
        if run_of(reference.name) is None:
            raise BlobCorrupt(f"{reference.name!r} is not the name of a blob")
        try:
            # without O_NONBLOCK a named pipe in its place would block
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise BlobCorrupt(f"{path} is not there any more") from None
        except OSError as error:
            raise BlobCorrupt(f"{path} cannot be opened: {_reason(error)}") from None
        try:
            _check(os.fstat(descriptor), reference.size, path)
            body = _mapped(descriptor, reference.size)
        except ValueError as error:
            raise BlobCorrupt(f"{path} cannot be read: {error}") from None
        finally:
            os.close(descriptor)
        return _taken_apart(body, path)

    # -- removing -----------------------------------------------------------------------------------------

    def discard(self, body: bytes) -> None:
        """Nobody was told of this value."""
        reference = reference_of(body)
        if reference is not None and run_of(reference.name):
            with contextlib.suppress(OSError):
                os.unlink(self._folder / reference.name)

    def remove(self, runs: Iterable[str]) -> None:
        """Remove the blobs of these runs by their usual names; what is left of them is swept."""
        if not self._folder.is_dir():
            return
        for run in runs:
            for attempt in range(1 + ATTEMPTS_TRIED):
                with contextlib.suppress(OSError):  # it is not there, or the sweep has better luck
                    os.unlink(self._folder / f"{run}.{attempt}.0")

    def used_bytes(self) -> int:
        """What all blobs take."""
        used = 0
        for entry in self._entries():
            with contextlib.suppress(OSError):
                used += entry.stat(follow_symlinks=False).st_size
        return used

    def sweep(self, are_referenced: Callable[[str, int], bool], unix_s: float | None = None) -> Iterator[int]:
        """Remove files that nothing refers to and that are older than `ORPHAN_S`.

        Parameters
        ----------
        are_referenced
            Tells, by run and attempt, whether a row refers to the blob, or may still come to.

        Yields
        ------
        Bytes freed by each file looked at, so that the caller decides how long to go on.
        """
        until = (time.time() if unix_s is None else unix_s) - ORPHAN_S
        for entry in self._entries():
            freed = 0
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < until:
                    found = run_of(entry.name)
                    is_ours = found is not None or entry.name.startswith(TEMPORARY)
                    if is_ours and not (found and are_referenced(*found)):
                        freed = _unlink(entry)
            yield freed

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            yield from entries


# -- the format -------------------------------------------------------------------------------------


def _laid_out(name: str, payload: Payload) -> tuple[list[Buffer], int]:
    """The pieces of the file in order, and their size."""
    stream, buffers = payload
    sizes = [*(buffer.nbytes for buffer in buffers), sum(map(len, stream))]
    at = _aligned(_HEADER.size + _SEGMENT.size * len(sizes))
    table = bytearray()
    pieces: list[Buffer] = [table]
    for number, size in enumerate(sizes):
        table += _SEGMENT.pack(at, size)
        pieces += [buffers[number]] if number < len(buffers) else stream
        end = at + size
        at = _aligned(end)
        if number < len(buffers):
            pieces.append(bytes(at - end))
    head = _HEADER.pack(_MAGIC, end, len(sizes), name.encode()) + table
    pieces[0] = head + bytes(_aligned(len(head)) - len(head))
    return pieces, end


def _taken_apart(body: memoryview, path: Path) -> Payload:
    try:
        magic, size, number, name = _HEADER.unpack_from(body)
        if magic != _MAGIC or size != body.nbytes or not 0 < number <= _SEGMENTS_MAX:
            raise ValueError("its header is not a blob's")
        if name.rstrip(b"\0").decode("ascii", "replace") != path.name:
            raise ValueError("it is another value's file")
        segments = []
        behind = _aligned(_HEADER.size + _SEGMENT.size * number)
        for i in range(number):
            at, length = _SEGMENT.unpack_from(body, _HEADER.size + _SEGMENT.size * i)
            if at < behind or at % ALIGNMENT or at + length > size:
                raise ValueError(f"segment {i} lies outside")
            segments.append(body[at : at + length])
            behind = at + length
    except (struct.error, ValueError) as error:
        raise BlobCorrupt(f"{path} is damaged: {error}") from None
    return Payload([segments[-1]], segments[:-1])


def _mapped(descriptor: int, size: int) -> memoryview:
    """The file in memory: mapped privately, or copied where too many are mapped."""
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY, trackfd=False))
    if len(_mappings) < MAPPINGS_MAX:
        mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
        _mappings.add(mapping)
        return memoryview(mapping)
    # memory of our own, aligned as a mapping is
    copy = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    at = 0
    while at < size:
        count = os.preadv(descriptor, [copy[at : at + _WRITE_BYTES_MAX]], at)
        if not count:
            raise ValueError("it became shorter while it was read")
        at += count
    return copy


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _check(found: os.stat_result, size: int, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BlobCorrupt(f"{path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise BlobCorrupt(f"{path} belongs to user {found.st_uid}, not to you ({os.geteuid()})")
    if found.st_size != size:
        raise BlobCorrupt(f"{path} has {found.st_size:,} bytes; {size:,} were written")


def _write_all(descriptor: int, pieces: Sequence[Buffer]) -> None:
    left = [view for view in (memoryview(piece).cast("B") for piece in pieces) if view.nbytes]
    first = 0
    while first < len(left):
        some: list[memoryview] = []
        size = 0
        for view in left[first : first + _PARTS_MAX]:
            some.append(view[: _WRITE_BYTES_MAX - size])
            size += some[-1].nbytes
            if size >= _WRITE_BYTES_MAX:
                break
        written = os.writev(descriptor, some)
        while first < len(left) and written >= left[first].nbytes:
            written -= left[first].nbytes
            first += 1
        if written:
            left[first] = left[first][written:]


def _unlink(entry: os.DirEntry[str]) -> int:
    try:
        size = entry.stat(follow_symlinks=False).st_size
        os.unlink(entry.path)
    except FileNotFoundError:
        return 0
    return size


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return error.strerror or str(error)
