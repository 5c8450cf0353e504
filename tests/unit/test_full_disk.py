"""What a worker does when its disk is full: the result of code that has ended waits for room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nbtasks.core.payload import Payload
from nbtasks.errors import NbtasksError
from nbtasks.wire import ids
from nbtasks.wire.blobs import Blobs
from nbtasks.worker import executor

LARGE = Payload([bytes(100_000)])


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let the next attempts to write a large value fail with this number."""
    left = [times]
    plain = os.open

    def refused(path: object, flags: int, *more: object, **options: object) -> int:
        if left[0] and "blobs" in str(path) and flags & os.O_CREAT:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return plain(path, flags, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("nbtasks.wire.blobs.os.open", refused)


def test_a_result_waits_until_there_is_room_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, said = Blobs(tmp_path), list[str]()
    failing(monkeypatch, errno.ENOSPC, 3)
    monkeypatch.setattr(executor, "ROOM_PAUSE_S", 0.0)

    body = executor.once_there_is_room(lambda: blobs.pack(LARGE, ids.run_id(), 1), said.append)

    assert blobs.unpack(body).size == 100_000
    [line] = said
    assert "No space left on device" in line


def test_what_else_keeps_a_result_from_the_disk_is_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EACCES, 1)

    with pytest.raises(NbtasksError, match="Permission denied"):
        executor.once_there_is_room(lambda: Blobs(tmp_path).pack(LARGE, "r", 1), print)
