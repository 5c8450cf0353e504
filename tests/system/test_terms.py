"""Priority, eta, expiry, idempotency keys and retry delays of runs on real workers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import exponential_backoff, task


def note(path: str, word: str) -> str:
    with open(path, "a") as file:
        file.write(f"{word}\n")
    return word


async def note_async(path: str, word: str) -> str:
    await asyncio.sleep(0)
    return note(path, word)


def fails(path: str) -> None:
    note(path, repr(time.time()))
    raise ValueError("again")


async def fails_async(path: str) -> None:
    await asyncio.sleep(0)
    fails(path)


BOTH = pytest.mark.parametrize("function", [note, note_async])
BOTH_FAIL = pytest.mark.parametrize("function", [fails, fails_async])


@pytest.mark.feature("T16")
@BOTH
def test_a_larger_priority_starts_first(client: Any, tmp_path: Path, function: Callable[..., Any]) -> None:
    path = str(tmp_path / "order")
    one = task(function)
    runs = [one.with_options(priority=n).delay(path, str(n)) for n in (0, -1, 7, 3)]

    client.start_workers(1)

    for run in runs:
        run.result(timeout=60)
    assert Path(path).read_text().split() == ["7", "3", "0", "-1"]


@pytest.mark.feature("T16")
@BOTH
def test_a_run_does_not_start_before_its_eta(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    client.start_workers(1)
    one = task(function)
    eta = datetime.now(timezone.utc) + timedelta(seconds=1.0)

    later = one.apply_async((str(tmp_path / "a"), "later"), eta=eta)
    counted = one.apply_async((str(tmp_path / "b"), "counted"), countdown=1.0)

    assert (later.state.type, later.state.name) == ("SCHEDULED", "Scheduled")
    assert (later.result(timeout=60), counted.result(timeout=60)) == ("later", "counted")
    for run in (later, counted):
        [attempt] = nbtasks.get_run(run.id).attempts
        assert attempt.start >= eta - timedelta(seconds=0.01)
    assert [state.name for state in nbtasks.get_run(later.id).history] == [
        "Scheduled", "Pending", "Running", "Completed",
    ]  # fmt: skip


@pytest.mark.feature("T16")
@BOTH
def test_what_has_not_started_in_time_expires(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    run = task(function, expires=0.2).delay(str(tmp_path / "a"), "never")

    run.wait(timeout=60)

    assert run.state.name == "Cancelled"
    assert "expired" in run.state.message
    client.start_workers(1)
    assert task(function).delay(str(tmp_path / "b"), "after").result(timeout=60) == "after"
    assert not (tmp_path / "a").exists()


@pytest.mark.feature("T16")
@BOTH
def test_what_started_in_time_does_not_expire(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    client.start_workers(1)

    run = task(function, expires=100).delay(str(tmp_path / "a"), "in time")

    assert run.result(timeout=60) == "in time"


@pytest.mark.feature("T16")
@BOTH
def test_an_idempotency_key_names_one_run(client: Any, tmp_path: Path, function: Callable[..., Any]) -> None:
    path = str(tmp_path / "a")
    client.start_workers(1)
    one = task(function)

    first = one.apply_async((path, "first"), idempotency_key="k")
    again = one.apply_async((path, "again"), idempotency_key="k")
    assert again.id == first.id
    assert again.result(timeout=60) == "first"
    late = one.apply_async((path, "late"), idempotency_key="k")
    other = one.apply_async((path, "other"), idempotency_key="l")

    assert (late.id, late.result(timeout=60)) == (first.id, "first")
    assert other.result(timeout=60) == "other"
    assert Path(path).read_text().split() == ["first", "other"]


@pytest.mark.feature("T8")
@BOTH_FAIL
def test_retries_pause_as_the_list_says_and_the_last_pause_repeats(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = tmp_path / "times"
    client.start_workers(1)

    run = task(function, retries=3, retry_delay_seconds=[0.3, 0.1]).delay(str(path))

    with pytest.raises(ValueError, match="again"):
        run.result(timeout=60)
    times = [float(line) for line in path.read_text().split()]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= least for pause, least in zip(pauses, (0.3, 0.1, 0.1), strict=True))


@pytest.mark.feature("T8")
@BOTH_FAIL
def test_an_exponential_backoff_doubles_each_pause_and_jitter_bounds_it(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = tmp_path / "times"
    client.start_workers(1)
    backing_off = task(
        function, retries=3, retry_delay_seconds=exponential_backoff(0.1), retry_jitter_factor=0.5
    )
    assert backing_off.retry_delay_seconds == [0.1, 0.2, 0.4]

    run = backing_off.delay(str(path))

    run.wait(timeout=60)
    times = [float(line) for line in path.read_text().split()]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))
    assert run.state.name == "Failed"
