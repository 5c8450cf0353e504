"""The file format of large values: whatever is written is read, and whatever else is found is refused."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbtasks.core.payload import Payload
from nbtasks.errors import BlobCorrupt, NbtasksError
from nbtasks.wire import blobs as module
from nbtasks.wire.blobs import Blobs, Reference, encoded, reference_of

RUN = "01990000-0000-7000-8000-0000000000ab"
SMALL = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def payload(stream: list[bytes], buffers: list[bytes] = []) -> Payload:  # noqa: B006
    return Payload(stream, [memoryview(buffer) for buffer in buffers])


def test_a_small_value_travels_as_it_is(tmp_path: Path) -> None:
    store = Blobs(tmp_path)

    body = store.pack(payload([b"abc", b"def"]), RUN)

    assert body == b"abcdef"
    assert store.unpack(body) == Payload([b"abcdef"])
    assert not (tmp_path / "blobs").exists()


def test_a_large_value_is_a_file_that_the_body_names(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    large = os.urandom(100_000)

    body = store.pack(payload([large]), RUN, attempt=2)

    reference = reference_of(body)
    assert reference is not None
    assert reference.name == f"{RUN}.2.0"
    path = tmp_path / "blobs" / reference.name
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (reference.size, 0o600)
    assert bytes(store.unpack(body).stream[0]) == large
    assert [entry.name for entry in path.parent.iterdir()] == [reference.name]


@SMALL
@given(
    stream=st.lists(st.binary(max_size=300), max_size=4),
    buffers=st.lists(st.binary(max_size=300), max_size=5),
)
def test_what_is_written_is_read_and_lies_aligned(
    tmp_path: Path, stream: list[bytes], buffers: list[bytes]
) -> None:
    store = Blobs(tmp_path)

    found = store.open(store.write(payload(stream, buffers), RUN, 1))

    assert b"".join(found.stream) == b"".join(stream)
    assert [bytes(buffer) for buffer in found.buffers] == buffers
    for buffer in found.buffers:
        if buffer.nbytes:
            import numpy as np

            assert np.frombuffer(buffer, np.uint8).ctypes.data % module.ALIGNMENT == 0


def test_a_reader_may_write_into_what_it_reads(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    reference = store.write(payload([b"stream"], [b"x" * 100]), RUN, 1)

    found = store.open(reference)
    found.buffers[0][:3] = b"abc"

    assert bytes(found.buffers[0][:4]) == b"abcx"
    assert bytes(store.open(reference).buffers[0][:4]) == b"xxxx"


def test_however_many_are_read_descriptors_do_not_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAPPINGS_MAX", 3)
    store = Blobs(tmp_path)
    reference = store.write(payload([b"stream"], [b"x" * 10_000]), RUN, 1)

    before = len(os.listdir("/dev/fd"))
    found = [store.open(reference) for _ in range(20)]
    for each in found:
        each.buffers[0][:1] = b"y"

    assert all(bytes(each.buffers[0][:2]) == b"yx" for each in found)
    assert len(os.listdir("/dev/fd")) <= before + 3
    assert bytes(store.open(reference).buffers[0][:2]) == b"xx"


def test_what_was_read_stays_though_its_file_is_removed(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    found = store.open(store.write(payload([b"stream"], [b"x" * 10_000]), RUN, 1))

    assert store.used_bytes() > 10_000
    store.remove([RUN])
    assert store.used_bytes() == 0
    assert bytes(found.buffers[0]) == b"x" * 10_000


@SMALL
@given(keep=st.integers(0, 1000))
def test_a_torn_file_is_refused_wherever_it_ends(tmp_path: Path, keep: int) -> None:
    store = Blobs(tmp_path)
    reference = store.write(payload([b"s" * 500], [b"x" * 500]), RUN, 1)
    os.truncate(tmp_path / "blobs" / reference.name, min(keep, reference.size - 1))

    with pytest.raises(BlobCorrupt, match=reference.name):
        store.open(reference)


@SMALL
@given(at=st.integers(0, 100), value=st.integers(0, 255))
def test_a_damaged_header_never_leads_outside_of_the_file(tmp_path: Path, at: int, value: int) -> None:
    store = Blobs(tmp_path)
    reference = store.write(payload([b"s" * 500], [b"x" * 500]), RUN, 1)
    with open(tmp_path / "blobs" / reference.name, "r+b") as file:
        file.seek(at)
        file.write(bytes([value]))

    with suppress(BlobCorrupt):
        found = store.open(reference)
        assert sum(map(len, found.stream)) + sum(map(len, found.buffers)) <= reference.size


def test_a_missing_a_linked_or_a_foreign_file_is_refused(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    reference = store.write(payload([b"s" * 500]), RUN, 1)
    path = tmp_path / "blobs" / reference.name

    with pytest.raises(BlobCorrupt, match="not the name of a blob"):
        store.open(Reference("../keys", 10))
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(BlobCorrupt, match="not there any more"):
        store.open(reference)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BlobCorrupt, match="symbolic link"):
        store.open(reference)
    path.unlink()
    path.mkdir()
    with pytest.raises(BlobCorrupt):
        store.open(reference)


def test_the_file_of_another_value_is_refused(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    one, other = (store.write(payload([b"s" * 500]), RUN, attempt) for attempt in (1, 2))
    folder = tmp_path / "blobs"
    (folder / other.name).rename(folder / one.name)

    with pytest.raises(BlobCorrupt, match="another value's file"):
        store.open(one)


def test_a_named_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    reference = store.write(payload([b"s" * 500]), RUN, 1)
    path = tmp_path / "blobs" / reference.name
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(BlobCorrupt, match="not a regular file"):
        store.open(reference)


def test_what_cannot_be_removed_is_left(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    (tmp_path / "blobs" / f"{RUN}.0.0" / "inside").mkdir(parents=True)
    (tmp_path / "blobs").chmod(0o700)

    store.remove([RUN])

    assert sum(store.sweep(lambda run, attempt: False, 1e12)) == 0


def test_a_reference_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BlobCorrupt):
        reference_of(encoded(Reference("name", 1))[:-1])


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, pieces: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", full)

    with pytest.raises(NbtasksError, match="No space left"):
        Blobs(tmp_path).write(payload([b"x" * 100_000]), RUN, 0)

    assert list((tmp_path / "blobs").iterdir()) == []


def test_only_old_files_that_nothing_refers_to_are_swept(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    other = RUN.replace("ab", "cd")
    for run in (RUN, other):
        store.write(payload([b"x"]), run, 0)
    folder = tmp_path / "blobs"
    (folder / f"{module.TEMPORARY}77-dead").write_bytes(b"half")
    (folder / "somebody's notes").write_bytes(b"notes")
    now_s = (folder / f"{RUN}.0.0").stat().st_mtime

    assert sum(store.sweep(lambda run, attempt: False, now_s)) == 0
    freed = list(store.sweep(lambda run, attempt: run == RUN, now_s + module.ORPHAN_S + 10))

    assert len(freed) == 4
    assert {path.name for path in folder.iterdir()} == {f"{RUN}.0.0", "somebody's notes"}
