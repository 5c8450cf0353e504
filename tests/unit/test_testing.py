"""`nbtasks.testing.inline()`: the same API here and now, without a process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import nbtasks
from nbtasks import task, testing


def double(x: int) -> int:
    return 2 * x


async def double_async(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@pytest.mark.parametrize("function", [double, double_async])
def test_runs_are_over_when_delay_returns(function: Any) -> None:
    with testing.inline():
        run = task(function, name="d", tags=["x"]).delay(4)

        assert (run.result(), run.state.name, run.parameters) == (8, "Completed", {"x": "4"})
        assert [state.name for state in run.history] == ["Pending", "Running", "Completed"]
        assert nbtasks.get_run(run.id) == run
        assert [one.id for one in nbtasks.runs(tag="x")] == [run.id]
        assert nbtasks.runs(state="FAILED") == []
        assert task(function).map([1, 2, 3], deferred=True).result() == [2, 4, 6]
        assert task(function).apply_async((1,), priority=3, countdown=60).result() == 2


def test_retries_conditions_and_hooks_are_those_of_the_background() -> None:
    seen: list[str] = []
    testing_seen[:] = []

    @task(retries=3, retry_condition_fn=wants_two, on_failure=[notes_failure])
    def fails() -> None:
        raise ValueError("no")

    with testing.inline():
        run = fails.delay()

        with pytest.raises(ValueError, match="no"):
            run.result()
        assert (len(run.attempts), run.state.name) == (2, "Failed")
    assert testing_seen == ["Failed"]
    assert seen == []


testing_seen: list[str] = []


def wants_two(task: Any, run: Any, state: Any) -> bool:
    return bool(run.attempt < 2)


def notes_failure(task: Any, run: Any, state: Any) -> None:
    testing_seen.append(state.name)


def test_runs_as_arguments_are_values_and_failures_go_on() -> None:
    @task
    def breaks() -> None:
        raise ValueError("broken")

    @task
    def shows(value: Any) -> str:
        return f"{type(value).__name__}"

    with testing.inline():
        assert task(double).delay(task(double).delay(1)).result() == 4
        assert shows.delay(nbtasks.allow_failure(breaks.delay())).result() == "ValueError"
        with pytest.raises(nbtasks.UpstreamFailed):
            shows.delay(breaks.delay()).result()
        assert task(double).delay(1).rerun().result() == 2
        assert shows.apply_async((1,), wait_for=[nbtasks.allow_failure(breaks.delay())]).result() == "int"


def test_what_cannot_travel_fails_here_as_there() -> None:
    with testing.inline(), pytest.raises(nbtasks.NotPicklable, match="argument x"):
        task(double).delay(threading.Lock())


def test_generators_limits_and_keys_work() -> None:
    @task
    def counts(n: int) -> Any:
        with nbtasks.concurrency("c"):
            yield from range(n)

    with testing.inline():
        run = counts.with_options(idempotency_key="k").delay(3)
        assert list(run) == [0, 1, 2]
        assert counts.with_options(idempotency_key="k").delay(4) == run
        nbtasks.limit("c", 1)
        with pytest.raises(nbtasks.UnknownRun):
            nbtasks.get_run("0" * 36)


def test_large_arrays_are_copies_and_a_running_loop_is_no_hindrance() -> None:
    import numpy

    @task
    def zeroes(array: Any) -> Any:
        array[:] = 0
        return array

    async def use() -> Any:
        return await zeroes.delay(numpy.ones(100_000))

    with testing.inline():
        mine = numpy.ones(100_000)
        assert zeroes.delay(mine).result().sum() == 0
        assert mine.sum() == 100_000
        assert asyncio.run(use()).sum() == 0


def test_outside_of_the_block_everything_is_as_before() -> None:
    before = nbtasks.context._active.get()  # type: ignore[attr-defined]
    with testing.inline():
        pass

    assert nbtasks.context._active.get() is before  # type: ignore[attr-defined]
