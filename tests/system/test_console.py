"""A prompt in a worker, while it executes a run and while it does not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nbtasks import cli, task
from tests.system import tasks
from tests.system.waiting import HANG_S, until

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("W8")


def loops(noted: str, release: str) -> int:
    secret = 42
    tasks.note(noted, str(os.getpid()))
    ends_at = time.monotonic() + HANG_S
    while not os.path.exists(release) and time.monotonic() < ends_at:
        time.sleep(0.01)
    return secret


async def loops_async(noted: str, release: str) -> int:
    await asyncio.sleep(0)
    return loops(noted, release)


def said(worker: object, code: str) -> Result:
    return CliRunner().invoke(cli.main, ["console", str(worker), "-c", code])


def test_a_worker_starts_without_a_debugger_and_a_run_may_import_one(client: Any, workers: Any) -> None:
    def debugging() -> list[bool]:
        import sys

        before = "debugpy" in sys.modules
        import debugpy

        return [before, callable(debugpy.listen)]

    assert task(debugging).delay().result(HANG_S) == [False, True]


@pytest.mark.parametrize("function", [loops, loops_async])
def test_the_names_of_a_running_run_can_be_looked_at(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    noted, release = str(tmp_path / "noted"), tmp_path / "release"
    run = task(function).delay(noted, str(release))
    [pid] = until(lambda: tasks.lines(noted), "it runs")

    seen = said(pid, "[f.f_locals['secret'] for f in frames() if 'secret' in f.f_locals]")
    printed = said(pid, "print('from the console')")

    assert (seen.exit_code, seen.output) == (0, "[42]\n")
    assert printed.output == "from the console\n"
    release.touch()
    assert run.result(timeout=60) == 42
    assert run.logs == ""  # what the console prints is no output of the run


def test_an_idle_worker_answers_and_shows_errors(client: Any, workers: Any) -> None:
    task(tasks.double).delay(1).result(timeout=60)
    [worker, *_] = client.status().workers

    added, raised = said(worker.name, "1 + 1"), said(worker.pid, "1 / 0")
    assert (added.exit_code, added.output) == (0, "2\n")
    assert said(worker.pid, "frames()").output.startswith("[")
    assert (raised.exit_code, "ZeroDivisionError" in raised.output) == (1, True)
    assert said(worker.pid, "import sys; print('no error', file=sys.stderr)").exit_code == 0
    assert task(tasks.double).delay(4).result(timeout=60) == 8


def test_a_worker_that_is_not_there_is_named(client: Any) -> None:
    found = said("w-nobody", "1")

    assert (found.exit_code, "there is no worker w-nobody" in found.output) == (1, True)


def test_code_is_read_from_a_terminal(client: Any, workers: Any) -> None:
    task(tasks.double).delay(1).result(timeout=60)
    [worker, *_] = client.status().workers

    told = subprocess.run(
        [sys.executable, "-m", "nbtasks.cli", "console", str(worker.pid)],
        input="x = 20\nfor i in range(2):\n    print(i + x)\n\nx +\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert told.returncode == 0
    assert "20\n21\n" in told.stdout
    assert "SyntaxError" in told.stderr
