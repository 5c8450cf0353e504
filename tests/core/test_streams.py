"""Questions about what a run yields: answered at once or kept, never lost, and told to the worker."""

from __future__ import annotations

import pytest

from nbtasks.core import messages as m
from nbtasks.core.ledger import Ledger
from nbtasks.core.records import Look, Now, RunRecord, Send
from nbtasks.core.states import State
from nbtasks.core.streams import QUESTIONS_MAX, Streams

pytestmark = pytest.mark.feature("T18")

SPEC = m.Spec("k", "k", "3.11", "c")


def running(ledger: Ledger) -> RunRecord:
    record = RunRecord(1, "r", "b", SPEC, "s", "", 0.0, State.RUNNING, worker="w-1", started=True, attempt=1)
    ledger.runs["r"] = record
    return record


def ask(streams: Streams, ledger: Ledger, attempt: int, after: int, request: int = 1) -> list[object]:
    streams.ask("c-1", m.GetYielded(request, "r", attempt, after), Now(0.0, 0.0))
    return list(ledger.take().sends)


def test_what_may_be_there_is_looked_for_and_what_is_not_is_waited_for() -> None:
    ledger = Ledger()
    streams, record = Streams(ledger), running(ledger)

    assert Look("c-1", m.GetYielded(1, "r", 0, 0)) in ask(streams, ledger, 0, 0)
    assert Look("c-1", m.GetYielded(1, "r", 1, 2)) in ask(streams, ledger, 1, 2)
    # nothing was behind it
    assert ask(streams, ledger, 1, 2) == [Send("w-1", m.Consumed("r", 1, 2))]

    streams.printed(record, 3)
    assert Look("c-1", m.GetYielded(1, "r", 1, 2)) in ledger.take().sends


def test_the_end_of_a_run_answers_whoever_waits() -> None:
    ledger = Ledger()
    streams = Streams(ledger)
    running(ledger)
    for _ in range(2):
        ask(streams, ledger, 1, 2)

    del ledger.runs["r"]
    streams.ended("r")

    assert ledger.take().sends == [Look("c-1", m.GetYielded(1, "r", 1, 2))]
    assert ask(streams, ledger, 1, 2) == [Look("c-1", m.GetYielded(1, "r", 1, 2))]


def test_a_worker_hears_of_readers_that_asked_before_it_began() -> None:
    ledger = Ledger()
    streams, record = Streams(ledger), running(ledger)
    record.started = False
    for _ in range(2):
        ask(streams, ledger, 0, 0)

    record.started = True
    streams.printed(record, 1)

    assert Send("w-1", m.Consumed("r", 1, 0)) in ledger.take().sends


def test_of_questions_that_were_given_up_few_are_kept() -> None:
    ledger = Ledger()
    streams = Streams(ledger)
    record = running(ledger)
    ask(streams, ledger, 1, 2)

    for request in range(2, 100):
        ask(streams, ledger, 1, 2, request)
    streams.printed(record, 3)

    looks = [item for item in ledger.take().sends if isinstance(item, Look)]
    assert [look.query.request for look in looks] == list(range(100 - QUESTIONS_MAX, 100))
