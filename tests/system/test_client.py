"""Clients against real brokers and workers: who waits, who is called back, and whose code runs."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from nbtasks.run import unserved
from tests.system import tasks
from tests.system.waiting import until

SHARES_WORKERS = True

double = task(tasks.double)
hold = task(tasks.hold)


@task
def who_am_i() -> Any:
    run = nbtasks.current_run()
    assert run is not None
    child = double.delay(4)
    return str(run.id), run.name, run.attempt, sorted(run.tags), dict(run.parameters), str(child.id)


@task
async def slowly(x: int) -> int:
    await asyncio.sleep(0)
    return x


@task
def fails(x: int) -> None:
    raise ValueError(f"no {x}")  # the source line that must be seen


@task
def counts(n: int) -> Any:
    yield from range(n)


# -- results ------------------------------------------------------------------------------------------


@pytest.mark.feature("T1")
def test_sync_async_and_generator_tasks_give_results(client: Any, workers: Any) -> None:
    assert double.delay(2).result(timeout=60) == 4
    assert slowly.delay(3).result(timeout=60) == 3
    assert counts.delay(3).result(timeout=60) == [0, 1, 2]


@pytest.mark.feature("R1")
def test_the_original_exception_comes_back_with_the_remote_source_line(client: Any, workers: Any) -> None:
    with pytest.raises(ValueError, match="no 5") as caught:
        fails.delay(5).result(timeout=60)

    assert "the source line that must be seen" in str(caught.value.__cause__)


def test_an_exception_with_an_init_of_its_own_is_caught_by_its_class(client: Any, workers: Any) -> None:
    class Refused(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code

    @task
    def refuse() -> None:
        raise Refused(code=3)

    with pytest.raises(Refused, match="code 3") as caught:
        refuse.delay().result(timeout=60)

    assert caught.value.code == 3


def test_a_cached_function_of_a_notebook_is_a_task_and_is_used_by_one(client: Any, workers: Any) -> None:
    cell = """
import functools
@functools.cache
def load(x=2):
    return [x]
def use():
    return load() is load()
"""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(cell, names)

    assert task(names["load"]).delay(3).result(timeout=60) == [3]
    assert task(names["use"]).delay().result(timeout=60) is True


def test_a_large_result_is_fetched(client: Any, workers: Any) -> None:
    data = os.urandom(1_000_000)

    assert task(bytes, name="same").delay(data).result(timeout=60) == data


@pytest.mark.feature("D9", "R7")
def test_inside_a_run_it_is_known_and_is_the_parent_of_what_it_delays(client: Any, workers: Any) -> None:
    with nbtasks.tags("a"):
        run = who_am_i.delay()

    run_id, name, attempt, tags, parameters, child = run.result(timeout=60)

    assert (run_id, name, attempt, tags, parameters) == (str(run.id), "who_am_i", 1, ["a"], {})
    assert nbtasks.get_run(child).parent == run.id
    assert nbtasks.get_run(child).result(timeout=60) == 8


@pytest.mark.feature("R5")
def test_a_handle_of_another_process_knows_everything(client: Any, workers: Any) -> None:
    run = double.delay(21)
    run.wait(timeout=60)
    script = f"""
        import nbtasks
        run = nbtasks.get_run({str(run.id)!r})
        print(run.result(), run.state, run.parameters, [state.name for state in run.history])
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "42 Completed() {'x': '21'} ['Pending', 'Running', 'Completed']\n"


# -- waiting ------------------------------------------------------------------------------------------


@pytest.mark.feature("R2")
def test_a_callback_is_called_though_nobody_waits_and_no_handle_is_left(client: Any, workers: Any) -> None:
    called: list[Any] = []

    for i in range(20):
        double.delay(i).add_done_callback(lambda run: called.append(run.result()))

    until(lambda: len(called) == 20, "every callback was called")
    assert sorted(called) == [2 * i for i in range(20)]


@pytest.mark.feature("R2")
def test_many_runs_are_awaited_at_once(client: Any, workers: Any) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*[double.delay(i) for i in range(50)])

    assert asyncio.run(main()) == [2 * i for i in range(50)]


def test_many_threads_share_a_client(client: Any, workers: Any) -> None:
    def work(i: int) -> list[int]:
        with nbtasks.connect() if i == 0 else client_again(client):
            return [double.delay(i * j).result(timeout=60) for j in range(20)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))

    assert found == [[2 * i * j for j in range(20)] for i in range(8)]


def client_again(client: Any) -> Any:
    from nbtasks.context import use

    return use(client)


@pytest.mark.feature("R1")
def test_a_time_out_of_waiting_leaves_the_run_alone(client: Any, workers: Any, tmp_path: Path) -> None:
    release = tmp_path / "release"
    run = hold.delay(str(tmp_path / "noted"), str(release), "held")

    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        run.result(timeout=0.1)
    release.touch()

    assert run.result(timeout=60) == "held"


def test_a_forked_child_talks_with_a_connection_of_its_own(client: Any, workers: Any) -> None:
    assert double.delay(1).result(timeout=60) == 2
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def in_child() -> None:
        theirs.send(double.delay(5).result(timeout=60))

    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    answered = ours.poll(60)
    child.join(60)

    assert answered
    assert ours.recv() == 10
    assert double.delay(2).result(timeout=60) == 4


def test_a_child_that_is_forked_in_a_block_talks_to_its_home_and_sees_earlier_runs_end(
    client: Any, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    held = hold.delay(str(tmp_path / "noted"), str(release), "held")
    monkeypatch.setenv("NBTASKS_HOME", str(tmp_path / "another"))
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def in_child() -> None:
        run = double.delay(5)
        theirs.send((str(run.id), held.result(timeout=60)))

    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    release.touch()
    answered = ours.poll(60)
    child.join(60)

    assert answered
    run_id, name = ours.recv()
    assert (client.get_run(run_id).result(timeout=60), name) == (10, "held")
    assert not (tmp_path / "another").exists()


def test_a_run_does_not_leave_its_umask_to_the_next(client: Any) -> None:
    client.start_workers(1)

    def careless() -> int:
        return os.umask(0o777)

    before = task(careless).delay().result(timeout=60)

    assert task(careless).delay().result(timeout=60) == before != 0o777


# -- options ------------------------------------------------------------------------------------------


@pytest.mark.feature("T8", "T9")
def test_retries_are_made_after_their_delay_and_counted(client: Any, workers: Any, tmp_path: Path) -> None:
    noted = str(tmp_path / "noted")

    @task
    def flaky() -> int:
        run = nbtasks.current_run()
        assert run is not None
        tasks.note(noted, str(run.attempt))
        if run.attempt < 3:
            raise ValueError("not yet")
        return run.attempt

    run = flaky.with_options(retries=2, retry_delay_seconds=0.1).delay()

    assert run.result(timeout=60) == 3
    assert tasks.lines(noted) == ["1", "2", "3"]
    assert [state.name for state in run.history] == [
        "Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed",
    ]  # fmt: skip
    starts = [attempt.start.timestamp() for attempt in run.attempts]
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(starts))


def sleeps() -> None:
    time.sleep(60)


async def awaits() -> None:
    await asyncio.sleep(60)


def holds_the_interpreter() -> None:
    sum(itertools.repeat(0))  # endless, in C: no other thread runs and no signal is looked at


def ignores_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)


def catches_everything() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            continue


@pytest.mark.feature("T11")
@pytest.mark.parametrize(
    "stuck", [sleeps, awaits, holds_the_interpreter, ignores_signals, catches_everything]
)
def test_what_takes_too_long_is_interrupted_then_killed(client: Any, workers: Any, stuck: Any) -> None:
    run = task(stuck, timeout_seconds=0.5, grace_s=0.5).delay()

    with pytest.raises(nbtasks.TimedOut, match=r"0\.5 s"):
        run.result(timeout=60)
    assert (run.state.type.value, run.state.name) == ("FAILED", "TimedOut")
    assert double.map([1, 2, 3], deferred=True).result(timeout=60) == [2, 4, 6]


@pytest.mark.feature("R6")
def test_leaving_the_interpreter_crashes_a_run_and_is_not_tried_again(client: Any, workers: Any) -> None:
    run = task(sys.exit, name="leave", retries=3).delay("enough")

    with pytest.raises(nbtasks.CrashedRun, match="enough"):
        run.result(timeout=60)
    assert len(run.attempts) == 1


# -- cancelling ---------------------------------------------------------------------------------------


@pytest.mark.feature("R4")
def test_what_waits_is_cancelled_at_once_and_what_runs_when_it_was_interrupted(
    client: Any, tmp_path: Path
) -> None:
    client.start_workers(1)
    noted = str(tmp_path / "noted")
    running = hold.delay(noted, str(tmp_path / "never"))
    until(lambda: tasks.lines(noted), "it runs")
    queued = double.map([1, 2], deferred=True)

    queued.cancel()
    running.cancel()

    # one may have been given ahead to the busy worker, which has to confirm
    until(lambda: {run.state.name for run in queued} == {"Cancelled"}, "what waits is cancelled")
    assert not any(run.attempts for run in queued)
    with pytest.raises(nbtasks.CancelledRun):
        running.result(timeout=60)


# -- workers ------------------------------------------------------------------------------------------


@pytest.mark.feature("W7")
def test_status_has_every_count_and_names_the_busy_worker(client: Any, tmp_path: Path) -> None:
    pool = client.start_workers(1)
    run = hold.delay(str(tmp_path / "noted"), str(tmp_path / "release"))
    until(lambda: tasks.lines(tmp_path / "noted"), "it runs")
    double.delay(1)

    status = until(lambda: (s := client.status()).workers[0].current_run and s, "the worker is busy")

    assert status.counts == {
        "SCHEDULED": 0, "PENDING": 1, "RUNNING": 1, "CANCELLING": 0,
        "COMPLETED": 0, "FAILED": 0, "CANCELLED": 0, "CRASHED": 0,
    }  # fmt: skip
    [worker] = status.workers
    assert (worker.current_run, worker.state) == (run.id, "busy")
    assert worker.busy_since is not None
    assert [one.pid for one in status.pools] == [pool.pid]
    (tmp_path / "release").touch()
    run.wait(timeout=60)


def test_a_pool_is_scaled_and_stopped(client: Any) -> None:
    pool = client.start_workers(1)
    pool.scale(2)
    until(lambda: len(client.status().workers) == 2, "there are two")
    pool.stop()

    assert client.status().pools == []
    until(lambda: not client.status().workers, "the workers left")


def test_a_wait_that_no_worker_can_end_says_why(
    client: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unserved, "LOOK_S", 0.05)
    run = double.delay(4)

    assert not run.wait(timeout=0.5).is_final

    said = f"run 'double' ({run.id}) has not started: waiting for a worker that serves {double.key}."
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.feature("W1", "W3")
def test_a_pool_that_serves_tasks_takes_no_other(client: Any) -> None:
    client.start_workers(1, tasks=[double])

    assert double.delay(4).result(timeout=60) == 8
    other = slowly.delay(1)
    assert other.state.message == f"waiting for a worker that serves {slowly.key}"
    other.cancel()


def test_the_generic_pool_starts_its_workers_on_demand_and_ends_at_zero(client: Any) -> None:
    client.set_generic_pool(0, 2)
    assert client.status().workers == []

    assert double.delay(4).result(timeout=60) == 8
    client.set_generic_pool(0, 0)

    until(lambda: not client.status().pools, "the pool is gone")


@pytest.mark.feature("W9")
def test_a_run_sees_directory_and_freshly_edited_modules_of_its_submitter(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.start_workers(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "localmodule.py").write_text("VALUE = 1\n")

    def look() -> Any:
        import localmodule

        return os.getcwd(), localmodule.VALUE

    look.__module__ = "__main__"
    assert task(look).delay().result(timeout=60) == (str(tmp_path), 1)
    (tmp_path / "localmodule.py").write_text("VALUE = 'edited'\n")
    assert task(look).delay().result(timeout=60) == (str(tmp_path), "edited")


@pytest.mark.feature("W9")
def test_no_run_stays_in_the_directory_of_the_run_before(
    client: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.start_workers(1)
    where = task(os.getcwd)
    directories = [tmp_path / "first", tmp_path / "gone", tmp_path / "second"]
    runs = []
    for directory in directories:
        directory.mkdir()
        monkeypatch.chdir(directory)
        if directory.name == "gone":
            directory.rmdir()
        runs.append(where.delay())

    found = [run.result(timeout=60) for run in runs]

    assert found == [str(directories[0]), str(home / "scratch"), str(directories[2])]


# -- scripts ------------------------------------------------------------------------------------------

SCRIPT = """
import os
import re
from nbtasks import serve, task

@task(log_prints=True)
def add(a: int, b: int):
    print(f"{a} + {b} = {a + b}")
    return a + b

@task
def multiply(a: int, b: int):
    return a * b

if __name__ == "__main__":
    add.delay(1, 2)
    add.delay(42, 100)
    serve(add, multiply, limit=1)
    print("after serve")
"""


@pytest.mark.feature("W1", "W2")
def test_a_script_serves_until_a_signal_and_logs_like_the_example(home: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    try:
        with nbtasks.connect(home):
            done = lambda: len(nbtasks.runs(state="COMPLETED")) == 2  # noqa: E731
            until(done, "both runs are completed")
        script.send_signal(signal.SIGTERM)
        out, err = script.communicate(timeout=60)
    finally:
        script.kill()

    assert script.returncode == 0, err
    assert out == "after serve\n"
    lines = [line.partition(" | ")[2] for line in err.splitlines()]
    runs = "[0-9a-f-]{36}"
    assert lines[:4] == [
        "INFO    | nbtasks.tasks - Created task run 'add'.",
        "INFO    | nbtasks.tasks - Created task run 'add'.",
        "INFO    | nbtasks.worker - Starting task worker...",
        "INFO    | nbtasks.worker - Subscribing to runs of task(s): add | multiply",
    ]

    assert re.fullmatch(rf"INFO    \| nbtasks\.worker - Received task run: {runs} - add", lines[4])
    assert lines[5:8] == [
        "INFO    | nbtasks.worker - Submitting task run 'add' to engine.",
        "INFO    | Task run 'add' - 1 + 2 = 3",
        "INFO    | Task run 'add' - Finished in state Completed()",
    ]


def test_a_client_closes_whose_thread_was_interrupted_before_it_began(client: Any) -> None:
    client.status()
    client._link._thread = threading.Thread(target=client._link._listen_alone)

    client.close()

    assert client.status().clients == 1
