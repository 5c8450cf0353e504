"""The lock on a home: who holds it is its broker, and there is exactly one.

The kernel lets go of the lock when its holder dies, however it dies. The content only says who holds
it, and is believed only while that very process lives.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from nbtasks.wire import alive

TAKE_TRIES = 10  # somebody who looks who holds the lock may hold it for a moment
TAKE_PAUSE_S = 0.01


class Owner(NamedTuple):
    pid: int
    runtime: str  # directory of its sockets


class _Content(msgspec.Struct):
    pid: int
    born: float
    runtime: str


def _path(home: str | Path) -> Path:
    return Path(home) / "broker.lock"


class HomeLock:
    """The lock of one home; held from `take` until `release` or the end of the process."""

    def __init__(self, home: str | Path) -> None:
        self._home = home
        self._descriptor: int | None = None

    def take(self, runtime: str | Path) -> bool:
        """Hold the lock from now on; False if somebody else holds it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(_path(self._home), flags, 0o600)
        for attempt in range(TAKE_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == TAKE_TRIES - 1 or owner(self._home):
                    os.close(descriptor)
                    return False
                time.sleep(TAKE_PAUSE_S)
        pid = os.getpid()
        content = _Content(pid, alive.born(pid) or 0.0, str(runtime))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(content), 0)
        self._descriptor = descriptor
        return True

    def is_intact(self) -> bool:
        """Whether the file that we locked is still the one in the home."""
        if self._descriptor is None:
            return False
        try:
            there = os.lstat(_path(self._home))
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def owner(home: str | Path) -> Owner | None:
    """The broker process of this home and where its sockets lie; None when nobody holds the lock."""
    try:
        descriptor = os.open(_path(home), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        content = msgspec.json.decode(os.pread(descriptor, 65536, 0), type=_Content)
        # dead holders are recognised without touching the lock, so that looking never keeps a new broker out
        if not alive.is_alive(content.pid, content.born):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Owner(content.pid, content.runtime)
        return None
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    finally:
        os.close(descriptor)
