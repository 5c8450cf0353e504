"""Directories and files that only their owner can reach; checked, not assumed.

A payload is code, so whoever reads the keys or reaches a socket owns the account. What is found with
wider permissions is refused, never silently repaired, because somebody may have been there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

SOCKET_PATH_BYTES_MAX = 103  # sun_path holds 107 bytes and a NUL on Linux, 103 on macOS
_LONGEST_SOCKET = "control.sock"


def private_dir(path: str | Path) -> Path:
    """Make the directory (0700, with its parents) if it is not there, and check it.

    Raises
    ------
    PermissionError
        It is a symbolic link, belongs to somebody else, or others may enter it.
    """
    path = Path(path)
    for missing in reversed([path, *path.parents]):
        # one by one, because `parents=True` gives those the mode that files have by default
        if not missing.exists():
            with contextlib.suppress(FileExistsError):
                missing.mkdir(mode=0o700)
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{path} must be a directory, not a symbolic link or a file")
    if found.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to you ({os.getuid()})")
    if stat.S_IMODE(found.st_mode) & 0o077:
        _close(path, found)
    return path


def _close(path: Path, found: os.stat_result) -> None:
    """Take group and others out of a directory that is still empty; refuse one that is not."""
    if found.st_mode & 0o022 == 0 and not any(path.iterdir()):
        path.chmod(0o700)
        return
    raise PermissionError(
        f"{path} can be entered by others (mode {stat.S_IMODE(found.st_mode):04o}); "
        f"if nobody tampered with it, run: chmod 700 {path}"
    )


def fill(descriptor: int, size: int) -> None:
    """Give a new file that is to be mapped its size, and the room on the disk.

    Without the room, a disk that is full when a page is written first would end the process by SIGBUS.

    Raises
    ------
    OSError
        There is none.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def write_private(path: str | Path, body: bytes) -> None:
    """Write the file (0600) so that a reader sees all of it or what was there before."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: str | Path) -> None:
    """Let the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: str | Path, bytes_max: int = 2**20) -> bytes | None:
    """The content of a private file; None if there is none.

    Raises
    ------
    PermissionError
        It belongs to somebody else, others may read it, or it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PermissionError(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{path} is not a regular file of yours")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{path} can be reached by others; it must have mode 0600")
        return file.read(bytes_max)


def runtime_dir(home: str | Path) -> Path:
    """The directory of a home's sockets, made and checked; short, because a socket's path must be.

    Raises
    ------
    PermissionError
        Somebody else can reach it.
    ValueError
        The path of `NBTASKS_RUNTIME_DIR` is too long for a socket.
    """
    digest = hashlib.sha256(os.fsencode(os.path.abspath(home))).hexdigest()[:10]
    if chosen := os.environ.get("NBTASKS_RUNTIME_DIR"):
        root = Path(os.path.abspath(chosen))
        if not _fits(root / digest):
            raise ValueError(
                f"NBTASKS_RUNTIME_DIR={chosen} is too long: the path of a socket in it must not have "
                f"more than {SOCKET_PATH_BYTES_MAX} bytes"
            )
        return private_dir(private_dir(root) / digest)
    system = os.environ.get("XDG_RUNTIME_DIR")
    if (
        system
        and os.path.isabs(system)
        and os.access(system, os.W_OK)
        and _fits(Path(system) / "nbtasks" / digest)
    ):
        return private_dir(private_dir(Path(system) / "nbtasks") / digest)
    root = Path(tempfile.gettempdir()) / f"nbtasks-{os.getuid()}"
    if not _fits(root / digest):
        root = Path("/tmp") / f"nbtasks-{os.getuid()}"
    return private_dir(private_dir(root) / digest)


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _LONGEST_SOCKET)) <= SOCKET_PATH_BYTES_MAX
