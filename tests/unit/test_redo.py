"""The redo log: what was noted and not committed is recorded by the next broker, once."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nbtasks.broker import opening, redo
from nbtasks.broker import store as store_module
from nbtasks.broker.reader import Reader
from nbtasks.broker.redo import FILE_BYTES, Note, Redo
from nbtasks.broker.store import JournalError, Store
from nbtasks.core.messages import Attempt, Moment, Need, Spec, Terms
from nbtasks.core.records import NewRow, Output, RunRecord
from nbtasks.core.retention import Past
from nbtasks.core.states import MOVES, State
from tests.journals import past_id, rows_of
from tests.system.waiting import until

SPEC = Spec("m:f", "f", "3.11", "digest")
TABLES = ("run", "state", "need", "result", "output", "idempotency", "cache", "spec", "code")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def redo_path(path: Path) -> Path:
    return path.with_name("journal.db-redo")


def known(path: Path) -> Store:
    """A journal in which `SPEC` is recorded."""
    store = Store(path)
    store.commit(Output(specs=[(SPEC.key, SPEC, b"code")]))
    return store


def new(seq: int, *needs: Need) -> NewRow:
    record = RunRecord(seq, past_id(seq, seq), "b", SPEC, SPEC.key, "", float(seq), at=float(seq))
    record.terms = Terms(needs=needs, name="Zoë")
    return NewRow(record, b"args", '{"x": "1"}')


def everything(seq: int) -> Output:
    """Something of each kind that can be noted: a run comes, one before it ends."""
    ended = new(seq - 1).record
    ended.state, ended.attempts = State.COMPLETED, (Attempt(1, "w-1", 7, 1.0, 2.0, "completed"),)
    ended.history = (Moment("Completed", 2.0, "m", ""),)
    return Output(
        new=[new(seq, Need(past_id(seq - 1, seq - 1)))],
        changed={ended.seq: ended},
        keys=[("m:f", f"key {seq}", seq)],
        values=[(ended.seq, b"\x00value")],
        caches=[(f"cache {seq}", ended.seq, 0.0)],
        chunks=[(ended.seq, 1, 1, b"[]")],
    )


def refused(descriptor: int, size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(path: Path) -> dict[str, list[Any]]:
    return {table: sorted(rows_of(path, f"SELECT * FROM {table}")) for table in TABLES}


def test_what_was_noted_is_recorded_by_the_next_broker(path: Path, tmp_path: Path) -> None:
    store = known(path)
    store.commit(Output(new=[new(1)]))
    assert store.note(everything(2))
    assert len(rows_of(path, "SELECT * FROM run")) == 1
    store.close()

    [record] = Store(path).restore().records
    assert record.run == past_id(2, 2)
    assert record.terms.needs == (Need(past_id(1, 1)),)

    other = known(tmp_path / "other.db")
    other.commit(Output(new=[new(1)]))
    other.commit(everything(2))
    assert contents(path) == contents(tmp_path / "other.db")


def test_what_was_noted_outlives_a_broker_that_is_killed(path: Path) -> None:
    known(path).close()
    code = (
        "import os, signal, pathlib, sys; from tests.unit.test_redo import Store, Output, new\n"
        "store = Store(pathlib.Path(sys.argv[1])); store.restore(); store._specs['m:f'] = 1\n"
        "assert store.note(Output(new=[new(1)])); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    assert rows_of(path, "SELECT * FROM run") == []

    assert [record.run for record in Store(path).restore().records] == [past_id(1, 1)]


def test_what_was_committed_before_the_broker_died_is_not_recorded_twice(path: Path) -> None:
    store = known(path)
    store.commit(Output(new=[new(1)]))
    store.note(everything(2))
    noted = redo_path(path).read_bytes()
    store.settle()
    before = contents(path)
    store.close()
    redo_path(path).write_bytes(noted)  # killed after the commit, before the log was cleared

    Store(path).close()

    assert contents(path) == before
    assert redo.left(redo_path(path)) is None


def test_what_was_noted_long_ago_puts_no_run_back(path: Path) -> None:
    store, row = known(path), new(1)
    store.note(Output(new=[row]))
    noted = redo_path(path).read_bytes()
    row.record.state = State.COMPLETED
    store.commit(Output(changed={1: row.record}, values=[(1, b"value")]))
    before = contents(path)
    store.close()
    redo_path(path).write_bytes(noted)  # the power failed before the system wrote the file once more

    Store(path).close()

    assert contents(path) == before


def test_what_was_noted_is_not_recorded_where_what_came_before_it_is_lacking(path: Path) -> None:
    store = known(path)
    store.note(Output(new=[new(1)]))
    store.close()
    for part in path.parent.glob("journal.db*"):
        if part != redo_path(path):
            part.unlink()

    Store(path).close()

    assert contents(path)["run"] == []
    [aside] = path.parent.glob("journal.db.damaged-redo-*")
    assert past_id(1, 1).encode() in aside.read_bytes()


def test_what_is_noted_after_the_clock_was_set_back_is_recorded_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(path).close()
    monkeypatch.setattr("time.time", lambda: 1000.0)
    store = Store(path)
    store.restore()
    store._specs[SPEC.key] = 1
    store.note(Output(new=[new(1)]))
    store.settle()
    store.note(Output(new=[new(2)]))
    noted = redo_path(path).read_bytes()
    store.close()

    assert len(Store(path).restore().records) == 2
    redo_path(path).write_bytes(noted)
    assert len(Store(path).restore().records) == 2


@pytest.mark.parametrize("seed", range(10))
def test_a_journal_is_the_same_wherever_its_brokers_were_killed(
    path: Path, tmp_path: Path, seed: int
) -> None:
    rng, store, whole, live = random.Random(seed), known(path), known(tmp_path / "whole.db"), {}
    for seq in range(1, 60):
        row = new(seq)
        live[seq] = row.record
        output = Output(new=[row], keys=[("m:f", str(seq), seq)])
        for record in rng.sample(list(live.values()), rng.randrange(min(4, len(live)) + 1)):
            record.state = rng.choice([*MOVES[record.state].values()])
            output.changed[record.seq] = record
            if record.is_final:
                del live[record.seq]
                output.values.append((record.seq, rng.randbytes(5)))
        whole.commit(output)
        if not store.note(output):
            store.commit(output)
        if rng.random() < 0.3:
            store.close()
            noted = redo_path(path).read_bytes()
            store = Store(path)
            if rng.random() < 0.5:
                store.close()
                redo_path(path).write_bytes(noted)
                store = Store(path)
            store.restore()
            store._specs[SPEC.key] = 1
        else:
            store.settle()

    store.close()
    assert contents(path) == contents(tmp_path / "whole.db")


def test_what_was_noted_is_there_for_whoever_asks(path: Path) -> None:
    store, found = known(path), []
    reader = Reader(path, 10, store.settle)
    store.note(Output(new=[new(1)]))
    assert store.arguments(1) == b"args"
    store.note(Output(new=[new(2)]))
    assert store.recorded(past_id(2, 2))
    store.note(Output(new=[new(3)]))
    assert store.queries(10).run(past_id(3, 3)) is not None
    store.note(Output(new=[new(4)]))

    reader.ask("key", lambda queries: queries.run(past_id(4, 4)), found.append)
    until(lambda: reader.take() or found, "the answer came")

    assert found[0].run == past_id(4, 4)
    reader.close()
    store.close()


def test_what_is_large_or_rare_or_must_survive_a_power_cut_is_committed_at_once(path: Path) -> None:
    store = known(path)
    past = Past(1, past_id(1, 1), "Completed", 1.0, 1, "m:f")
    for output in (
        Output(values=[(1, bytes(FILE_BYTES))]),
        Output(specs=[(SPEC.key, SPEC, b"")], new=[new(1)]),
        Output(new=[new(1)], removed=[past]),
        Output(new=[new(1)], peers={"w-1": None}),
        Output(copies=[(1, 2)]),
    ):
        assert not store.note(output)
    store.close()

    careful = Store(path, "power")
    careful.restore()
    assert not careful.note(Output(values=[(1, b"")]))
    careful.close()


def test_half_of_a_note_is_none(path: Path) -> None:
    log = Redo(redo_path(path))
    assert redo.left(redo_path(path)) is None
    assert log.put(Note(1.5, [("value", [(1, b"value")])]))
    assert redo.left(redo_path(path)) == (1.5, [("value", [[1, b"value"]])])

    with redo_path(path).open("r+b") as file:
        file.seek(30)
        file.write(b"\xff")

    assert redo.left(redo_path(path)) is None
    log.close()


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_redo_log_that_was_just_being_made_holds_nothing(path: Path, length: int) -> None:
    redo_path(path).write_bytes(bytes(length))
    redo_path(path).chmod(0o600)

    store = known(path)

    assert store.note(Output(new=[new(1)]))
    store.close()
    assert len(Store(path).restore().records) == 1


def test_a_note_that_cannot_be_committed_is_kept_beside_the_journal(path: Path) -> None:
    known(path).close()
    [(written,)] = rows_of(path, "SELECT at FROM mark WHERE name = 'written'")
    log = Redo(redo_path(path))
    log.put(Note(written, [("of a later version", [[1]])]))
    log.close()

    store = Store(path)

    [aside] = path.parent.glob("journal.db.damaged-redo-*")
    assert b"of a later version" in aside.read_bytes()
    store.commit(Output(new=[], values=[(1, b"")]))
    assert store.note(Output(values=[(1, b"")]))
    store.close()


def test_a_redo_log_that_another_version_wrote_is_kept(path: Path) -> None:
    known(path).close()
    body = redo_path(path).read_bytes().replace(b"redo 1", b"redo 2")
    redo_path(path).write_bytes(body)

    Store(path).close()

    [aside] = path.parent.glob("journal.db.damaged-redo-*")
    assert aside.read_bytes() == body


def test_a_redo_log_that_is_somewhere_else_keeps_a_broker_from_starting(path: Path) -> None:
    known(path).close()
    redo_path(path).rename(path.with_name("elsewhere"))
    redo_path(path).symlink_to(path.with_name("elsewhere"))

    with pytest.raises(PermissionError, match="cannot be read"):
        Store(path)


def test_what_was_noted_is_recorded_even_if_there_is_no_room_for_a_redo_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = known(path)
    store.note(Output(new=[new(1)]))
    store.close()
    monkeypatch.setattr("nbtasks.wire.private.fill", refused)

    assert len(Store(path).restore().records) == 1


def test_a_note_waits_for_a_journal_that_somebody_else_has_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = known(path)
    store.note(Output(new=[new(1)]))
    store.close()
    plain = opening.open_journal

    def impatient(path: Path, durability: str) -> tuple[sqlite3.Connection, Path | None]:
        db, set_aside = plain(path, durability)
        db.execute("PRAGMA busy_timeout = 0")
        return db, set_aside

    monkeypatch.setattr(opening, "open_journal", impatient)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            Store(path)

    assert len(Store(path).restore().records) == 1


def test_a_note_that_meets_a_damaged_journal_makes_the_next_start_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = known(path)
    store.note(Output(new=[new(1)]))
    store.close()
    [(page,)] = rows_of(path, "SELECT rootpage FROM sqlite_master WHERE name = 'run'")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    monkeypatch.setattr(opening, "CHECKED_FIRST_BYTES", 0)

    with pytest.raises(JournalError):
        Store(path)
    after = Store(path)

    assert past_id(1, 1).encode() in Path(f"{after.set_aside}-redo").read_bytes()
    after.close()


def test_a_note_goes_with_the_damaged_journal_that_it_belongs_to(path: Path) -> None:
    store = known(path)
    store.note(Output(new=[new(1)]))
    store.close()
    path.write_bytes(b"no journal" * 1000)

    after = Store(path)

    assert after.set_aside
    assert past_id(1, 1).encode() in Path(f"{after.set_aside}-redo").read_bytes()
    assert after.restore().records == []
    after.close()


def test_a_redo_log_that_was_removed_is_made_anew(path: Path) -> None:
    store = known(path)
    store.is_in_place()
    redo_path(path).unlink()

    assert store.is_in_place()

    store.note(Output(new=[new(1)]))
    store.close()
    assert len(Store(path).restore().records) == 1


def test_without_a_redo_log_everything_is_committed_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtasks.wire.private.fill", refused)

    store = known(path)

    assert not store.note(Output(new=[new(1)]))
    store.close()


def test_that_there_is_no_redo_log_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nbtasks.wire.private.fill", refused)
    store = known(path)
    for _ in range(3):
        store.is_in_place()
    assert len(caplog.records) == 1

    monkeypatch.undo()
    store.is_in_place()
    assert store.note(Output(new=[new(1)]))
    store.close()


def test_what_was_noted_waits_for_room_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ROOM_PAUSE_S", 0.0)
    looks = []

    def waits() -> bool:
        looks.append(store._db.execute("PRAGMA max_page_count = 1000000"))
        return True

    known(path).close()
    store = Store(path, waits=waits)
    store.restore()
    store._specs[SPEC.key] = 1
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    store.note(Output(values=[(1, bytes(FILE_BYTES // 2))]))

    store.settle()

    assert len(looks) == 1
    assert len(rows_of(path, "SELECT * FROM result")) == 1

    store._waits = lambda: False
    store._db.execute("PRAGMA max_page_count = 1")
    store.note(Output(values=[(2, bytes(FILE_BYTES // 2))]))
    with pytest.raises(JournalError):
        store.settle()
    store.close()
    Store(path).close()
    assert len(rows_of(path, "SELECT * FROM result")) == 2
