"""Handles on runs: states, results and failures, waiting for one and for many."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from datetime import timezone
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

import nbtasks
from nbtasks import context, pickling, task
from nbtasks.core.states import State, StateType
from tests.unit.submitters import MemorySubmitter


@task(tags=["t"])
def double(x: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is negative")
    return 2 * x


@pytest.fixture(autouse=True)
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


def ended(there: MemorySubmitter, state: State, message: str = "") -> nbtasks.Run:
    run = double.delay(1)
    there.end(str(run.id), state, message)
    return run


def test_a_run_knows_who_it_is() -> None:
    run = double.delay(3)

    assert isinstance(run.id, UUID)
    assert (run.name, run.task_key, run.tags) == ("double", f"{__name__}:double", {"t"})
    assert run.parameters == {"x": "3"}
    assert run.parent is None
    assert run == nbtasks.get_run(run.id) == nbtasks.get_run(str(run.id))


@pytest.mark.parametrize("spelled", [str.upper, lambda text: text.replace("-", ""), "{{{}}}".format])
def test_a_run_is_found_by_every_spelling_of_its_id(spelled: Callable[[str], str]) -> None:
    run = double.delay(3)

    assert nbtasks.get_run(spelled(str(run.id))) == run


def test_what_is_no_id_is_refused_and_a_text_that_is_none_is_unknown() -> None:
    for wrong in (3, None, b"01", double.delay(3)):
        with pytest.raises(TypeError, match=r"the id of a run is expected, a text or a UUID, not"):
            nbtasks.get_run(wrong)  # type: ignore[arg-type]
    with pytest.raises(nbtasks.UnknownRun):
        nbtasks.get_run("no id")


@pytest.mark.parametrize(("wrong", "error"), [("1", TypeError), (True, TypeError), (math.nan, ValueError)])
def test_a_timeout_that_is_no_number_is_refused_where_it_is_given(wrong: Any, error: type[Exception]) -> None:
    run, runs = double.delay(3), double.map([1, 2], deferred=True)
    run.wait()
    waits: list[Callable[..., Any]] = [
        run.result, run.exception, run.wait, nbtasks.get_run(run.id).result, double.submit(1).result,
        runs.result, runs.wait, partial(nbtasks.wait, runs), partial(nbtasks.as_completed, runs),
    ]  # fmt: skip

    for wait in waits:
        with pytest.raises(error, match="timeout is a number of seconds"):
            wait(timeout=wrong)


def test_a_timeout_without_end_is_none() -> None:
    assert double.submit(1).result(timeout=math.inf) == 2
    assert double.map([1, 2], deferred=True).result(timeout=math.inf) == [2, 4]


def test_state_history_and_attempts_say_what_happened() -> None:
    run = double.delay(3)
    run.wait()

    assert [state.name for state in run.history] == ["Pending", "Running", "Completed"]
    assert run.state.type is StateType.COMPLETED
    assert run.state.timestamp.tzinfo is timezone.utc
    [attempt] = run.attempts
    assert (attempt.number, attempt.worker, attempt.pid, attempt.outcome) == (1, "w-1", 7, "Completed")
    assert attempt.end is not None
    assert attempt.end > attempt.start


def test_a_result_comes_back_also_through_another_handle() -> None:
    run = double.delay(3)

    assert run.result() == 6
    assert nbtasks.get_run(run.id).result() == 6
    assert run.exception() is None


def test_a_failure_raises_the_original_exception() -> None:
    run = double.delay(-1)

    with pytest.raises(ValueError, match="-1 is negative") as caught:
        run.result()

    assert "if x < 0" not in str(caught.value.__cause__)
    assert 'raise ValueError(f"{x} is negative")' in str(caught.value.__cause__)
    assert isinstance(run.result(raise_on_failure=False), ValueError)
    assert run.state.message == "ValueError: -1 is negative"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.CANCELLED, nbtasks.CancelledRun),
        (State.CRASHED, nbtasks.CrashedRun),
        (State.TIMED_OUT, nbtasks.TimedOut),
        (State.FAILED, nbtasks.FailedRun),
    ],
)
@pytest.mark.feature("R2")
def test_every_other_ending_raises_its_own_error(
    there: MemorySubmitter, state: State, error: type[Exception]
) -> None:
    run = ended(there, state, "for a reason")

    with pytest.raises(error, match=str(run.id)):
        run.result()


@pytest.mark.feature("R1")
def test_a_time_out_of_waiting_names_run_and_seconds_and_is_silent_in_wait() -> None:
    run = double.delay(1)

    with pytest.raises(TimeoutError, match=rf"'double' \({run.id}\).* 0\.5 s"):
        run.result(timeout=0.5)
    assert run.wait(timeout=0.5).name == "Pending"


def test_a_result_that_is_none_is_no_missing_result() -> None:
    run = task(lambda: None, name="nothing").delay()

    assert run.result() is None


def test_a_run_that_is_not_recorded_is_unknown() -> None:
    with pytest.raises(nbtasks.UnknownRun):
        nbtasks.get_run(uuid4())


@pytest.mark.feature("R2")
def test_every_callback_is_called_once_also_a_late_one(there: MemorySubmitter) -> None:
    seen: list[str] = []
    run = double.delay(1)
    run.add_done_callback(lambda run: seen.append("a"))
    run.add_done_callback(lambda run: 1 / 0)
    run.add_done_callback(lambda run: seen.append("b"))

    run.wait()
    run.add_done_callback(lambda run: seen.append("late"))
    nbtasks.get_run(run.id).add_done_callback(lambda run: seen.append("later"))

    assert seen == ["a", "b", "late", "later"]


@pytest.mark.feature("R2")
def test_a_run_can_be_awaited(there: MemorySubmitter) -> None:
    async def main() -> Any:
        run = double.delay(4)
        asyncio.get_running_loop().call_later(0.01, there.step)
        return await run, await run

    assert asyncio.run(main()) == (8, 8)


def test_awaiting_a_failure_raises_it(there: MemorySubmitter) -> None:
    async def main() -> Any:
        run = double.delay(-4)
        asyncio.get_running_loop().call_later(0.01, there.step)
        await run

    with pytest.raises(ValueError, match="-4"):
        asyncio.run(main())


def test_output_joins_what_one_stream_wrote() -> None:
    run = double.delay(1)

    assert [output["output_type"] for output in run.output] == ["stream", "display_data"]
    assert run.output[0]["text"] == "a\nb\n"
    assert run.logs == "a\nb\n<Figure>\n"


def test_show_prints_the_output_outside_of_notebooks(capsys: pytest.CaptureFixture[str]) -> None:
    double.delay(1).show()

    assert capsys.readouterr().out == "a\nb\n<Figure>\n"


@pytest.mark.feature("N4")
def test_who_follows_a_run_is_shown_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    run = double.delay(1)
    run.wait()

    run.show(follow=True)

    assert capsys.readouterr().out == "a\nb\n<Figure>\n"


@pytest.mark.feature("R4")
def test_cancel_ends_a_run_and_a_list(there: MemorySubmitter) -> None:
    run, runs = double.delay(1), double.map([1, 2], deferred=True)

    run.cancel()
    runs.cancel()

    assert {one.state.name for one in (run, *runs)} == {"Cancelled"}


# -- many ---------------------------------------------------------------------------------------------


@pytest.mark.feature("R3")
def test_wait_gives_done_and_not_done(there: MemorySubmitter) -> None:
    runs = double.map([1, 2, 3], deferred=True)
    there.step()

    done, not_done = nbtasks.wait(runs, timeout=0.0)

    assert (done, not_done) == ({runs[0]}, set(runs[1:]))
    assert nbtasks.wait(runs) == (set(runs), set())


@pytest.mark.feature("R3")
def test_as_completed_gives_runs_as_they_end(there: MemorySubmitter) -> None:
    runs = double.map([1, 2, 3], deferred=True)
    there.end(str(runs[2].id), State.COMPLETED, value=pickling.dumps(6))

    assert [run.result() for run in nbtasks.as_completed(runs)] == [6, 2, 4]


def test_as_completed_gives_up_when_the_time_is_over() -> None:
    runs = double.map([1, 2, 3], deferred=True)

    with pytest.raises(TimeoutError, match="3 of 3 runs"):
        list(nbtasks.as_completed(runs, timeout=0.1))


@pytest.mark.feature("R3")
def test_results_are_ordered_and_the_first_failure_is_raised_at_once(there: MemorySubmitter) -> None:
    assert double.map([3, 1, 2], deferred=True).result() == [6, 2, 4]
    runs = double.map([1, -2, 3], deferred=True)
    there.end(str(runs[2].id), State.CRASHED)

    with pytest.raises(nbtasks.CrashedRun):
        runs.result()
    assert not runs[0].state.is_final


def test_results_may_hold_failures() -> None:
    found = double.map([1, -2], deferred=True).result(raise_on_failure=False)

    assert found[0] == 2
    assert isinstance(found[1], ValueError)


def test_results_give_up_when_the_time_is_over() -> None:
    with pytest.raises(TimeoutError, match="2 of 2 runs"):
        double.map([1, 2], deferred=True).result(timeout=0.1)


def test_a_slice_of_a_list_is_one() -> None:
    runs = double.map([1, 2, 3], deferred=True)

    assert isinstance(runs[1:], nbtasks.RunList)
    assert runs[1:].result() == [4, 6]


def test_runs_lists_the_newest_first() -> None:
    runs = double.map([1, 2, 3], deferred=True)

    assert nbtasks.runs(limit=2) == [runs[2], runs[1]]
    with pytest.raises(ValueError, match="limit"):
        nbtasks.runs(limit=0)


def test_a_state_that_is_none_is_refused() -> None:
    for wrong in (3, [3], True):
        with pytest.raises(TypeError, match="state is a state type or name, or a list of them"):
            nbtasks.runs(state=wrong)  # type: ignore[arg-type]
    for unknown in ("gone", ["FAILED", "gone"], []):
        with pytest.raises(ValueError, match="state"):
            nbtasks.runs(state=unknown)
