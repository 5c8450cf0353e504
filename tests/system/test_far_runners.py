"""Task runners whose bodies travel: what cannot, what happens to processes, and what Dask is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy
import psutil
import pytest

import nbtasks
from nbtasks import DaskTaskRunner, ProcessPoolTaskRunner, task
from tests.system.clusters import dask_cluster
from tests.system.waiting import HANG_S, until

pytestmark = pytest.mark.feature("D6")


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with dask_cluster(processes=False) as cluster, distributed.Client(cluster, set_as_default=False) as made:
        yield made


@task
def double(x: Any) -> Any:
    return 2 * x


def names(run: Any) -> list[str]:
    return [state.name for state in run.history]


# -- what has to travel ---------------------------------------------------------------------------------


@pytest.fixture(params=["process", "dask"])
def far_runner(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One whose bodies travel, in its block."""
    made: Any = ProcessPoolTaskRunner(2)
    if request.param == "dask":
        made = DaskTaskRunner(request.getfixturevalue("client"))
    with made:
        yield made


def test_what_cannot_travel_is_named_and_no_run_exists(
    far_runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = threading.Lock()

    @task
    def locked() -> None:
        lock.acquire()

    with pytest.raises(nbtasks.NotPicklable, match=r"argument x .*, because x\[1\] is a _thread"):
        double.submit([1, lock])
    with pytest.raises(nbtasks.NotPicklable, match=r"the task '.*locked' .* the name 'lock' is a _thread"):
        locked.submit()
    with pytest.raises(nbtasks.NotPicklable, match="item 2: argument x cannot be pickled"):
        double.map([1, 2, lock])
    assert "Created" not in capsys.readouterr().err


def test_a_run_that_has_not_ended_cannot_be_waited_for_elsewhere(far_runner: Any, tmp_path: Path) -> None:
    held = ignore_all.with_options(grace_s=0).submit(tmp_path / "begun")

    @task
    def wait() -> Any:
        return held.result()

    with pytest.raises(nbtasks.NotPicklable, match=r"'ignore_all' .* has not ended"):
        wait.submit()
    held.cancel()


def test_a_result_that_cannot_travel_is_a_failure_that_says_so(far_runner: Any) -> None:
    @task
    def give() -> Any:
        return threading.Lock()

    assert "the result, a _thread.lock, cannot be pickled" in str(give.submit().exception(HANG_S))


def test_arguments_are_those_of_the_moment_of_the_call(far_runner: Any) -> None:
    held = [1]
    runs = [double.submit(held) for _ in range(5)]
    held.append(2)

    assert [run.result(HANG_S) for run in runs] == [[1, 1]] * 5


def test_a_large_array_comes_back_whole_and_may_be_written_to(far_runner: Any) -> None:
    numbers = numpy.arange(300_000)

    result = double.submit(numbers).result(HANG_S)

    assert (result == 2 * numbers).all()
    result[0] = 7


# -- processes ------------------------------------------------------------------------------------------


@task
def process_id(pause_s: float = 0.0) -> int:
    time.sleep(pause_s)
    return os.getpid()


@task
def ignore_all(begun: Path) -> None:
    begun.write_text(str(os.getpid()))
    ends_at = time.monotonic() + HANG_S
    while time.monotonic() < ends_at:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


@task
def end(how: int) -> None:
    os.kill(os.getpid(), how)


def child_processes() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def test_no_more_processes_than_asked_for_are_there_and_none_afterwards() -> None:
    before = child_processes()
    with ProcessPoolTaskRunner(2) as runner:
        pids = process_id.map([0.01] * 20).result(HANG_S)
        one = process_id.submit()
        assert one.result(HANG_S) == one.attempts[0].pid
        runs = process_id.map([0.01] * 4)

    assert all(run.state.name == "Completed" for run in runs)
    assert 1 <= len(set(pids)) <= 2
    assert os.getpid() not in pids
    assert child_processes() == before
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("nbtasks-child")], "no thread")
    with runner:
        assert process_id.submit().result(HANG_S) not in pids


def test_a_process_that_dies_is_a_crash_of_its_run_alone_and_is_replaced() -> None:
    told: list[str] = []
    with ProcessPoolTaskRunner(2):
        beside = process_id.submit(0.3)
        run = end.with_options(retries=3, on_crash=lambda task, run, state: told.append(state.name)).submit(9)

        with pytest.raises(nbtasks.CrashedRun, match=r"process \d+ was killed by SIGKILL"):
            run.result(HANG_S)
        assert names(run) == ["Pending", "Running", "Crashed"]
        assert told == ["Crashed"]
        assert beside.result(HANG_S)
        assert process_id.map([0.0] * 4).result(HANG_S)


def test_an_exit_past_the_interpreter_says_its_status() -> None:
    @task
    def leave() -> None:
        os._exit(5)

    with (
        ProcessPoolTaskRunner(1),
        pytest.raises(nbtasks.CrashedRun, match=r"process \d+ ended with status 5"),
    ):
        leave.submit().result(HANG_S)


def test_a_sleep_is_interrupted_and_its_process_goes_on() -> None:
    with ProcessPoolTaskRunner(1):
        before = process_id.submit().result(HANG_S)
        run = process_id.with_options(timeout_seconds=0.1).submit(HANG_S)

        assert isinstance(run.exception(HANG_S), nbtasks.TimedOut)
        assert process_id.submit().result(HANG_S) == before


@pytest.mark.parametrize("is_cancel", [False, True])
def test_code_that_ignores_the_interrupt_is_killed(is_cancel: bool, tmp_path: Path) -> None:
    hard = ignore_all.with_options(grace_s=0.1, timeout_seconds=None if is_cancel else 0.1)
    with ProcessPoolTaskRunner(1):
        run = hard.submit(tmp_path / "begun")
        if is_cancel:
            until((tmp_path / "begun").exists, "the code")
            run.cancel()

        assert run.wait(HANG_S).name == ("Cancelled" if is_cancel else "TimedOut")
        assert process_id.submit().result(HANG_S) != int((tmp_path / "begun").read_text())


def test_an_interrupt_never_hits_the_next_run_of_the_process() -> None:
    with ProcessPoolTaskRunner(1):
        runs = double.map(range(200))
        for run in runs:
            run.cancel()
    assert {run.state.name for run in runs} <= {"Completed", "Cancelled"}
    assert all(run.result() == 2 * i for i, run in enumerate(runs) if run.state.name == "Completed")


def test_prints_appear_where_the_caller_prints(capsys: pytest.CaptureFixture[str]) -> None:
    @task
    def speak() -> None:
        print("to stdout", end="")
        print("to stderr", file=sys.stderr)

    with ProcessPoolTaskRunner(1):
        speak.submit().result(HANG_S)

    out, err = capsys.readouterr()
    assert out == "to stdout"
    assert "to stderr\n" in err


def test_a_process_with_a_thread_that_goes_on_is_ended_with_the_block() -> None:
    @task
    def leave_a_thread() -> int:
        threading.Thread(target=time.sleep, args=(HANG_S,)).start()
        return os.getpid()

    with ProcessPoolTaskRunner(1):
        pid = leave_a_thread.submit().result(HANG_S)

    assert not psutil.pid_exists(pid)


def test_runs_that_the_code_submitted_end_before_it_does(tmp_path: Path) -> None:
    @task
    def late(path: Path) -> int:
        time.sleep(0.05)
        return path.write_text("x")

    @task
    def outer(path: Path) -> Any:
        return late.submit(path)

    with ProcessPoolTaskRunner(1):
        assert outer.submit(tmp_path / "late").result(HANG_S) == 1


SCRIPT = """
import os, pathlib, pickle, sys, time
import nbtasks

class Kept:
    def __init__(self, x):
        self.x = x

@nbtasks.task
def stay(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(60)

@nbtasks.task
def square(x):
    return pickle.loads(pickle.dumps(Kept(x * x))).x

with nbtasks.ProcessPoolTaskRunner(2):
    print(square.map([1, 2, 3]).result(), flush=True)
    if len(sys.argv) > 1:
        stay.map([pathlib.Path(sys.argv[1])] * 2).result()
"""


def test_a_script_needs_no_guard_and_what_it_defines_can_be_pickled_there(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[1, 4, 9]\n"


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "pids").mkdir()
    script = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "pids"], stderr=subprocess.DEVNULL
    )
    found = until(lambda: len(pids := list((tmp_path / "pids").iterdir())) == 2 and pids, "both processes")

    script.kill()
    script.wait()

    until(lambda: not any(psutil.pid_exists(int(path.name)) for path in found), "their end")


# -- Dask -----------------------------------------------------------------------------------------------


def test_log_lines_and_progress_come_back_from_another_process_of_dask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @task(log_prints=True)
    def speak() -> int:
        print("hello")
        nbtasks.progress(1, 2)
        return os.getpid()

    with dask_cluster(processes=True) as cluster:
        with DaskTaskRunner(cluster.scheduler_address) as runner:
            own = runner._client
            run = speak.submit()
            pid = run.result(HANG_S)
            crashed = end.submit(9)

            assert isinstance(crashed.exception(HANG_S), nbtasks.CrashedRun)
            assert double.submit(1).result(HANG_S) == 2
        assert own.status == "closed"

    assert pid != os.getpid()
    assert run.attempts[0].pid == pid
    assert run.progress == (1.0, 2.0, "")
    assert "| INFO    | Task run 'speak' - hello\n" in capsys.readouterr().err


def test_a_client_that_was_given_stays_open_and_hears_no_more(client: distributed.Client) -> None:
    with DaskTaskRunner(client) as runner:
        assert double.submit(1).result(HANG_S) == 2

    assert client.status == "running"
    with pytest.raises(RuntimeError, match="the block of this DaskTaskRunner has ended"):
        runner.submit(None, None)  # type: ignore[arg-type]


def test_without_dask_its_runner_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(ImportError, match=r"pip install 'nbtasks\[dask\]'"):
        DaskTaskRunner()
