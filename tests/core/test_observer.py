"""What an observer believes, and when it asks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbtasks.core import messages as m
from nbtasks.core.client import Client
from nbtasks.core.happenings import ClientEffects
from nbtasks.core.observer import BOARD_NAME, BoardSeen, RunSeen
from tests.core.given import HELLO_CLIENT, SPEC, at, welcomed_client

PENDING = m.RunChanged("r", 1, "Pending", "", 1.0, 1.0, 0.0, 0.0, "", 0, 0)
RUNNING = msgspec.structs.replace(PENDING, steps=3, state="Running", start=2.0)
COMPLETED = msgspec.structs.replace(RUNNING, steps=5, state="Completed", end=3.0)


def board(number: int, boot: str = "boot", **counts: int) -> m.Board:
    return m.Board(boot, number, counts, (), (), (), 0)


def looking(name: str = BOARD_NAME) -> Client:
    """A welcome client that has just begun to look, and asked."""
    client = welcomed_client()
    client.observe(name, at(0))
    return client


def questions(effects: ClientEffects) -> list[Any]:
    return [message for message in effects.sends if isinstance(message, (m.GetBoard, m.GetRun))]


def seen(effects: ClientEffects) -> list[Any]:
    found = [event for event in effects.events if isinstance(event, (BoardSeen, RunSeen))]
    return [event.board if isinstance(event, BoardSeen) else event.run for event in found]


def info(state: str = "Pending", message: str = "") -> m.RunInfo:
    history = (m.Moment("Pending", 1.0),)
    return m.RunInfo("r", SPEC, 1.0, "{}", "", state, message, 1.0, history, ())


def test_who_begins_to_look_asks_at_once() -> None:
    client = welcomed_client()

    assert questions(client.observe(BOARD_NAME, at(0))) == [m.GetBoard(1)]
    assert questions(client.observe("r", at(0))) == [m.GetRun(2, "r")]


def test_who_looks_second_is_told_what_the_first_knows() -> None:
    client = looking()
    client.handle(m.BoardFound(1, board(7)), at(1))

    asked = questions(client.observe(BOARD_NAME, at(1)))
    told = seen(client.handle(m.BoardFound(2, board(7)), at(1)))

    assert asked == [m.GetBoard(2)]
    assert told == [board(7)]


def test_who_looks_before_there_is_a_broker_asks_when_there_is_one() -> None:
    client = Client(HELLO_CLIENT)
    client.tick(at(0))
    before = client.observe(BOARD_NAME, at(0))

    welcomed = client.handle(m.Welcome("boot", 1), at(1))

    assert questions(before) == []
    assert questions(welcomed) == [m.GetBoard(1)]


def test_an_answer_is_seen_and_is_no_answer_to_anybody_else() -> None:
    client = looking()

    effects = client.handle(m.BoardFound(1, board(0, PENDING=1)), at(0.1))

    assert effects.events == [BoardSeen(board(0, PENDING=1))]


def test_an_event_that_was_overtaken_is_not_believed() -> None:
    client = looking()
    newer = client.handle(m.BoardChanged(board(5)), at(1))
    older = client.handle(m.BoardChanged(board(4)), at(1))
    again = client.handle(m.BoardChanged(board(5)), at(1))
    late_answer = client.handle(m.BoardFound(1, board(4)), at(1))

    assert seen(newer) == [board(5)]
    assert seen(older) == seen(again) == seen(late_answer) == []


def test_a_gap_is_filled_by_the_event_that_shows_it() -> None:
    client = looking()
    client.handle(m.BoardChanged(board(1, PENDING=9)), at(1))

    after_gap = client.handle(m.BoardChanged(board(7, PENDING=2)), at(2))

    assert seen(after_gap) == [board(7, PENDING=2)]


def test_an_event_of_a_former_broker_is_not_believed() -> None:
    client = looking()

    assert seen(client.handle(m.BoardChanged(board(9, boot="former")), at(1))) == []
    assert seen(client.handle(m.BoardChanged(board(1)), at(1))) == [board(1)]


def test_silence_is_asked_about_ever_more_seldom() -> None:
    client = looking()
    client.handle(m.BoardFound(1, board(1)), at(0))
    asked_at = []
    for tenth in range(400):
        for question in questions(client.tick(at(tenth / 10))):
            asked_at.append(tenth / 10)
            client.handle(m.BoardFound(question.request, board(1)), at(tenth / 10))

    assert asked_at == [2.0, 6.0, 14.0, 24.0, 34.0]


def test_an_event_puts_off_the_question() -> None:
    client = looking()
    client.handle(m.BoardFound(1, board(1)), at(0))
    client.handle(m.BoardChanged(board(2)), at(1.5))

    assert questions(client.tick(at(2.0))) == []
    assert len(questions(client.tick(at(3.5)))) == 1


def test_one_question_at_a_time_repeated_until_it_is_answered() -> None:
    client = looking()

    said = [questions(client.tick(at(s / 2))) for s in range(1, 20)]

    assert [question for some in said for question in some] == [m.GetBoard(1)] * 3


def test_a_run_is_followed_to_its_end_and_not_asked_about_any_more() -> None:
    client = looking("r")
    for changed in (PENDING, RUNNING, COMPLETED):
        assert seen(client.handle(changed, at(1))) == [changed]
    client.handle(m.RunFound(1, info()), at(1))

    assert client.wake_at() is None
    assert seen(client.handle(RUNNING, at(2))) == []


@pytest.mark.feature("N4")
def test_more_output_is_news_and_less_is_not() -> None:
    client = looking("r")
    first, second = (msgspec.structs.replace(RUNNING, chunks=number) for number in (1, 2))

    assert seen(client.handle(second, at(1))) == [second]
    assert seen(client.handle(first, at(1))) == seen(client.handle(second, at(1))) == []
    assert seen(client.handle(COMPLETED, at(2))) == [COMPLETED]


def test_a_snapshot_may_say_meanwhile_why_a_run_waits() -> None:
    client = looking("r")
    client.handle(PENDING, at(0))

    answered = client.handle(m.RunFound(1, info(message="waiting for a worker to start")), at(1))

    assert [run.message for run in seen(answered)] == ["waiting for a worker to start"]


def test_after_a_restart_everything_is_asked_about_and_told_again() -> None:
    client = looking("r")
    client.handle(m.RunFound(1, info()), at(0))
    client.handle(m.Stranger("next"), at(1))
    client.tick(at(1))

    [question] = questions(client.handle(m.Welcome("next", 2, 2), at(1)))
    answered = client.handle(m.RunFound(question.request, info()), at(1))

    assert [run.state for run in seen(answered)] == ["Pending"]


def test_who_looks_away_hears_nothing_and_asks_nothing() -> None:
    client = looking()
    client.unobserve(BOARD_NAME)

    assert seen(client.handle(m.BoardChanged(board(1)), at(1))) == []
    assert client.handle(m.BoardFound(1, board(1)), at(1)).events == []
    assert client.wake_at() is None
    assert client.observed == 0
