"""The outbox: what is put there is read by whoever comes later, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks.wire import outbox
from nbtasks.wire.outbox import FOLDER, Outbox, Outboxes
from tests.core.given import promised


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def files(home: Path) -> list[Path]:
    return sorted((home / FOLDER).iterdir())


def test_what_was_put_is_read_once_and_in_order(home: Path) -> None:
    box, reader = Outbox(home, "c-1"), Outboxes(home)
    assert list(reader.read()) == []

    assert box.put(promised("r"))
    assert box.put(promised("s"))
    assert list(reader.read()) == [promised("r"), promised("s")]
    assert list(reader.read()) == []
    assert box.put(promised("t"))
    assert list(reader.read()) == [promised("t")]


def test_what_was_put_before_it_is_emptied_is_not_read_and_what_comes_after_is(home: Path) -> None:
    box, reader = Outbox(home, "c-1"), Outboxes(home)
    box.put(promised("r"))
    box.put(promised("s"))
    list(reader.read())

    box.clear()
    box.put(promised("t"))

    assert list(reader.read()) == [promised("t")]
    assert list(Outboxes(home).read()) == [promised("t")]


def test_the_outboxes_of_all_clients_are_read(home: Path) -> None:
    for peer, run in (("c-1", "r"), ("c-2", "s")):
        Outbox(home, peer).put(promised(run))

    assert {submit.batch for submit in Outboxes(home).read()} == {"b-r", "b-s"}


@pytest.mark.parametrize("keep", [1, 15, 16, 40, -1])
def test_a_torn_entry_and_what_follows_is_not_read(home: Path, keep: int) -> None:
    box = Outbox(home, "c-1")
    box.put(promised("r"))
    [path] = files(home)
    whole = path.read_bytes()
    box.put(promised("s"))
    torn = path.read_bytes()[len(whole) :][:keep]

    path.write_bytes(whole + torn)

    assert list(Outboxes(home).read()) == [promised("r")]


def test_a_damaged_entry_is_not_read(home: Path) -> None:
    Outbox(home, "c-1").put(promised("r"))
    [path] = files(home)
    body = bytearray(path.read_bytes())
    body[-3] ^= 1
    path.write_bytes(body)

    assert list(Outboxes(home).read()) == []


def test_what_is_too_large_is_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(home, "c-1")
    monkeypatch.setattr(outbox, "ENTRY_BYTES_MAX", 10)
    assert not box.put(promised("r"))
    monkeypatch.undo()
    monkeypatch.setattr(outbox, "FILE_BYTES_MAX", 200)

    taken = [box.put(promised(f"r{i}")) for i in range(10)]

    assert 0 < sum(taken) < 10
    assert len(list(Outboxes(home).read())) == sum(taken)
    box.clear()
    assert box.put(promised("r"))


def test_a_full_disk_keeps_nothing_and_harms_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(home, "c-1")
    box.put(promised("r"))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, body: write(descriptor, body[:20]))
        assert not box.put(promised("s"))

    assert box.put(promised("t"))
    assert list(Outboxes(home).read()) == [promised("r"), promised("t")]


def test_a_home_that_was_removed_and_is_there_again_gets_a_new_file(home: Path) -> None:
    box = Outbox(home, "c-1")
    box.put(promised("r"))
    shutil.rmtree(home)
    home.mkdir(mode=0o700)

    assert box.put(promised("s"))

    assert list(Outboxes(home).read()) == [promised("s")]


def test_a_home_that_is_gone_keeps_nothing(home: Path) -> None:
    home.rmdir()
    home.parent.chmod(0o500)
    try:
        if os.geteuid() == 0:
            home.write_text("a file where the home was")  # nothing stops root from making it again
        assert not Outbox(home, "c-1").put(promised("r"))
    finally:
        home.parent.chmod(0o700)


def test_an_empty_file_is_removed_when_its_client_ends_and_a_full_one_stays(home: Path) -> None:
    empty, full = Outbox(home, "c-1"), Outbox(home, "c-2")
    for box in (empty, full):
        box.put(promised("r"))
    empty.clear()

    empty.close()
    full.close()

    assert [path.name[:3] for path in files(home)] == ["c-2"]


def test_files_of_dead_clients_are_removed_once_they_were_read(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from nbtasks.wire.outbox import Outbox;"
        "from tests.core.given import promised; Outbox(Path(sys.argv[1]), 'c-dead').put(promised('r'))"
    )
    subprocess.run([sys.executable, "-c", script, str(home)], check=True)
    mine = Outbox(home, "c-mine")
    mine.put(promised("s"))
    reader = Outboxes(home)

    reader.find_left()
    assert {submit.batch for submit in reader.read()} == {"b-r", "b-s"}
    assert len(files(home)) == 2
    reader.remove_left()

    assert [path.name[:6] for path in files(home)] == ["c-mine"]


def test_a_file_that_others_may_write_or_that_is_a_link_is_left_alone(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Outbox(home, "c-1").put(promised("r"))
    [path] = files(home)
    path.chmod(0o666)
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.with_name("c-2.1.1").symlink_to(tmp_path / "elsewhere")
    reader = Outboxes(home)

    assert list(reader.read()) == []
    assert list(reader.read()) == []
    assert len(caplog.records) == 2
