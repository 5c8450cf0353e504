"""`nbtasks worker` and `serve` as processes: which tasks they take, and how signals end them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nbtasks import task
from tests.system.tasks import hold, lines
from tests.system.waiting import until

HANG_S = 60
TASKS = """
from nbtasks import task, serve
from tests.system.tasks import hold, lines

hold = task(hold)
both = task(hold.fn, name="both", key="tasks:both", crash_retries=1)
number = 3

@task
def own(x):
    return x + number

@task
async def own_async(x):
    return x - number

def plain(x):
    return x

def never(task, run, state):
    return False

def tell(task, run, state):
    print("hook", state.name)

@task(retries=2, retry_condition_fn=never, on_completion=[tell])
def judged(x):
    return 1 // x

if __name__ == "__main__":
    serve(hold, own, limit=2)
"""
START = "from nbtasks.cli import main; main(prog_name='nbtasks')"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.py"
    path.write_text(TASKS)
    return path


@pytest.fixture
def start(client: Any, script: Path) -> Iterator[Start]:
    """Starts a command in a session of its own, as a terminal does, in the folder of the script."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, *words]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=script.parent,
            env=environment,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def worker(*words: str) -> tuple[str, ...]:
    return "-c", START, "worker", *words


def refused(*words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *worker(*words)], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


holding = task(hold, key="tests.system.tasks:hold")
run_again = task(hold, key="tasks:both", crash_retries=1)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Where a held run notes that it runs, and what lets it go."""
    return tmp_path / "notes", tmp_path / "release"


# -- which tasks --------------------------------------------------------------------------------------


@pytest.mark.feature("T3", "W4")
@pytest.mark.parametrize("name", ["tasks", "whole path"])
def test_a_worker_serves_the_tasks_that_are_named_with_its_own_functions(
    client: Any, start: Start, script: Path, name: str
) -> None:
    where = str(script) if name == "whole path" else name
    process = start(*worker(f"{where}:own", f"{where}:own_async", "--workers", "1"))

    runs = [
        task(lambda x: x, key="tasks:own", name="own").delay(4),
        task(lambda x: x, key="tasks:own_async", name="own_async").delay(4),
    ]

    assert [run.result(HANG_S) for run in runs] == [7, 1]
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    said_lines = [line.partition(" | ")[2] for line in said.splitlines()]
    assert said_lines[:2] == [
        "INFO    | nbtasks.worker - Starting task worker...",
        "INFO    | nbtasks.worker - Subscribing to runs of task(s): own | own_async",
    ]
    assert f"INFO    | nbtasks.worker - Received task run: {runs[0].id} - own" in said_lines
    assert "INFO    | Task run 'own' - Finished in state Completed()" in said_lines
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \| ", line) for line in said.splitlines())


def test_a_worker_serves_a_task_with_its_hooks_and_its_condition(client: Any, start: Start) -> None:
    start(*worker("tasks:judged", "--workers", "1"))
    judged = task(lambda x: x, key="tasks:judged", name="judged", retries=2)

    good, bad = judged.delay(1), judged.delay(0)

    assert good.result(HANG_S) == 1
    assert "hook Completed" in good.logs
    assert bad.wait(HANG_S).name == "Failed"
    assert len(bad.attempts) == 1, "the condition says no"


def test_a_range_of_workers_is_taken_from_the_option(client: Any, start: Start) -> None:
    process = start(*worker("--workers", "0..3", "--home", str(client.home)))

    [pool] = until(lambda: client.status().pools, "the pool")

    assert (pool.least, pool.most, pool.serves, pool.pid) == (0, 3, None, process.pid)


@pytest.mark.feature("W4")
def test_a_bad_entrypoint_exits_1_with_one_line(home: Path) -> None:
    [line] = refused("json:dumps")

    assert line == "nbtasks: 'json:dumps': 'dumps' is a function, not a task: decorate it with @task"
    assert not home.exists()


# -- signals ------------------------------------------------------------------------------------------

COMMANDS = {
    "worker": worker("tests.system.test_workers:holding", "--workers", "1"),
    "generic": worker("--workers", "1"),
    "serve": ("tasks.py",),
}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("worker", signal.SIGTERM),
        ("generic", signal.SIGINT),
        ("serve", signal.SIGINT),
        ("serve", signal.SIGTERM),
        ("worker", signal.SIGHUP),
        ("serve", signal.SIGHUP),
    ],
)
@pytest.mark.feature("W5")
def test_a_signal_lets_the_running_run_end_and_hands_back_what_waits(
    client: Any, start: Start, files: tuple[Path, Path], command: str, number: signal.Signals
) -> None:
    notes, release = files
    process = start(*COMMANDS[command])
    # more than one server executes at a time, so that some wait
    runs = [holding.delay(str(notes), str(release), str(i)) for i in range(5)]
    until(lambda: lines(notes), "a run")

    # a terminal signals the whole group
    os.killpg(process.pid, number)

    until(lambda: all(worker.state == "draining" for worker in client.status().workers), "the drain")
    release.touch()
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    ended = {run.result(HANG_S) for run in runs if run.state.is_final}
    # a worker may have begun its run just before it heard of the drain
    assert ended == {line.split()[0] for line in lines(notes)}
    assert {run.state.name for run in runs if not run.state.is_final} == {"Pending"}
    assert not client.status().pools


@pytest.mark.feature("W5")
@pytest.mark.parametrize(("retries", "name"), [(0, "Crashed"), (1, "Completed")])
def test_what_does_not_end_in_time_is_crashed_or_runs_again_elsewhere(
    client: Any, start: Start, files: tuple[Path, Path], retries: int, name: str
) -> None:
    notes, release = files
    process = start(*worker("--workers", "1", "--drain-timeout", "0.2"))
    run = task(hold, crash_retries=retries).delay(str(notes), str(release), "x")
    until(lambda: lines(notes), "the run")

    os.kill(process.pid, signal.SIGTERM)

    process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    if retries:
        assert run.state.name == "Retrying"
        release.touch()
        client.start_workers(1)
    assert run.wait(HANG_S).name == name
    assert [attempt.outcome for attempt in run.attempts] == ["Crashed", name][: 1 + retries]


@pytest.mark.feature("W5")
@pytest.mark.parametrize(("signals", "status"), [(2, 0), (3, 1)])
def test_a_second_signal_ends_what_runs_and_a_third_kills(
    client: Any, start: Start, files: tuple[Path, Path], signals: int, status: int
) -> None:
    notes, release = files
    process = start(*worker("--workers", "1"))
    run = stubborn.delay(str(notes), str(release))
    until(lambda: lines(notes), "the run")

    os.killpg(process.pid, signal.SIGINT)
    until(lambda: all(worker.state == "draining" for worker in client.status().workers), "the drain")
    os.killpg(process.pid, signal.SIGINT)
    while signals == 3 and process.poll() is None:
        # signals that follow each other too closely are one
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)

    process.communicate(timeout=HANG_S)
    assert process.returncode == status
    assert run.wait(HANG_S).name == "Crashed"


def test_a_terminal_that_closes_may_say_so_twice(client: Any, start: Start, files: tuple[Path, Path]) -> None:
    notes, release = files
    process = start(*worker("--workers", "1"))
    run = holding.delay(str(notes), str(release), "x")
    until(lambda: lines(notes), "the run")

    os.killpg(process.pid, signal.SIGHUP)
    until(lambda: all(worker.state == "draining" for worker in client.status().workers), "the drain")
    os.killpg(process.pid, signal.SIGHUP)
    release.touch()

    process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert run.wait(HANG_S).name == "Completed"


@pytest.mark.parametrize("command", ["worker", "serve"])
def test_what_nohup_started_stays(client: Any, start: Start, files: tuple[Path, Path], command: str) -> None:
    notes, release = files
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a child takes over
    try:
        process = start(*COMMANDS[command])
    finally:
        signal.signal(signal.SIGHUP, before)
    run = holding.delay(str(notes), str(release), "x")
    until(lambda: lines(notes), "the run")

    os.killpg(process.pid, signal.SIGHUP)
    release.touch()

    assert run.wait(HANG_S).name == "Completed"
    later = holding.delay(str(notes), str(release), "y")
    assert later.wait(HANG_S).name == "Completed"
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=HANG_S)
    assert process.returncode == 0


@pytest.mark.feature("W5")
def test_a_signal_to_a_pool_that_ends_already_leaves_its_exit_code(client: Any, start: Start) -> None:
    process = start(*worker("--workers", "1"))
    until(lambda: [one for one in client.status().workers if one.state == "idle"], "the worker")
    os.killpg(process.pid, signal.SIGTERM)
    until(lambda: not client.status().pools, "the pool has left")

    while process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.005)

    process.communicate(timeout=HANG_S)
    assert process.returncode == 0


@task
def stubborn(notes: str, release: str) -> str:
    """Ignores what can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hold(notes, release)
