"""Clients and their brokers: one that is stopped, killed, silent, full, or not the only one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

import nbtasks
from nbtasks import task
from nbtasks.wire import connection
from tests.system import tasks
from tests.system.waiting import until

double = task(tasks.double)
hold = task(tasks.hold)


def test_who_waits_while_the_broker_is_stopped_gets_an_error_and_a_new_delay_starts_it(
    client: Any, home: Path
) -> None:
    run = double.delay(1)
    pid = client.status().broker_pid
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            run.result(timeout=60)
        except BaseException as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    client.stop_broker()
    waiter.join(60)

    assert isinstance(raised[0], nbtasks.BrokerUnavailable)
    assert connection.read(home) is None
    with pytest.raises(nbtasks.BrokerUnavailable, match="stopped"):
        run.result(timeout=60)
    double.delay(2)
    assert client.status().broker_pid != pid
    client.start_workers(1)
    assert run.result(timeout=60) == 2


def test_a_broker_that_somebody_else_stopped_is_not_started_by_a_question(client: Any, home: Path) -> None:
    pid = client.status().broker_pid

    subprocess.run([sys.executable, "-m", "nbtasks", "broker", "stop"], check=True, capture_output=True)
    until(lambda: not psutil.pid_exists(pid), "it is gone")

    with pytest.raises(nbtasks.BrokerUnavailable, match="stopped"):
        client.status()
    assert connection.read(home) is None


def test_an_awaited_run_gets_an_error_when_the_broker_is_stopped(client: Any) -> None:
    async def main() -> None:
        run = double.delay(1)
        asyncio.get_running_loop().run_in_executor(None, client.stop_broker)
        await run

    with pytest.raises(nbtasks.BrokerUnavailable):
        asyncio.run(main())


def test_a_broker_killed_while_idle_is_started_by_the_next_delay(client: Any, home: Path) -> None:
    pid = client.status().broker_pid

    os.kill(pid, signal.SIGKILL)
    until(lambda: connection.read(home) is None, "it is gone")
    run = double.delay(3)

    assert client.status().broker_pid != pid
    client.start_workers(1)
    assert run.result(timeout=60) == 6


def test_a_client_that_may_not_start_a_broker_says_so_when_it_dies(client: Any, home: Path) -> None:
    with nbtasks.connect(home, start=False) as other:
        pid = other.status().broker_pid
        client.close()
        os.kill(pid, signal.SIGKILL)
        until(lambda: connection.read(home) is None, "it is gone")

        with pytest.raises(nbtasks.BrokerUnavailable):
            other.status()
        with pytest.raises(nbtasks.BrokerUnavailable):
            double.delay(1)


def test_a_task_starts_no_broker_where_the_home_says_so(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "settings.toml").write_text("start_broker = false\n")

    with pytest.raises(nbtasks.BrokerUnavailable, match="nbtasks broker start"):
        double.delay(1)
    nbtasks.connect(home).close()
    run = double.delay(1)

    assert [found.id for found in nbtasks.runs()] == [run.id]


@pytest.mark.feature("D2")
def test_a_broker_that_does_not_answer_makes_a_submit_unknown_and_the_error_names_the_run(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtasks.client.client.SUBMIT_S", 0.2)
    pid = client.status().broker_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(nbtasks.SubmitUnknown) as caught:
            double.delay(1)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert caught.value.run_id in str(caught.value)
    assert until(lambda: nbtasks.runs(), "it was recorded")[0].id == UUID(caught.value.run_id)


def test_leaving_a_block_restores_who_was_talked_to(client: Any, home: Path, tmp_path: Path) -> None:
    other_home = home.parent / "o"
    with nbtasks.connect(other_home) as other:
        double.delay(1)
        assert sum(other.status().counts.values()) == 1
        assert sum(client.status().counts.values()) == 0
        other.stop_broker()

    double.delay(1)

    assert sum(client.status().counts.values()) == 1


@pytest.mark.feature("D10")
def test_the_queue_limit_is_an_error_and_nothing_is_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBTASKS_QUEUE_LIMIT", "2")
    with nbtasks.connect(home):
        double.delay(1)

        with pytest.raises(nbtasks.QueueFull, match="limit is 2"):
            double.map([1, 2], deferred=True)

        assert len(nbtasks.runs()) == 1
