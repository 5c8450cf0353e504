"""A run once more, in the background or here, and where one is that runs."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import nbtasks
from nbtasks import cli, task
from tests.system import tasks
from tests.system.waiting import until

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("R5")


def divides(path: str, a: int, b: int = 0) -> float:
    tasks.note(path, f"{a} {b}")
    return a / b


async def divides_async(path: str, a: int, b: int = 0) -> float:
    await asyncio.sleep(0)
    return divides(path, a, b)


@pytest.mark.parametrize("function", [divides, divides_async])
def test_a_run_is_called_again_with_all_that_it_had(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "noted")
    run = task(function, retries=1, tags=["x"]).delay(path, 1)
    run.wait(60)

    again = nbtasks.get_run(run.id).rerun()

    with pytest.raises(ZeroDivisionError):
        again.result(timeout=60)
    assert again.id != run.id
    assert (again.tags, again.parameters) == (run.tags, run.parameters)
    assert len(again.attempts) == 2
    assert tasks.lines(path) == ["1 0"] * 4


@pytest.mark.parametrize("function", [divides, divides_async])
def test_a_run_is_called_here_so_that_a_debugger_sees_it(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "noted")
    run = task(function).delay(path, 3)
    run.wait(60)

    with pytest.raises(ZeroDivisionError) as caught:
        run.rerun(here=True)

    frame = traceback.walk_tb(caught.value.__traceback__)
    assert [(f.f_locals["a"], f.f_locals["b"]) for f, _ in frame if f.f_code.co_name == "divides"] == [(3, 0)]
    assert tasks.lines(path) == ["3 0"] * 2


def test_large_arguments_and_other_runs_are_there_again(client: Any, workers: Any) -> None:
    import numpy

    @task
    def total(array: Any, other: int) -> tuple[float, str]:
        run = nbtasks.current_run()
        assert run is not None
        return float(array.sum()) + other, run.name

    double = task(tasks.double)
    run = total.delay(numpy.ones(1_000_000), double.delay(4))
    assert run.result(timeout=60) == (1_000_008.0, "total")

    assert run.rerun().result(timeout=60) == (1_000_008.0, "total")
    assert run.rerun(here=True) == (1_000_008.0, "total")


def test_a_cached_result_is_not_taken_for_a_rerun(client: Any, workers: Any, tmp_path: Path) -> None:
    noted = str(tmp_path / "noted")

    @task(cache_policy=nbtasks.cache_policies.INPUTS)
    def notes(x: int) -> int:
        tasks.note(noted, str(x))
        return x

    run = notes.delay(1)
    run.result(timeout=60)

    assert run.rerun().result(timeout=60) == 1
    assert tasks.lines(noted) == ["1", "1"]


def sleeps(started: str) -> None:
    tasks.note(started, "here")
    time.sleep(60)  # where it is


async def sleeps_async(started: str) -> None:
    tasks.note(started, "here")
    await asyncio.sleep(60)  # where it is


@pytest.mark.parametrize("function", [sleeps, sleeps_async])
def test_a_stack_shows_where_a_running_run_is(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    started = str(tmp_path / "started")
    run = task(function).delay(started)
    until(lambda: tasks.lines(started), "it runs")

    until(lambda: "(60)  # where it is" in run.stack(), "it sleeps")
    assert "nbtasks/worker" not in run.stack()
    shown = CliRunner().invoke(cli.main, ["stack", str(run.id)])
    assert (shown.exit_code, "where it is" in shown.output) == (0, True)

    run.cancel()
    run.wait(60)
    with pytest.raises(ValueError, match="is not running"):
        run.stack()


def test_the_command_line_calls_again(client: Any, workers: Any) -> None:
    run = task(tasks.double).delay(4)
    run.result(timeout=60)

    again = CliRunner().invoke(cli.main, ["rerun", str(run.id)])

    assert nbtasks.get_run(again.output.strip()).result(timeout=60) == 8
    nothing = CliRunner().invoke(cli.main, ["rerun", "0" * 36])
    assert (nothing.exit_code, "no run" in nothing.output) == (1, True)
