"""The outbox: what is put there is read by whoever comes later, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nbtasks.wire import outbox
from nbtasks.wire.outbox import FOLDER, Outbox, Outboxes
from tests.core.given import promised


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def put(box: Outbox, *runs: str) -> None:
    for run in runs:
        frame = box.room_for(promised(run))
        assert frame is not None
        box.put(frame)


def files(home: Path) -> list[Path]:
    return sorted((home / FOLDER).iterdir())


def test_what_was_put_is_read_once_and_in_order(home: Path) -> None:
    box, reader = Outbox(home, "c-1"), Outboxes(home)
    assert list(reader.read()) == []

    put(box, "r", "s")
    assert list(reader.read()) == [promised("r"), promised("s")]
    assert list(reader.read()) == []
    put(box, "t")
    assert list(reader.read()) == [promised("t")]


def test_what_was_put_before_it_is_emptied_is_not_read_and_what_comes_after_is(home: Path) -> None:
    box, reader = Outbox(home, "c-1"), Outboxes(home)
    put(box, "r", "s", "s2")
    list(reader.read())

    box.clear()
    assert list(Outboxes(home).read()) == []
    put(box, "t")  # as long as the first, so that the second lies right behind it

    assert list(reader.read()) == [promised("t")]
    assert list(Outboxes(home).read()) == [promised("t")]


def test_the_outboxes_of_all_clients_are_read(home: Path) -> None:
    for peer, run in (("c-1", "r"), ("c-2", "s")):
        put(Outbox(home, peer), run)

    assert {submit.batch for submit in Outboxes(home).read()} == {"b-r", "b-s"}


@pytest.mark.parametrize("keep", [1, 15, 16, 40, -1])
def test_a_torn_entry_and_what_follows_is_not_read(home: Path, keep: int) -> None:
    box = Outbox(home, "c-1")
    put(box, "r")
    [path] = files(home)
    first = path.read_bytes()
    put(box, "s")
    both = path.read_bytes()
    start = next(i for i in range(len(both)) if first[i] != both[i])
    end = len(both.rstrip(b"\0"))

    path.write_bytes(both[: (start if keep > 0 else end) + keep])

    assert list(Outboxes(home).read()) == [promised("r")]


def test_a_damaged_entry_is_not_read(home: Path) -> None:
    put(Outbox(home, "c-1"), "r")
    [path] = files(home)
    body = bytearray(path.read_bytes())
    body[40] ^= 1
    path.write_bytes(body)

    assert list(Outboxes(home).read()) == []


def test_there_is_room_for_so_much_and_again_when_it_is_emptied(home: Path) -> None:
    box = Outbox(home, "c-1")
    large = msgspec.structs.replace(promised("r"), code=bytes(outbox.ENTRY_BYTES_MAX))
    assert box.room_for(large) is None
    put(box, "first")

    number = 0
    while frame := box.room_for(half := msgspec.structs.replace(promised(f"r{number}"), code=bytes(100_000))):
        box.put(frame)
        number += 1

    assert 1 < number <= outbox.FILE_BYTES // 100_000
    assert len(list(Outboxes(home).read())) == number + 1
    box.clear()
    assert box.room_for(half) is not None


def test_what_fits_is_told_exactly_whatever_makes_it_long(home: Path) -> None:
    box = Outbox(home, "c-1")
    wordy = promised("r")
    wordy = msgspec.structs.replace(
        wordy, spec=msgspec.structs.replace(wordy.spec, description="long " * 2000), code=bytes(7777)
    )

    number = 0
    while frame := box.room_for(wordy):
        box.put(frame)
        number += 1

    assert number > 20
    assert list(Outboxes(home).read()) == [wordy] * number


def test_a_full_disk_has_no_room_and_leaves_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    box = Outbox(home, "c-1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert box.room_for(promised("r")) is None
        assert files(home) == []

    put(box, "r")
    assert list(Outboxes(home).read()) == [promised("r")]


def test_a_home_that_was_removed_and_is_there_again_gets_a_new_file(home: Path) -> None:
    box = Outbox(home, "c-1")
    put(box, "r")
    shutil.rmtree(home)
    home.mkdir(mode=0o700)

    put(box, "s")

    assert list(Outboxes(home).read()) == [promised("s")]


def test_a_home_that_is_gone_or_moved_has_no_room_and_is_not_made_again(home: Path) -> None:
    box = Outbox(home, "c-1")
    put(box, "r")

    home.rename(home.with_name("elsewhere"))

    assert box.room_for(promised("s")) is None
    assert Outbox(home, "c-2").room_for(promised("r")) is None
    assert not home.exists()


def test_who_looks_sees_all_runs_that_were_put_also_those_that_were_read(home: Path) -> None:
    boxes, box = Outboxes(home), Outbox(home, "c-1")
    put(box, "r", "s")
    assert len(list(boxes.read())) == 2

    assert boxes.runs() == Outboxes(home).runs() == {"r", "s"}
    box.clear()
    assert boxes.runs() == set()


def test_an_empty_file_is_removed_when_its_client_ends_and_a_full_one_stays(home: Path) -> None:
    empty, full = Outbox(home, "c-1"), Outbox(home, "c-2")
    for box in (empty, full):
        put(box, "r")
    empty.clear()

    empty.close()
    full.close()

    assert [path.name[:3] for path in files(home)] == ["c-2"]


def test_files_of_dead_clients_are_removed_once_they_were_read(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from nbtasks.wire.outbox import Outbox;"
        "from tests.unit.test_outbox import put; put(Outbox(Path(sys.argv[1]), 'c-dead'), 'r')"
    )
    subprocess.run([sys.executable, "-c", script, str(home)], check=True)
    mine = Outbox(home, "c-mine")
    put(mine, "s")
    reader = Outboxes(home)

    reader.find_left()
    assert {submit.batch for submit in reader.read()} == {"b-r", "b-s"}
    assert len(files(home)) == 2
    reader.remove_left()

    assert [path.name[:6] for path in files(home)] == ["c-mine"]


def test_a_file_that_others_may_write_or_that_is_a_link_is_left_alone(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(Outbox(home, "c-1"), "r")
    [path] = files(home)
    path.chmod(0o666)
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.with_name("c-2.1.1").symlink_to(tmp_path / "elsewhere")
    reader = Outboxes(home)

    assert list(reader.read()) == []
    assert list(reader.read()) == []
    assert len(caplog.records) == 2
    path.rename(path.with_name("c-1.1.1"))  # as of a client that is dead
    reader.find_left()
    assert list(reader.read()) == []
    reader.remove_left()
    assert len(files(home)) == 2


def test_the_file_of_a_dead_client_stays_if_it_was_written_for_another_version(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(home, "c-1")
    put(box, "r")
    box.put(b"what no broker of this version reads")
    put(box, "s")
    [path] = files(home)
    path.rename(path.with_name("c-1.1.1"))
    reader = Outboxes(home)

    reader.find_left()
    assert {submit.batch for submit in reader.read()} == {"b-r", "b-s"}
    reader.remove_left()

    assert len(files(home)) == 1
    assert "the file stays" in caplog.text
