"""Interrupts at a desk: what the last moment, a time-out and a client that hangs make of them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nbtasks
from nbtasks import context, task
from nbtasks.core.states import State
from nbtasks.errors import CancelledRun, Detached
from nbtasks.run import detaching
from tests.unit.submitters import MemorySubmitter

HANG_S = 60.0


class Slow(MemorySubmitter):
    """Ends nothing by itself, and is interrupted while it listens.

    Attributes
    ----------
    presses
        How many interrupts come while it listens for the first time, for the second time, and so on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.presses: list[int] = []
        self.cancelled: list[str] = []
        self.woken = threading.Event()

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        self._press()
        while not is_done():
            if not self.woken.wait(HANG_S if timeout_s is None else timeout_s):
                return is_done()
            self.woken.clear()
        return True

    def keep(self, fate: context.Fate) -> None:
        self._press()

    def _press(self) -> None:
        for _ in range(self.presses.pop(0) if self.presses else 0):
            signal.raise_signal(signal.SIGINT)

    def wake(self) -> None:
        self.woken.set()

    def cancel(self, runs: Any) -> None:
        self.cancelled += runs
        for run in runs:
            self.end(run, State.CANCELLED)
        self.wake()


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(detaching, "_countdown", detaching.Countdown("", 0.0))
    monkeypatch.setattr(detaching, "DETACH_S", 0.05)
    slow = Slow()
    take_back = detaching.install(detaching.Desk("■", lambda: "cell"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with context.use(slow):
            yield slow
    finally:
        signal.signal(signal.SIGINT, before)
        take_back()


@task
def double(x: int) -> int:
    return 2 * x


def test_whoever_is_interrupted_detaches_and_the_handler_is_put_back(there: Slow) -> None:
    run = double.delay(1)

    there.presses = [1]
    with pytest.raises(Detached, match="goes on"):
        run.result()

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_detached_is_a_keyboard_interrupt_of_one_line() -> None:
    assert issubclass(Detached, KeyboardInterrupt)
    assert issubclass(Detached, nbtasks.NbtasksError)
    assert Detached("it goes on")._render_traceback_() == ["Detached: it goes on"]


def test_a_time_out_during_the_countdown_is_a_time_out(there: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detaching, "DETACH_S", HANG_S)
    run = double.delay(1)

    there.presses = [1]
    with pytest.raises(TimeoutError):
        run.result(timeout=0.1)


def test_a_second_interrupt_cancels_those_that_have_not_ended(
    there: Slow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detaching, "DETACH_S", HANG_S)
    runs = nbtasks.RunList(double.delay(i) for i in range(3))
    there.end(str(runs[0].id), State.COMPLETED)

    there.presses = [1, 1]
    with pytest.raises(CancelledRun, match="2 runs were cancelled"):
        runs.wait()

    assert there.cancelled == [str(run.id) for run in runs[1:]]
    assert capsys.readouterr().out == f"Detaching in {HANG_S:g} s; ■ again cancels the 2 runs\n"


def test_runs_of_two_clients_are_cancelled_at_each(there: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detaching, "DETACH_S", HANG_S)
    other, here = Slow(), double.delay(1)
    with context.use(other):
        far = double.delay(2)

    def announced(*words: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    there.presses = [1]
    monkeypatch.setattr(detaching, "print", announced, raising=False)
    with pytest.raises(CancelledRun, match="2 runs were cancelled"):
        nbtasks.wait([here, far])

    assert (there.cancelled, other.cancelled) == ([str(here.id)], [str(far.id)])


def test_a_countdown_that_was_over_between_two_waits_leaves_the_next_one(
    there: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detaching, "_countdown", detaching.Countdown("cell", time.monotonic() - 1.0))
    run = double.delay(1)

    with pytest.raises(Detached, match="goes on"):
        run.result()

    assert detaching._countdown.cell == ""  # whoever catches it may wait


def test_an_interrupt_that_comes_with_the_end_is_not_swallowed(there: Slow) -> None:
    run = double.delay(1)
    there.wake = lambda: there.end(str(run.id), State.COMPLETED) or there.woken.set()  # type: ignore[method-assign]

    there.presses = [1]
    with pytest.raises(KeyboardInterrupt) as caught:
        run.wait()

    assert not isinstance(caught.value, Detached)


def test_a_client_that_hangs_is_left_by_the_third_interrupt(there: Slow) -> None:
    run = double.delay(1)
    there.wake = lambda: None  # type: ignore[method-assign]

    there.presses = [3]
    with pytest.raises(KeyboardInterrupt) as caught:
        run.wait()

    assert not isinstance(caught.value, Detached)


def test_in_a_thread_nothing_is_changed(there: Slow) -> None:
    run = double.delay(1)
    found: list[Any] = []
    waits = threading.Thread(target=lambda: found.append((run.wait(), signal.getsignal(signal.SIGINT))))

    waits.start()
    there.end(str(run.id), State.COMPLETED)
    there.wake()
    waits.join(HANG_S)

    assert [handler for _, handler in found] == [signal.default_int_handler]
