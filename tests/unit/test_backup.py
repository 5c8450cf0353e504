"""A backup of a home without processes: what is in it, and that there is a whole one or none."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbtasks.broker import backup, copying, schema
from nbtasks.broker.backup import CannotBackUp, make
from nbtasks.broker.copying import CopyError, NewerSchema
from nbtasks.broker.store import Store
from nbtasks.core.backup import MANIFEST, Made, Manifest
from nbtasks.core.payload import Payload
from nbtasks.core.records import NewRow, Output, WorkerRecord
from nbtasks.wire import copies
from nbtasks.wire.blobs import Blobs, encoded
from nbtasks.wire.outbox import Outbox
from tests.core.given import promised
from tests.journals import fill, past_id, rows_of
from tests.unit.test_redo import SPEC, new

LARGE = 300_000  # bytes


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    Store(home / "journal.db").close()
    return home


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def ids(home: Path) -> set[str]:
    return {run for (run,) in rows_of(home / "journal.db", "SELECT id FROM run")}


def with_blob(home: Path, seq: int) -> str:
    """Record a run with large arguments; returns the name of their file."""
    reference = Blobs(home).write(Payload([b"x" * LARGE]), past_id(seq, seq), 0)
    store = Store(home / "journal.db")
    store.restore()
    store.commit(Output(specs=[(SPEC.key, SPEC, b"code")]))
    store.commit(Output(new=[NewRow(new(seq).record, encoded(reference), "{}")]))
    store.close()
    return reference.name


def manifest(target: Path) -> Manifest:
    return msgspec.json.decode((target / MANIFEST).read_bytes(), type=Manifest)


def nothing_is_left(target: Path) -> bool:
    return not target.exists() and not list(target.parent.glob(".copy*"))


def test_a_backup_is_a_home_of_its_owner_without_secrets(home: Path, target: Path) -> None:
    runs = fill(home / "journal.db", 3)
    name = with_blob(home, 4)
    (home / "settings.toml").write_text("drain_s = 5.0\n")
    (home / "keys.json").write_text("secret")
    (home / "dashboard.token").write_text("secret")
    (home / "logs").mkdir()

    made = make(home, target)

    assert (made.runs, made.blobs, made.lost) == (4, 1, ())
    assert {*runs, past_id(4, 4)} == ids(target)
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"journal.db", "settings.toml", f"blobs/{name}", MANIFEST}
    assert {path.stat().st_mode & 0o077 for path in [target, *target.rglob("*")]} == {0}


def test_the_manifest_has_the_hash_of_every_file(home: Path, target: Path) -> None:
    with_blob(home, 1)

    made = make(home, target)

    found = manifest(target)
    assert (found.home, found.runs) == (str(home), 1)
    assert made.bytes == sum(kept.size for kept in found.files)
    assert len(found.files) == 2
    for kept in found.files:
        body = (target / kept.name).read_bytes()
        assert (kept.size, kept.sha256) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("has_links", [True, False])
def test_a_large_value_is_linked_where_it_can_be_and_copied_elsewhere(
    home: Path, target: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    name = with_blob(home, 1)
    if not has_links:
        monkeypatch.setattr(os, "link", refuse)

    make(home, target)

    ours, copied = home / "blobs" / name, target / "blobs" / name
    assert ours.samefile(copied) is has_links
    assert ours.read_bytes() == copied.read_bytes()


def test_what_is_noted_and_not_committed_is_in_it(home: Path, target: Path) -> None:
    store = Store(home / "journal.db")
    store.commit(Output(specs=[(SPEC.key, SPEC, b"code")]))
    reference = Blobs(home).write(Payload([b"x" * LARGE]), past_id(1, 1), 0)
    assert store.note(Output(new=[NewRow(new(1).record, encoded(reference), "{}")]))

    made = make(home, target)

    assert (made.runs, made.blobs) == (1, 1)
    assert ids(home) == set()
    Store(target / "journal.db").close()
    assert ids(target) == {past_id(1, 1)}


def test_a_note_that_is_committed_already_is_left_out(home: Path, target: Path) -> None:
    store = Store(home / "journal.db")
    store.commit(Output(specs=[(SPEC.key, SPEC, b"code")]))
    assert store.note(Output(new=[new(1)]))
    note = (home / "journal.db-redo").read_bytes()
    store.settle()
    (home / "journal.db-redo").write_bytes(note)  # killed before it was cleared

    assert make(home, target).runs == 1
    assert not (target / "journal.db-redo").exists()


def test_what_is_only_promised_is_in_it_under_a_name_that_nobody_writes(home: Path, target: Path) -> None:
    box = Outbox(home, "c-1")
    frame = box.room_for(promised("r"))
    assert frame is not None
    box.put(frame)

    assert make(home, target).runs == 1
    [copied] = (target / "outbox").iterdir()
    assert copied.name == f"c-1.{os.getpid()}.0"


def test_workers_and_pools_stay_where_they_are(home: Path, target: Path) -> None:
    store = Store(home / "journal.db")
    store.commit(Output(peers={"w-1": WorkerRecord("w-1", "p-1", 7, 1.0, "here", "3.11", "/m", None)}))
    store.close()

    make(home, target)

    assert rows_of(target / "journal.db", "SELECT * FROM peer") == []


def test_values_that_leave_with_their_runs_meanwhile_are_neither_missed_nor_kept(
    home: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, copied, missed = with_blob(home, 1), with_blob(home, 2), with_blob(home, 3)

    def copy_blob(source: Path, *rest: Any, real: Callable[..., Any] = backup.copy_blob) -> Any:
        if source.name == missed:
            assert (backup._temporary(target) / "blobs" / copied).exists()
            with closing(sqlite3.connect(home / "journal.db", isolation_level=None)) as db:
                db.execute("DELETE FROM run WHERE seq > 1")
            Blobs(home).remove([past_id(2, 2), past_id(3, 3)])
        return real(source, *rest)

    monkeypatch.setattr(backup, "copy_blob", copy_blob)
    made = make(home, target)

    assert (made.runs, made.blobs, made.lost) == (1, 1, ())
    assert [path.name for path in (target / "blobs").iterdir()] == [stays]


@pytest.mark.parametrize("damage", ["missing", "shorter", "a link"])
def test_a_value_that_the_home_has_lost_is_told_and_does_not_keep_the_others_out(
    home: Path, target: Path, damage: str
) -> None:
    whole, lost = with_blob(home, 1), with_blob(home, 2)
    path = home / "blobs" / lost
    if damage == "shorter":
        os.truncate(path, 10)
    else:
        path.unlink()
    if damage == "a link":
        path.symlink_to(home / "blobs" / whole)

    made = make(home, target)

    assert (made.runs, made.blobs, made.lost) == (2, 1, (lost,))
    assert manifest(target).lost == (lost,)
    assert [entry.name for entry in (target / "blobs").iterdir()] == [whole]


def test_a_value_that_the_disk_does_not_give_does_not_keep_the_others_out(
    home: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, lost = with_blob(home, 1), with_blob(home, 2)
    bad = (home / "blobs" / lost).stat().st_ino

    def hashed(read: Any, *rest: Any, real: Callable[..., Any] = copies._hashed) -> Any:
        if os.fstat(read.__self__.fileno()).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(read, *rest)

    monkeypatch.setattr(copies, "_hashed", hashed)

    assert make(home, target).lost == (lost,)
    assert [entry.name for entry in (target / "blobs").iterdir()] == [whole]


def test_an_empty_directory_is_a_place_for_a_backup_and_another_one_is_not(home: Path, target: Path) -> None:
    target.mkdir(mode=0o755)
    make(home, target)
    assert target.stat().st_mode & 0o077 == 0
    before = sorted(target.rglob("*"))

    with pytest.raises(CannotBackUp, match="is not empty"):
        make(home, target)

    assert sorted(target.rglob("*")) == before


def test_there_must_be_a_journal_and_a_place(home: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotBackUp, match="no journal"):
        make(tmp_path / "elsewhere", target)
    with pytest.raises(CannotBackUp, match="no directory"):
        make(home, target / "deeper")
    target.write_text("")
    with pytest.raises(CannotBackUp, match="not a directory"):
        make(home, target)


def test_nothing_is_left_of_a_backup_for_which_there_is_no_room(
    home: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with_blob(home, 1)
    monkeypatch.setattr(backup, "copy_blob", refuse)

    with pytest.raises(OSError, match="No space"):
        make(home, target)

    assert nothing_is_left(target)


def test_a_damaged_journal_and_one_of_a_newer_version_are_refused(home: Path, target: Path) -> None:
    rows_of(home / "journal.db", f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(NewerSchema, match="upgrade nbtasks"):
        make(home, target)

    rows_of(home / "journal.db", f"PRAGMA user_version = {schema.VERSION}")
    fill(home / "journal.db", 2000)
    with open(home / "journal.db", "r+b") as file:
        file.seek(40 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(CopyError):
        make(home, target)

    assert nothing_is_left(target)


def test_the_copy_is_of_one_moment_while_rows_come(home: Path, tmp_path: Path) -> None:
    path = home / "journal.db"
    first = fill(path, 3000)
    more: list[str] = []

    def step(done: int, total: int) -> None:
        if not more:
            more.extend(fill(path, 10))

    copying.PAGES_PER_STEP, before = 20, copying.PAGES_PER_STEP
    try:
        copying.copy(path, tmp_path / "copy.db", step)
    finally:
        copying.PAGES_PER_STEP = before

    assert {run for (run,) in rows_of(tmp_path / "copy.db", "SELECT id FROM run")} == set(first)
    assert len(ids(home)) == 3010


def test_what_a_killed_backup_left_is_removed_by_the_next_one_to_that_place(home: Path, target: Path) -> None:
    dead = target.with_name(".copy.backup-999999999.5")
    other = target.with_name(".copy2.backup-999999999.5")
    alive = backup._temporary(target).with_name(f".copy.backup-{os.getppid()}.{born_cs(os.getppid())}")
    for path in (dead, other, alive):
        path.mkdir()

    assert isinstance(make(home, target), Made)

    assert [path.exists() for path in (dead, other, alive)] == [False, True, True]


def born_cs(pid: int) -> int:
    return round((backup.born(pid) or 0.0) * 100)
