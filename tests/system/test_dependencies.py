"""Runs that need other runs, on real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nbtasks
from nbtasks import CancelledRun, UpstreamFailed, allow_failure, quote, task
from tests.system.waiting import until

SHARES_WORKERS = True


def double(x: Any) -> Any:
    return x * 2


async def double_async(x: Any) -> Any:
    await asyncio.sleep(0)
    return double(x)


BOTH = pytest.mark.parametrize("function", [double, double_async])


@task
def same(value: Any, *rest: Any) -> Any:
    return value


@task
def fail(words: str) -> None:
    raise LookupError(words)


@task
def hold(path: str, value: Any = "held") -> Any:
    import time

    while not Path(path).exists():
        time.sleep(0.01)
    return value


@dataclass(frozen=True)
class Box:
    label: str
    content: Any


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.mark.feature("D7")
@BOTH
def test_a_run_as_argument_is_replaced_by_its_result(
    client: Any, workers: Any, function: Callable[..., Any]
) -> None:
    one = task(function)

    assert one.delay(one.delay(one.delay(1))).result(timeout=60) == 8


@pytest.mark.feature("D7")
def test_runs_are_replaced_at_any_depth(client: Any, workers: Any) -> None:
    run = same.delay(7)
    value = {
        "list": [run, [run, 1]], "set": {run}, "tuple": (run,), "dataclass": Box("b", {"x": run}),
        "named": Pair(run, 2),
    }  # fmt: skip

    assert same.delay(value).result(timeout=60) == {
        "list": [7, [7, 1]], "set": {7}, "tuple": (7,), "dataclass": Box("b", {"x": 7}), "named": Pair(7, 2),
    }  # fmt: skip


@pytest.mark.feature("D7")
def test_large_values_and_many_of_them_arrive(client: Any, workers: Any) -> None:
    import numpy as np

    large = same.delay(np.ones(500_000))
    many = same.map([b"x" * 60_000] * 40, deferred=True)  # more than travels with a push

    total = task(lambda array, parts: (float(array.sum()), sum(map(len, parts)))).delay(large, many)

    assert total.result(timeout=60) == (500_000.0, 2_400_000)


@pytest.mark.feature("D7")
def test_a_waiting_run_says_so_and_holds_no_worker(client: Any, tmp_path: Path) -> None:
    client.start_workers(1)
    release = tmp_path / "release"
    held = hold.delay(str(release))
    waiting = same.delay(held)

    assert (waiting.state.type, waiting.state.name) == ("PENDING", "AwaitingDependencies")
    release.touch()

    assert waiting.result(timeout=60) == "held"
    assert [state.name for state in nbtasks.get_run(waiting.id).history] == [
        "AwaitingDependencies", "Pending", "Running", "Completed",
    ]  # fmt: skip


@pytest.mark.feature("D3")
@pytest.mark.feature("D7")
def test_wait_for_orders_runs_without_passing_values(client: Any, workers: Any, tmp_path: Path) -> None:
    release = tmp_path / "release"
    held = hold.delay(str(release))
    after = same.apply_async((1,), wait_for=[held])
    mapped = same.map([1, 2], wait_for=held, deferred=True)

    assert {run.state.name for run in (after, *mapped)} == {"AwaitingDependencies"}
    release.touch()

    assert (after.result(timeout=60), mapped.result(timeout=60)) == (1, [1, 2])


@pytest.mark.feature("D7")
def test_a_failed_upstream_fails_all_that_follow_and_says_which(client: Any, workers: Any) -> None:
    failed = fail.delay("no")
    first = same.delay([failed])
    second = same.delay(first)

    with pytest.raises(UpstreamFailed, match=str(first.id)):
        second.result(timeout=60)
    with pytest.raises(UpstreamFailed, match=f"{failed.id}, which it needs, ended Failed"):
        first.result(timeout=60)
    assert (second.state.type, second.state.name) == ("FAILED", "UpstreamFailed")
    assert nbtasks.get_run(second.id).attempts == []
    late = same.delay(failed)
    with pytest.raises(UpstreamFailed):
        late.result(timeout=60)


@pytest.mark.feature("D7")
def test_a_cancelled_upstream_fails_what_follows(client: Any, tmp_path: Path) -> None:
    waiting = same.delay(1)  # no worker is there
    after = same.delay(waiting)

    waiting.cancel()

    with pytest.raises(UpstreamFailed, match="ended Cancelled"):
        after.result(timeout=60)


@pytest.mark.feature("D7")
def test_allow_failure_passes_the_exception(client: Any, workers: Any) -> None:
    kind = task(lambda error, *rest: (type(error).__name__, str(error), *rest))
    cancelled = same.apply_async((1,), countdown=600)
    cancelled.cancel()

    failed = kind.delay(allow_failure(fail.delay("no")), allow_failure(same.delay(1)))
    missing = kind.delay(allow_failure(cancelled))
    after = same.apply_async((1,), wait_for=[allow_failure(cancelled)])

    assert failed.result(timeout=60) == ("LookupError", "no", 1)
    assert missing.result(timeout=60)[0] == CancelledRun.__name__
    assert after.result(timeout=60) == 1


@pytest.mark.feature("D7")
def test_quote_leaves_runs_as_handles(client: Any, workers: Any) -> None:
    run = same.delay(5)
    look = task(lambda handles: [str(handle.id) for handle in handles])

    assert look.delay(quote([run])).result(timeout=60) == [str(run.id)]


@pytest.mark.feature("D7")
def test_a_chain_that_waits_survives_a_new_broker(client: Any, tmp_path: Path) -> None:
    import os
    import signal

    client.start_workers(1)
    release = tmp_path / "release"
    held = hold.delay(str(release), 1)
    chain = [held]
    for _ in range(5):
        chain.append(task(double).delay(chain[-1]))
    pid = client.status().broker_pid

    os.kill(pid, signal.SIGKILL)
    until(lambda: client.status().broker_pid != pid, "a new broker")
    release.touch()

    assert chain[-1].result(timeout=60) == 32


@pytest.mark.feature("D7")
def test_a_chain_whose_links_were_made_with_no_worker_completes_on_one(client: Any) -> None:
    gate = same.apply_async((1,), countdown=0.5)
    chain = [gate]
    for _ in range(4):
        chain.append(task(double).delay(chain[-1]))

    client.start_workers(1)

    assert [run.result(timeout=60) for run in reversed(chain)] == [16, 8, 4, 2, 1]


@pytest.mark.feature("D7")
def test_a_run_that_is_not_recorded_is_refused_and_nothing_is_submitted(client: Any, tmp_path: Path) -> None:
    with nbtasks.connect(tmp_path / "other") as other:
        elsewhere = same.delay(1)
        with (
            nbtasks.connect(client.home),
            pytest.raises(nbtasks.UnknownRun, match="not recorded in this home"),
        ):
            same.delay(elsewhere)
        assert client.status().counts == dict.fromkeys(client.status().counts, 0)
        other.stop_broker()


@pytest.mark.feature("D7")
def test_runs_of_this_process_are_values_or_refused(client: Any, workers: Any, tmp_path: Path) -> None:
    release = tmp_path / "release"
    local = hold.submit(str(release), 3)

    with pytest.raises(TypeError, match="has not ended"):
        same.delay(local)
    with pytest.raises(TypeError, match="has not ended"):
        same.apply_async((1,), wait_for=local)
    release.touch()
    local.wait()

    assert same.delay([local]).result(timeout=60) == [3]


@pytest.mark.feature("D7")
def test_plain_calls_and_submit_wait_for_the_runs_they_are_given(client: Any, workers: Any) -> None:
    run = same.delay(4)

    assert task(double)(run) == 8
    assert task(double).submit(run).result(timeout=60) == 8
    assert asyncio.run(task(double_async)(run)) == 8
    assert same(Box("b", [run, quote(run)])) == Box("b", [4, run])
    with pytest.raises(UpstreamFailed, match="ended Failed"):
        same(fail.delay("no"))
    error = same(allow_failure(fail.delay("no")))
    assert isinstance(error, LookupError)


@pytest.mark.feature("D7")
@BOTH
def test_a_state_as_argument_is_the_result_of_its_run(
    client: Any, workers: Any, function: Callable[..., Any]
) -> None:
    run, failed = same.delay(4), fail.delay("no")
    local = same.submit(3)
    local.wait()
    one = task(function)

    assert one.delay(run.state).result(timeout=60) == 8
    assert same.delay({"deep": [run.wait(60), local.state]}).result(timeout=60) == {"deep": [4, 3]}
    assert same.map([run.state, run.history[0]], deferred=True).result(timeout=60) == [4, 4]
    assert same.apply_async((1,), wait_for=run.state).result(timeout=60) == 1
    assert one.submit(run.state).result(timeout=60) == 8
    assert same([run.state, allow_failure(local.state)]) == [4, 3]
    assert isinstance(same.delay(allow_failure(failed.state)).result(timeout=60), LookupError)
    assert one.delay(failed.state).wait(timeout=60).name == "UpstreamFailed"


@pytest.mark.feature("D7")
def test_a_state_that_is_quoted_or_returned_stays_one(client: Any, workers: Any) -> None:
    run = same.delay(4)
    state = run.wait(60)

    assert same.delay(quote(state)).result(timeout=60) == state
    assert state_of.delay(quote(run)).result(timeout=60) == state


@task
def state_of(run: nbtasks.Run) -> object:
    return run.state
