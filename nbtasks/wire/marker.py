"""The marker file: which attempts' user code a worker has begun and ended, readable after its death.

A message that was just handed to a socket dies with the process; a mapped page does not. One page
holds a ring of slots, written around user code. A worker never begins more attempts since its oldest
unrecorded one than there are slots (`core.worker.MARKED_MAX`), so whoever reads the page after the
death knows of every attempt that the broker may still take for unstarted.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from nbtasks.core.messages import Held, RunId

PAGE_BYTES = 4096
_MAGIC = b"nbtasks marker 1"
_SLOT = struct.Struct("<BxxxI40s")  # flag, attempt, run
_SLOT_BYTES = 64
SLOTS = PAGE_BYTES // _SLOT_BYTES - 1  # the first one is the header
_EMPTY, _STARTED, _ENDED = 0, 1, 2


class Marker:
    """The writing side; one per worker process."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        self._slot = 0

    @classmethod
    def create(cls, path: str | Path) -> Marker:
        """Make the file (0600) with no attempt in it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, PAGE_BYTES)
            page = mmap.mmap(descriptor, PAGE_BYTES)
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
        self._page[offset : offset + _SLOT.size] = _SLOT.pack(_EMPTY, attempt, run.encode())
        self._page[offset] = _STARTED

    def ended(self) -> None:
        """User code of the attempt that began last is over."""
        self._page[self._slot * _SLOT_BYTES] = _ENDED


def read(path: str | Path) -> tuple[Held, ...]:
    """The attempts that the file names, in no order; empty if there is no such file, or a broken one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ()
    with os.fdopen(descriptor, "rb") as file:
        page = file.read(PAGE_BYTES)
    if len(page) < PAGE_BYTES or not page.startswith(_MAGIC):
        return ()
    held = []
    for offset in range(_SLOT_BYTES, PAGE_BYTES, _SLOT_BYTES):
        flag, attempt, run = _SLOT.unpack_from(page, offset)
        if flag in (_STARTED, _ENDED):
            name = run.rstrip(b"\0").decode("ascii", "replace")
            held.append(Held(name, attempt, started=True, ended=flag == _ENDED))
    return tuple(held)


def is_running(path: str | Path, run: RunId, attempt: int) -> bool:
    """Whether user code of this very attempt began and has not ended."""
    return Held(run, attempt, started=True, ended=False) in read(path)
