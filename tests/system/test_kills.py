"""kill -9 of each kind of process: nothing accepted is lost, nothing that ran runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import nbtasks
from nbtasks import task
from nbtasks.wire.blobs import ORPHAN_S
from tests.system import tasks
from tests.system.waiting import until

BATCH = 1000  # runs of a map that are recorded together

double = task(tasks.double)
hold = task(tasks.hold)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid), f"pid {pid} is gone")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_map_whose_submitter_is_killed_is_recorded_in_whole_batches(client: Any) -> None:
    script = """
        from nbtasks import task
        from tests.system import tasks
        task(tasks.double).map([tasks.SlowToPickle(i) for i in range(5000)], deferred=True)
    """
    submitter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        until(lambda: sum(client.status().counts.values()) >= BATCH, "a first batch is recorded")
        assert submitter.poll() is None, "the submitter must be in the middle of its map"
    finally:
        submitter.kill()
        submitter.wait()
    client.start_workers(2)

    found = nbtasks.runs(limit=10_000)

    assert len(found) % BATCH == 0
    assert BATCH <= len(found) < 5000
    results = sorted(nbtasks.get_run(run.id).result(timeout=60) for run in found)
    assert results == [2 * i for i in range(len(found))]


PROMISE = """
    import os, signal, sys
    from nbtasks import task
    from tests.system import tasks

    double = task(tasks.double)
    double.delay(1)  # the broker tells that it has room
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    print(*(double.delay(i).id for i in range(50)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def promise(broker_pid: int, script: str = PROMISE) -> list[str]:
    """Runs of a process that was killed right after its calls, while the broker was stopped."""
    command = [sys.executable, "-c", textwrap.dedent(script), str(broker_pid)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    return done.stdout.split()


def test_what_delay_returned_survives_a_client_killed_before_the_broker_heard_of_it(client: Any) -> None:
    broker_pid = client.status().broker_pid
    ids = promise(broker_pid)

    os.kill(broker_pid, signal.SIGCONT)

    client.start_workers(2)
    assert [nbtasks.get_run(run).result(timeout=60) for run in ids] == [2 * i for i in range(50)]
    until(lambda: client.status().counts["COMPLETED"] == 51, "all are completed, once")


@pytest.mark.feature("D2")
def test_what_delay_returned_survives_client_and_broker(client: Any, home: Path) -> None:
    broker_pid = client.status().broker_pid
    ids = promise(broker_pid)

    kill(broker_pid)

    client.start_workers(2)
    assert [nbtasks.get_run(run).result(timeout=60) for run in ids] == [2 * i for i in range(50)]
    until(lambda: not list((home / "outbox").iterdir()), "the outbox of the dead client is removed")
    assert len(nbtasks.runs(limit=1000)) == 51


PROMISE_LARGE = """
    import os, signal, sys
    from nbtasks import task

    measure = task(len)
    measure.delay(b"")  # the broker tells that it has room
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    print(measure.delay(bytes(10**6)).id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.feature("D2")
def test_a_large_argument_waits_for_a_broker_longer_than_what_nobody_refers_to(
    client: Any, home: Path
) -> None:
    broker_pid = client.status().broker_pid
    [run] = promise(broker_pid, PROMISE_LARGE)
    kill(broker_pid)
    [blob] = (home / "blobs").glob(f"{run}.*")
    long_ago = time.time() - 10 * ORPHAN_S
    os.utime(blob, (long_ago, long_ago))

    client.start_workers(1)

    assert nbtasks.get_run(run).result(timeout=60) == 10**6


def test_whoever_asks_for_a_run_finds_it_once_delay_returned(client: Any) -> None:
    script = """
        import sys
        from nbtasks import task
        from nbtasks.wire.peer_sockets import PeerSockets
        from tests.system import tasks

        double = task(tasks.double)
        double.delay(0)
        PeerSockets.send = lambda self, messages: None  # whatever it says is lost
        print(double.delay(21).id, flush=True)
        sys.stdin.read()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        run = nbtasks.get_run(other.stdout.readline().strip())
        assert other.poll() is None
        client.start_workers(1)
        assert run.result(timeout=60) == 42
    finally:
        other.kill()
        other.communicate()


def test_a_killed_broker_loses_nothing_and_disturbs_no_running_task(client: Any, tmp_path: Path) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    client.start_workers(4)
    running = [hold.delay(noted, release, f"task{i}") for i in range(4)]
    until(lambda: len(tasks.lines(noted)) == 4, "four tasks run")
    queued = double.map(range(1000), deferred=True)
    pids = sorted(worker.pid for worker in client.status().workers)

    kill(client.status().broker_pid)
    Path(release).touch()

    assert [run.result(timeout=60) for run in running] == [f"task{i}" for i in range(4)]
    assert queued.result(timeout=60) == [2 * i for i in range(1000)]
    assert sorted(worker.pid for worker in client.status().workers) == pids
    assert len(tasks.lines(noted)) == 4
    assert {len(run.attempts) for run in running} == {1}


def test_the_next_client_starts_a_killed_broker_again(client: Any, home: Path) -> None:
    runs = double.map(range(10), deferred=True)
    ids = [run.id for run in runs]
    first_pid = client.status().broker_pid
    client.close()

    kill(first_pid)

    with nbtasks.connect(home) as second:
        assert second.status().broker_pid != first_pid
        second.start_workers(1)
        assert [nbtasks.get_run(run_id).result(timeout=60) for run_id in ids] == [2 * i for i in range(10)]


@pytest.mark.feature("T10", "R6")
def test_a_killed_worker_crashes_what_it_ran_and_returns_what_it_had_not_started(
    client: Any, tmp_path: Path
) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    client.start_workers(1)
    victim = hold.delay(noted, release, "victim")
    until(lambda: tasks.lines(noted), "the victim runs")
    waiting = double.map(range(5), deferred=True)
    woken: list[str] = []
    victim.add_done_callback(lambda run: woken.append(run.state.name))

    kill(int(tasks.lines(noted)[0].split()[1]))

    assert victim.wait(timeout=60).name == "Crashed"
    assert "SIGKILL" in victim.state.message
    until(lambda: woken == ["Crashed"], "the callback was called")
    assert waiting.result(timeout=60) == [0, 2, 4, 6, 8]
    assert {len(run.attempts) for run in waiting} == {1}


def test_what_had_ended_before_its_worker_died_is_completed(client: Any, tmp_path: Path) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    client.start_workers(1)
    assert double.delay(1).result(timeout=60) == 2
    first = hold.delay(noted, release)
    until(lambda: tasks.lines(noted), "the first task runs")
    ended = double.map(range(30), deferred=True)
    last = task(tasks.leave).delay(7)

    Path(release).touch()

    assert first.result(timeout=60) == ""
    assert ended.result(timeout=60) == [2 * i for i in range(30)]
    assert last.wait(timeout=60).name == "Crashed"
    assert {len(run.attempts) for run in ended} == {1}


@pytest.mark.feature("T10")
def test_a_run_with_crash_retries_runs_again_on_another_worker(client: Any, tmp_path: Path) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    client.start_workers(2)
    run = hold.with_options(crash_retries=1).delay(noted, release, "again")
    until(lambda: len(tasks.lines(noted)) == 1, "the first attempt runs")

    kill(int(tasks.lines(noted)[0].split()[1]))
    until(lambda: len(tasks.lines(noted)) == 2, "the second attempt runs")
    Path(release).touch()

    assert run.result(timeout=60) == "again"
    assert [attempt.outcome for attempt in run.attempts] == ["Crashed", "Completed"]
    assert [state.name for state in run.history] == ["Pending", "Running", "Retrying", "Completed"]


def test_a_killed_pool_harms_no_running_task(client: Any, tmp_path: Path) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    pool = client.start_workers(2)
    running = [hold.delay(noted, release, f"task{i}") for i in range(2)]
    until(lambda: len(tasks.lines(noted)) == 2, "both tasks run")
    waiting = double.delay(21)

    kill(pool.pid)
    until(lambda: f"pool {pool.pid} died" in waiting.state.message, "the waiting run says what it waits for")
    Path(release).touch()

    assert [run.result(timeout=60) for run in running] == ["task0", "task1"]
    until(lambda: not client.status().workers, "workers without a pool leave")
    assert waiting.state.name == "Pending"
    client.start_workers(1)
    assert waiting.result(timeout=60) == 42


def test_whoever_goes_through_runs_as_they_end_is_not_stopped_by_a_killed_broker(
    client: Any, tmp_path: Path
) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    client.start_workers(2)
    runs = hold.map([noted] * 3, [release] * 3, ["a", "b", "c"], deferred=True)
    until(lambda: len(tasks.lines(noted)) == 2, "two of three run")
    order = nbtasks.as_completed(runs, timeout=60)

    kill(client.status().broker_pid)
    Path(release).touch()
    first = next(order)
    kill(client.status().broker_pid)

    assert sorted(run.result(timeout=60) for run in (first, *order)) == ["a", "b", "c"]
    assert len(tasks.lines(noted)) == 3
    # all may have been told before the second kill; this needs a third broker, to which the pool comes back
    assert client.status().counts["COMPLETED"] == 3


def test_when_broker_pool_and_workers_are_killed_at_once_only_what_ran_is_charged(
    client: Any, tmp_path: Path
) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    pool = client.start_workers(1)
    again = hold.with_options(crash_retries=1).delay(noted, release, "again")
    until(lambda: tasks.lines(noted), "it runs")
    waiting = double.map(range(5), deferred=True)
    pids = [pool.pid, client.status().broker_pid, *(worker.pid for worker in client.status().workers)]

    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    Path(release).touch()
    client.start_workers(1)

    assert again.result(timeout=60) == "again"
    assert waiting.result(timeout=60) == [0, 2, 4, 6, 8]
    assert [attempt.outcome for attempt in again.attempts] == ["Crashed", "Completed"]
    assert {len(run.attempts) for run in waiting} == {1}
