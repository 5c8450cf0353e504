"""The marker file: what a worker has begun, what it has ended and with what result, readable after its death.

A message that was just handed to a socket dies with the process; a mapped page does not. The first page
holds a ring of slots, written around user code. A worker never begins more attempts since its oldest
unrecorded one than there are slots (`core.worker.MARKED_MAX`), so whoever reads the page after the
death knows of every attempt that the broker may still take for unstarted. Behind the page lies a ring of
bytes with what there was to say of the attempts that ended; what does not fit is only said, not kept.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from nbtasks.core import codec
from nbtasks.core.hooks import ENDS
from nbtasks.core.messages import Finished, Held, Printed, RunId
from nbtasks.wire import private

PAGE_BYTES = 4096
RING_BYTES = 4 * 2**20
KEPT_BYTES_MAX = RING_BYTES // 4  # of one attempt, so that one does not push out all others
_MAGIC = b"nbtasks marker 2"
# flag, place of its hooks in `ENDS` from 1 on, attempt, run; where its words lie, their length and CRC-32
_SLOT = struct.Struct("<BBxxI40sIII")
_SLOT_BYTES = 64
SLOTS = PAGE_BYTES // _SLOT_BYTES - 1  # the first one is the header
_PLACE = struct.Struct("<III")
_PLACE_OFFSET = _SLOT.size - _PLACE.size
_EMPTY, _STARTED, _ENDED = 0, 1, 2

Said = Printed | Finished

_decoder = msgspec.msgpack.Decoder(list[Said])


class Marker:
    """The writing side; one per worker process."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        self._slot = 0
        self._ring_at = 0

    @classmethod
    def create(cls, path: str | Path) -> Marker:
        """Make the file (0600) with no attempt in it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            private.fill(descriptor, PAGE_BYTES + RING_BYTES)
            page = mmap.mmap(descriptor, PAGE_BYTES + RING_BYTES)
        finally:
            os.close(descriptor)
        page[: len(_MAGIC)] = _MAGIC
        return cls(page)

    def started(self, run: RunId, attempt: int) -> None:
        """User code of this attempt begins now."""
        self._slot = self._slot % SLOTS + 1
        offset = self._slot * _SLOT_BYTES
        # the flag last, so that a kill in between leaves an empty slot, not a wrong one
        self._page[offset] = _EMPTY
        self._page[offset : offset + _SLOT.size] = _SLOT.pack(_EMPTY, 0, attempt, run.encode(), 0, 0, 0)
        self._page[offset] = _STARTED

    def hooks(self, hook: str) -> None:
        """The hooks of this name, for its ending, begin now; of the attempt that began last."""
        self._page[self._slot * _SLOT_BYTES + 1] = ENDS.index(hook) + 1

    def ended(self, words: Sequence[Said]) -> None:
        """The attempt that began last is over, and there is this to say of it."""
        body = codec.pack(words)
        offset = self._slot * _SLOT_BYTES
        if len(body) <= KEPT_BYTES_MAX:
            at = self._ring_at if self._ring_at + len(body) <= RING_BYTES else 0
            self._page[PAGE_BYTES + at : PAGE_BYTES + at + len(body)] = body
            self._ring_at = at + len(body)
            _PLACE.pack_into(self._page, offset + _PLACE_OFFSET, at, len(body), zlib.crc32(body))
        self._page[offset] = _ENDED


def read(path: str | Path) -> tuple[Held, ...]:
    """The attempts that the file names, in no order; empty if there is no such file, or a broken one."""
    return tuple(held for held, _ in _slots(_contents(path, PAGE_BYTES)))


def said(path: str | Path) -> tuple[Said, ...]:
    """What there was to say of the attempts that ended, if it is still there; for each in its order."""
    body = _contents(path, PAGE_BYTES + RING_BYTES)
    words: list[Said] = []
    for held, (at, length, crc) in _slots(body):
        start = PAGE_BYTES + at
        kept = body[start : start + length]
        # a later attempt may have used the place
        if held.ended and length and zlib.crc32(kept) == crc:
            words += _decoder.decode(kept)
    return tuple(words)


def is_running(path: str | Path, run: RunId, attempt: int) -> bool:
    """Whether user code of this very attempt began and has not ended."""
    return any((h.run, h.attempt) == (run, attempt) and not h.ended for h in read(path))


def _contents(path: str | Path, size: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


def _slots(body: bytes) -> Iterator[tuple[Held, tuple[int, int, int]]]:
    """The attempts in the first page, each with the place of what there was to say."""
    if len(body) < PAGE_BYTES or not body.startswith(_MAGIC):
        return
    for offset in range(_SLOT_BYTES, PAGE_BYTES, _SLOT_BYTES):
        flag, hooks, attempt, run, *place = _SLOT.unpack_from(body, offset)
        if flag in (_STARTED, _ENDED):
            name = run.rstrip(b"\0").decode("ascii", "replace")
            hook = ENDS[hooks - 1] if 0 < hooks <= len(ENDS) else ""
            yield Held(name, attempt, started=True, ended=flag == _ENDED, hooks=hook), tuple(place)
