"""Waiting for runs of two brokers and of this process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import RunList, task
from tests.homes import stop_broker
from tests.system.tasks import double, hold
from tests.system.waiting import until

HANG_S = 60
double_task, hold_task = task(double), task(hold)


@pytest.fixture
def other(client: Any) -> Iterator[Any]:
    """A client of a second broker with a worker."""
    home = client.home.parent / "h2"
    with nbtasks.connect(home) as second:
        second.start_workers(1)
        yield second
    stop_broker(home)


def test_runs_of_two_brokers_and_of_this_process_are_waited_for_together(
    client: Any, workers: Any, other: Any, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    far = double_task.delay(1)  # of the block around: the second broker
    held = hold_task.delay(str(tmp_path / "notes"), str(release), "x")
    with client:
        near = double_task.map(range(20), deferred=True)
    runs = RunList([far, *near, double_task.submit(4)])

    assert nbtasks.wait([*runs, held], 0)[1] >= {held}
    assert set(nbtasks.as_completed(runs, HANG_S)) == set(runs)
    assert runs.result() == [2, *range(0, 40, 2), 8]
    assert RunList([*runs, held]).counts["COMPLETED"] == 22
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        nbtasks.wait([held, *runs, double_task.delay(2), near[0]])
    release.touch()

    async def main() -> Any:
        return await RunList([held, *runs])

    assert asyncio.run(main())[0] == "x"


def test_threads_that_wait_for_the_same_runs_all_see_every_ending(client: Any, workers: Any) -> None:
    runs = double_task.map(range(300), deferred=True)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(len(list(nbtasks.as_completed(runs, HANG_S)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()

    until(lambda: len(seen) == 4, "all threads saw all")
    assert seen == [300] * 4


def test_a_mixed_wait_ends_when_one_broker_is_stopped(client: Any, other: Any) -> None:
    with client:
        waiting = double_task.delay(1)  # no worker there
    runs = [waiting, double_task.delay(1)]
    threading.Timer(0.2, stop_broker, (client.home,)).start()

    with pytest.raises(nbtasks.BrokerUnavailable):
        nbtasks.wait(runs)
