"""What the broker does with submits, workers and their words."""

from __future__ import annotations

from copy import copy

import msgspec
import pytest

from nbtasks.core import attempts, dispatching, intake, staff
from nbtasks.core import messages as m
from nbtasks.core.broker import Broker, Limits
from nbtasks.core.records import Send, Signal, WorkerRecord
from nbtasks.core.states import State
from tests.core.given import HELLO_WORKER, ROOM, SPEC, Desk, at, desk, finished, kept, promised, submit

# -- submits ------------------------------------------------------------------------------------------


def test_a_batch_is_recorded_and_then_accepted() -> None:
    broker = Desk().with_client()

    said = broker.hears("c-1", submit("r", "s"))

    assert [new.record.run for new in broker.output.new] == ["r", "s"]
    assert [record.seq for record in broker.rows.values()] == [1, 2]
    assert said == [("c-1", m.Accepted("b", ROOM - 2))]


def test_a_repeated_submit_is_accepted_again_and_nothing_is_written() -> None:
    broker = Desk().with_client()
    broker.hears("c-1", submit("r"))

    said = broker.hears("c-1", submit("r"))

    assert not broker.output.writes
    assert said == [("c-1", m.Accepted("b", ROOM - 1))]


def test_a_repeated_submit_of_a_run_that_is_over_tells_its_end() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))

    said = broker.hears("c-1", submit("r", batch="b-r"))

    assert not broker.output.writes
    assert said == [("c-1", m.Accepted("b-r", ROOM)), ("c-1", "end", "r", 2)]


def test_a_run_that_ends_in_the_pass_that_records_it_is_recorded_once() -> None:
    broker = Desk().with_client()

    broker.hears("c-1", submit("r"), m.Cancel(1, ("r",)), submit("r"))

    assert len(broker.output.new) == 1
    assert broker.state("r") is State.CANCELLED


def test_a_batch_that_does_not_fit_is_refused_whole() -> None:
    broker = Desk(Limits(queue_limit=2)).with_client()

    said = broker.hears("c-1", submit("r", "s", "t"))

    assert not broker.output.writes
    assert [(type(message), message.code) for _, message in said] == [(m.Refused, "queue_full")]


def test_a_refused_batch_stays_refused_though_there_is_room_when_its_copy_arrives() -> None:
    broker = Desk(Limits(queue_limit=1)).with_client().with_run("r")
    refused = broker.hears("c-1", submit("s"))
    broker.hears("c-1", m.Cancel(1, ("r",)))

    assert broker.hears("c-1", submit("s")) == refused


def test_a_promised_submit_is_accepted_late_and_together_with_others() -> None:
    broker = Desk().with_client()

    assert broker.hears("c-1", promised("r"), promised("s")) == []
    assert set(broker.rows) == {"r", "s"}
    assert broker.passes(intake.ACCEPT_S) == [
        ("c-1", m.Accepted("b-r", ROOM - 2)),
        ("c-1", m.Accepted("b-s", ROOM - 2)),
    ]


def test_a_promised_submit_whose_end_was_told_is_not_accepted() -> None:
    broker = desk()
    broker.hears("c-1", promised("r"))

    assert ("c-1", "end", "r", 1) in broker.hears("w-1", finished("r"))
    assert "Accepted" not in str(broker.passes(1.0))


def test_many_promised_submits_do_not_wait_to_be_accepted() -> None:
    broker = Desk().with_client()

    said = broker.hears("c-1", *(promised(f"r{i}") for i in range(intake.ACCEPTS_MAX + 1)))

    assert len(said) == intake.ACCEPTS_MAX


def test_a_promised_submit_that_is_said_again_is_accepted_at_once() -> None:
    broker = Desk().with_client()
    broker.hears("c-1", promised("r"))

    assert broker.hears("c-1", promised("r")) == [("c-1", m.Accepted("b-r", ROOM - 1))]


def test_a_promised_submit_is_recorded_beyond_the_limit_for_its_call_has_returned() -> None:
    broker = Desk(Limits(queue_limit=1)).with_client().with_run("r")

    broker.hears("c-1", promised("s"))

    assert "s" in broker.rows


def test_a_submit_from_an_outbox_is_recorded_once_and_nobody_is_told() -> None:
    broker = Desk().with_client()

    broker.broker.adopt(promised("r"), at(0))
    broker.broker.adopt(promised("r"), at(0))
    assert broker.passes(0) == []
    broker.broker.adopt(promised("r"), at(1))

    assert broker.passes(1) == []
    assert list(broker.rows) == ["r"]


def test_a_client_whose_submit_came_from_its_outbox_is_told_how_the_run_ends() -> None:
    broker = desk()
    broker.broker.adopt(promised("r"), at(0))
    broker.passes(0)
    broker.hears("c-1", promised("r"))

    assert ("c-1", "end", "r", 1) in broker.hears("w-1", finished("r"))


def test_who_said_no_hello_is_a_stranger() -> None:
    broker = Desk()

    assert broker.hears("c-1", m.Beat()) == [("c-1", m.Stranger("boot"))]


def test_who_thinks_to_talk_to_a_former_broker_is_a_stranger() -> None:
    broker = Desk().with_client()

    assert broker.hears("c-1", m.Beat("boot")) == []
    assert broker.hears("c-1", m.Beat("former")) == [("c-1", m.Stranger("boot"))]


# -- giving -------------------------------------------------------------------------------------------


def test_a_run_is_written_as_the_workers_and_then_pushed() -> None:
    broker = desk()

    said = broker.hears("c-1", submit("r"))

    assert (broker.rows["r"].worker, broker.rows["r"].attempt) == ("w-1", 1)
    assert said == [("c-1", m.Accepted("b", ROOM - 1)), ("w-1", "push", "r", 1)]
    assert broker.state("r") is State.PENDING


def test_a_worker_whose_subscription_was_not_seen_gets_nothing() -> None:
    broker = Desk().with_client().with_pool()
    broker.hears("w-1", HELLO_WORKER)

    broker.with_run("r")

    assert broker.rows["r"].worker == ""


def test_runs_are_given_in_the_order_of_their_arrival() -> None:
    broker = Desk().with_client().with_pool().with_run("r").with_run("s").with_run("t")

    broker.with_worker("w-1").with_worker("w-2")

    assert [broker.rows[run].worker for run in "rst"] == ["w-1", "w-1", "w-2"]


def test_of_a_task_that_nobody_knows_a_worker_gets_one_run_ahead_and_no_more() -> None:
    broker = desk()

    broker.hears("c-1", submit("r", "s", "t"))

    assert [broker.rows[run].worker for run in "rst"] == ["w-1", "w-1", ""]


def test_of_a_short_task_a_worker_gets_as_many_ahead_as_keep_it_busy_for_a_while() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r", end=1000.0 + staff.AHEAD_S / 4))
    many = [f"s{i}" for i in range(10)]

    broker.hears("c-1", submit(*many))

    assert [run for run in many if broker.rows[run].worker] == ["s0", "s1", "s2", "s3"]


def test_of_the_shortest_task_a_worker_gets_no_more_than_its_marker_can_name() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))
    many = [f"s{i}" for i in range(100)]

    broker.hears("c-1", submit(*many))

    assert sum(bool(broker.rows[run].worker) for run in many) == 1 + staff.AHEAD_MAX


def test_what_is_given_ahead_is_spread_evenly() -> None:
    broker = desk().with_worker("w-2").with_run("r")
    broker.hears("w-1", finished("r"))
    many = [f"s{i}" for i in range(20)]

    broker.hears("c-1", submit(*many))

    assert [broker.rows[run].worker for run in many].count("w-1") == 10


def test_an_idle_worker_takes_over_half_of_what_waits_behind_a_long_run() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))
    broker.hears("c-1", submit("s", "t", "u", "v", "w"))
    broker.with_worker("w-2")

    said = broker.passes(dispatching.REVOKE_AFTER_S)

    assert said == [("w-1", m.Revoke("v", 1)), ("w-1", m.Revoke("w", 1))]


def test_a_worker_with_a_long_run_gets_none_ahead() -> None:
    broker = desk().with_started("r")
    broker.passes(1.0)

    broker.with_run("s", s=1.0)

    assert broker.rows["s"].worker == ""


def test_an_idle_worker_takes_over_what_waits_behind_a_busy_one() -> None:
    broker = desk()
    broker.hears("c-1", submit("r", "s"))
    broker.with_worker("w-2")

    assert broker.passes(dispatching.REVOKE_AFTER_S) == [("w-1", m.Revoke("s", 1))]
    assert broker.hears("w-1", m.Returned("s", 1), s=0.03) == [("w-2", "push", "s", 2)]


@pytest.mark.feature("T16")
def test_what_is_more_urgent_goes_before_what_waits_behind_a_run() -> None:
    broker = desk()
    broker.hears("c-1", submit("r", "low"))
    broker.hears("w-1", m.Started("r", 1, 1000.0))

    broker.hears("c-1", submit("high", batch="b-high", priority=1))
    said = broker.passes(dispatching.REVOKE_AFTER_S)

    assert said == [("w-1", m.Revoke("low", 1))]
    broker.hears("w-1", m.Returned("low", 1), s=1.0)
    said = broker.hears("w-1", finished("r"), s=2.0)
    assert [word for word in said if word[1] == "push"] == [
        ("w-1", "push", "high", 1), ("w-1", "push", "low", 2),
    ]  # fmt: skip


@pytest.mark.feature("T16")
def test_what_is_not_more_urgent_takes_nothing_back() -> None:
    broker = desk()
    broker.hears("c-1", submit("r", "first"))

    broker.hears("c-1", submit("second", "third", batch="b-2"))

    assert not any(isinstance(word[1], m.Revoke) for word in broker.passes(1.0))


def test_a_lost_push_is_repeated_until_it_is_acked() -> None:
    broker = desk().with_run("r")

    assert broker.passes(dispatching.PUSH_S) == [("w-1", "push", "r", 1)]
    assert broker.passes(2 * dispatching.PUSH_S) == []
    assert broker.passes(3 * dispatching.PUSH_S) == [("w-1", "push", "r", 1)]
    broker.hears("w-1", m.Acked("r", 1), s=0.3)
    assert broker.passes(10.0) == []


def test_a_worker_says_what_it_holds_and_is_pushed_what_it_does_not() -> None:
    broker = desk().with_run("r").with_run("s")

    hello = m.HelloWorker("1", "3.11", 7, 1.0, "here", "p-1", "/m", None, (m.Held("r", 1),))
    said = broker.hears("w-1", hello)

    assert said == [("w-1", "push", "s", 1), ("w-1", m.Welcome("boot", 1))]


def test_a_worker_that_holds_what_is_not_its_own_is_interrupted() -> None:
    broker = Desk().with_pool()

    said = broker.hears(
        "w-1", m.HelloWorker("1", "3.11", 7, 1.0, "here", "p-1", "/m", None, (m.Held("r", 1, started=True),))
    )

    assert said == [("w-1", m.Interrupt("r", 1, "stale"))]


# -- endings ------------------------------------------------------------------------------------------


def test_a_run_goes_from_started_to_completed() -> None:
    broker = desk().with_started("r")
    assert broker.state("r") is State.RUNNING

    said = broker.hears("w-1", finished("r"))

    assert broker.state("r") is State.COMPLETED
    assert broker.values == {1: b"value"}
    assert said == [("c-1", "end", "r", 1)]


def test_that_a_result_is_recorded_is_told_with_the_next_push_or_soon() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))
    assert kept(broker.output) == []

    broker.with_run("s")
    assert kept(broker.output) == [("w-1", "r")]

    broker.hears("w-1", finished("s"))
    assert kept(broker.output) == []
    broker.passes(attempts.KEPT_S)
    assert kept(broker.output) == [("w-1", "s")]


def test_no_worker_is_woken_for_what_is_recorded_while_runs_follow_each_other() -> None:
    broker = desk()
    told_alone = []
    for i in range(50):
        s = i * attempts.KEPT_S / 5
        broker.with_run(f"r{i}", s)
        broker.hears("w-1", finished(f"r{i}"), s=s)
        told_alone += kept(broker.output)
        broker.passes(s + attempts.KEPT_S / 10)
        told_alone += kept(broker.output)

    assert told_alone == []


def test_a_worker_that_is_to_leave_is_told_at_once_what_is_recorded() -> None:
    broker = desk().with_run("r")
    broker.hears("p-1", m.Draining(1.0))

    assert ("w-1", m.Kept("r", 1)) in broker.hears("w-1", finished("r"))


def test_a_late_result_of_an_old_attempt_is_acknowledged_and_changes_nothing() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", m.Returned("r", 1))
    before = copy(broker.rows["r"])

    said = broker.hears("w-1", finished("r", attempt=1))

    assert said == [("w-1", m.Kept("r", 1))]
    assert broker.rows["r"] == before


def test_a_result_counts_only_once_its_output_is_there() -> None:
    broker = desk().with_started("r")

    assert broker.hears("w-1", finished("r", chunks=1)) == []
    said = broker.hears("w-1", m.Printed("r", 1, 1, b"[]"), finished("r", chunks=1))

    assert broker.output.chunks == [(1, 1, 1, b"[]")]
    assert said == [("w-1", m.OutputKept("r", 1, 1)), ("c-1", "end", "r", 1)]


def test_output_behind_a_gap_is_not_kept() -> None:
    broker = desk().with_started("r")

    assert broker.hears("w-1", m.Printed("r", 1, 2, b"[]")) == [("w-1", m.OutputKept("r", 1, 0))]
    assert not broker.output.writes


def test_a_failure_is_retried_at_once_or_after_its_pause() -> None:
    at_once = desk().with_started("r", retries=1)
    later = desk().with_started("r", retries=1, retry_delay_s=5.0)

    assert ("w-1", "push", "r", 2) in at_once.hears("w-1", finished("r", "raised"))
    assert at_once.state("r") is State.RETRYING

    later.hears("w-1", finished("r", "raised"))
    assert later.state("r") is State.AWAITING_RETRY
    assert later.passes(4.9) == []
    assert later.passes(5.0) == [("w-1", "push", "r", 2)]


def test_a_retry_waits_no_longer_when_the_wall_clock_is_set_back() -> None:
    broker = desk().with_started("r", retries=1, retry_delay_s=5.0)
    broker.hears("w-1", finished("r", "raised"))

    a_day_ago = msgspec.structs.replace(at(5.0), unix_s=-86_400.0)
    broker.broker.tick(a_day_ago)

    assert broker.rows["r"].worker == "w-1"


def test_the_last_failure_is_final() -> None:
    broker = desk().with_started("r", retries=1)
    broker.hears("w-1", finished("r", "raised"))

    broker.hears("w-1", finished("r", "raised", attempt=2, message="ValueError: no"))

    assert broker.state("r") is State.FAILED
    assert broker.rows["r"].message == "ValueError: no"
    assert [attempt.outcome for attempt in broker.rows["r"].attempts] == ["Failed", "Failed"]


# -- cancel and deadlines -----------------------------------------------------------------------------


def test_a_queued_run_is_cancelled_at_once() -> None:
    broker = Desk().with_client().with_run("r")

    said = broker.hears("c-1", m.Cancel(1, ("r",)))

    assert broker.state("r") is State.CANCELLED
    assert said == [("c-1", "end", "r", 1), ("c-1", m.Done(1))]


def test_a_running_run_is_cancelled_when_its_worker_says_so() -> None:
    broker = desk().with_started("r")

    assert broker.hears("c-1", m.Cancel(1, ("r",))) == [
        ("w-1", m.Interrupt("r", 1, "cancel")),
        ("c-1", m.Done(1)),
    ]
    assert broker.state("r") is State.CANCELLING
    broker.hears("w-1", finished("r", "cancelled"))
    assert broker.state("r") is State.CANCELLED


def test_a_run_that_was_faster_than_its_cancel_is_completed() -> None:
    broker = desk().with_started("r")
    broker.hears("c-1", m.Cancel(1, ("r",)))

    broker.hears("w-1", finished("r"))

    assert broker.state("r") is State.COMPLETED


def test_who_does_not_confirm_in_time_is_killed_by_its_pool() -> None:
    broker = desk().with_started("r", grace_s=2.0)
    broker.hears("c-1", m.Cancel(1, ("r",)))

    assert broker.passes(attempts.INTERRUPT_S) == [("w-1", m.Interrupt("r", 1, "cancel"))]
    assert ("p-1", m.Kill("w-1", "r", 1)) in broker.passes(2.0)
    broker.hears("p-1", m.Exited("w-1", "killed by SIGTERM", (m.Held("r", 1, started=True),)), s=2.1)
    assert broker.state("r") is State.CANCELLED


def test_without_a_pool_the_broker_kills_by_itself() -> None:
    broker = desk().with_started("r", grace_s=0.0)
    broker.broker.process_gone("p-1", None, at(0))

    broker.hears("c-1", m.Cancel(1, ("r",)))

    assert broker.output.signals == [Signal("w-1", "SIGKILL", "r", 1)]


def test_a_deadline_counts_from_the_start_of_the_code() -> None:
    broker = desk().with_run("r", timeout_s=1.0)
    broker.hears("w-1", m.Started("r", 1, 1000.5), s=0.5)

    assert broker.passes(1.4) == []
    assert broker.passes(1.5) == [("w-1", m.Interrupt("r", 1, "timeout"))]
    broker.hears("w-1", finished("r", "timed_out"), s=1.6)
    assert broker.state("r") is State.TIMED_OUT
    assert broker.rows["r"].message == "exceeded 1 s"


# -- deaths -------------------------------------------------------------------------------------------


def test_what_had_not_started_goes_to_another_worker_at_no_charge() -> None:
    broker = desk().with_run("r").with_worker("w-2")

    said = broker.hears("p-1", m.Exited("w-1", "killed by SIGKILL"))

    assert ("w-2", "push", "r", 2) in said
    assert broker.rows["r"].attempts == ()


def test_what_had_started_is_crashed_even_if_nobody_said_so() -> None:
    broker = desk().with_run("r")

    broker.hears("p-1", m.Exited("w-1", "killed by SIGKILL", (m.Held("r", 1, started=True),)))

    assert broker.state("r") is State.CRASHED
    assert broker.rows["r"].message == "killed by SIGKILL"


def test_a_crash_is_retried_as_often_as_was_asked_for() -> None:
    broker = desk().with_started("r", crash_retries=1).with_worker("w-2")

    broker.hears("p-1", m.Exited("w-1", "exit status 3", (m.Held("r", 1, started=True),)))
    assert (broker.state("r"), broker.rows["r"].worker) == (State.RETRYING, "w-2")

    broker.hears("p-1", m.Exited("w-2", "exit status 3", (m.Held("r", 2, started=True),)))
    assert broker.state("r") is State.CRASHED


def test_the_last_word_of_a_process_that_ended_its_run_is_waited_for() -> None:
    broker = desk().with_started("r")
    ended = m.Exited("w-1", "exit status 0", (m.Held("r", 1, started=True, ended=True),))

    assert broker.hears("p-1", ended) == []
    broker.hears("w-1", finished("r"))

    assert broker.state("r") is State.COMPLETED


def test_what_a_dead_worker_had_ended_counts_as_it_ended() -> None:
    broker = desk().with_started("r")
    words = (m.Printed("r", 1, 1, b"[]"), finished("r", chunks=1))

    broker.hears("p-1", m.Exited("w-1", "killed by SIGKILL", (m.Held("r", 1, True, True),), words))

    assert broker.state("r") is State.COMPLETED
    assert broker.values == {1: b"value"}
    assert broker.output.chunks == [(1, 1, 1, b"[]")]


def test_an_exit_is_noted_only_when_it_is_judged() -> None:
    broker = desk().with_started("r")
    ended = m.Exited("w-1", "exit status 0", (m.Held("r", 1, started=True, ended=True),))

    assert broker.hears("p-1", ended) == []
    broker.passes(1.0)
    assert broker.state("r") is State.CRASHED
    assert broker.hears("p-1", ended, s=1.0) == [("p-1", m.ExitNoted("w-1"))]


def test_last_words_are_kept_as_output() -> None:
    broker = desk().with_started("r")

    broker.hears(
        "p-1", m.Exited("w-1", "killed by SIGSEGV", (m.Held("r", 1, started=True),), (), b'["aargh"]')
    )

    assert broker.output.chunks == [(1, 1, 1, b'["aargh"]')]


# -- a new broker -------------------------------------------------------------------------------------


def restored(former: Desk, *, knows_workers: bool = True) -> Desk:
    """Another broker on the table of the former one."""
    broker = Desk(boot="second")
    broker.rows.update({run: copy(row) for run, row in former.rows.items()})
    live = [row for row in broker.rows.values() if not row.is_final]
    worker = WorkerRecord("w-1", "p-1", 7, 1.0, "here", "3.11", "/marker", None)
    counts = {str(row.state.type): 1 for row in live}
    workers = [worker] if knows_workers else []
    broker.broker.restore(live, workers, counts, last_seq=len(broker.rows), now=at(10))
    return broker


def test_a_new_broker_says_nothing_to_who_holds_a_run_but_waits_for_its_word() -> None:
    broker = restored(desk().with_started("r"))

    assert broker.passes(10.0) == []
    assert broker.hears("w-1", m.Beat(), s=10.1) == [("w-1", m.Stranger("second"))]
    hello = m.HelloWorker("1", "3.11", 7, 1.0, "here", "p-1", "/m", None, (m.Held("r", 1, started=True),))
    broker.hears("w-1", hello, finished("r"), s=10.2)
    assert broker.state("r") is State.COMPLETED


def test_a_new_broker_goes_on_with_a_deadline() -> None:
    broker = restored(desk().with_started("r", timeout_s=12.0))

    assert broker.passes(11.9) == []
    assert broker.passes(12.0) == [("w-1", m.Interrupt("r", 1, "timeout"))]


def test_a_new_broker_gives_numbers_that_no_other_run_has() -> None:
    broker = restored(desk().with_started("r")).with_client()

    broker.with_run("s")

    assert broker.rows["s"].seq == 2


def test_in_a_copy_what_had_started_crashed_and_who_waits_for_it_is_told() -> None:
    waits = m.Submit("b-s", SPEC, b"code", (m.NewRun("s", b"args", needs=(m.Need("r"),)),))
    former = desk().with_started("r")
    former.hears("c-1", waits)

    broker = restored(former, knows_workers=False)
    broker.passes(10.0)

    assert (broker.state("r"), broker.rows["r"].message) == (State.CRASHED, "its worker is not known here")
    assert broker.state("s") is State.UPSTREAM_FAILED


def test_in_a_copy_what_had_started_runs_again_only_if_it_may() -> None:
    broker = restored(desk().with_started("r", crash_retries=1), knows_workers=False)
    broker.passes(10.0)

    assert (broker.state("r"), broker.rows["r"].worker) == (State.RETRYING, "")


def test_in_a_copy_what_had_not_started_waits_again() -> None:
    broker = restored(desk().with_run("r"), knows_workers=False)
    broker.passes(10.0)

    assert (broker.state("r"), broker.rows["r"].worker) == (State.PENDING, "")
    assert broker.rows["r"].attempts == ()


# -- pools, and the end -------------------------------------------------------------------------------


def test_a_pool_is_asked_for_as_many_workers_as_there_is_work() -> None:
    broker = Desk().with_client().with_pool()

    broker.hears("c-1", submit("r", "s", "t"))

    assert Send("p-1", m.Want(2)) in broker.output.sends


def test_there_is_one_generic_pool() -> None:
    broker = Desk().with_pool()

    said = broker.hears("p-2", m.HelloPool("1", "3.11", 9, 1.0, "here", True, None, 0, 2, False))

    assert [(peer, type(message)) for peer, message in said] == [("p-2", m.Rejected)]


def test_a_smaller_pool_lets_idle_workers_go_first() -> None:
    broker = desk().with_worker("w-2").with_run("r")

    said = broker.hears("c-1", m.SetPool(1, "", 1, 1))

    assert ("w-2", m.Leave()) in said
    assert ("w-1", m.Leave()) not in said


def test_a_worker_that_comes_when_its_pool_is_full_is_let_go() -> None:
    broker = desk()
    broker.hears("c-1", m.SetPool(1, "", 1, 1))
    broker.broker.subscribed("w-2", at(1))
    broker.passes(1.0)

    said = broker.hears("w-2", HELLO_WORKER, s=1.0)

    assert said == [("w-2", m.Welcome("boot", 1)), ("w-2", m.Leave())]


def test_a_pool_that_was_to_stop_is_told_so_by_the_next_broker() -> None:
    former = desk()
    former.hears("c-1", m.SetPool(1, "", 0, 0))
    record = former.broker._staff.pools["p-1"].record
    broker = Broker(Limits(), "second", at(10))
    broker.restore([], [copy(record)], {}, 0, at(10))

    broker.handle("p-1", m.HelloPool("1", "3.11", 6, 1.0, "here", True, None, 0, 2, False), at(10))

    assert ("p-1", m.Disband) in [(s.peer, type(s.message)) for s in broker.take().sends]


def test_a_stopped_broker_waits_for_its_workers_and_says_goodbye() -> None:
    broker = desk()

    said = broker.hears("c-1", m.StopBroker(1, 5.0))
    assert said == [("c-1", m.Done(1)), ("p-1", m.Disband(5.0)), ("w-1", m.Leave()), ("w-1", m.Leave())]
    broker.hears("w-1", m.Left(), s=0.1)
    assert not broker.output.stop
    assert broker.hears("p-1", m.Left(), s=0.2) == [("c-1", m.Closed())]
    assert broker.output.stop


def test_a_broker_that_nobody_needs_stops() -> None:
    broker = Desk(Limits(idle_stop_s=60.0)).with_client()
    broker.hears("c-1", m.Left())

    broker.passes(59.9)
    assert not broker.output.stop
    assert broker.broker.wake_at() == 60.0
    broker.passes(60.0)
    broker.passes(60.0)
    assert broker.output.stop


def test_why_a_run_waits_is_said() -> None:
    broker = Desk().with_client().with_run("r")
    assert broker.broker.waiting_reason("r") == "waiting for a worker that serves m:f"

    broker.with_pool()
    assert broker.broker.waiting_reason("r") == "waiting for a worker to start"

    broker.broker.process_gone("p-1", None, at(0))
    assert broker.broker.waiting_reason("r") == "no worker: pool 6 died"


def test_status_counts_what_there_is() -> None:
    broker = desk().with_started("r").with_run("s").with_run("t")

    status = broker.broker.status(7, at(2), "/home", 999.0)

    assert (status.request, status.clients, status.started) == (7, 1, 999.0)
    assert (status.counts["RUNNING"], status.counts["PENDING"]) == (1, 2)
    assert status.queues == {"m:f": (1, 2.0)}
    assert [(w.worker, w.state, w.run) for w in status.workers] == [("w-1", "busy", "r")]


# -- status -------------------------------------------------------------------------------------------


def test_a_worker_is_shown_as_what_it_does_and_as_stalled_when_it_is_silent() -> None:
    made = desk()

    def state(s: float) -> str:
        [worker] = made.broker.status(1, at(s), "/h", 0.0).workers
        return worker.state

    assert state(1.0) == "idle"
    made.with_run("r", s=2.0).with_started("r", s=2.0)
    assert state(3.0) == "busy"
    assert state(2.0 + staff.STALLED_S) == "stalled"
    made.hears("w-1", m.Beat(), s=30.0)
    assert state(31.0) == "busy"
    made.hears("p-1", m.Draining(30.0), s=32.0)
    assert state(33.0) == "draining"
