"""Iterating over runs of generators: values as they are yielded, pauses, new attempts, dead brokers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import Restarted, task
from tests.system.tasks import lines, note
from tests.system.waiting import HANG_S, until

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("T18")


def steps(go_on: str, n: int) -> Iterator[int]:
    """Yield each number once the file of its name is there."""
    for number in range(n):
        ends_at = time.monotonic() + HANG_S
        while not os.path.exists(f"{go_on}{number}") and time.monotonic() < ends_at:
            time.sleep(0.005)
        yield number


async def steps_async(go_on: str, n: int) -> AsyncIterator[int]:
    for number in steps(go_on, n):
        await asyncio.sleep(0)
        yield number


def noted(path: str, n: int) -> Iterator[int]:
    for number in range(n):
        note(path, str(number))
        yield number


async def noted_async(path: str, n: int) -> AsyncIterator[int]:
    for number in noted(path, n):
        yield number


def breaks(path: str) -> Iterator[int]:
    note(path, "attempt")
    yield from range(3)
    raise ValueError("broken")


async def breaks_async(path: str) -> AsyncIterator[int]:
    for value in breaks(path):
        yield value


@pytest.mark.parametrize("function", [steps, steps_async])
def test_values_come_as_they_are_yielded_and_the_result_is_the_list(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    run = task(function).delay(str(tmp_path / "go"), 3)
    (tmp_path / "go0").touch()
    values = iter(run)

    for number in range(3):
        assert next(values) == number
        assert number == 2 or not run.state.is_final
        (tmp_path / f"go{number + 1}").touch()

    assert list(values) == []
    assert run.result(timeout=60) == [0, 1, 2] == list(run) == list(nbtasks.get_run(run.id))


def test_values_are_read_by_an_async_loop(client: Any, workers: Any, tmp_path: Path) -> None:
    run = task(noted).delay(str(tmp_path / "noted"), 1000)

    async def read() -> list[int]:
        return [value async for value in run]

    assert asyncio.run(read()) == list(range(1000))


@pytest.mark.parametrize("function", [noted, noted_async])
def test_a_generator_pauses_when_its_reader_does(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    go, path = str(tmp_path / "go"), str(tmp_path / "noted")

    @task
    def waits_for_a_reader(n: int) -> Any:
        yield "here"
        while not os.path.exists(go):
            time.sleep(0.005)
        made = function(path, n)
        if hasattr(made, "__anext__"):
            loop = asyncio.new_event_loop()
            for _ in range(n):
                yield loop.run_until_complete(made.__anext__())
        else:
            yield from made

    run = waits_for_a_reader.delay(20_000)
    values = iter(run)
    assert next(values) == "here"
    Path(go).touch()
    assert next(values) == 0

    until(lambda: len(lines(path)) >= 256, "as many are made as may be unread")
    time.sleep(0.3)  # as long as it lasts to make them all
    assert len(lines(path)) < 10_000
    assert list(values) == list(range(1, 20_000))


def test_a_generator_that_nobody_reads_does_not_pause(client: Any, workers: Any, tmp_path: Path) -> None:
    run = task(noted).delay(str(tmp_path / "noted"), 20_000)

    run.wait(60)

    assert run.result() == list(range(20_000))
    assert list(run) == list(range(20_000))


def test_a_reader_that_leaves_off_holds_nobody_up(client: Any, workers: Any, tmp_path: Path) -> None:
    run = task(noted).delay(str(tmp_path / "noted"), 20_000)

    for value in run:
        if value == 3:
            break

    assert run.result(timeout=30) == list(range(20_000))


def test_of_what_nobody_reads_no_more_is_recorded_than_a_bound(client: Any, workers: Any) -> None:
    @task
    def large(n: int) -> Any:
        for number in range(n):
            yield bytes([number]) * 2**20
        yield b"small"

    run = large.delay(40)

    run.wait(60)
    values = list(run)

    assert [value[:1] for value in values] == [bytes([number]) for number in range(40)] + [b"s"]


@pytest.mark.parametrize("function", [breaks, breaks_async])
def test_a_failure_comes_after_the_values_before_it(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    run = task(function).delay(str(tmp_path / "noted"))
    values = iter(run)

    assert [next(values), next(values), next(values)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(values)


@pytest.mark.parametrize("function", [breaks, breaks_async])
def test_a_new_attempt_is_told_to_who_was_given_values(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    run = task(function, retries=1, retry_delay_seconds=0.2).delay(str(tmp_path / "noted"))
    values = iter(run)
    assert [next(values), next(values), next(values)] == [0, 1, 2]

    with pytest.raises(Restarted, match="3 values"):
        next(values)
    again = iter(run)
    assert [next(again), next(again), next(again)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(again)
    assert len(lines(tmp_path / "noted")) == 2


def test_a_reader_goes_on_when_the_broker_is_killed(client: Any, workers: Any, tmp_path: Path) -> None:
    run = task(steps).delay(str(tmp_path / "go"), 4)
    (tmp_path / "go0").touch()
    values = iter(run)
    assert next(values) == 0

    os.kill(client.status().broker_pid, signal.SIGKILL)
    for number in range(1, 4):
        (tmp_path / f"go{number}").touch()

    assert list(values) == [1, 2, 3]


def test_a_task_reads_what_another_one_yields_on_one_worker(client: Any, tmp_path: Path) -> None:
    client.start_workers(1)
    path = str(tmp_path / "noted")

    @task
    def reads() -> int:
        return sum(task(noted).delay(path, 10))

    assert reads.delay().result(timeout=60) == 45


def test_runs_of_this_process_are_read_likewise(tmp_path: Path) -> None:
    run = task(steps).submit(str(tmp_path / "go"), 3)
    (tmp_path / "go0").touch()
    values = iter(run)
    assert next(values) == 0
    assert not run.state.is_final
    (tmp_path / "go1").touch()
    (tmp_path / "go2").touch()

    assert list(values) == [1, 2]
    assert list(task(noted_async).submit(str(tmp_path / "noted"), 3)) == [0, 1, 2]


def test_what_is_no_generator_cannot_be_iterated_over(client: Any, workers: Any) -> None:
    run = task(len, name="length").delay("abc")

    with pytest.raises(TypeError, match=r"run 'length' returned int.*use run.result\(\)"):
        list(run)
    with pytest.raises(TypeError, match="a list of runs"):
        nbtasks.wait(run)
