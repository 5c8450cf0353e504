"""The journal's file: what is counted, read, brought up to date and set aside."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from itertools import count
from pathlib import Path

import msgspec
import pytest

from nbtasks.broker import opening, reader, schema
from nbtasks.broker.payloads import ENTRY_BYTES, Payloads
from nbtasks.broker.queries import Queries
from nbtasks.broker.reader import Failed, Reader
from nbtasks.broker.rows import Damaged
from nbtasks.broker.store import JournalError, Store, is_full
from nbtasks.core.messages import Moment, RunFilter, Spec, Terms
from nbtasks.core.records import NewRow, Output, RunRecord
from nbtasks.core.retention import Past
from nbtasks.core.states import MOVES, State
from nbtasks.wire.blobs import Blobs
from tests.journals import fill, past_id, rows_of
from tests.system.waiting import until

SPEC = Spec("m:f", "f", "3.11", "digest")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def new(seq: int, spec: Spec = SPEC) -> RunRecord:
    return RunRecord(seq, past_id(seq, seq), "b", spec, spec.key, "", float(seq), at=float(seq))


def commit(store: Store, *records: RunRecord, spec: Spec = SPEC) -> None:
    rows = [NewRow(record, b"args", "{}") for record in records]
    store.commit(Output(new=rows, specs=[(spec.key, spec, b"code")]))


def as_past(record: RunRecord) -> Past:
    return Past(record.seq, record.run, record.state.value, record.at, 1, record.spec.key)


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_of_what_is_over_are_right_after_any_commits(path: Path, seed: int) -> None:
    rng, store, live, over = random.Random(seed), Store(path), {}, {}
    for seq in range(1, 200):
        output = Output(specs=[(SPEC.key, SPEC, b"code")])
        live[seq] = new(seq)
        output.new.append(NewRow(live[seq], b"args", "{}"))
        for record in rng.sample(list(live.values()), rng.randrange(len(live) + 1)):
            record.state = rng.choice([*MOVES[record.state].values()])
            output.changed[record.seq] = record
            if record.is_final:
                over[record.seq] = live.pop(record.seq)
        recorded = [one for s, one in over.items() if s not in output.changed]
        for record in rng.sample(recorded, min(len(recorded), rng.randrange(3))):
            output.removed.append(as_past(over.pop(record.seq)))
        store.commit(output)

    restored = store.restore().counts
    assert restored == dict(Counter(one.state.type.value for one in [*live.values(), *over.values()]))
    store.close()


def test_names_of_runs_and_of_their_states_are_there_after_a_restart(path: Path) -> None:
    store, named, ended = Store(path), new(1), new(2)
    named.terms = Terms(name="my run")
    commit(store, named, ended, new(3))
    ended.state, ended.history = State.COMPLETED, (Moment("Completed", 1.0, "m", "Skipped"),)
    store.commit(Output(changed={2: ended}))
    queries = Queries(opening.open_beside(path), 100, Blobs(path.parent))

    assert [record.name for record in store.restore().records] == ["my run", "f"]
    infos = [queries.run(record.run) for record in (named, ended)]
    assert [info.name for info in infos if info] == ["my run", "f"]
    ending = queries.ending(ended.run)
    assert ending is not None
    assert (ending.state, ending.label) == ("Completed", "Skipped")
    store.close()


def test_a_hook_run_brings_no_code_and_gets_that_of_its_run(path: Path) -> None:
    store, run = Store(path), new(1)
    commit(store, run)

    hook = msgspec.structs.replace(SPEC, hook="on_crash")
    follower = msgspec.structs.replace(new(2), spec=hook, spec_id="hook", parent=run.run)
    output = Output(new=[NewRow(follower, b"", "{}")], specs=[("hook", hook, b"")])
    store.commit(output)
    payloads = Payloads(store, 10**6)
    payloads.committed(output)

    assert payloads.code(SPEC.code) == b"code"
    assert payloads.arguments(follower) == b"args"
    store.close()


def test_arguments_that_find_no_room_are_read_from_the_journal(path: Path) -> None:
    store, first, second = Store(path), new(1), new(2)
    payloads = Payloads(store, ENTRY_BYTES + len(b"args"))
    output = Output(
        new=[NewRow(one, b"args", "{}") for one in (first, second)], specs=[(SPEC.key, SPEC, b"")]
    )
    store.commit(output)
    payloads.committed(output)
    store.commit(Output(removed=[as_past(first), as_past(second)]))

    assert payloads.arguments(first) == b"args"
    with pytest.raises(Damaged):
        payloads.arguments(second)

    first.started = True
    payloads.committed(Output(changed={1: first}))
    payloads.committed(Output(new=[NewRow(second, b"args", "{}")]))
    assert payloads.arguments(second) == b"args"
    store.close()


def test_a_run_leaves_with_all_its_rows(path: Path) -> None:
    store, record, other = Store(path), new(1), new(2)
    commit(store, record, other)
    store.commit(Output(values=[(1, b"v"), (2, b"v")], chunks=[(1, 1, 1, b"[]"), (2, 1, 1, b"[]")]))

    store.commit(Output(removed=[as_past(record)]))

    for table in ("run", "state", "result", "output"):
        assert rows_of(path, f"SELECT seq FROM {table}") == [(2,)]
    store.close()


def test_specs_and_code_leave_with_their_last_run(path: Path) -> None:
    store, other = Store(path), Spec("m:g", "g", "3.11", "other digest")
    commit(store, new(1))
    commit(store, new(2, other), spec=other)
    store.commit(Output(removed=[as_past(new(1))]))
    queries = Queries(opening.open_beside(path), 100, Blobs(path.parent))

    upto, unused = queries.unused_specs()
    store.commit(Output(unused=(upto, unused)))

    assert unused == [SPEC.key]
    assert rows_of(path, "SELECT id FROM spec") == [(other.key,)]
    assert rows_of(path, "SELECT digest FROM code") == [("other digest",)]
    store.close()


def test_a_spec_that_is_used_again_meanwhile_stays(path: Path) -> None:
    store = Store(path)
    commit(store, new(1), new(2))
    store.commit(Output(removed=[as_past(new(1)), as_past(new(2))]))

    store.commit(Output(new=[NewRow(new(3), b"args", "{}")], unused=(2, [SPEC.key])))

    assert rows_of(path, "SELECT run.seq, spec.id FROM run JOIN spec USING (spec)") == [(3, SPEC.key)]
    assert rows_of(path, "SELECT body FROM code") == [(b"code",)]
    store.close()


def test_a_search_goes_through_the_table_in_windows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(path, 100)
    monkeypatch.setattr("nbtasks.broker.queries.WINDOW_ROWS", 7)
    queries = Queries(opening.open_beside(path), 1000, Blobs(path.parent))

    def listed(limit: int, **wanted: object) -> list[str]:
        found, before = [], 0
        while True:
            infos, before = queries.runs(RunFilter(limit=limit, before=before, **wanted))  # type: ignore[arg-type]
            found += [info.run for info in infos]
            if not before:
                return found

    assert listed(1000) == ids[::-1]
    assert listed(10) == ids[::-1]
    assert listed(10, key="past", states=("COMPLETED",)) == ids[::-1]
    assert listed(10, states=("FAILED",)) == []
    assert queries.runs(RunFilter(limit=3, before=10))[0][0].run == ids[8]


def test_a_search_that_takes_long_says_where_to_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(path, 100)
    monkeypatch.setattr("nbtasks.broker.queries.WINDOW_ROWS", 7)
    monkeypatch.setattr("nbtasks.broker.queries.LISTING_S", -1.0)
    queries = Queries(opening.open_beside(path), 1000, Blobs(path.parent))

    assert queries.runs(RunFilter()) == ([], 101)
    assert len(ids) == 100


# -- the reader ---------------------------------------------------------------------------------------


def test_the_reader_answers_in_order_while_the_loop_goes_on(path: Path) -> None:
    Store(path).close()
    reading, free, found = Reader(path, 10), threading.Event(), []
    reading.ask(1, lambda queries: free.wait(), lambda result: found.append("slow"))
    reading.ask(2, lambda queries: queries.run("r"), found.append)
    reading.take()
    assert found == []

    free.set()
    until(lambda: (reading.take(), len(found) == 2)[1], "both are answered")

    assert found == ["slow", None]
    reading.close()


def test_what_is_committed_before_a_question_is_seen_by_its_answer(path: Path) -> None:
    store, found = Store(path), []
    reading = Reader(path, 10)
    for seq in range(1, 200):
        commit(store, new(seq))
        run = past_id(seq, seq)
        reading.ask(seq, lambda queries, run=run: queries.run(run), found.append)
        until(lambda: (reading.take(), len(found) == seq)[1], "it is answered")  # noqa: B023

    assert all(info is not None for info in found)
    reading.close()
    store.close()


def test_a_full_reader_refuses_and_a_question_said_again_is_answered_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "JOBS_MAX", 2)
    Store(path).close()
    reading, free, found = Reader(path, 10), threading.Event(), []

    asked = [reading.ask(key, lambda queries: free.wait(), found.append) for key in (1, 1, 2, 3, 2)]
    free.set()
    until(lambda: (reading.take(), len(found) == 2)[1], "it is answered")

    assert asked == [True, True, True, False, True]
    assert reading.ask(3, lambda queries: 3, found.append)
    reading.close()


def test_a_question_that_fails_harms_no_other(path: Path) -> None:
    Store(path).close()
    reading, found = Reader(path, 10), []
    reading.ask(1, lambda queries: queries.db.execute("SELECT nothing"), found.append)
    reading.ask(2, lambda queries: 1 / 0, found.append)
    reading.ask(3, lambda queries: queries.db.execute("DELETE FROM run"), found.append)
    reading.ask(4, lambda queries: "answer", found.append)
    until(lambda: (reading.take(), len(found) == 4)[1], "all are answered")

    assert [isinstance(one, Failed) for one in found] == [True, True, True, False]
    assert reading.is_alive
    assert reading.damage is None
    reading.close()


# -- opening ------------------------------------------------------------------------------------------


def make_version_1(path: Path) -> None:
    """Undo what the steps from schema 1 on did."""
    db = sqlite3.connect(path)
    for table in ("mark", "idempotency", "cache", "need", "tag_limit", "holding"):
        db.execute(f"DROP TABLE {table}")
    db.execute("DROP INDEX spec_by_code")
    for column in ("priority", "eta", "expires", "name", "cache_key", "refresh"):
        db.execute(f"ALTER TABLE run DROP COLUMN {column}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


def shape_of(path: Path) -> list[tuple[object, ...]]:
    return rows_of(path, "SELECT type, name, sql FROM sqlite_master ORDER BY name")


def test_a_journal_of_schema_1_is_brought_up_to_date(path: Path, tmp_path: Path) -> None:
    fill(path, 20)
    fill(path, 5, state=State.FAILED)
    store = Store(path)
    commit(store, new(26))
    store.close()
    make_version_1(path)

    store = Store(path)
    restored = store.restore()
    store.close()

    assert restored.counts == {"COMPLETED": 20, "FAILED": 5, "PENDING": 1}
    assert rows_of(path, "PRAGMA user_version") == [(schema.VERSION,)]
    Store(tmp_path / "fresh.db").close()
    assert shape_of(path) == shape_of(tmp_path / "fresh.db")
    assert not store.set_aside


def test_the_counts_that_schema_3_kept_are_dropped(path: Path, tmp_path: Path) -> None:
    fill(path, 3)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE ended (state TEXT PRIMARY KEY, runs INTEGER NOT NULL) WITHOUT ROWID")
    db.execute("INSERT INTO ended VALUES ('Completed', 7)")
    db.execute("PRAGMA user_version = 3")
    db.commit()
    db.close()

    store = Store(path)
    restored = store.restore()
    store.close()

    assert restored.counts == {"COMPLETED": 3}
    Store(tmp_path / "fresh.db").close()
    assert shape_of(path) == shape_of(tmp_path / "fresh.db")


def damage(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096 * 4)


def test_a_small_damaged_journal_is_set_aside_at_the_start(path: Path) -> None:
    fill(path, 500)
    damage(path)

    store = Store(path)

    assert store.set_aside is not None
    assert store.set_aside.exists()
    assert store.restore().records == []
    store.close()


def test_damage_in_a_large_journal_is_found_beside_the_loop_and_set_aside_by_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECKED_FIRST_BYTES", 0)
    monkeypatch.setattr("nbtasks.broker.upkeep.CHECK_AFTER_S", 0.0)
    fill(path, 5000)
    with open(path, "r+b") as file:
        file.seek(60 * 4096)
        file.write(b"\xff" * 4096 * 40)
    store = Store(path)
    store.restore()
    assert store.set_aside is None

    upkeep = store.upkeep()
    error = until(lambda: upkeep.damage, "the damage is found")
    store.suspect(error)
    upkeep.close()
    store.close()

    after = Store(path)
    assert after.set_aside is not None
    after.close()
    Store(path).close()  # and the new one is not suspected any more


def test_a_whole_journal_is_stamped_and_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbtasks.broker.upkeep.CHECK_AFTER_S", 0.0)
    fill(path, 100)
    store = Store(path)
    upkeep = store.upkeep()
    at = until(lambda: upkeep.checked_at, "every page is read")
    upkeep.close()
    store.checked(at)
    store.close()

    assert rows_of(path, "SELECT at FROM mark WHERE name = 'checked'") == [(at,)]


def test_the_log_stays_bounded_while_commits_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbtasks.broker.upkeep.LOOK_PAGES", 50)
    monkeypatch.setattr("nbtasks.broker.upkeep.LONG_PAGES", 200)
    store = Store(path)
    upkeep = store.upkeep()
    seqs, written = count(1), 0

    def is_begun_anew() -> bool:
        """Commit once more; whether the log is much shorter than all that went into it."""
        nonlocal written
        record = new(next(seqs))
        output = Output(new=[NewRow(record, bytes(16_384), "{}")], specs=[(SPEC.key, SPEC, b"")])
        store.commit(output)
        upkeep.committed(output)
        written += 16_384
        return written > 2**20 and path.with_name("journal.db-wal").stat().st_size < written / 2

    until(is_begun_anew, "the log begins anew", pause_s=0.0)
    upkeep.close()
    store.close()


def test_a_full_disk_is_told_from_other_trouble_and_what_was_not_recorded_can_be_later(path: Path) -> None:
    store = Store(path)
    commit(store, new(1))
    store._db.execute("PRAGMA max_page_count = 1")  # no more than there are

    with pytest.raises(JournalError) as raised:
        commit(store, *(new(seq) for seq in range(2, 1000)))
    assert is_full(raised.value)
    assert not is_full(sqlite3.OperationalError("disk I/O error"))

    store._db.execute("PRAGMA max_page_count = 1000000")
    commit(store, *(new(seq) for seq in range(2, 1000)))
    assert store.restore().last_seq == 999
    store.close()
