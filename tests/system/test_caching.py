"""Results of earlier runs that are taken instead of running again, with real workers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from nbtasks.cache_policies import DEFAULT, INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE
from tests.system.waiting import until

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("T12")


@dataclass
class Point:
    x: int
    y: int


def noted(path: str, value: Any = None, other: Any = None) -> Any:
    with open(path, "a") as file:
        file.write("ran\n")
    return value


async def noted_async(path: str, value: Any = None, other: Any = None) -> Any:
    await asyncio.sleep(0)
    return noted(path, value, other)


BOTH = pytest.mark.parametrize("function", [noted, noted_async])


def ran(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


@BOTH
def test_an_equal_call_takes_the_result_at_once(client: Any, tmp_path: Path, function: Any) -> None:
    path = tmp_path / "ran"
    one = task(function, cache_policy=INPUTS)
    pool = client.start_workers(1)
    value = {"b": [1, {2, 3}], "a": Point(1, 2)}
    first = one.delay(str(path), value)
    assert first.result(timeout=60) == value
    pool.stop()

    again = one.delay(str(path), {"a": Point(1, 2), "b": [1, {3, 2}]})

    assert again.result(timeout=60) == value  # with no worker there
    assert (again.state.type, again.state.name) == ("COMPLETED", "Cached")
    assert [state.name for state in nbtasks.get_run(again.id).history] == ["Pending", "Cached"]
    assert ran(path) == 1


@BOTH
def test_what_differs_runs_and_what_is_left_out_does_not_differ(
    client: Any, workers: Any, tmp_path: Path, function: Any
) -> None:
    path = tmp_path / "ran"
    one = task(function, cache_policy=INPUTS - "other")

    for value, other in ((1, 1), (1, 2), (2, 1)):
        assert one.delay(str(path), value, other).result(timeout=60) == value

    assert ran(path) == 2


def test_a_key_function_names_what_is_equal(client: Any, workers: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    def key(context: Any, parameters: dict[str, Any]) -> str | None:
        return f"{parameters['value'] % 10}" if parameters["value"] < 100 else None

    one = task(noted, cache_key_fn=key)

    results = [one.delay(str(path), value).result(timeout=60) for value in (1, 11, 101, 101)]

    assert results == [1, 1, 101, 101]
    assert ran(path) == 3


def test_results_are_taken_until_they_expire_or_are_refreshed(
    client: Any, workers: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ran"
    lasting = task(noted, cache_policy=INPUTS, cache_expiration=timedelta(days=1))
    short = lasting.with_options(key="short", cache_expiration=0.05)

    lasting.delay(str(path), 1).result(timeout=60)
    lasting.with_options(refresh_cache=True).delay(str(path), 1).result(timeout=60)
    assert ran(path) == 2
    assert lasting.delay(str(path), 1).wait(timeout=60).name == "Cached"
    short.delay(str(path), 1).result(timeout=60)
    until(lambda: short.delay(str(path), 1).wait(timeout=60).name == "Completed", "the result expires")


def test_a_run_as_argument_is_compared_by_its_value(client: Any, workers: Any, tmp_path: Path) -> None:
    path, other = tmp_path / "ran", tmp_path / "other"
    one = task(noted, cache_policy=INPUTS)
    plain = task(noted, key="plain")

    assert one.delay(str(path), plain.delay(str(other), 5)).result(timeout=60) == 5
    second = one.delay(str(path), plain.delay(str(other), 5))

    assert second.result(timeout=60) == 5
    assert second.state.name == "Cached"
    assert one.delay(str(path), 5).wait(timeout=60).name == "Cached"
    assert ran(path) == 1


def test_a_large_result_is_copied_to_the_run_that_takes_it(client: Any, workers: Any, tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "ran"
    one = task(lambda path, n: (Path(path).touch(), np.arange(n))[1], key="large", cache_policy=INPUTS)
    first = one.delay(str(path), 100_000)
    first.result(timeout=60)
    path.unlink()

    second = one.delay(str(path), 100_000)

    assert second.result(timeout=60).sum() == first.result().sum()
    assert (second.state.name, path.exists()) == ("Cached", False)


def test_a_result_is_found_by_another_broker_and_by_every_waiter(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    one = task(noted, cache_policy=INPUTS + TASK_SOURCE)
    client.start_workers(1)
    one.delay(str(path), 3).result(timeout=60)
    client.stop_broker()
    client.open()

    runs = one.map(str(path), [3, 3], deferred=True)
    told = []
    runs[0].add_done_callback(lambda run: told.append(run.state.name))

    assert runs.result(timeout=60) == [3, 3]
    until(lambda: told == ["Cached"], "the callback is called")
    assert ran(path) == 1


def test_a_failure_is_never_taken(client: Any, workers: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    @task(cache_policy=INPUTS)
    def fails(path: str) -> None:
        noted(path)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fails.delay(str(path)).result(timeout=60)

    assert ran(path) == 2


def test_an_argument_without_stable_bytes_runs_uncached_and_says_what_to_do(
    client: Any, workers: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    path = tmp_path / "ran"

    class Odd:
        def __reduce__(self) -> Any:
            return Odd, ()

        def __getattr__(self, name: str) -> Any:
            if name == "__code__":
                raise ValueError("ask me not")
            raise AttributeError(name)

        def __call__(self) -> None: ...

    assert threading
    one = task(noted, cache_policy=INPUTS)
    for _ in range(2):
        one.delay(str(path), 1, Odd()).result(timeout=60)

    assert ran(path) == 2
    assert "cache_policy=INPUTS - 'other'" in capsys.readouterr().err


def test_the_run_that_makes_them_may_be_part_of_the_key(client: Any, workers: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    one = task(noted, cache_policy=DEFAULT)

    @task
    def parent(path: str) -> list[str]:
        return [one.delay(path, 1).wait().name for _ in range(2)]

    assert parent.delay(str(path)).result(timeout=60) == ["Completed", "Cached"]
    assert parent.delay(str(path)).result(timeout=60) == ["Completed", "Cached"]
    assert task(noted, cache_policy=NO_CACHE + RUN_ID).delay(str(path)).wait(timeout=60).name == "Completed"


@BOTH
def test_calls_of_this_process_take_results_of_this_process(
    client: Any, tmp_path: Path, function: Any
) -> None:
    path = tmp_path / "ran"
    one = task(function, cache_policy=INPUTS)

    def call(*args: Any) -> Any:
        value = one(*args)
        return asyncio.run(value) if asyncio.iscoroutine(value) else value

    assert [call(str(path), 7), call(str(path), 7)] == [7, 7]
    assert one.submit(str(path), 7).result(timeout=60) == 7
    assert ran(path) == 1
    one.with_options(refresh_cache=True).submit(str(path), 7).result(timeout=60)
    assert ran(path) == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cache_policy": "inputs"}, TypeError), ({"cache_key_fn": 3}, TypeError),
        ({"cache_expiration": 0}, ValueError), ({"cache_expiration": "1"}, TypeError),
        ({"refresh_cache": 1}, TypeError),
    ],
)  # fmt: skip
def test_bad_options_are_refused_at_definition(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        task(noted, **wrong)
