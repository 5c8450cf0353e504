"""`.submit()` and `map()`: runs of this process, by the policy of a plain call, with a usual handle."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import nbtasks
from nbtasks import ThreadPoolTaskRunner, context, current_run, pickling, task
from nbtasks.runners.interrupts import Interrupted, Interruptible
from tests.system.waiting import until
from tests.unit.submitters import MemorySubmitter

HANG_S = 60.0


@pytest.fixture(autouse=True)
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


@task
def double(x: Any) -> Any:
    return 2 * x


@task
async def double_async(x: Any) -> Any:
    await asyncio.sleep(0.001)
    return 2 * x


@task
def wait_for(event: threading.Event) -> bool:
    return event.wait(HANG_S)


@task
def spin(begun: threading.Event) -> None:
    begun.set()
    while True:
        pass


@task
async def sleep_long(begun: threading.Event) -> None:
    begun.set()
    await asyncio.sleep(HANG_S)


def names(run: Any) -> list[str]:
    return [state.name for state in run.history]


@pytest.mark.feature("D6")
@pytest.mark.parametrize("one", [double, double_async])
def test_a_submitted_run_ends_with_its_result_and_no_broker_knows(one: Any, there: MemorySubmitter) -> None:
    run = one.submit(21)

    assert run.result(HANG_S) == run.result() == 42
    assert names(run) == ["Pending", "Running", "Completed"]
    assert [attempt.outcome for attempt in run.attempts] == ["Completed"]
    assert run.parameters == {"x": "21"}
    assert run.wait().is_final
    assert run.exception() is None
    assert not there.recorded


def test_an_object_is_the_very_one_that_the_task_returned() -> None:
    held = object()

    @task
    def give() -> object:
        return held

    assert give.submit().result(HANG_S) is held


def test_a_generator_gives_the_list_of_its_values() -> None:
    @task
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    @task
    async def count_async(n: int) -> Any:
        for i in range(n):
            yield i

    assert count.submit(3).result(HANG_S) == count_async.submit(3).result(HANG_S) == [0, 1, 2]


def test_a_failure_is_the_very_exception_and_retries_are_shown() -> None:
    @task(retries=1, retry_delay_seconds=0.01)
    def fail() -> None:
        raise ValueError("no luck")

    run = fail.submit()

    with pytest.raises(ValueError, match="no luck"):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]
    assert [attempt.outcome for attempt in run.attempts] == ["Failed", "Failed"]
    assert run.state.message == "ValueError: no luck"
    assert isinstance(run.result(raise_on_failure=False), ValueError)


def test_the_message_of_a_failure_is_that_of_the_error_not_of_its_cause() -> None:
    @task
    def fail() -> None:
        raise ValueError("what it means") from KeyError("what it was")

    run = fail.submit()

    assert run.wait(HANG_S).message == "ValueError: what it means"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_code_that_wants_out_of_the_interpreter_is_crashed_and_not_tried_again(error: BaseException) -> None:
    @task(retries=3)
    def leave() -> None:
        raise error

    run = leave.submit()

    with pytest.raises(nbtasks.CrashedRun):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "Crashed"]


def test_tags_and_the_current_run_travel_into_the_thread() -> None:
    @task(tags=["own"])
    def look() -> Any:
        current = current_run()
        assert current is not None
        return str(current.id), current.attempt, current.tags, threading.current_thread()

    @task
    def outer() -> Any:
        return look.submit()

    with nbtasks.tags("around"):
        run = look.submit()
    identity, attempt, tags, thread = run.result(HANG_S)
    inner = outer.submit()

    assert (identity, attempt, tags) == (str(run.id), 1, {"own", "around"})
    assert thread is not threading.main_thread()
    assert run.tags == {"own", "around"}
    assert inner.result(HANG_S).parent == inner.id


def test_prints_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    @task(log_prints=True)
    def speak() -> None:
        print("hello")

    speak.submit().result(HANG_S)

    assert "| INFO    | Task run 'speak' - hello\n" in capsys.readouterr().err


def test_arguments_are_bound_in_the_caller() -> None:
    with pytest.raises(TypeError, match=r"double\(\) missing"):
        double.submit()


# -- time-outs and cancel -----------------------------------------------------------------------------


def test_a_timeout_interrupts_python_code_even_if_it_catches_everything() -> None:
    @task(timeout_seconds=0.05)
    def spin_on() -> str:
        try:
            while True:
                pass
        except BaseException:
            return "went on"

    run = spin_on.submit()

    with pytest.raises(nbtasks.TimedOut, match=r"exceeded 0\.05 s"):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "TimedOut"]


def test_a_timeout_counts_as_a_failure_and_is_tried_again() -> None:
    begun: list[int] = []

    @task(timeout_seconds=0.2, retries=1)
    async def slow_at_first() -> int:
        begun.append(1)
        if len(begun) == 1:
            await asyncio.sleep(HANG_S)
        return len(begun)

    run = slow_at_first.submit()

    assert run.result(HANG_S) == 2
    assert [attempt.outcome for attempt in run.attempts] == ["TimedOut", "Completed"]


def test_a_timed_out_call_within_a_run_is_a_failure_of_that_run() -> None:
    @task(timeout_seconds=0.01)
    def inner() -> None:
        while True:
            pass

    @task(timeout_seconds=HANG_S)
    def outer() -> None:
        inner()

    run = outer.submit()

    assert isinstance(run.exception(HANG_S), nbtasks.TimedOut)
    assert run.state.name == "Failed"


def test_what_waits_is_cancelled_at_once() -> None:
    event = threading.Event()
    with ThreadPoolTaskRunner(1):
        held, waiting = wait_for.submit(event), double.submit(1)
        waiting.cancel()

        assert waiting.state.name == "Cancelled"
        event.set()
    with pytest.raises(nbtasks.CancelledRun):
        waiting.result()
    assert held.result()
    assert not waiting.attempts


@pytest.mark.parametrize("one", [spin, sleep_long])
def test_what_runs_is_interrupted_and_not_tried_again(one: Any) -> None:
    begun = threading.Event()
    run = one.with_options(retries=5).submit(begun)
    assert begun.wait(HANG_S)

    run.cancel()
    run.cancel()

    with pytest.raises(nbtasks.CancelledRun):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "Cancelling", "Cancelled"]


def test_a_pause_between_two_attempts_ends_with_a_cancel() -> None:
    @task(retries=1, retry_delay_seconds=HANG_S)
    def fail() -> None:
        raise ValueError

    run = fail.submit()
    until(lambda: run.state.name == "AwaitingRetry", "the pause")

    run.cancel()

    assert run.wait(HANG_S).name == "Cancelled"


def test_an_interrupt_waits_until_a_shielded_block_is_over() -> None:
    call, inside, asked, went_on = Interruptible(), threading.Event(), threading.Event(), []

    def shielded() -> None:
        with call.shielded():
            inside.set()
            asked.wait(HANG_S)
            went_on.append("inside")
        went_on.append("behind")

    def interrupt() -> None:
        inside.wait(HANG_S)
        call.interrupt()
        asked.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        call.call(shielded)
    thread.join()
    assert went_on == ["inside"]


def test_a_run_that_ended_cannot_be_cancelled() -> None:
    run = double.submit(1)
    run.wait(HANG_S)

    run.cancel()

    assert (run.state.name, run.result()) == ("Completed", 2)


def test_an_interrupt_never_hits_the_next_run_of_the_thread() -> None:
    # many cancels at a random moment of short runs, all in one thread
    with ThreadPoolTaskRunner(1):
        runs = double.map(range(300))
        for run in runs:
            run.cancel()
    assert {run.state.name for run in runs} <= {"Completed", "Cancelled"}
    assert all(run.result() == 2 * i for i, run in enumerate(runs) if run.state.name == "Completed")


# -- the runner ---------------------------------------------------------------------------------------


@pytest.mark.feature("D6")
def test_no_more_than_max_workers_run_at_a_time_and_the_block_waits_for_all() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    @task
    def count(i: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    with ThreadPoolTaskRunner(2):
        runs = count.map(range(20))
    assert all(run.state.is_final for run in runs)
    assert most[0] == 2


def test_a_block_that_raises_cancels_what_waits() -> None:
    event, made = threading.Event(), []

    def block() -> None:
        with ThreadPoolTaskRunner(1):
            made.extend([wait_for.submit(event), double.submit(1)])
            until(lambda: made[0].state.name == "Running", "the first run")
            made[1].add_done_callback(lambda run: event.set())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert [run.state.name for run in made] == ["Completed", "Cancelled"]


def test_runs_that_wait_for_runs_lend_their_place() -> None:
    @task
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + int(down.submit(n - 1).result(HANG_S))

    @task
    async def down_async(n: int) -> int:
        return 0 if n == 0 else 1 + int(await down_async.submit(n - 1))

    with ThreadPoolTaskRunner(1):
        runs = down.submit(8), down_async.submit(8)
        assert [run.result(HANG_S) for run in runs] == [8, 8]


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2"])
def test_a_runner_of_no_number_is_refused(number: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_workers"):
        ThreadPoolTaskRunner(number)


# -- beside background runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["priority", "eta", "countdown", "expires", "idempotency_key", "crash_retries"]
)
def test_what_only_background_runs_have_is_refused_by_name(word: str) -> None:
    with pytest.raises(TypeError, match=f"{word} applies to background runs only"):
        double.submit(1, **{word: 1})
    with pytest.raises(TypeError, match=f"{word} applies to background runs only"):
        double.map([1], **{word: 1})


def test_an_option_for_the_background_is_refused_after_with_options_and_not_in_the_decorator(
    there: MemorySubmitter,
) -> None:
    @task(crash_retries=2)
    def own(x: int) -> int:
        return x

    changed = double.with_options(crash_retries=2).with_options(name="other")

    assert own.submit(1).result(HANG_S) == own.with_options(name="b").submit(1).result(HANG_S) == 1
    with pytest.raises(TypeError, match="crash_retries applies to background runs only"):
        changed.submit(1)
    assert there.recorded == {}
    changed.delay(1)
    assert len(there.recorded) == 1


def test_a_parameter_of_that_name_is_the_functions_own() -> None:
    @task
    def plan(priority: int, **more: int) -> Any:
        return priority, more

    assert plan.submit(priority=3, eta=4).result(HANG_S) == (3, {"eta": 4})


def test_a_finished_run_travels_as_its_value_at_any_depth(there: MemorySubmitter) -> None:
    run = double.submit(2)
    run.wait(HANG_S)

    double.delay(run)
    double.delay([run, (run,), {"a": run}, {run}])

    sent = [pickling.load_arguments(new.args)[0] for _, _, new, _ in there.recorded.values()]
    assert sent == [(4,), ([4, (4,), {"a": 4}, {4}],)]


def test_a_run_without_a_value_is_refused_with_a_reason(there: MemorySubmitter) -> None:
    event = threading.Event()
    held = wait_for.submit(event)

    for argument in (held, [held], (held,), {"a": held}, {held}):
        with pytest.raises(
            TypeError, match=rf"'wait_for' \({held.id}\) is a run of this process that has not"
        ):
            double.delay(argument)
    event.set()
    failed = double.submit(None)
    failed.wait(HANG_S)
    with pytest.raises(TypeError, match="ended Failed"):
        double.delay(failed)
    assert not there.recorded


def test_callbacks_fire_once_each() -> None:
    seen: list[Any] = []
    run = double.submit(1)
    run.add_done_callback(seen.append)
    run.wait(HANG_S)
    until(lambda: seen, "the callback")
    run.add_done_callback(seen.append)

    assert seen == [run, run]


def test_a_run_can_be_awaited() -> None:
    async def main() -> Any:
        return await double.submit(4), await asyncio.gather(*double.map([1, 2]))

    assert asyncio.run(main()) == (8, [2, 4])


def test_a_wait_gives_up_when_the_time_is_over() -> None:
    event = threading.Event()
    run = wait_for.submit(event)

    assert not run.wait(0).is_final
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        run.result(0)
    with pytest.raises(TimeoutError):
        run.result(-1)
    event.set()
    assert run.result(HANG_S)
