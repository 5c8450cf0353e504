"""Tasks that call tasks and wait for them, on real workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import WouldDeadlock, task


@task
def fib(n: int) -> int:
    if n < 2:
        return n
    before, last = fib.delay(n - 2), fib.delay(n - 1)
    return last.result() + before.result()


@task
async def fib_async(n: int) -> int:
    if n < 2:
        return n
    runs = [fib_async.delay(n - 2), fib_async.delay(n - 1)]
    return await runs[1] + await runs[0]


@task
def total(numbers: list[int]) -> int:
    runs = same.map(numbers, deferred=True)
    return sum(run.result() for run in nbtasks.as_completed(runs)) + sum(runs.result())


@task
def same(value: Any) -> Any:
    return value


@task
def deeper(n: int, enough: str) -> int:
    if Path(enough).exists():
        return n  # the run that was refused to be waited for still comes to its turn
    return deeper.delay(n + 1, enough).result()


@task
def itself() -> None:
    me = nbtasks.current_run()
    nbtasks.get_run(me.run).result()


@task
def waits_for(run: str) -> None:
    nbtasks.get_run(run).result()


@task
def calls_one_that_waits_for_it() -> None:
    me = nbtasks.current_run()
    waits_for.delay(me.run).result()


@task
def all_at_once(n: int) -> list[int]:
    async def gather() -> list[int]:
        return list(await asyncio.gather(*[same.delay(i) for i in range(n)]))

    return asyncio.run(gather())


@pytest.mark.feature("D9")
@pytest.mark.feature("D11")
@pytest.mark.parametrize("function", [fib, fib_async])
def test_recursive_fib_ends_on_one_worker(client: Any, function: Any) -> None:
    client.start_workers(1)

    run = function.delay(6)

    assert run.result(timeout=120) == 8
    assert client.status().counts["COMPLETED"] == 25


@pytest.mark.feature("D11")
def test_a_task_waits_for_many_of_its_own_on_one_worker(client: Any) -> None:
    client.start_workers(1)

    assert total.delay(list(range(20))).result(timeout=60) == 380
    assert all_at_once.delay(5).result(timeout=60) == [0, 1, 2, 3, 4]


@pytest.mark.feature("D11")
def test_endless_recursion_is_refused_beyond_the_bound(client: Any, tmp_path: Path) -> None:
    client.start_workers(1)

    with pytest.raises(WouldDeadlock, match=r"waits for run .*, which has not started"):
        deeper.delay(0, str(tmp_path / "enough")).result(timeout=120)
    (tmp_path / "enough").touch()


@pytest.mark.feature("D11")
def test_nobody_waits_for_itself_or_for_who_called_it(client: Any, workers: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="waits for itself"):
        itself.delay().result(timeout=60)
    with pytest.raises(ValueError, match="which called it"):
        calls_one_that_waits_for_it.delay().result(timeout=60)


@pytest.mark.feature("D9")
def test_the_parent_of_a_nested_run_is_recorded(client: Any, workers: Any) -> None:
    run = total.delay([1])
    run.result(timeout=60)

    children = [one for one in nbtasks.runs(task=same.key) if one.parent == run.id]
    assert len(children) == 1
