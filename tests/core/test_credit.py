"""Runs whose code waits for other runs: slots that are lent, and waits that could never end."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.core import messages as m
from nbtasks.core.credit import EXTRA_MIN
from nbtasks.core.presence import SURPLUS_S
from nbtasks.core.records import Send
from tests.core.given import HELLO_POOL, HELLO_WORKER, SPEC, Desk, at, desk, finished

pytestmark = pytest.mark.feature("D11")

ONE = m.HelloPool("1", "3.11", 6, 1.0, "here", True, None, 0, 1, False)


def waits(run: str, *runs: str, number: int = 1, attempt: int = 1) -> m.Waits:
    return m.Waits(number, run, attempt, number, runs)


def wanted(broker: Desk) -> list[int]:
    return [
        item.message.workers
        for item in broker.output.sends
        if isinstance(item, Send) and isinstance(item.message, m.Want)
    ]


def small() -> Desk:
    """One worker of a pool that may have one; `r` executes."""
    return Desk().with_client().with_pool(ONE).with_worker().with_started("r")


def begins_to_wait(broker: Desk, worker: str, word: m.Waits) -> list[Any]:
    """A worker says it, and hands back what is taken from it."""
    said = broker.hears(worker, word)
    taken = [message for peer, message, *_ in said if peer == worker and isinstance(message, m.Revoke)]
    broker.hears(worker, *(m.Returned(one.run, one.attempt) for one in taken))
    return said


def test_a_run_that_waits_lends_its_slot_to_one_more_worker() -> None:
    broker = small().with_run("s")

    said = broker.hears("w-1", waits("r", "s"))

    assert ("w-1", m.Done(1)) in said
    assert wanted(broker) == [2]
    broker.hears("w-1", m.Returned("s", 1))
    assert broker.with_worker("w-2").rows["s"].worker == "w-2"


def test_what_was_given_ahead_is_taken_back_and_nothing_is_given_again() -> None:
    broker = small().with_run("s")
    assert broker.rows["s"].worker == "w-1"

    said = begins_to_wait(broker, "w-1", waits("r", "s"))
    broker.with_run("t")

    assert ("w-1", m.Revoke("s", 1)) in said
    assert (broker.rows["s"].worker, broker.rows["t"].worker) == ("", "")


def test_what_is_waited_for_goes_first_and_the_newest_wish_before_older_ones() -> None:
    broker = small()
    for run in ("s", "t", "u"):
        broker.with_run(run)
    begins_to_wait(broker, "w-1", waits("r", "t"))
    assert broker.with_worker("w-2").rows["t"].worker == "w-2"
    broker.hears("w-2", m.Started("t", 1, 1000.0))
    begins_to_wait(broker, "w-2", waits("t", "u"))

    broker.broker.subscribed("w-3", at(0))
    said = broker.hears("w-3", HELLO_WORKER)

    assert next(words for words in said if words[1] == "push") == ("w-3", "push", "u", 1)


def test_the_end_of_an_earlier_run_changes_nothing_for_one_that_waits() -> None:
    broker = small().with_run("s").with_run("t")
    assert broker.rows["s"].worker == "w-1"
    broker.hears("w-1", m.Started("s", 1, 1000.0))

    begins_to_wait(broker, "w-1", waits("s", "t"))  # by a faster way than the end of the one before
    broker.hears("w-1", finished("r"))

    assert broker.with_worker("w-2").rows["t"].worker == "w-2"


def test_an_extra_worker_gets_nothing_once_the_wait_is_over_and_leaves_after_a_while() -> None:
    broker = small().with_run("s")
    begins_to_wait(broker, "w-1", waits("r", "s"))
    attempt = broker.with_worker("w-2").rows["s"].attempt
    broker.hears("w-2", m.Started("s", attempt, 1000.0), finished("s", attempt=attempt))
    broker.hears("w-1", waits("r", number=2))

    broker.with_run("t")
    assert broker.rows["t"].worker == "w-1"  # ahead
    said = broker.passes(SURPLUS_S + 1)

    assert ("w-2", m.Leave()) in said
    assert wanted(broker)[0] == 1


def test_a_late_word_of_a_former_attempt_lends_nothing() -> None:
    broker = small().with_run("s")

    broker.hears("w-1", waits("r", "s", attempt=7))

    assert wanted(broker) == []


def refused(said: list[Any]) -> m.NotDone:
    [answer] = [message for _, message, *_ in said if isinstance(message, m.NotDone)]
    return answer


def test_nobody_waits_for_itself_or_for_who_called_it() -> None:
    broker = small()
    child = m.Submit("b-s", SPEC, b"code", (m.NewRun("s", b"args"),), parent="r")
    broker.hears("c-1", child)
    broker.with_worker("w-2", hello=m.HelloWorker("1", "3.11", 8, 1.0, "here", "p-2", "/m", None))
    broker.hears("w-2", m.Started("s", 1, 1000.0))

    assert refused(broker.hears("w-1", waits("r", "r"))).code == "itself"
    answer = refused(broker.hears("w-2", waits("s", "r", number=2)))

    assert (answer.code, "run s waits for run r" in answer.reason) == ("itself", True)


def test_two_runs_that_wait_for_each_other_are_told() -> None:
    broker = desk().with_worker("w-2").with_started("r", "w-1").with_started("s", "w-2")
    broker.hears("w-1", waits("r", "s"))

    answer = refused(broker.hears("w-2", waits("s", "r")))

    assert (answer.code, answer.reason) == ("deadlock", "run s waits for run r, which waits for it")


def test_waits_are_refused_when_no_more_workers_may_come() -> None:
    broker = Desk().with_client().with_pool(HELLO_POOL)
    nobody_serves = m.Spec("other", "other", "2.7", "")
    for i in range(EXTRA_MIN + 1):
        broker.with_worker(f"w-{i}").with_started(f"r{i}", f"w-{i}")
        broker.hears("c-1", m.Submit(f"b{i}", nobody_serves, b"", (m.NewRun(f"s{i}", b""),)))
        said = broker.hears(f"w-{i}", waits(f"r{i}", f"s{i}"))

    answer = refused(said)

    assert answer.code == "deadlock"
    assert f"run r{EXTRA_MIN} waits for run s{EXTRA_MIN}" in answer.reason
