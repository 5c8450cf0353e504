"""Waiting for a run that no worker can execute: what is said, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

import nbtasks
from nbtasks import context, pickling, task
from nbtasks.core import messages
from nbtasks.core.states import State
from nbtasks.core.vocabulary import TO_START
from nbtasks.run import unserved
from tests.unit.submitters import MemorySubmitter

WHY = "waiting for a worker that serves m:double"
LOOK_S = 0.02


class Unserved(MemorySubmitter):
    """Nobody executes anything.

    Attributes
    ----------
    why
        What is said of a run that waits; an exception: asking fails so.
    asked
        How often that was asked.
    lasting_s
        After which whatever is waited for has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.why: str | Exception = WHY
        self.asked = 0
        self.lasting_s = 3 * LOOK_S
        self.waited_s = 0.0

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        if is_done():
            return True
        left_s = max(0.0, self.lasting_s - self.waited_s)
        self.waited_s += min(left_s, left_s if timeout_s is None else timeout_s)
        if timeout_s is not None and timeout_s < left_s:
            return False
        for run in self.recorded:
            self.end(run, State.COMPLETED, "", self.pack(pickling.dump_result(2), run))
        return True

    def ask(self, make: Callable[[int], Any], kind: type, wait_s: float | None = None) -> Any:
        self.asked += 1
        if isinstance(self.why, Exception):
            raise self.why
        question = make(1)
        assert isinstance(question, messages.GetRun)
        assert wait_s is not None, "whoever waits must not hang here"
        return messages.RunFound(1, replace(self.info(question.run), message=self.why))


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unserved]:
    monkeypatch.setattr(unserved, "LOOK_S", LOOK_S)
    submitter = Unserved()
    with context.use(submitter):
        yield submitter


@task
def double(x: int) -> int:
    return 2 * x


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "nbtasks.runs"]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    # `nbtasks` may have a handler of its own by now, and not propagate
    monkeypatch.setattr(unserved.log, "handlers", [caplog.handler])
    monkeypatch.setattr(unserved.log, "propagate", False)
    return caplog


def test_a_wait_that_lasts_says_why_nobody_can_execute_the_run(heard: pytest.LogCaptureFixture) -> None:
    run = double.delay(1)

    assert run.result() == 2

    [text] = said(heard)
    assert text.startswith(f"run 'double' ({run.id}) has not started: {WHY}.")
    assert "nbtasks worker" in text
    assert [one.levelname for one in heard.records if one.name == "nbtasks.runs"] == ["WARNING"]


def test_a_result_that_comes_earlier_costs_no_question(
    there: Unserved, heard: pytest.LogCaptureFixture
) -> None:
    there.lasting_s = LOOK_S / 2

    assert double.delay(1).result() == 2

    assert (there.asked, said(heard)) == (0, [])


@pytest.mark.parametrize("why", ["", TO_START, TimeoutError(), nbtasks.BrokerUnavailable("gone")])
def test_nothing_is_said_if_a_worker_will_come_or_nobody_answers(
    there: Unserved, heard: pytest.LogCaptureFixture, why: str | Exception
) -> None:
    there.why = why

    assert double.delay(1).result() == 2

    assert (there.asked, said(heard)) == (1, [])


def test_a_run_is_spoken_of_once_however_often_it_is_waited_for(
    there: Unserved, heard: pytest.LogCaptureFixture
) -> None:
    run = double.delay(1)
    there.lasting_s = 100.0

    assert [run.wait(timeout=2 * LOOK_S).is_final for _ in range(3)] == [False] * 3

    assert len(said(heard)) == 1


def test_of_many_runs_one_is_named(heard: pytest.LogCaptureFixture) -> None:
    runs = double.map([1, 2, 3], deferred=True)

    assert runs.result() == [2, 2, 2]

    [text] = said(heard)
    assert str(runs[0].id) in text


def test_an_await_asks_nothing(there: Unserved, heard: pytest.LogCaptureFixture) -> None:
    async def waits(run: nbtasks.Run[int]) -> int:
        asyncio.get_running_loop().call_later(2 * LOOK_S, lambda: there.wait(lambda: False, None))
        return await run

    assert asyncio.run(waits(double.delay(1))) == 2

    assert (there.asked, said(heard)) == (0, [])
