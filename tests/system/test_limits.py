"""Limits of tags and of blocks of code, on real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import concurrency, rate_limit, task
from tests.system.test_cli import nbtasks as nbtasks_command
from tests.system.waiting import until

pytestmark = pytest.mark.feature("T15")


def note(folder: str, word: str) -> None:
    Path(folder, f"{word}-{time.time_ns()}").touch()


def spans(folder: Path) -> list[tuple[int, int]]:
    """When each block began and ended (nanoseconds), by its begin."""
    ends = {}
    for path in folder.iterdir():
        word, name, at = path.name.split("-")
        ends.setdefault(name, {})[word] = int(at)
    return sorted((one["begin"], one["end"]) for one in ends.values())


def at_a_time(folder: Path) -> int:
    """How many blocks were under way at a time, at most."""
    found = spans(folder)
    return max(sum(begin <= at < end for begin, end in found) for at, _ in found)


@task(tags=["gpu"])
def tagged(folder: str, name: str) -> str:
    note(folder, f"begin-{name}")
    time.sleep(0.1)
    note(folder, f"end-{name}")
    return name


@task(tags=["gpu"])
async def tagged_async(folder: str, name: str) -> str:
    note(folder, f"begin-{name}")
    await asyncio.sleep(0.1)
    note(folder, f"end-{name}")
    return name


@task
def block(folder: str, name: str) -> str:
    with concurrency("db"):
        note(folder, f"begin-{name}")
        time.sleep(0.1)
        note(folder, f"end-{name}")
    return name


@task
async def block_async(folder: str, name: str) -> str:
    async with concurrency("db"):
        note(folder, f"begin-{name}")
        await asyncio.sleep(0.1)
        note(folder, f"end-{name}")
    return name


@task
def holds(path: str) -> None:
    with concurrency("db"):
        Path(path).touch()
        time.sleep(600)


@task
def calls(number: int) -> list[float]:
    times = []
    for _ in range(number):
        rate_limit("api")
        times.append(time.monotonic())
    return times


@task
async def calls_async(number: int) -> list[float]:
    times = []
    for _ in range(number):
        await rate_limit("api")
        times.append(time.monotonic())
    return times


@task
def in_vain() -> str:
    try:
        with concurrency("db", timeout_s=0.2):
            return "in"
    except TimeoutError as error:
        return str(error)


@pytest.mark.parametrize("function", [tagged, tagged_async])
def test_no_more_runs_of_a_tag_run_than_its_limit(client: Any, tmp_path: Path, function: Any) -> None:
    nbtasks.limit("gpu", 2)
    client.start_workers(4)

    runs = function.map(str(tmp_path), list("abcdef"), deferred=True)

    assert runs.result(timeout=60) == list("abcdef")
    assert at_a_time(tmp_path) == 2


def test_a_run_that_waits_for_a_tag_holds_no_worker_and_says_so(client: Any, tmp_path: Path) -> None:
    nbtasks.limit("gpu", 0)
    client.start_workers(1)
    held = tagged.delay(str(tmp_path), "a")

    assert task(abs).delay(-1).result(timeout=60) == 1
    until(lambda: held.state.name == "AwaitingConcurrencySlot", "the run says why it waits")
    assert held.state.type == "PENDING"
    behind = tagged.delay(str(tmp_path), "b")
    until(lambda: behind.state.message == "waiting for a slot of gpu", "so does the one behind it")
    nbtasks.limit("gpu", None)

    assert held.result(timeout=60) == "a"
    assert nbtasks.limits() == {}


@pytest.mark.parametrize("function", [block, block_async])
def test_no_more_blocks_run_than_the_limit(client: Any, tmp_path: Path, function: Any) -> None:
    nbtasks.limit("db", 1)
    client.start_workers(3)

    runs = function.map(str(tmp_path), list("abcd"), deferred=True)

    assert runs.result(timeout=60) == list("abcd")
    assert at_a_time(tmp_path) == 1
    assert nbtasks.limits()["db"] == (1, 0.0, 0, 0)


def test_slots_outlive_the_broker_and_are_free_when_their_run_is_killed(client: Any, tmp_path: Path) -> None:
    nbtasks.limit("db", 1)
    client.start_workers(2)
    holder = holds.delay(str(tmp_path / "held"))
    until((tmp_path / "held").exists, "the block is entered")
    (tmp_path / "blocks").mkdir()
    waiting = block.delay(str(tmp_path / "blocks"), "a")
    until(lambda: nbtasks.limits()["db"].waiting == 1, "the other block waits")
    pid = client.status().broker_pid

    os.kill(pid, signal.SIGKILL)
    until(lambda: client.status().broker_pid != pid, "a new broker")
    until(lambda: nbtasks.limits()["db"] == (1, 0.0, 1, 1), "both are known again")
    [worker] = [w for w in client.status().workers if w.current_run == holder.id]
    os.kill(worker.pid, signal.SIGKILL)

    assert waiting.result(timeout=60) == "a"
    assert holder.wait(timeout=60).name == "Crashed"


def test_a_wait_for_slots_can_be_cancelled_and_has_a_time_out(client: Any, tmp_path: Path) -> None:
    nbtasks.limit("db", 0)
    client.start_workers(1)

    assert "no slot of 'db' was free within 0.2 s" in in_vain.delay().result(timeout=60)
    for function in (block, block_async):
        run = function.delay(str(tmp_path), "a")
        until(lambda: nbtasks.limits()["db"].waiting == 1, "the block waits")
        run.cancel()
        assert run.wait(timeout=60).name == "Cancelled"
        until(lambda: nbtasks.limits()["db"].waiting == 0, "nobody waits any more")


@pytest.mark.parametrize("function", [calls, calls_async])
def test_a_rate_spreads_starts(client: Any, workers: Any, function: Any) -> None:
    nbtasks.limit("api", 2, period_s=0.3)

    times = function.delay(5).result(timeout=60)

    # the third comes a period after the first, the fifth after the third; both clocks tick the same
    assert times[2] - times[0] >= 0.25
    assert times[4] - times[2] >= 0.25


def test_limits_are_checked_where_they_are_given(client: Any, workers: Any) -> None:
    for wrong, error in (((1, 2), TypeError), (("x", "1"), TypeError), (("x", -1), ValueError)):
        with pytest.raises(error):
            nbtasks.limit(*wrong)
    with pytest.raises(ValueError, match="period_s"):
        nbtasks.limit("x", 1, period_s=0)
    nbtasks.limit("api", 1)
    with pytest.raises(ValueError, match="not a rate"):
        calls.delay(1).result(timeout=60)


def test_in_this_process_blocks_pass(client: Any, tmp_path: Path) -> None:
    nbtasks.limit("db", 0)

    assert block(str(tmp_path), "a") == "a"
    assert block.submit(str(tmp_path), "b").result(timeout=60) == "b"


def test_the_command_line_sets_and_lists_limits(client: Any) -> None:
    assert nbtasks_command("limit", "gpu", "2").returncode == 0
    assert json.loads(nbtasks_command("limits", "-o", "json").stdout)["gpu"]["slots"] == 2
    assert nbtasks_command("limits").stdout == "gpu: 2 slots, 0 in use\n"
    assert nbtasks_command("limit", "gpu", "none").returncode == 0
    assert nbtasks_command("limits").stdout == ""
    assert nbtasks_command("limit", "gpu", "many").returncode == 2
