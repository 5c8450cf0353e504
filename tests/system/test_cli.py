"""The command line with a real broker: what it says, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtasks import task
from nbtasks.wire import connection
from nbtasks.wire.alive import is_alive

UNKNOWN = "00000000-0000-7000-8000-000000000000"
HANG_S = 60


def nbtasks(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from nbtasks.cli import main; main(prog_name='nbtasks')", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)


def until(claim: Callable[[], Any]) -> Any:
    ends_at = time.monotonic() + HANG_S
    while not (found := claim()):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    return found


@task
def speak(text: str) -> str:
    print(f"I say {text}")
    return text


@task
def sleep_long() -> None:
    time.sleep(300)


@task
def fail() -> None:
    raise ValueError("no luck")


def test_a_broker_is_started_once_and_a_second_start_says_whose_it_is(home: Path) -> None:
    first = nbtasks("broker", "start")
    second = nbtasks("broker", "start")

    found = connection.read(home)
    assert found is not None
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == f"broker started: pid {found.pid}, home {home}\n"
    assert second.stdout == f"broker already running: pid {found.pid}, home {home}\n"


def test_a_stopped_broker_is_gone_when_the_command_returns(home: Path) -> None:
    nbtasks("broker", "start")
    found = connection.read(home)
    assert found is not None

    stopped = nbtasks("broker", "stop")
    again = nbtasks("broker", "stop")

    assert not is_alive(found.pid, found.born)
    assert stopped.stdout == f"broker stopped: pid {found.pid}, home {home}\n"
    assert (stopped.returncode, again.returncode) == (0, 0)
    assert again.stdout == f"no broker runs for home {home}\n"


@pytest.mark.parametrize(
    "words", [("broker", "status"), ("runs",), ("show", UNKNOWN), ("logs", UNKNOWN), ("cancel", UNKNOWN)]
)
def test_looking_without_a_broker_exits_3_and_starts_none(home: Path, words: tuple[str, ...]) -> None:
    done = nbtasks(*words)

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(home) in done.stderr
    assert connection.read(home) is None


@pytest.mark.parametrize("words", [("dance",), ("worker", "-n", "0"), ("cancel",), ("runs", "-o", "xml")])
def test_wrong_usage_exits_2(words: tuple[str, ...]) -> None:
    assert nbtasks(*words).returncode == 2


def test_status_names_broker_pool_and_workers(client: Any, workers: Any) -> None:
    done = nbtasks("broker", "status")

    assert done.returncode == 0
    assert done.stdout.startswith(f"broker  pid {client.status().broker_pid}, home {client.home}\n")
    assert re.search(rf"^pool    pid {workers.pid}, \d of 2 workers, any task$", done.stdout, re.MULTILINE)


@pytest.mark.feature("S3")
def test_runs_are_listed_as_table_ids_and_json(client: Any, workers: Any) -> None:
    said, failed = speak.delay("hello"), fail.delay()
    said.wait(HANG_S)
    failed.wait(HANG_S)

    table, ids, records = nbtasks("runs"), nbtasks("runs", "-o", "ids"), nbtasks("runs", "-o", "json")
    only = nbtasks("runs", "--state", "FAILED", "--task", "fail", "-o", "ids")

    typo = nbtasks("runs", "--state", "Fialed")

    assert ids.stdout.split() == [str(failed.id), str(said.id)]
    assert typo.returncode == 1
    assert "no state 'Fialed', did you mean" in typo.stderr
    assert only.stdout.split() == [str(failed.id)]
    assert re.search(rf"{said.id} +✓ Completed +speak\(text='hello'\)", table.stdout)
    assert [record["state"] for record in json.loads(records.stdout)] == ["Failed", "Completed"]
    assert json.loads(records.stdout)[0]["message"] == "ValueError: no luck"


@pytest.mark.feature("R5")
def test_show_tells_all_about_a_run_as_text_and_as_json(client: Any, workers: Any) -> None:
    said, failed = speak.delay("hello"), fail.delay()
    said.wait(HANG_S)
    failed.wait(HANG_S)

    text, failure = nbtasks("show", str(said.id)).stdout, nbtasks("show", str(failed.id)[-8:])
    record = json.loads(nbtasks("show", str(failed.id), "-o", "json").stdout)

    for line in (f"run      {said.id}", "state    ✓ Completed", "given    text = 'hello'", "I say hello"):
        assert line in text.splitlines()
    assert "ValueError: no luck" in failure.stdout
    assert failure.returncode == 0
    assert [moment["state"] for moment in record["history"]] == ["Pending", "Running", "Failed"]
    assert [attempt["outcome"] for attempt in record["attempt_records"]] == ["Failed"]
    assert (record["task"], record["error"]["name"]) == (fail.key, "ValueError")
    for spelled in (str(said.id).upper(), said.id.hex):
        assert nbtasks("logs", spelled).stdout == "I say hello\n"
    assert client.runs(state=["FAILED", "Completed"]) == client.runs()
    assert client.runs(state=["FAILED", "Cancelled"]) == [client.get_run(failed.id.hex)]
    unknown = nbtasks("show", UNKNOWN)
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)


@pytest.mark.feature("W7")
def test_status_is_one_json_document_with_memory_and_queues(client: Any, workers: Any) -> None:
    runs = [sleep_long.delay() for _ in range(8)]
    until(lambda: sum(run.state.name == "Running" for run in runs) == 2)

    status = json.loads(nbtasks("broker", "status", "-o", "json").stdout)

    assert status["counts"]["RUNNING"] == 2
    assert len(status["counts"]) == 8
    [pool] = status["pools"]
    assert (pool["pid"], pool["least"], pool["most"], pool["workers"]) == (workers.pid, 2, 2, 2)
    for worker in status["workers"]:
        assert worker["state"] == "busy"
        assert worker["memory_bytes"] > 2**20
        assert worker["busy_since"] <= time.time()
    assert {worker["current_run"] for worker in status["workers"]} < {str(run.id) for run in runs}
    [queue] = status["queues"]
    assert queue["task"] == sleep_long.key
    assert 4 <= queue["depth"] <= 6  # a worker may have one more at hand
    assert queue["age_s"] >= 0
    client.cancel(run.id for run in runs)  # so that nothing has to be waited for in the end


def test_logs_prints_what_the_run_printed(client: Any, workers: Any) -> None:
    run = speak.delay("hello")
    run.wait(HANG_S)

    whole, by_its_end = nbtasks("logs", str(run.id)), nbtasks("logs", str(run.id)[-8:])

    assert whole.stdout == by_its_end.stdout == "I say hello\n"
    assert (whole.returncode, by_its_end.returncode) == (0, 0)


def test_a_run_that_does_not_exist_exits_1_and_cancels_nothing(client: Any) -> None:
    run = sleep_long.delay()

    done = nbtasks("cancel", str(run.id), UNKNOWN)

    assert done.returncode == 1
    assert UNKNOWN in done.stderr
    assert run.state.name == "Pending"
    assert nbtasks("logs", UNKNOWN).returncode == 1


def test_cancel_ends_a_waiting_and_a_running_run(client: Any, workers: Any) -> None:
    runs = [sleep_long.delay() for _ in range(3)]
    until(lambda: sum(run.state.name == "Running" for run in runs) == 2)

    done = nbtasks("cancel", *(str(run.id) for run in runs))

    assert done.returncode == 0
    assert done.stdout == "asked to cancel 3 runs\n"
    assert {run.wait(HANG_S).name for run in runs} == {"Cancelled"}
    assert nbtasks("cancel", str(runs[0].id)).stdout == "asked to cancel 0 runs; 1 had ended already\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_executes_runs_until_a_signal_and_exits_0(client: Any, number: signal.Signals) -> None:
    command = [sys.executable, "-c", "from nbtasks.cli import main; main()", "worker", "-n", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert speak.delay("hello").result(HANG_S) == "hello"
        assert [pool.pid for pool in client.status().pools] == [process.pid]

        os.kill(process.pid, number)

        _, said = process.communicate(timeout=HANG_S)
        assert process.returncode == 0
        assert said.splitlines()[0] == f"nbtasks: 2 workers for home {client.home}; Ctrl-C ends"
    finally:
        process.kill()
        process.wait()
