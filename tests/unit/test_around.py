"""User code around runs of this process: conditions, hooks, returned states."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import nbtasks
from nbtasks import states, task
from nbtasks.core.states import StateType
from nbtasks.tasks.hooks import Decorators
from tests.system.waiting import until

told: list[str] = []
release = threading.Event()


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()
    release.clear()


def work(fail: int = 0) -> str:
    run = nbtasks.current_run()
    assert run is not None
    told.append("code")
    if run.attempt <= fail:
        raise ValueError("again")
    return "done"


async def work_async(fail: int = 0) -> str:
    await asyncio.sleep(0)
    return work(fail)


def tell(one: Any, run: Any, state: Any) -> None:
    told.append(f"{run.attempt} {state.name}")
    if state.type in ("COMPLETED", "FAILED"):
        with contextlib.suppress(ValueError):
            told.append(state.result())


async def tell_async(one: Any, run: Any, state: Any) -> None:
    await asyncio.sleep(0)
    told.append(f"async {one.name} {run.parameters['fail']}")


def stumble(one: Any, run: Any, state: Any) -> None:
    raise RuntimeError("a hook that raises")


def called(one: Any, *args: Any) -> Any:
    made = one(*args)
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


def submitted(one: Any, *args: Any) -> Any:
    return one.submit(*args).result(timeout=60)


BOTH = pytest.mark.parametrize("function", [work, work_async])
EITHER_WAY = pytest.mark.parametrize("call", [called, submitted])
Call = Callable[..., Any]


@pytest.mark.feature("T13")
@BOTH
@EITHER_WAY
def test_hooks_run_in_order_here_too(function: Call, call: Call) -> None:
    hooks = [tell, stumble, tell_async]
    one = task(function, on_running=hooks, on_completion=hooks)

    assert call(one) == "done"

    note = f"async {function.__name__} 0"
    assert told == ["1 Running", note, "code", "1 Completed", "done", note]


@pytest.mark.feature("T13")
@BOTH
@EITHER_WAY
def test_on_failure_runs_once_here_too(function: Call, call: Call) -> None:
    with pytest.raises(ValueError, match="again"):
        call(task(function, retries=1, on_failure=tell, on_completion=tell), 5)

    assert told == ["code", "code", "2 Failed"]


@pytest.mark.feature("T8")
@BOTH
@EITHER_WAY
@pytest.mark.parametrize("kind", ["sync", "async", "raises"])
def test_a_condition_decides_here_too(function: Call, call: Call, kind: str) -> None:
    def condition(one: Any, run: Any, state: Any) -> bool:
        if kind == "raises":
            raise KeyError("no answer")
        told.append(f"asked {run.attempt} {state.name}")
        return bool(run.attempt < 2)

    async def condition_async(one: Any, run: Any, state: Any) -> bool:
        await asyncio.sleep(0)
        return condition(one, run, state)

    given = condition_async if kind == "async" else condition
    with pytest.raises(ValueError, match="again"):
        call(task(function, retries=5, retry_condition_fn=given), 9)

    asked = ["code", "asked 1 Failed", "code", "asked 2 Failed"]
    assert told == (["code"] if kind == "raises" else asked)


def waits() -> None:
    told.append("code")
    while not release.is_set():
        time.sleep(0.001)


async def waits_async() -> None:
    told.append("code")
    while not release.is_set():
        await asyncio.sleep(0.001)


BOTH_WAIT = pytest.mark.parametrize("function", [waits, waits_async])


@pytest.mark.feature("T13")
@BOTH_WAIT
def test_a_run_that_is_cancelled_tells_its_hooks_whether_it_waits_or_runs(function: Call) -> None:
    one = task(function, on_cancellation=tell)
    with nbtasks.ThreadPoolTaskRunner(max_workers=1):
        first, second = one.submit(), one.submit()
        until(lambda: "code" in told, "the first one runs")
        second.cancel()
        first.cancel()

    assert [run.state.name for run in (first, second)] == ["Cancelled"] * 2
    until(lambda: len(told) == 3, "both told it")
    assert sorted(told) == ["0 Cancelled", "1 Cancelled", "code"]


@pytest.mark.feature("T13")
@BOTH_WAIT
@EITHER_WAY
def test_a_timed_out_run_tells_on_failure(function: Call, call: Call) -> None:
    with pytest.raises(nbtasks.TimedOut):
        call(task(function, timeout_seconds=0.1, on_failure=tell_name))

    assert told == ["code", "FAILED TimedOut"]


def tell_name(one: Any, run: Any, state: Any) -> None:
    told.append(f"{state.type} {state.name}")


def leaves() -> None:
    raise SystemExit(3)


async def leaves_async() -> None:
    raise SystemExit(3)


@pytest.mark.feature("T13")
@pytest.mark.parametrize("function", [leaves, leaves_async])
def test_a_run_that_leaves_the_interpreter_tells_on_crash(function: Call) -> None:
    run = task(function, on_crash=tell_name).submit()

    assert run.wait(timeout=60).name == "Crashed"
    assert told == ["CRASHED Crashed"]


@pytest.mark.feature("T13")
def test_async_hooks_run_within_a_running_loop() -> None:
    one = task(work, on_completion=tell_async)

    async def main() -> str:
        return one()

    assert asyncio.run(main()) == "done"
    assert told == ["code", "async work 0"]


@pytest.mark.feature("T13")
def test_with_options_shares_no_hooks_and_each_decorator_adds_one() -> None:
    one = task(work)
    for word in ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crash"):
        assert getattr(one, word)(tell) is tell
    other = one.with_options(on_running=None, on_completion=[stumble, tell])
    other.on_completion(tell)

    assert one() == "done"
    assert told == ["1 Running", "code", "1 Completed", "done"]
    told.clear()
    other()
    assert told == ["code", "1 Completed", "done", "1 Completed", "done"]


@pytest.mark.parametrize("given", [{"on_failure": 3}, {"on_crash": [tell, "f"]}, {"retry_condition_fn": "f"}])
def test_what_cannot_be_called_is_no_hook(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(given))):
        task(work, **given)
    with pytest.raises(TypeError, match="on_failure"):
        Decorators.on_failure(task(work), 3)  # type: ignore[arg-type,type-var]


# -- returned states ----------------------------------------------------------------------------------


def returns(state: states.State) -> Any:
    told.append("code")
    return state


async def returns_async(state: states.State) -> Any:
    told.append("code")
    return state


BOTH_RETURN = pytest.mark.parametrize("function", [returns, returns_async])


@pytest.mark.feature("R6")
@BOTH_RETURN
def test_a_returned_state_is_the_final_state_here_too(function: Call) -> None:
    one = task(function, retries=3, on_completion=tell_name, on_failure=tell_name, on_cancellation=tell_name)
    completed = one.submit(states.Completed(name="Skipped", message="nothing new", data=3))
    assert completed.result(timeout=60) == 3
    failed = one.submit(states.Failed(name="Rejected", data=KeyError("k")))
    assert isinstance(failed.exception(timeout=60), KeyError)
    cancelled = one.submit(states.Cancelled())
    assert isinstance(cancelled.exception(timeout=60), nbtasks.CancelledRun)

    shown = ["COMPLETED Skipped", "FAILED Rejected", "CANCELLED Cancelled"]
    assert [f"{run.state.type} {run.state.name}" for run in (completed, failed, cancelled)] == shown
    assert completed.state.message == "nothing new"
    assert told == ["code", shown[0], "code", shown[1], "code", shown[2]]
    assert called(one, states.Completed(data=4)) == 4
    with pytest.raises(nbtasks.FailedRun, match="why"):
        called(one, states.Failed(message="why"))


def test_a_state_gives_its_result_or_raises() -> None:
    error = ValueError("inner")

    assert states.Completed(data=3).result() == 3
    assert states.Failed(data=error).result(raise_on_failure=False) is error
    assert states.Failed(data=error).message == "ValueError: inner"
    with pytest.raises(nbtasks.CancelledRun, match="why"):
        states.Cancelled(message="why").result()
    with pytest.raises(nbtasks.CrashedRun):
        states.State(StateType.CRASHED, "Crashed", "").result()
    with pytest.raises(RuntimeError, match="no result"):
        states.running(1).result()
    with pytest.raises(TypeError, match="name"):
        states.Completed(name=3)  # type: ignore[arg-type]
