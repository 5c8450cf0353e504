"""Waiting for many runs: of several clients and of this process at once, from threads, in odd cases."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import nbtasks
from nbtasks import RunList, context, pickling, task
from nbtasks.core.states import State
from tests.unit.submitters import MemorySubmitter

HANG_S = 60.0
SIX = pickling.dumps(6)


@pytest.fixture(autouse=True)
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


@task
def double(x: Any) -> Any:
    return 2 * x


@task
def wait_for(event: threading.Event) -> bool:
    return event.wait(HANG_S)


def elsewhere(x: int) -> tuple[MemorySubmitter, Any]:
    """A run of another client."""
    other = MemorySubmitter()
    with context.use(other):
        return other, double.delay(x)


def later(call: Any, *args: Any) -> None:
    timer = threading.Timer(0.02, call, args)
    timer.start()


def test_runs_of_two_clients_and_of_this_process_are_waited_for_together(there: MemorySubmitter) -> None:
    event = threading.Event()
    other, far = elsewhere(1)
    here, local = double.delay(2), wait_for.submit(event)
    order = nbtasks.as_completed([here, far, local], HANG_S)

    later(other.end, str(far.id), State.COMPLETED, "", SIX)
    assert next(order) == far
    later(event.set)
    assert next(order) == local
    later(there.end, str(here.id), State.COMPLETED, "", SIX)
    assert next(order) == here
    assert next(order, None) is None
    assert RunList([here, far, local]).result(HANG_S) == [6, 6, True]


def test_a_mixed_wait_gives_up_when_the_time_is_over(there: MemorySubmitter) -> None:
    _, far = elsewhere(1)
    local, here = double.submit(1), double.delay(1)
    local.wait()

    for timeout in (0, -1, 0.01):
        assert nbtasks.wait([far, local, here], timeout) == ({local}, {far, here})
    with pytest.raises(TimeoutError, match=r"2 of 3 runs have not ended within 0\.01 s"):
        list(nbtasks.as_completed([far, local, here], 0.01))


def test_a_mixed_list_fails_at_its_first_failure(there: MemorySubmitter) -> None:
    other, far = elsewhere(1)
    runs = RunList([double.delay(1), far])
    later(other.end, str(far.id), State.CRASHED)

    with pytest.raises(nbtasks.CrashedRun):
        runs.result(HANG_S)


def test_a_mixed_list_is_cancelled_at_each_client(there: MemorySubmitter) -> None:
    event = threading.Event()
    _, far = elsewhere(1)
    with nbtasks.ThreadPoolTaskRunner(1):
        held, local, done = wait_for.submit(event), double.submit(1), double.delay(1)
        there.step()

        RunList([done, local, far]).cancel()

        event.set()
    assert [run.state.name for run in (done, local, far)] == ["Completed", "Cancelled", "Cancelled"]
    assert held.result()
    RunList([done, local, far]).cancel()
    assert done.state.name == "Completed"


def test_a_run_given_twice_is_waited_for_once(there: MemorySubmitter) -> None:
    run, local = double.delay(1), double.submit(2)
    there.step()

    assert nbtasks.wait([run, run, local, local]) == ({run, local}, set())
    assert sorted(one.result() for one in nbtasks.as_completed([run, local, run])) == [2, 4]
    assert RunList([run, local, run]).result() == [2, 4, 2]


def test_nothing_to_wait_for_is_over_at_once() -> None:
    assert nbtasks.wait([], None) == (set(), set())
    assert list(nbtasks.as_completed([], 0)) == []
    assert RunList().result() == []
    assert RunList().wait(0)
    RunList().cancel()


def test_what_ended_before_is_given_without_time(there: MemorySubmitter) -> None:
    runs = double.map([1, 2], deferred=True)
    there.step()
    there.step()

    assert nbtasks.wait(runs, 0) == (set(runs), set())
    assert list(nbtasks.as_completed(runs, -1)) == list(runs)
    assert runs.result(0) == [2, 4]


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(TypeError, match="not 'abc'"):
        nbtasks.wait(["abc"])  # type: ignore[list-item]


def test_many_threads_wait_for_the_same_runs(there: MemorySubmitter) -> None:
    events = [threading.Event() for _ in range(20)]
    _, far = elsewhere(1)  # so that everybody waits for what threads learn
    runs = wait_for.map(events)
    seen: list[int] = []

    def look() -> None:
        order = nbtasks.as_completed([*runs, far], HANG_S)
        seen.append(len({next(order) for _ in runs}))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for event in events:
        event.set()
    for thread in threads:
        thread.join(HANG_S)
    assert seen == [20] * 8


def test_ten_thousand_endings_cost_each_the_same(
    there: MemorySubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = double.map(range(10_000), deferred=True)
    with nbtasks.tags("other"):
        local = double.submit(1)
    looks = [0]
    plain = nbtasks.RunList.__iter__

    def counted(self: Any) -> Any:
        looks[0] += 1
        return plain(self)

    order = nbtasks.as_completed([*runs, local], HANG_S)
    assert next(order) == local
    monkeypatch.setattr(nbtasks.RunList, "__iter__", counted)
    for run in runs[::-1]:
        there.end(str(run.id), State.COMPLETED, "", SIX)
        assert next(order) is run
    assert looks[0] < 10
    assert runs.counts["COMPLETED"] == 10_000


def interrupted_in(function: Any) -> None:
    """Have this process interrupted once its main thread is within the function."""
    main = threading.main_thread().ident

    def interrupt() -> None:
        frame = None
        while frame is None:
            frame = sys._current_frames()[main]
            while frame is not None and frame.f_code is not function.__code__:
                frame = frame.f_back
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Who starts the tests in the background may have SIGINT ignored in all that he starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_during_a_wait_leaves_everything_usable(there: MemorySubmitter) -> None:
    event = threading.Event()
    _, far = elsewhere(1)
    run = wait_for.submit(event)

    for runs in ([run], [run, far]):
        interrupted_in(nbtasks.wait)
        with pytest.raises(KeyboardInterrupt):
            nbtasks.wait(runs)
    event.set()
    assert nbtasks.wait([run]) == ({run}, set())


def test_counts_name_all_eight_types(there: MemorySubmitter) -> None:
    runs = RunList([*double.map([1, -1, 2], deferred=True), double.submit(3)])
    runs[3].wait()
    there.end(str(runs[1].id), State.TIMED_OUT)

    counts = runs.counts

    assert {kind: number for kind, number in counts.items() if number} == {
        "PENDING": 2,
        "FAILED": 1,
        "COMPLETED": 1,
    }
    assert len(counts) == 8


def test_states_of_many_runs_are_asked_for_together(there: MemorySubmitter) -> None:
    runs = double.map(range(50), deferred=True)
    there.info = None  # type: ignore[assignment, method-assign]

    there.infos = lambda wanted: [  # type: ignore[method-assign]
        MemorySubmitter.info(there, str(run.id)) for run in runs
    ]
    assert runs.counts["PENDING"] == 50


def test_a_list_can_be_awaited(there: MemorySubmitter) -> None:
    other, far = elsewhere(1)

    async def main() -> Any:
        runs = RunList([double.delay(1), double.submit(2), far])
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, there.step)
        loop.call_later(0.02, other.step)
        return await runs, await runs, await RunList()

    assert asyncio.run(main()) == ([2, 4, 2], [2, 4, 2], [])


def test_an_awaited_list_fails_fast_and_can_be_cancelled(there: MemorySubmitter) -> None:
    async def main() -> None:
        runs = double.map([1, 2, 3], deferred=True)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(runs), 0.01)
        asyncio.get_running_loop().call_later(0.01, there.end, str(runs[2].id), State.CRASHED)
        with pytest.raises(nbtasks.CrashedRun):
            await runs
        with pytest.raises(nbtasks.CrashedRun):
            await runs

    asyncio.run(main())


async def _awaited(runs: RunList) -> Any:
    return await runs
