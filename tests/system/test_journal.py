"""A journal that grows: it answers while it works, lets go of what is old, and survives both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from nbtasks.core.messages import GetRuns, RunFilter
from tests.homes import environment
from tests.journals import DAY_S, fill, rows_of
from tests.system import tasks
from tests.system.test_kills import kill
from tests.system.waiting import until

double = task(tasks.double)
MANY = 20_000


@pytest.fixture
def past(home: Path) -> list[str]:
    """The ids of finished runs that a home begins with; no broker is up."""
    home.mkdir(mode=0o700)
    return fill(home / "journal.db", MANY)


@pytest.fixture
def client(home: Path) -> Iterator[Any]:
    with environment({"NBTASKS_RETENTION_DAYS": "0"}), nbtasks.connect(home) as client:
        yield client


def nbtasks_command(*words: str) -> str:
    command = [sys.executable, "-m", "nbtasks.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_was_submitted_is_found_at_once(client: Any) -> None:
    for i in range(100):
        run = double.delay(i)
        assert nbtasks.get_run(run.id).state.name == "Pending"
        assert nbtasks.runs(limit=1)[0].id == run.id


def test_questions_that_take_long_hold_nobody_up(past: list[str], client: Any) -> None:
    client.start_workers(1)
    assert double.delay(1).result(timeout=60) == 2
    link = client._opened()

    def overtakes() -> bool:
        # none of these finds anything, so each looks at every run
        questions = [
            link.ask(lambda number: GetRuns(number, RunFilter(states=("FAILED",), tag="nothing", limit=100)))
            for _ in range(200)
        ]
        assert double.delay(21).result(timeout=60) == 42
        answered = sum(link.outcomes.has_answer(question) for question in questions)
        until(
            lambda: client.wait(lambda: all(map(link.outcomes.has_answer, questions)), 1.0),
            "all are answered in the end",
        )
        return answered < len(questions)

    # a machine that is busy with something else may keep one round trip longer than all the questions take
    assert any(overtakes() for _ in range(10))


def test_prune_removes_what_is_old_and_counts_it(past: list[str], client: Any, home: Path) -> None:
    waiting = [double.delay(i) for i in range(3)]

    would = nbtasks_command("prune", "--older-than", "30", "--dry-run")
    assert client.status().counts["COMPLETED"] == MANY
    did = nbtasks_command("prune", "--older-than", "30")

    assert would.startswith(f"would remove {MANY} runs")
    assert did == would.replace("would remove", "removed")
    assert {k: n for k, n in client.status().counts.items() if n} == {"PENDING": 3}
    assert [run.id for run in nbtasks.runs()] == [run.id for run in reversed(waiting)]
    with pytest.raises(nbtasks.UnknownRun):
        nbtasks.get_run(past[0])
    assert nbtasks_command("prune", "--older-than", "30") == "nothing to remove\n"
    until(lambda: len(rows_of(home / "journal.db", "SELECT * FROM spec")) == 1, "the old spec is gone")


def test_prune_by_size_keeps_the_newest(past: list[str], client: Any, home: Path) -> None:
    size = (home / "journal.db").stat().st_size

    nbtasks_command("prune", "--larger-than", str(size // 2))

    kept = [str(run.id) for run in nbtasks.runs(limit=MANY)]
    assert 0 < len(kept) < MANY
    assert kept == past[::-1][: len(kept)]
    (pages,) = rows_of(home / "journal.db", "PRAGMA page_count")[0]
    (free,) = rows_of(home / "journal.db", "PRAGMA freelist_count")[0]
    assert (pages - free) * 4096 <= size // 2


def test_runs_keep_going_through_while_a_journal_is_pruned(past: list[str], client: Any) -> None:
    client.start_workers(1)
    assert double.delay(1).result(timeout=60) == 2
    pruning = subprocess.Popen([sys.executable, "-m", "nbtasks.cli", "prune", "--older-than", "30"])
    counts = client.status().counts
    results = 0
    while pruning.poll() is None:
        assert double.delay(results).result(timeout=60) == 2 * results
        results += 1
    counts = client.status().counts

    assert pruning.returncode == 0
    assert counts["COMPLETED"] == 1 + results
    assert len(nbtasks.runs(limit=10_000)) == 1 + results


def test_a_broker_that_is_killed_in_a_prune_has_removed_whole_runs_only(
    past: list[str], client: Any, home: Path
) -> None:
    waiting = double.map(range(100), deferred=True)
    pruning = subprocess.Popen([sys.executable, "-m", "nbtasks.cli", "prune", "--older-than", "30"])
    until(lambda: client.status().counts["COMPLETED"] < MANY, "the first runs are gone")
    broker = client.status().broker_pid
    pruning.kill()  # it would go on with the next broker
    kill(broker)
    pruning.wait(60)
    until(lambda: client.status().broker_pid != broker, "there is another broker")

    counts = client.status().counts
    journal = home / "journal.db"
    recorded = dict(rows_of(journal, "SELECT state, count(*) FROM state GROUP BY state"))

    assert counts["COMPLETED"] == recorded.get("Completed", 0) < MANY
    for table in ("run", "result"):
        missing = f"SELECT count(*) FROM state LEFT JOIN {table} USING (seq) WHERE {table}.seq IS NULL"
        more = f"SELECT count(*) FROM {table} LEFT JOIN state USING (seq) WHERE state.seq IS NULL"
        live = 100 if table == "result" else 0
        assert rows_of(journal, missing) == [(live,)]
        assert rows_of(journal, more) == [(0,)]
    client.prune(older_s=30 * DAY_S)
    client.start_workers(1)
    assert waiting.result(timeout=60) == [2 * i for i in range(100)]
    assert {k: n for k, n in client.status().counts.items() if n} == {"COMPLETED": 100}


def test_a_home_keeps_itself_to_its_bounds(past: list[str], home: Path) -> None:
    (home / "settings.toml").write_text("retention_days = 30\n")
    script = """
        import nbtasks.broker.sweep as sweep, nbtasks.broker.__main__ as broker, sys
        sweep.AFTER_S = 0.0
        sys.exit(broker.main())
    """
    program = "\n".join(line.strip() for line in script.splitlines())
    broker = subprocess.Popen([sys.executable, "-c", program, "--home", str(home)])
    until(lambda: (client := _connected(home)) and client.status().counts["COMPLETED"] == 1, "it is pruned")
    with nbtasks.connect(home, start=False) as client:
        client.stop_broker()
    assert broker.wait(60) == 0
    assert rows_of(home / "journal.db", "SELECT id FROM run") == [(past[-1],)]


def _connected(home: Path) -> Any:
    try:
        return nbtasks.connect(home, start=False)
    except nbtasks.BrokerUnavailable:
        return None


def test_a_restart_does_not_count_what_is_over(past: list[str], client: Any) -> None:
    queued = double.map(range(1000), deferred=True)

    kill(client.status().broker_pid)

    status = client.status()
    assert (status.counts["COMPLETED"], status.counts["PENDING"]) == (MANY, 1000)
    client.start_workers(1)
    assert queued.result(timeout=60) == [2 * i for i in range(1000)]
    assert json.loads(nbtasks_command("runs", "-o", "json", "-l", "1"))[0]["state"] == "Completed"


@pytest.mark.parametrize("names", ["journal.db*", "journal.db", "journal.db-wal"])
def test_a_journal_that_is_removed_under_its_broker_is_put_back_with_all_runs(
    client: Any, home: Path, names: str
) -> None:
    before = double.delay(1)
    pid = client.status().broker_pid
    for path in home.glob(names):
        path.unlink()
    meanwhile = double.delay(2)

    until(lambda: client.status().broker_pid not in (0, pid), "the broker noticed, and another one came")

    assert {run.id for run in nbtasks.runs()} == {before.id, meanwhile.id}
    assert "was removed or replaced" in (home / "logs" / "broker.log").read_text()


def test_a_journal_that_is_replaced_under_its_broker_is_kept_beside(client: Any, home: Path) -> None:
    run = double.delay(1)
    pid = client.status().broker_pid
    other = home / "other.db"
    other.write_bytes((home / "journal.db").read_bytes())
    other.chmod(0o600)
    other.replace(home / "journal.db")

    until(lambda: client.status().broker_pid not in (0, pid), "the broker noticed, and another one came")

    [rescued] = home.glob("journal.db.rescued-*")
    assert (str(run.id),) in rows_of(rescued, "SELECT id FROM run")
