"""What observers are told: coalesced, numbered, whole, of bounded size, and nothing if nobody listens."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.core import events
from nbtasks.core import messages as m
from nbtasks.core.broker import Broker, Limits
from nbtasks.core.events import BOARD, run_topic
from nbtasks.core.records import Announce, RunRecord
from nbtasks.core.states import State
from tests.core.given import SPEC, Desk, at, desk, finished, submit


def told(broker: Desk) -> list[Any]:
    """The events of the last pass."""
    return [item.message for item in broker.output.sends if isinstance(item, Announce)]


def boards(broker: Desk) -> list[m.Board]:
    return [message.board for message in told(broker) if isinstance(message, m.BoardChanged)]


def observed() -> Desk:
    """A client, a pool, an idle worker, and somebody who looks at the board since half a second."""
    broker = desk()
    broker.broker.observed(BOARD, True)
    broker.passes(0.0)
    broker.passes(0.5)
    return broker


def test_nobody_listens_and_nothing_is_told() -> None:
    broker = desk().with_started()

    broker.hears("w-1", finished("r"), s=1)

    assert told(broker) == []
    assert broker.broker._ledger.observe is None


def test_who_begins_to_listen_is_told_the_board_at_once() -> None:
    broker = desk().with_started()

    broker.broker.observed(BOARD, True)
    broker.passes(1)

    [board] = boards(broker)
    assert (board.boot, board.number, board.counts) == ("boot", 1, {"RUNNING": 1})
    assert [(row.run, row.state) for row in board.rows] == [("r", "Running")]
    assert [(worker.worker, worker.state, worker.run) for worker in board.workers] == [("w-1", "busy", "r")]


def test_many_changes_within_a_tick_are_one_event() -> None:
    broker = observed().with_run("r", s=1)
    first = boards(broker)
    broker.hears("w-1", m.Started("r", 1, 1001.1), s=1.1)
    broker.hears("w-1", finished("r"), s=1.2)
    silent = boards(broker)

    broker.passes(1.25)

    assert [board.counts for board in first] == [{"PENDING": 1}]
    assert silent == []
    assert [board.counts for board in boards(broker)] == [{"COMPLETED": 1}]


def test_the_machine_wakes_for_what_is_still_to_be_told_and_not_otherwise() -> None:
    broker = Desk().with_client()
    broker.broker.observed(BOARD, True)
    broker.passes(1)
    quiet = broker.broker.wake_at()
    broker.hears("c-1", submit("r"), s=1.1)

    assert quiet is None
    assert broker.broker.wake_at() == 1.25
    broker.passes(1.25)
    assert broker.broker.wake_at() is None


def test_events_are_numbered_without_a_gap() -> None:
    broker = observed()
    numbers = []
    for i in range(3):
        broker.with_run(f"r{i}", s=1 + i)
        numbers += [board.number for board in boards(broker)]

    assert numbers == [2, 3, 4]


def test_nothing_is_told_any_more_once_the_last_observer_left() -> None:
    broker = observed()
    broker.broker.observed(BOARD, True)
    broker.broker.observed(BOARD, False)
    still = bool(boards(broker.with_run("r", s=1)))
    broker.broker.observed(BOARD, False)
    broker.broker.observed(BOARD, False)  # said once too often

    broker.with_run("s", s=2)

    assert still
    assert told(broker) == []
    assert broker.broker._ledger.observe is None


def test_a_worker_that_comes_or_goes_is_told() -> None:
    broker = observed()

    broker.with_worker("w-2", s=1)

    [board] = boards(broker)
    assert board.worker_count == 2


def test_rows_are_what_runs_then_what_failed_then_what_changed_last() -> None:
    broker = observed()
    for name, outcome in (("bad", "raised"), ("good", "completed")):
        broker.with_started(name, s=1)
        broker.hears("w-1", finished(name, outcome, attempt=broker.rows[name].attempt), s=1)
    broker.with_started("now", s=2)
    broker.with_run("later", s=3)

    [board] = boards(broker)
    assert [(row.run, row.state) for row in board.rows] == [
        ("now", "Running"),
        ("bad", "Failed"),
        ("later", "Pending"),
        ("good", "Completed"),
    ]


def test_a_board_is_small_however_many_runs_and_tasks_there_are() -> None:
    broker = observed()
    for i in range(60):
        tasks = m.Spec(f"key{i}", "name", "3.11", "digest")
        broker.hears("c-1", submit(*(f"r{i}.{k}" for k in range(5)), batch=f"b{i}", spec=tasks), s=1)
    broker.passes(2)

    [board] = boards(broker)
    assert len(board.rows) == events.ROWS_MAX
    assert len(board.tasks) == events.TASKS_MAX + 1
    assert board.tasks[-1].key == ""
    assert sum(task.counts["PENDING"] for task in board.tasks) == board.counts["PENDING"] == 300


def test_a_message_is_cut_to_its_first_line() -> None:
    broker = observed().with_started("r", s=1)

    broker.hears("w-1", finished("r", "raised", message="x" * 500 + "\nmore"), s=2)

    [board] = boards(broker)
    assert len(board.rows[0].message) == events.MESSAGE_CHARACTERS


def test_only_the_observed_run_is_told() -> None:
    broker = desk()
    broker.broker.observed(run_topic("r"), True)
    broker.with_run("r", s=1).with_run("s", s=2)
    broker.hears("w-1", m.Started("r", 1, 1002.0), s=3)
    [started] = told(broker)
    broker.hears("w-1", finished("r"), s=3.1)
    broker.passes(3.25)
    [ended] = told(broker)

    assert (started.run, started.state, started.attempts, started.worker) == ("r", "Running", 1, "w-1")
    assert (ended.run, ended.state) == ("r", "Completed")
    assert ended.steps > started.steps


def test_a_topic_that_is_none_of_ours_costs_nothing() -> None:
    broker = desk()

    broker.broker.observed("e/nonsense/", True)
    broker.with_run("r", s=1)

    assert told(broker) == []


def test_a_question_is_answered_also_while_nobody_listens() -> None:
    broker = Desk().with_client().with_run("r")

    [(peer, answer)] = broker.hears("c-1", m.GetBoard(7), s=1)

    assert (peer, answer.request, answer.board.counts) == ("c-1", 7, {"PENDING": 1})


def test_rows_that_were_recorded_before_are_shown_until_they_change() -> None:
    row = m.BoardRow("old", "f", "Failed", "ValueError", 1.0, 2.0)
    broker = Desk().with_client()
    broker.broker._events._newest = lambda: [row]

    broker.broker.observed(BOARD, True)
    broker.passes(1)

    assert boards(broker)[0].rows == (row,)


def test_runs_of_a_former_broker_are_counted_by_task_once_they_are_looked_up() -> None:
    broker = Broker(Limits(), "boot", at(0))
    live = RunRecord(3, "r", "b", SPEC, "s", "", 1.0, State.PENDING, history=(m.Moment("Pending", 1.0),))
    broker.restore([live], [], {"PENDING": 1, "COMPLETED": 2}, 3, at(0))
    broker.observed(BOARD, True)
    broker.tick(at(0))
    [before] = [item.message.board for item in broker.take().sends if isinstance(item, Announce)]

    ranges = []
    while wanted := broker.unattributed(2):
        ranges.append(wanted)
        broker.attribute(wanted[1], [(SPEC, "COMPLETED", 2)] if wanted[0] == 1 else [])
    broker.tick(at(1))
    [after] = [item.message.board for item in broker.take().sends if isinstance(item, Announce)]

    assert ranges == [(1, 2), (3, 3)]
    assert before.counts == after.counts == {"PENDING": 1, "COMPLETED": 2}
    assert before.tasks == (
        m.TaskCounts("m:f", "f", {"PENDING": 1}),
        m.TaskCounts("", "", {"COMPLETED": 2}),
    )
    assert after.tasks == (m.TaskCounts("m:f", "f", {"PENDING": 1, "COMPLETED": 2}),)


@pytest.mark.feature("N4")
def test_the_observer_of_a_run_is_told_how_much_output_is_recorded() -> None:
    broker = desk()
    broker.broker.observed(run_topic("r"), True)
    broker.with_run("r").hears("w-1", m.Started("r", 1, 1001.0), s=1)
    broker.hears("w-1", m.Printed("r", 1, 1, b"[]"), m.Printed("r", 1, 2, b"[]"), s=2)
    [printed] = told(broker)
    broker.hears("w-1", m.Printed("r", 1, 2, b"[]"), s=3)
    again = told(broker)
    broker.hears("w-1", m.Printed("r", 1, 3, b"[]"), finished("r", chunks=3), s=4)
    [ended] = told(broker)

    assert (printed.state, printed.chunks) == ("Running", 2)
    assert again == []
    assert (ended.state, ended.chunks) == ("Completed", 3)


@pytest.mark.feature("N4")
def test_a_run_grows_older_with_its_output_and_with_a_new_attempt_that_has_none() -> None:
    broker = desk().with_run("r", retries=1)
    seen = []
    for word in (
        m.Started("r", 1, 1001.0),
        m.Printed("r", 1, 1, b"[]"),
        m.Printed("r", 1, 2, b"[]"),
        finished("r", "raised", chunks=2),
        m.Started("r", 2, 1002.0),
        m.Printed("r", 2, 1, b"[]"),
        finished("r", attempt=2, chunks=1),
    ):
        broker.hears("w-1", word, s=1)
        seen.append(events.age(events.changed_of_record(broker.rows["r"])))

    assert seen == sorted(set(seen))


def test_steps_grow_with_everything_that_is_told_of_a_run() -> None:
    broker = desk().with_run("r", retries=1)
    seen = [events.changed_of_record(broker.rows["r"]).steps]
    for word in (
        m.Started("r", 1, 1001.0),
        finished("r", "raised"),
        m.Started("r", 2, 1002.0),
        finished("r", attempt=2),
    ):
        broker.hears("w-1", word, s=1)
        seen.append(events.changed_of_record(broker.rows["r"]).steps)

    assert seen == sorted(set(seen))
