"""User code around a run on real workers: names, retry conditions, hooks, loggers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from tests.system.tasks import lines, note
from tests.system.waiting import until

SHARES_WORKERS = True
IN_TIME_S = 2.0  # a time-out before which code that is to be hit by it has begun, on a busy machine too


def say_name(path: str, word: str = "default") -> str:
    run = nbtasks.current_run()
    assert run is not None
    note(path, f"{run.name} {run.attempt}")
    if run.attempt == 1:
        raise ValueError("first")
    print("printed")
    return run.name


async def say_name_async(path: str, word: str = "default") -> str:
    await asyncio.sleep(0)
    return say_name(path, word)


@pytest.mark.feature("T7")
@pytest.mark.parametrize("function", [say_name, say_name_async])
def test_a_run_has_its_own_name_everywhere_and_in_every_attempt(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path, asked = str(tmp_path / "names"), str(tmp_path / "asked")

    def name(word: str) -> str:
        note(asked, word)
        return f"say {word}"

    named = task(function, task_run_name=name, retries=1)

    run = named.delay(path)

    assert run.result(timeout=60) == run.name == "say default"
    mapped = named.with_options(task_run_name="{word}").map([path] * 2, ["a", "b"], deferred=True)
    assert nbtasks.get_run(run.id).name == "say default"
    assert [one.wait(timeout=60) and one.name for one in mapped] == ["a", "b"]
    assert {one.name for one in nbtasks.runs(task=named.key)} == {"say default", "a", "b"}
    assert lines(path)[:2] == ["say default 1", "say default 2"]
    assert sorted(lines(path)[2:]) == ["a 1", "a 2", "b 1", "b 2"]
    assert lines(asked) == ["default"]


# -- the condition of a retry -------------------------------------------------------------------------


def fails(path: str) -> None:
    note(path, "attempt")
    raise ValueError("again")


async def fails_async(path: str) -> None:
    await asyncio.sleep(0)
    fails(path)


def only_once_more(one: Any, run: Any, state: Any) -> bool:
    try:
        state.result()
    except ValueError as error:
        said = str(error)
    note(
        run.parameters["path"],
        f"asked {one.name} {run.task_key == one.key} {run.attempt} {state.name} {said}",
    )
    return bool(run.attempt < 2)


async def only_once_more_async(one: Any, run: Any, state: Any) -> bool:
    await asyncio.sleep(0)
    return only_once_more(one, run, state)


BOTH_FAIL = pytest.mark.parametrize("function", [fails, fails_async])


@pytest.mark.feature("T8")
@BOTH_FAIL
@pytest.mark.parametrize("condition", [only_once_more, only_once_more_async])
def test_a_condition_that_says_no_ends_the_retries(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any], condition: Callable[..., Any]
) -> None:
    path = str(tmp_path / "attempts")

    run = task(function, retries=5, retry_condition_fn=condition).delay(path)

    with pytest.raises(ValueError, match="again"):
        run.result(timeout=60)
    asked = f"asked {function.__name__} True"
    assert lines(path) == ["attempt", f"{asked} 1 Failed again", "attempt", f"{asked} 2 Failed again"]
    assert nbtasks.get_run(run.id).state.name == "Failed"


@pytest.mark.feature("T8")
@BOTH_FAIL
def test_a_condition_is_not_asked_when_no_retry_is_left_and_one_that_raises_says_no(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    last, raising = str(tmp_path / "last"), str(tmp_path / "raising")

    def broken(one: Any, run: Any, state: Any) -> bool:
        raise KeyError("no answer")

    runs = [
        task(function, retries=1, retry_condition_fn=only_once_more).delay(last),
        task(function, retries=5, retry_condition_fn=broken).delay(raising),
    ]

    for run in runs:
        with pytest.raises(ValueError, match="again"):
            run.result(timeout=60)
    assert [line.split()[0] for line in lines(last)] == ["attempt", "asked", "attempt"]
    assert lines(raising) == ["attempt"]
    assert "no answer" in runs[1].logs
    assert "there is no retry" in runs[1].logs


def sleeps(path: str) -> None:
    note(path, "attempt")
    time.sleep(60)


async def sleeps_async(path: str) -> None:
    note(path, "attempt")
    await asyncio.sleep(60)


BOTH_SLEEP = pytest.mark.parametrize("function", [sleeps, sleeps_async])


def never(one: Any, run: Any, state: Any) -> bool:
    note(run.parameters["path"], f"asked {state.type} {state.name}")
    return False


@pytest.mark.feature("T8")
@BOTH_SLEEP
def test_a_condition_is_asked_about_an_attempt_that_was_interrupted_in_time(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "attempts")

    run = task(function, retries=3, timeout_seconds=IN_TIME_S, retry_condition_fn=never).delay(path)

    with pytest.raises(nbtasks.TimedOut):
        run.result(timeout=60)
    assert lines(path) == ["attempt", "asked FAILED TimedOut"]


@pytest.mark.feature("T8")
def test_an_attempt_that_had_to_be_killed_is_tried_again_without_asking(
    client: Any, workers: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "attempts")

    def deaf(path: str) -> str:
        note(path, "attempt")
        while len(lines(path)) < 2:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                continue
        return "second"

    run = task(deaf, retries=1, timeout_seconds=IN_TIME_S, grace_s=0, retry_condition_fn=never).delay(path)

    assert run.result(timeout=60) == "second"
    assert lines(path) == ["attempt", "attempt"]


# -- returned states ----------------------------------------------------------------------------------


def returns(kind: str) -> Any:
    states = nbtasks.states
    if kind == "completed":
        return states.Completed(name="Skipped", message="nothing new", data=3)
    if kind == "failed":
        return states.Failed(name="Rejected", data=KeyError("k"))
    if kind == "unexplained":
        return states.Failed(message="no reason")
    return states.Cancelled(name="Withdrawn", message="not today")


async def returns_async(kind: str) -> Any:
    await asyncio.sleep(0)
    return returns(kind)


@pytest.mark.feature("R6")
@pytest.mark.parametrize("function", [returns, returns_async])
def test_a_returned_state_is_the_final_state_and_counts_under_its_type(
    client: Any, workers: Any, function: Callable[..., Any]
) -> None:
    one = task(function, retries=3)
    before = client.status().counts

    completed, failed, unexplained, cancelled = runs = one.map(
        ["completed", "failed", "unexplained", "cancelled"], deferred=True
    )

    assert completed.result(timeout=60) == 3
    with pytest.raises(KeyError):
        failed.result(timeout=60)
    with pytest.raises(nbtasks.FailedRun, match="no reason"):
        unexplained.result(timeout=60)
    with pytest.raises(nbtasks.CancelledRun):
        cancelled.result(timeout=60)
    shown = [
        ("COMPLETED", "Skipped"),
        ("FAILED", "Rejected"),
        ("FAILED", "Failed"),
        ("CANCELLED", "Withdrawn"),
    ]
    for found in (runs, [nbtasks.get_run(run.id) for run in runs]):
        assert [(run.state.type, run.state.name) for run in found] == shown
        assert [run.history[-1].name for run in found] == [name for _, name in shown]
        assert [len(run.attempts) for run in found] == [1] * 4
        assert [run.state.is_final for run in found] == [True] * 4
    assert [run.state.message for run in runs][:3:2] == ["nothing new", "no reason"]
    assert nbtasks.get_run(completed.id).result() == 3
    counts = client.status().counts
    assert [counts[kind] - before[kind] for kind in ("COMPLETED", "FAILED", "CANCELLED")] == [1, 2, 1]


# -- hooks --------------------------------------------------------------------------------------------


def tell(one: Any, run: Any, state: Any) -> None:
    words = "raises" if state.type in ("FAILED", "CANCELLED", "CRASHED") else ""
    if state.type == "COMPLETED":
        words = repr(state.result())
    assert isinstance(one, nbtasks.Task)
    note(run.parameters["path"], f"{one.name} {run.name} {run.attempt} {state.name} {words}".strip())


async def tell_async(one: Any, run: Any, state: Any) -> None:
    await asyncio.sleep(0)
    note(run.parameters["path"], "async")


def stumble(one: Any, run: Any, state: Any) -> None:
    print("in a hook")
    raise RuntimeError("a hook that raises")


EVERY = {
    word: [tell, stumble, tell_async]
    for word in ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crash")
}


def work(path: str, fail: int = 0) -> str:
    run = nbtasks.current_run()
    assert run is not None
    note(path, "code")
    if run.attempt <= fail:
        raise ValueError("again")
    return "done"


async def work_async(path: str, fail: int = 0) -> str:
    await asyncio.sleep(0)
    return work(path, fail)


BOTH_WORK = pytest.mark.parametrize("function", [work, work_async])


def only(*runs: Any) -> None:
    """Nothing but these runs was recorded: their hooks ran in their workers."""
    assert not [one for one in nbtasks.runs() if one.parent in [run.id for run in runs]]


@pytest.mark.feature("T13")
@BOTH_WORK
def test_hooks_run_in_order_around_the_code_and_one_that_raises_changes_nothing(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path, name = str(tmp_path / "told"), function.__name__

    run = task(function, **EVERY).delay(path)  # type: ignore[call-overload]

    assert run.result(timeout=60) == "done"
    assert lines(path) == [
        f"{name} {name} 1 Running", "async", "code", f"{name} {name} 1 Completed 'done'", "async",
    ]  # fmt: skip
    assert run.logs.count("in a hook") == 2
    assert "a hook that raises" in run.logs
    only(run)


@pytest.mark.feature("T13")
@BOTH_WORK
def test_on_failure_runs_once_after_the_last_attempt(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    failing, mended = str(tmp_path / "failing"), str(tmp_path / "mended")
    told = task(function, retries=1, on_failure=tell, on_completion=[tell], task_run_name="told")

    runs = [told.delay(failing, fail=2), told.delay(mended, fail=1)]

    assert [run.wait(timeout=60).name for run in runs] == ["Failed", "Completed"]
    assert lines(failing) == ["code", "code", f"{function.__name__} told 2 Failed raises"]
    assert lines(mended) == ["code", "code", f"{function.__name__} told 2 Completed 'done'"]


@pytest.mark.feature("T13")
@BOTH_WORK
def test_a_hook_may_be_added_by_a_decorator(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "told")
    one = task(function, on_completion=tell)

    @one.on_completion
    def after(one: Any, run: Any, state: Any) -> None:
        note(run.parameters["path"], "decorated")

    assert one.delay(path).result(timeout=60) == "done"
    assert lines(path)[-1] == "decorated"
    assert len(lines(path)) == 3


@pytest.mark.feature("T13")
@BOTH_SLEEP
def test_hooks_of_a_cancelled_and_of_a_timed_out_run_run_in_the_worker_that_lives(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    cancelled, timed_out = str(tmp_path / "cancelled"), str(tmp_path / "timed_out")
    one = task(function, on_cancellation=tell, on_failure=tell, grace_s=30, task_run_name="told")

    first = one.delay(cancelled)
    until(lambda: lines(cancelled), "the code begins")
    first.cancel()
    second = one.with_options(timeout_seconds=IN_TIME_S).delay(timed_out)

    assert [run.wait(timeout=60).name for run in (first, second)] == ["Cancelled", "TimedOut"]
    assert lines(cancelled) == ["attempt", f"{function.__name__} told 1 Cancelled raises"]
    assert lines(timed_out) == ["attempt", f"{function.__name__} told 1 TimedOut raises"]
    only(first, second)


def hook_run_of(run: Any) -> Any:
    """The run that executes the hooks of `run`, once it ended."""
    [found] = until(lambda: [one for one in nbtasks.runs() if one.parent == run.id], "there is a hook run")
    found.wait(timeout=60)
    return found


@pytest.mark.feature("T13")
@BOTH_WORK
def test_hooks_of_a_run_that_is_cancelled_in_the_queue_run_when_there_is_a_worker(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "told")
    run = task(function, on_cancellation=[tell, stumble, tell_async], task_run_name="told").delay(path)

    run.cancel()
    assert run.wait(timeout=60).name == "Cancelled"
    client.start_workers(1)
    found = hook_run_of(run)

    assert (found.name, found.state.name) == ("told: on_cancellation", "Completed")
    assert found.task_key == run.task_key
    assert lines(path) == [f"{function.__name__} told 0 Cancelled raises", "async"]
    assert "a hook that raises" in found.logs
    assert len(nbtasks.runs()) == 2


def dies(path: str, how: str = "exit") -> None:
    note(path, "attempt")
    if how == "exit":
        os._exit(3)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            continue


async def dies_async(path: str, how: str = "exit") -> None:
    await asyncio.sleep(0)
    dies(path, how)


BOTH_DIE = pytest.mark.parametrize("function", [dies, dies_async])


@pytest.mark.feature("T13")
@BOTH_DIE
def test_hooks_of_a_crash_and_of_a_kill_run_on_the_next_worker(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    crashed, killed = str(tmp_path / "crashed"), str(tmp_path / "killed")
    one = task(function, crash_retries=1, on_crash=tell, on_failure=[tell], task_run_name="told")

    first = one.delay(crashed)
    second = one.with_options(timeout_seconds=IN_TIME_S, grace_s=0).delay(killed, "deaf")

    assert [run.wait(timeout=60).name for run in (first, second)] == ["Crashed", "TimedOut"]
    assert [hook_run_of(run).name for run in (first, second)] == ["told: on_crash", "told: on_failure"]
    assert lines(crashed) == ["attempt", "attempt", f"{function.__name__} told 2 Crashed raises"]
    assert lines(killed) == ["attempt", f"{function.__name__} told 1 TimedOut raises"]


@pytest.mark.feature("T13")
@BOTH_WORK
def test_hooks_that_a_worker_died_in_do_not_run_again_nor_does_the_code(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "told")

    def deadly(one: Any, run: Any, state: Any) -> None:
        note(run.parameters["path"], "deadly")
        os._exit(3)

    run = task(function, crash_retries=3, on_completion=deadly, on_crash=tell).delay(path)

    assert run.wait(timeout=60).name == "Crashed"
    hook_run_of(run)
    assert lines(path)[:2] == ["code", "deadly"]
    assert len(lines(path)) == 3
    assert "Crashed" in lines(path)[2]


@pytest.mark.feature("T13")
@BOTH_WORK
def test_hooks_of_a_run_whose_upstream_failed_run_too(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = str(tmp_path / "told")
    first = task(function).delay(str(tmp_path / "first"), fail=1)

    run = task(function, on_failure=tell).apply_async((path,), wait_for=first)

    assert run.wait(timeout=60).name == "UpstreamFailed"
    assert hook_run_of(run).state.name == "Completed"
    assert lines(path) == [f"{function.__name__} {function.__name__} 0 UpstreamFailed raises"]


# -- logs ---------------------------------------------------------------------------------------------


def log(path: str) -> None:
    logger = nbtasks.get_run_logger()
    logger.info("said %d times", 2)
    logger.debug("not told")
    logger.setLevel("DEBUG")
    logger.debug("told now")
    try:
        raise KeyError("inner")
    except KeyError:
        logger.exception("it happened")
    print("printed")
    with open(path, "a") as file:
        print("elsewhere", file=file)


async def log_async(path: str) -> None:
    await asyncio.sleep(0)
    log(path)


@pytest.mark.feature("T14")
@pytest.mark.parametrize("function", [log, log_async])
def test_what_a_run_logs_and_prints_is_found_by_its_id(
    client: Any, workers: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path = tmp_path / "elsewhere"
    one = task(function, log_prints=True, task_run_name="logging")

    first, second = one.delay(str(path)), one.delay(str(path))

    for run in (first, second):
        run.result(timeout=60)
        logs = nbtasks.get_run(run.id).logs
        assert "| INFO    | Task run 'logging' - said 2 times\n" in logs
        assert "not told" not in logs
        assert "| DEBUG   | Task run 'logging' - told now\n" in logs
        assert "| ERROR   | Task run 'logging' - it happened\n" in logs
        assert "KeyError: 'inner'" in logs
        assert logs.count("printed") == 1
        assert "elsewhere" not in logs
        assert [output["name"] for output in nbtasks.get_run(run.id).output] == ["stderr", "stdout"]
    assert path.read_text() == "elsewhere\n" * 2
