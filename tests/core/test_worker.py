"""The worker's part in what the simulator showed; its everyday steps are tested beside its edge."""

from __future__ import annotations

from nbtasks.core import messages as m
from nbtasks.core.worker import BEAT_S, Worker
from tests.core.given import HELLO_WORKER, SPEC, at

PUSH = m.Push("r", 1, 1, SPEC, b"code", b"args")


def executing() -> Worker:
    worker = Worker(HELLO_WORKER)
    worker.tick(at(0))
    worker.handle(m.Welcome("boot", 1), at(0))
    worker.tick(at(0))
    worker.handle(PUSH, at(0))
    worker.take()
    worker.started(at(0))
    return worker


def test_a_start_is_said_again_with_every_beat_for_a_deadline_counts_from_it() -> None:
    worker = executing()
    worker.tick(at(1))

    assert worker.tick(at(BEAT_S)).sends == [m.Started("r", 1, 1000.0), m.Beat()]
    assert worker.tick(at(2 * BEAT_S)).sends == [m.Started("r", 1, 1000.0), m.Beat()]


def test_a_copy_of_a_push_that_comes_after_everything_is_handed_back() -> None:
    worker = executing()
    worker.ended("completed", "", b"value", 1000.0, at(1))
    worker.handle(m.Kept("r", 1), at(1))

    assert worker.handle(PUSH, at(2)).sends == [m.Returned("r", 1)]
    assert worker.take() is None


def test_what_executes_is_never_handed_back() -> None:
    worker = executing()

    assert worker.handle(m.Revoke("r", 1), at(1)).sends == []
    assert worker.handle(m.Leave(), at(1)).sends == []
    assert worker.current == PUSH


def test_a_newer_attempt_replaces_an_older_one_that_waits() -> None:
    worker = executing()
    worker.handle(m.Push("s", 1, 1, SPEC, b"", b""), at(1))
    worker.handle(m.Push("s", 3, 1, SPEC, b"", b""), at(1))
    worker.ended("completed", "", b"value", 1000.0, at(1))

    taken = worker.take()

    assert taken
    assert (taken.run, taken.attempt) == ("s", 3)
