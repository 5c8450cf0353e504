"""Task runners by one contract: threads, processes of this machine, and a Dask cluster."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import nbtasks
from nbtasks import DaskTaskRunner, ProcessPoolTaskRunner, ThreadPoolTaskRunner, context, current_run, task
from tests.system.clusters import dask_cluster
from tests.system.waiting import HANG_S, until
from tests.unit.submitters import MemorySubmitter

pytestmark = pytest.mark.feature("D6")


@pytest.fixture(autouse=True)
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with dask_cluster(processes=False) as cluster, distributed.Client(cluster, set_as_default=False) as made:
        yield made


@pytest.fixture(params=["thread", "process", "dask"])
def runner(request: pytest.FixtureRequest) -> Iterator[Any]:
    """In its block."""
    if request.param == "dask":
        made: Any = DaskTaskRunner(request.getfixturevalue("client"))
    else:
        made = (ThreadPoolTaskRunner if request.param == "thread" else ProcessPoolTaskRunner)(2)
    with made:
        yield made


@task
def double(x: Any) -> Any:
    return 2 * x


@task
async def double_async(x: Any) -> Any:
    await asyncio.sleep(0.001)
    return 2 * x


@task
def spin(begun: Path) -> None:
    begun.touch()
    while True:
        pass


@task
async def sleep_long(begun: Path) -> None:
    begun.touch()
    await asyncio.sleep(HANG_S)


@task
def fail(words: str) -> None:
    raise ValueError(words)


@task
async def fail_async(words: str) -> None:
    raise ValueError(words)


def names(run: Any) -> list[str]:
    return [state.name for state in run.history]


@pytest.mark.parametrize("one", [double, double_async])
def test_a_run_ends_with_its_result_and_no_broker_knows(
    runner: Any, one: Any, there: MemorySubmitter
) -> None:
    run = one.submit(21)

    assert run.result(HANG_S) == run.result() == 42
    assert names(run) == ["Pending", "Running", "Completed"]
    assert [attempt.outcome for attempt in run.attempts] == ["Completed"]
    assert run.parameters == {"x": "21"}
    assert not there.recorded


@pytest.mark.parametrize("one", [double, double_async])
def test_results_of_a_map_are_in_the_order_of_its_items(runner: Any, one: Any) -> None:
    assert one.map(range(9)).result(HANG_S) == [2 * i for i in range(9)]


def test_a_closure_sees_the_values_that_it_had_when_it_was_submitted(runner: Any) -> None:
    factor = 3

    @task
    def times(x: int) -> int:
        return factor * x

    assert times.submit(2).result(HANG_S) == 6


def test_the_values_of_a_generator_come_one_by_one_and_are_the_result(runner: Any) -> None:
    @task
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    @task
    async def count_async(n: int) -> Any:
        for i in range(n):
            yield i

    for one in (count, count_async):
        run = one.submit(3)
        assert list(run) == run.result(HANG_S) == [0, 1, 2]
    assert count.submit(0).result(HANG_S) == []


@pytest.mark.parametrize("one", [fail, fail_async])
def test_a_failure_is_the_exception_with_the_lines_that_raised_it(runner: Any, one: Any) -> None:
    run = one.submit("no luck")

    error = run.exception(HANG_S)
    assert isinstance(error, ValueError)
    assert str(error) == "no luck"
    assert run.state.name == "Failed"
    assert run.state.message == "ValueError: no luck"
    if runner.is_elsewhere:
        assert "raise ValueError(words)" in str(error.__cause__)
        shown = "".join(traceback.format_exception(error))
        assert "nbtasks/runners" not in shown
        assert "nbtasks/tasks" not in shown


def test_an_exception_with_an_init_of_its_own_is_caught_by_its_class(runner: Any) -> None:
    class Refused(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code
            self.lock = threading.Lock()

    @task
    def refuse() -> None:
        raise Refused(code=3)

    with pytest.raises(Refused, match="code 3") as caught:
        refuse.submit().result(HANG_S)

    assert caught.value.code == 3


@pytest.mark.parametrize("one", [fail, fail_async])
def test_retries_ask_their_condition_and_hooks_are_called_here(runner: Any, one: Any) -> None:
    told: list[Any] = []

    def ask(task: Any, run: Any, state: Any) -> bool:
        told.append(("condition", run.attempt, str(state.data)))
        return bool(run.attempt < 3)

    async def note(task: Any, run: Any, state: Any) -> None:
        told.append((state.name, run.attempt, os.getpid()))

    hooked = one.with_options(
        retries=9, retry_delay_seconds=[0, 0.01], retry_condition_fn=ask, on_running=note, on_failure=note
    )
    run = hooked.submit("no")

    assert isinstance(run.exception(HANG_S), ValueError)
    assert names(run)[:2] == ["Pending", "Running"]
    assert names(run)[-1] == "Failed"
    assert [attempt.outcome for attempt in run.attempts] == ["Failed"] * 3
    here = os.getpid()
    assert told == [
        ("Running", 1, here), ("condition", 1, "no"),
        ("Retrying", 2, here), ("condition", 2, "no"),
        ("Retrying", 3, here), ("condition", 3, "no"),
        ("Failed", 3, here),
    ]  # fmt: skip


def test_the_code_knows_its_run_with_name_tags_and_parameters(runner: Any) -> None:
    @task(tags=["own"], task_run_name="look at {what}")
    def look(what: str, more: int = 2) -> Any:
        run = current_run()
        assert run is not None
        return str(run.id), run.name, run.attempt, run.tags, dict(run.parameters)

    with nbtasks.tags("around"):
        run = look.submit("x")

    expected = (str(run.id), "look at x", 1, {"own", "around"}, {"what": "x", "more": 2})
    assert run.result(HANG_S) == expected


def test_prints_and_the_logger_of_a_run_write_log_lines_here(
    runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    @task(log_prints=True)
    def speak() -> None:
        print("hello")
        nbtasks.get_run_logger().warning("beware")

    speak.submit().result(HANG_S)

    err = capsys.readouterr().err
    assert "| INFO    | Task run 'speak' - hello\n" in err
    assert "| WARNING | Task run 'speak' - beware\n" in err


def test_progress_is_seen(runner: Any) -> None:
    @task
    def go() -> None:
        nbtasks.progress(1, 4, "a quarter")

    run = go.submit()
    run.result(HANG_S)

    assert run.progress == (1.0, 4.0, "a quarter")


def test_a_returned_state_is_the_final_one(runner: Any) -> None:
    @task(retries=3)
    def give(state: Any) -> Any:
        return state

    odd = give.submit(nbtasks.states.Failed(name="Odd", message="said so"))
    good = give.submit(nbtasks.states.Completed(name="Good", data=7))

    assert isinstance(odd.exception(HANG_S), nbtasks.FailedRun)
    assert (odd.state.name, odd.state.message) == ("Odd", "said so")
    assert good.result(HANG_S) == 7
    assert good.state.name == "Good"


def test_runs_among_the_arguments_are_replaced_at_any_depth(runner: Any) -> None:
    first = double.submit(1)

    assert double.submit(first).result(HANG_S) == 4
    assert double_async.submit([first, (first,)]).result(HANG_S) == [2, (2,), 2, (2,)]


def test_a_run_whose_need_failed_never_starts(runner: Any) -> None:
    failed = fail.submit("x")

    after, beside = double.submit(failed), double.submit(1, wait_for=[failed])

    for run in (after, beside):
        assert isinstance(run.exception(HANG_S), nbtasks.UpstreamFailed)
        assert not run.attempts
    assert isinstance(double.submit([nbtasks.allow_failure(failed)]).result(HANG_S)[0], ValueError)


def test_an_earlier_result_is_taken_and_the_body_is_not_run(runner: Any, tmp_path: Path) -> None:
    @task(cache_policy=nbtasks.cache_policies.INPUTS, key=f"cached:{tmp_path}")
    def note(path: Path) -> int:
        with path.open("a") as file:
            return file.write("x")

    path = tmp_path / "notes"
    assert [note.submit(path).result(HANG_S) for _ in range(3)] == [1, 1, 1]
    assert path.read_text() == "x"


def test_a_result_is_as_its_serializer_gives_it(runner: Any) -> None:
    json = double.with_options(result_serializer="json")

    assert json.submit((1,)).result(HANG_S) == [1, 1]
    assert isinstance(json.submit({1}.pop).exception(HANG_S), TypeError)


@pytest.mark.parametrize("one", [spin, sleep_long])
def test_a_timeout_interrupts_and_counts_as_a_failure(runner: Any, one: Any, tmp_path: Path) -> None:
    run = one.with_options(timeout_seconds=0.1, retries=1).submit(tmp_path / "begun")

    with pytest.raises(nbtasks.TimedOut, match=r"exceeded 0\.1 s"):
        run.result(HANG_S)
    assert [attempt.outcome for attempt in run.attempts] == ["TimedOut", "TimedOut"]
    assert run.state.name == "TimedOut"


@pytest.mark.parametrize("one", [spin, sleep_long])
def test_what_runs_is_interrupted_by_a_cancel_and_not_tried_again(
    runner: Any, one: Any, tmp_path: Path
) -> None:
    told: list[str] = []
    hooked = one.with_options(retries=5, on_cancellation=lambda task, run, state: told.append(state.name))
    run = hooked.submit(tmp_path / "begun")
    until((tmp_path / "begun").exists, "the code")

    run.cancel()
    run.cancel()

    with pytest.raises(nbtasks.CancelledRun):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert told == ["Cancelled"]


def test_what_waits_is_cancelled_at_once(runner: Any, tmp_path: Path) -> None:
    held = spin.submit(tmp_path / "begun")
    waiting = double.submit(held)

    waiting.cancel()

    assert names(waiting) == ["Pending", "Cancelled"]
    held.cancel()


def test_code_that_wants_out_of_the_interpreter_is_crashed(runner: Any) -> None:
    @task(retries=3)
    def leave() -> None:
        raise SystemExit(3)

    run = leave.submit()

    with pytest.raises(nbtasks.CrashedRun):
        run.result(HANG_S)
    assert names(run) == ["Pending", "Running", "Crashed"]
    assert double.submit(1).result(HANG_S) == 2


def test_runs_that_the_code_submits_know_their_parent(runner: Any) -> None:
    @task
    def inner() -> Any:
        run = current_run()
        assert run is not None
        return str(run.id), threading.current_thread() is threading.main_thread()

    @task
    def outer() -> Any:
        run = inner.submit()
        return str(run.parent), run.result(HANG_S), str(run.id)

    run = outer.submit()
    parent, (seen, is_main), inner_id = run.result(HANG_S)

    assert (parent, seen, is_main) == (str(run.id), inner_id, False)


def test_hooks_that_submit_and_wait_do_not_wait_for_themselves(runner: Any) -> None:
    got: list[int] = []

    def more(task: Any, run: Any, state: Any) -> None:
        got.append(double.submit(state.data).result(HANG_S))

    runs = double.with_options(on_completion=more).map(range(8))

    assert runs.result(HANG_S) == [2 * i for i in range(8)]
    assert sorted(got) == [4 * i for i in range(8)]


def test_the_end_of_a_block_waits_for_all_that_was_submitted_in_it(client: distributed.Client) -> None:
    made: list[Any] = []

    def more(task: Any, run: Any, state: Any) -> None:
        made.append(double.submit(state.data))

    for runner in (ThreadPoolTaskRunner(1), ProcessPoolTaskRunner(1), DaskTaskRunner(client)):
        with runner:  # type: ignore[attr-defined]
            double.with_options(on_completion=more).submit(1)
        assert made.pop().state.name == "Completed"


def test_a_block_that_raises_cancels_what_waits(tmp_path: Path) -> None:
    made: list[Any] = []

    @task
    def wait_until(begun: Path, go_on: Path) -> None:
        begun.touch()
        while not go_on.exists():
            time.sleep(0.005)

    def block(runner: Any, folder: Path) -> None:
        folder.mkdir()
        with runner:
            made[:] = [wait_until.submit(folder / "begun", folder / "on"), double.submit(1)]
            until((folder / "begun").exists, "the first run")
            made[1].add_done_callback(lambda run: (folder / "on").touch())
            raise ZeroDivisionError

    for i, runner in enumerate((ThreadPoolTaskRunner(1), ProcessPoolTaskRunner(1))):
        with pytest.raises(ZeroDivisionError):
            block(runner, tmp_path / str(i))
        assert [run.state.name for run in made] == ["Completed", "Cancelled"]


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2"])
def test_a_pool_of_no_number_is_refused(number: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_workers"):
        ProcessPoolTaskRunner(number)
