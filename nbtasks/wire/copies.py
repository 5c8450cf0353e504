"""Copies of files of a home, each with its hash: the very file where that can be, else its bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CHUNK_BYTES = 2**20


def copy_blob(source: Path, target: Path, size: int, step: Callable[[int], None]) -> str | None:
    """Let `target` hold what the blob `source` holds; returns its SHA-256.

    A hard link is enough, because a blob is never changed once it is in place.

    Parameters
    ----------
    size
        Bytes that it has.
    step
        Called with the number of bytes, for each piece.

    Returns
    -------
    None, and there is no `target`, if it is not there, not a file of ours of that size, or the disk does not
    give it.

    Raises
    ------
    OSError
        There is no room.
    """
    try:
        # without O_NONBLOCK a named pipe in its place would block
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size != size:
            return None
        is_link = _link(source, target, found)
        output = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if not is_link else -1
        try:
            return _hashed(file.readinto, output, step)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            target.unlink(missing_ok=True)  # the disk has lost it, and not the others
            return None
        finally:
            if output >= 0:
                os.fsync(output)
                os.close(output)


def digest(path: Path, step: Callable[[int], None] = lambda number: None) -> str:
    """The SHA-256 of a file that is no symbolic link; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        return _hashed(file.readinto, -1, step)


def _link(source: Path, target: Path, found: os.stat_result) -> bool:
    """False: it is another file system, one without hard links, or another file by now."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):  # the latter where links to links cannot be told
        return False
    if os.path.samestat(os.lstat(target), found):
        return True
    with suppress(FileNotFoundError):
        target.unlink()
    return False


def _hashed(read: Callable[[memoryview], int | None], output: int, step: Callable[[int], None]) -> str:
    """Read to the end; what is read is also written to `output`, unless that is -1."""
    found = hashlib.sha256()
    page = memoryview(bytearray(CHUNK_BYTES))
    while count := read(page):
        piece = page[:count]
        found.update(piece)
        while output >= 0 and piece:
            piece = piece[os.write(output, piece) :]
        step(count)
    return found.hexdigest()
