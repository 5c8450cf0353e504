"""The worker's decisions, step by step."""

from __future__ import annotations

from nbtasks.core import worker as module
from nbtasks.core.messages import (
    Acked,
    Beat,
    Finished,
    Held,
    HelloWorker,
    Interrupt,
    Kept,
    Leave,
    Left,
    Message,
    OutputKept,
    Printed,
    Push,
    Returned,
    Revoke,
    Spec,
    Started,
    Stranger,
    Welcome,
)
from nbtasks.core.records import Break, Exit, MarkEnded, Now
from nbtasks.core.worker import Worker

SPEC = Spec("m:f", "f", "3.11", "digest")
HELLO = HelloWorker("1", "3.11", 7, 1.0, "here", "p-1", "/marker", None)


def at(s: float) -> Now:
    return Now(s, 1000.0 + s)


def push(run: str, attempt: int = 1) -> Push:
    return Push(run, attempt, 1, SPEC, b"code", b"args")


def welcomed() -> Worker:
    worker = Worker(HELLO)
    worker.tick(at(0))
    worker.handle(Welcome("boot", 1), at(0))
    worker.tick(at(0))  # the first Beat
    return worker


def said(worker: Worker, s: float) -> list[Message]:
    return [message for message in worker.tick(at(s)).sends if not isinstance(message, Beat)]


def test_hello_is_said_until_welcome() -> None:
    worker = Worker(HELLO)

    assert worker.tick(at(0)).sends == [HELLO]
    assert worker.tick(at(0.1)).sends == []
    assert worker.tick(at(module.HELLO_S)).sends == [HELLO]
    worker.handle(Welcome("boot", 1), at(0.3))
    assert said(worker, 1) == []


def test_a_short_run_is_told_in_one_batch() -> None:
    worker = welcomed()

    worker.handle(push("r"), at(1))
    assert worker.take() == push("r")
    worker.started(at(1))
    effects = worker.ended("completed", "", b"value", 1001.0, at(1.001))

    finished = Finished("r", 1, "completed", "", b"value", 0, 1001.0, 1001.001)
    assert effects.sends == [finished]  # which tells that it was pushed and started, too
    assert effects.acts == [MarkEnded((finished,))]


def test_a_long_run_is_acked_soon() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))

    assert said(worker, 1 + module.ACK_S) == [Acked("r", 1)]


def test_a_repeated_push_is_acked_and_not_executed_again() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))
    worker.handle(push("r"), at(1))
    assert worker.take() == push("r")
    worker.handle(push("r"), at(2))
    worker.ended("completed", "", b"", 1001.0, at(2))
    worker.handle(push("r"), at(3))
    worker.handle(Kept("r", 1), at(3))

    late = worker.handle(push("r"), at(4))

    assert worker.take() is None
    assert late.sends == [Returned("r", 1)]


def test_finished_is_repeated_with_its_output_until_it_is_kept() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))
    worker.take()
    worker.printed(b"[1]")
    worker.printed(b"[2]")
    worker.ended("completed", "", b"", 1001.0, at(1))
    worker.handle(OutputKept("r", 1, 1), at(1))
    finished = Finished("r", 1, "completed", "", b"", 2, 1001.0, 1001.0)

    assert said(worker, 1.4) == []
    assert said(worker, 1.5) == [Printed("r", 1, 2, b"[2]"), finished]
    worker.handle(Kept("r", 1), at(2))
    assert said(worker, 60) == []


def test_a_new_broker_is_told_what_is_held() -> None:
    worker = welcomed()
    worker.handle(push("a"), at(1))
    worker.take()
    worker.ended("completed", "", b"", 1001.0, at(1))
    worker.handle(push("b"), at(1))
    worker.handle(push("c"), at(1))
    worker.take()
    worker.started(at(1))

    worker.handle(Stranger("second"), at(2))
    (hello,) = worker.tick(at(2)).sends
    effects = worker.handle(Welcome("second", 2), at(2))

    assert isinstance(hello, HelloWorker)
    assert set(hello.held) == {
        Held("c", 1),
        Held("b", 1, started=True),
        Held("a", 1, started=True, ended=True),
    }
    finished = Finished("a", 1, "completed", "", b"", 0, 1001.0, 1001.0)
    assert effects.sends == [Started("b", 1, 1001.0), finished]


def test_the_running_attempt_is_interrupted_once() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))
    worker.take()

    first = worker.handle(Interrupt("r", 1, "timeout"), at(2))
    second = worker.handle(Interrupt("r", 1, "timeout"), at(3))

    assert first.acts == [Break("r", 1, "timeout")]
    assert second.acts == []
    assert worker.broken == "timeout"


def test_an_interrupt_of_what_waits_hands_it_back() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))

    assert worker.handle(Interrupt("r", 1, "cancel"), at(2)).sends == [Returned("r", 1)]
    assert worker.take() is None


def test_only_what_waits_can_be_revoked() -> None:
    worker = welcomed()
    worker.handle(push("a"), at(1))
    worker.handle(push("b"), at(1))
    worker.take()

    assert worker.handle(Revoke("a", 1), at(2)).sends == []
    assert worker.handle(Revoke("b", 1), at(2)).sends == [Returned("b", 1)]


def test_leaving_means_to_hand_back_to_finish_and_to_go() -> None:
    worker = welcomed()
    worker.handle(push("a"), at(1))
    worker.handle(push("b"), at(1))
    worker.take()

    assert worker.handle(Leave(), at(2)).sends == [Returned("b", 1)]
    assert Exit(0) not in worker.ended("completed", "", b"", 1001.0, at(3)).acts
    assert not worker.is_empty_handed
    effects = worker.handle(Kept("a", 1), at(3))

    assert worker.is_empty_handed
    assert effects.sends == [Left()]
    assert effects.acts == [Exit(0)]


def test_results_of_runs_that_follow_each_other_at_once_are_told_together() -> None:
    worker = welcomed()
    for run in "rst":
        worker.handle(push(run), at(1))
    told = []

    for run in "rst":
        assert worker.take() == push(run)
        worker.started(at(1))
        told.append(worker.ended("completed", "", b"", 1001.0, at(1.0001)).sends)

    assert [len(messages) for messages in told] == [0, 0, 3]


def test_a_result_does_not_wait_for_a_run_that_lasts() -> None:
    worker = welcomed()
    worker.handle(push("r"), at(1))
    worker.handle(push("s"), at(1))
    worker.take()
    worker.started(at(1))
    worker.ended("completed", "", b"value", 1001.0, at(1))
    worker.take()

    told = said(worker, 1 + module.FINISHED_HOLD_S)

    assert Finished("r", 1, "completed", "", b"value", 0, 1001.0, 1001.0) in told


def test_no_run_begins_that_would_push_an_unrecorded_one_out_of_the_marker() -> None:
    worker = welcomed()
    first = "r0"
    for number in range(module.MARKED_MAX + 1):
        run = f"r{number}"
        worker.handle(push(run), at(1))
        if number < module.MARKED_MAX:
            worker.take()
            worker.ended("completed", "", b"", 1001.0, at(1))
            if run != first:
                worker.handle(Kept(run, 1), at(1))

    assert worker.take() is None
    assert not worker.has_work
    worker.handle(Kept(first, 1), at(1))
    assert worker.take() == push(f"r{module.MARKED_MAX}")


def test_that_code_began_is_said_at_once_unless_it_will_be_over_soon() -> None:
    worker = welcomed()
    for run, begins, ends in (("a", 1.0, 1.001), ("b", 2.0, 2.5), ("c", 3.0, 3.1)):
        worker.handle(push(run), at(begins))
        worker.take()
        at_once = worker.started(at(begins)).sends
        # of the first run of a task nobody knows, of the second that the first was short
        assert at_once == ([] if run == "b" else [Started(run, 1, 1000.0 + begins)])
        worker.ended("completed", "", b"", 1000.0 + begins, at(ends))
