"""Options whose effect a worker shows, each for a sync and an async task: ignoring one fails a test here.

Those about time, order, hooks, caches, limits and kinds of workers have modules of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from tests.system.tasks import lines, note

SHARES_WORKERS = True

Function = Callable[..., Any]


def who() -> tuple[str, list[str], dict[str, Any]]:
    """Say something, and tell what a run knows of itself."""
    run = nbtasks.current_run()
    assert run is not None
    print("said in a run")
    return run.name, sorted(run.tags), dict(run.parameters)


async def who_async() -> tuple[str, list[str], dict[str, Any]]:
    await asyncio.sleep(0)
    return who()


def fails_once(path: str) -> int:
    note(path, "attempt")
    if len(lines(path)) == 1:
        raise ValueError("not yet")
    return len(lines(path))


async def fails_once_async(path: str) -> int:
    await asyncio.sleep(0)
    return fails_once(path)


def dies_once(path: str) -> int:
    note(path, "attempt")
    if len(lines(path)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(lines(path))


async def dies_once_async(path: str) -> int:
    await asyncio.sleep(0)
    return dies_once(path)


def cleans_up(path: str) -> None:
    """Need half a second after an interrupt."""
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        note(path, "interrupted")
        time.sleep(0.5)
        note(path, "cleaned up")
        raise


async def cleans_up_async(path: str) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(path, "interrupted")
        await asyncio.sleep(0.5)
        note(path, "cleaned up")
        raise


def generates(path: str) -> Any:
    """Every kind of task may have every option."""
    yield fails_once(path)


WHO = pytest.mark.parametrize("function", [who, who_async])


@pytest.mark.feature("T2")
@WHO
def test_name_key_and_tags_are_those_that_were_given(client: Any, workers: Any, function: Function) -> None:
    one = task(function, name="given", key=f"given:{function.__name__}", tags=["one"])

    with nbtasks.tags("around"):
        run = one.delay()

    assert run.result(timeout=60) == ("given", ["around", "one"], {})
    found = nbtasks.get_run(run.id)
    assert (found.name, found.task_key) == ("given", f"given:{function.__name__}")
    assert found.tags == {"around", "one"}
    assert run in nbtasks.runs(tag="around")


@pytest.mark.feature("T14")
@WHO
def test_prints_are_log_lines_too_only_if_that_is_asked_for(
    client: Any, workers: Any, function: Function
) -> None:
    quiet, loud = task(function), task(function, log_prints=True, name="loud")

    runs = [quiet.delay(), loud.delay()]

    for run in runs:
        run.result(timeout=60)
        assert run.logs.count("said in a run\n") == 1
    logs = Path(client.home, "logs")
    said = "".join(path.read_text() for path in logs.glob("pool-*.log"))
    assert said.count("Task run 'loud' - said in a run") >= 1
    assert f"Task run '{function.__name__}' - said in a run" not in said


@pytest.mark.feature("T5", "T8")
@pytest.mark.parametrize("function", [fails_once, fails_once_async, generates])
@pytest.mark.parametrize("way", ["decorator", "with_options", "apply_async"])
def test_a_retry_after_its_pause_wherever_that_was_said(
    client: Any, workers: Any, tmp_path: Path, function: Function, way: str
) -> None:
    given: dict[str, Any] = {"retries": 1, "retry_delay_seconds": 0.2}
    path = str(tmp_path / "noted")
    plain = task(function)

    run = {
        "decorator": lambda: task(function, **given).delay(path),
        "with_options": lambda: plain.with_options(**given).delay(path),
        "apply_async": lambda: plain.apply_async((path,), **given),
    }[way]()

    assert run.result(timeout=60) == ([2] if function is generates else 2)
    first, second = run.attempts
    assert second.start - first.end >= timedelta(seconds=0.2)
    assert [state.name for state in run.history] == [
        "Pending", "Running", "AwaitingRetry", "Retrying", "Completed",
    ]  # fmt: skip
    assert plain.delay(str(tmp_path / "other")).wait(timeout=60).name == "Failed"


@pytest.mark.feature("T10")
@pytest.mark.parametrize("function", [dies_once, dies_once_async])
def test_a_crash_is_tried_again_only_if_that_is_asked_for(
    client: Any, workers: Any, tmp_path: Path, function: Function
) -> None:
    asked, not_asked = task(function, crash_retries=1), task(function, retries=3)

    runs = [asked.delay(str(tmp_path / "asked")), not_asked.delay(str(tmp_path / "not asked"))]

    assert runs[0].result(timeout=60) == 2
    assert runs[1].wait(timeout=60).name == "Crashed"
    assert [len(run.attempts) for run in runs] == [2, 1]


@pytest.mark.feature("T11")
@pytest.mark.parametrize("function", [cleans_up, cleans_up_async])
def test_what_is_interrupted_has_its_grace_and_no_more(
    client: Any, workers: Any, tmp_path: Path, function: Function
) -> None:
    one = task(function, timeout_seconds=2.0)  # by then it has begun, on a busy machine too
    graceful, graceless = tmp_path / "graceful", tmp_path / "graceless"

    runs = [
        one.with_options(grace_s=30).delay(str(graceful)),
        one.with_options(grace_s=0).delay(str(graceless)),
    ]

    assert [run.wait(timeout=60).name for run in runs] == ["TimedOut", "TimedOut"]
    assert lines(graceful) == ["interrupted", "cleaned up"]
    assert "cleaned up" not in lines(graceless)
