"""How far a run is: said by its code or by tqdm, seen while it runs, in other processes and afterwards."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from tests.system.waiting import HANG_S, until

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("R7")


def wait_for(path: str) -> None:
    ends_at = time.monotonic() + HANG_S
    while not os.path.exists(path) and time.monotonic() < ends_at:
        time.sleep(0.01)


def steps(release: str) -> int:
    for done in range(3):
        nbtasks.progress(done, 4, f"step {done}")
    wait_for(release)
    nbtasks.progress(4, 4)
    return 4


async def steps_async(release: str) -> int:
    await asyncio.sleep(0)
    return steps(release)


@pytest.mark.parametrize("function", [steps, steps_async])
def test_progress_is_seen_while_the_run_goes_on_and_kept(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    run = task(function).delay(str(tmp_path / "release"))

    until(lambda: run.progress and run.progress.done == 2, "the run is at 2 of 4")
    assert nbtasks.get_run(run.id).progress == (2, 4, "step 2")
    assert run.progress.fraction == 0.5

    (tmp_path / "release").touch()
    assert run.result(timeout=60) == 4
    assert run.progress == (4, 4, "")


def test_a_new_attempt_begins_without_the_progress_of_the_last(client: Any, workers: Any) -> None:
    @task(retries=1)
    def flaky() -> Any:
        run = nbtasks.current_run()
        assert run is not None
        if run.attempt == 1:
            nbtasks.progress(7, text="first")
            raise ValueError("once more")

    run = flaky.delay()

    run.result(timeout=60)
    assert run.progress is None


@pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.notebook"])
def test_the_outermost_bar_of_tqdm_is_the_progress(client: Any, workers: Any, module: str) -> None:
    @task
    def loops() -> int:
        import importlib

        tqdm = importlib.import_module(module).tqdm
        total = 0
        for i in tqdm(range(5), desc="outer"):
            for j in tqdm(range(3), leave=False):
                total += i * j
        return total

    run = loops.delay()

    assert run.result(timeout=60) == 30
    assert run.progress == (5, 5, "outer")
    assert [output["output_type"] for output in run.output] == ["stream"]  # no widget
    assert "100%" in run.logs


def test_words_of_threads_and_a_million_words_cost_little(client: Any, workers: Any) -> None:
    @task
    def chatters() -> float:
        context = __import__("contextvars").copy_context()
        other = threading.Thread(target=context.run, args=(nbtasks.progress, 1))
        other.start()
        other.join()
        for done in range(1_000_000):
            nbtasks.progress(done)
        return done

    run = chatters.delay()

    assert run.result(timeout=60) == 999_999
    assert run.progress == (999_999, None, "")


def test_progress_of_runs_of_this_process_and_of_no_run() -> None:
    nbtasks.progress(1, 2)  # nobody is told

    @task
    def local() -> None:
        nbtasks.progress(1, 2, "half")

    run = local.submit()
    run.wait(60)

    assert run.progress == (1, 2, "half")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("1",), TypeError, "done is a number, not '1'"),
        ((1, "2"), TypeError, "total is a number"),
        ((-1,), ValueError, "done is a finite number from 0 on, not -1"),
        ((1, float("inf")), ValueError, "total is a finite number"),
    ],
)
def test_what_is_no_progress_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nbtasks.progress(*arguments)
