"""The client: everything open is said until it is answered, by whichever broker."""

from __future__ import annotations

from nbtasks.core import client as module
from nbtasks.core import messages as m
from nbtasks.core.client import Client
from nbtasks.core.happenings import (
    Answered,
    BrokerClosed,
    Connected,
    NotRecorded,
    OutboxDone,
    Recorded,
    RunEnded,
    RunMissing,
    Turned,
)
from tests.core.given import HELLO_CLIENT, ROOM, at, promised, submit, welcomed_client


def ended(run: str, number: int, session: int = 1) -> m.Ended:
    return m.Ended(session, number, run, "Completed", "", 1000.0, b"value")


def test_hello_is_said_until_welcome_and_then_all_that_is_open() -> None:
    client = Client(HELLO_CLIENT)
    assert client.submit(submit("r"), at(0)).sends == []

    assert client.tick(at(0)).sends == [HELLO_CLIENT]
    assert client.tick(at(0.01)).sends == []
    effects = client.handle(m.Welcome("boot", 1), at(0.02))

    assert effects.events == [Connected(1)]
    assert effects.sends == [submit("r")]


def test_a_submit_is_repeated_less_and_less_often_until_it_is_accepted() -> None:
    client = welcomed_client()
    assert client.submit(submit("r"), at(0)).sends == [submit("r")]

    assert submit("r") in client.tick(at(1.0)).sends
    assert submit("r") not in client.tick(at(2.0)).sends
    assert submit("r") in client.tick(at(3.0)).sends
    assert client.handle(m.Accepted("b"), at(3.1)).events == [Recorded("b")]
    assert submit("r") not in client.tick(at(60.0)).sends
    assert client.handle(m.Accepted("b"), at(60.1)).events == []


def client_with_room() -> Client:
    client = welcomed_client()
    client.submit(submit("first"), at(0))
    client.handle(m.Accepted("b", ROOM), at(0))
    return client


def test_who_gives_up_on_a_promised_submit_keeps_the_promise() -> None:
    client = client_with_room()
    client.submit(promised("r"), at(0))

    client.abandon("b-r")
    client.check()

    assert promised("r") in client.tick(at(1.0)).sends, "it is in the outbox, and may be recorded"
    assert OutboxDone() in client.handle(ended("r", 1), at(2.0)).events
    assert promised("r") not in client.tick(at(60.0)).sends


def test_what_could_not_be_said_is_forgotten() -> None:
    client = client_with_room()
    client.submit(promised("r"), at(0))

    client.withdraw("b-r")
    client.check()

    assert client.watched == 1, "the first one"
    assert promised("r") not in client.tick(at(60.0)).sends


def test_nothing_is_promised_before_the_broker_said_that_it_has_room() -> None:
    client = welcomed_client()
    assert not client.may_promise(submit("next"))

    client.submit(submit("first"), at(0))
    client.handle(m.Accepted("b", module.ROOM_RUNS_MIN), at(0))
    assert not client.may_promise(submit("next"))

    client.submit(submit("second", batch="b2"), at(0))
    client.handle(m.Accepted("b2", module.ROOM_RUNS_MIN + 1), at(0))
    assert client.may_promise(submit("next"))

    client.lost(at(1))
    assert not client.may_promise(submit("next"))


def test_a_promised_submit_is_recorded_at_once_and_said_until_it_is_accepted() -> None:
    client = client_with_room()

    effects = client.submit(promised("r"), at(0))

    assert effects.events == [Recorded("b-r")]
    assert effects.sends == [promised("r")]
    assert promised("r") in client.tick(at(1.0)).sends
    assert client.handle(m.Accepted("b-r", ROOM), at(1.1)).events == [OutboxDone()]
    assert promised("r") not in client.tick(at(60.0)).sends


def test_the_outbox_is_needed_until_the_last_promise_is_kept() -> None:
    client = client_with_room()
    client.submit(promised("r"), at(0))
    client.submit(promised("s"), at(0))

    assert client.handle(m.Accepted("b-s", ROOM), at(0.1)).events == []
    # who tells the end of a run has recorded it
    assert client.handle(ended("r", 1), at(0.1)).events == [OutboxDone(), RunEnded(ended("r", 1))]
    assert promised("r") not in client.tick(at(60.0)).sends


def test_only_so_much_is_promised_at_a_time() -> None:
    client = client_with_room()

    for i in range(module.PROMISED_MAX):
        assert client.may_promise(submit("next"))
        client.submit(promised(f"r{i}"), at(0))

    assert not client.may_promise(submit("next"))


def test_what_was_promised_is_said_to_a_new_broker() -> None:
    client = client_with_room()
    client.submit(promised("r"), at(0))

    client.lost(at(1))
    client.tick(at(1))
    effects = client.handle(m.Welcome("second", 2, session=2), at(1.1))

    assert promised("r") in effects.sends


def test_a_refused_batch_is_waited_for_no_more() -> None:
    client = welcomed_client()
    client.submit(submit("r"), at(0))

    effects = client.handle(m.Refused("b", "queue_full", "too many"), at(0.1))

    assert effects.events == [NotRecorded("b", "queue_full", "too many")]
    assert client.watched == 0


def test_an_end_is_an_event_once_and_noted_every_time() -> None:
    client = welcomed_client()
    client.submit(submit("r"), at(0))

    assert client.handle(ended("r", 1), at(0.1)).events == [RunEnded(ended("r", 1))]
    assert client.handle(ended("r", 1), at(0.2)).events == []
    assert m.Noted(1, 1) in client.tick(at(0.5)).sends


def test_what_overtook_another_is_noted_when_the_gap_is_closed() -> None:
    client = welcomed_client()
    client.submit(submit("r", "s"), at(0))

    client.handle(ended("s", 2), at(0.1))
    assert m.Noted(1, 0) in client.tick(at(0.5)).sends
    client.handle(ended("r", 1), at(0.6))
    assert m.Noted(1, 2) in client.tick(at(1.0)).sends


def test_many_ends_are_noted_without_waiting() -> None:
    client = welcomed_client()

    sends = []
    for number in range(1, module.NOTE_FINALS_MAX + 1):
        sends += client.handle(ended(f"r-{number}", number), at(0.1)).sends

    assert sends == [m.Noted(1, module.NOTE_FINALS_MAX)]


def test_a_new_broker_is_asked_again_for_everything() -> None:
    client = welcomed_client()
    client.submit(submit("r"), at(0))
    client.handle(m.Accepted("b"), at(0.1))
    client.submit(submit("s", batch="b2"), at(0.2))

    client.handle(m.Stranger("second"), at(1))
    hello = client.tick(at(1)).sends
    effects = client.handle(m.Welcome("second", 2, session=2), at(1.1))

    assert hello == [m.HelloClient("1", "3.11", 5, "here", session=2)]
    assert effects.sends == [submit("s", batch="b2"), m.Watch(1, ("r",))]


def test_what_was_submitted_in_an_earlier_session_is_watched_when_it_is_accepted() -> None:
    client = welcomed_client()
    client.submit(submit("r"), at(0))
    client.handle(m.Stranger("boot"), at(1))
    client.handle(m.Welcome("boot", 1, session=2), at(1.1))

    effects = client.handle(m.Accepted("b"), at(1.2))

    assert effects.events == [Recorded("b")]
    assert effects.sends == [m.Watch(1, ("r",))]


def test_a_welcome_to_an_earlier_hello_is_ignored() -> None:
    client = welcomed_client()
    client.handle(m.Stranger("second"), at(1))

    client.handle(m.Welcome("second", 2, session=1), at(1))

    assert not client.is_connected
    assert client.tick(at(1)).sends == [m.HelloClient("1", "3.11", 5, "here", session=2)]


def test_if_two_brokers_answer_one_hello_it_is_said_again() -> None:
    client = welcomed_client()

    client.handle(m.Welcome("former", 2), at(1))

    assert not client.is_connected
    assert client.tick(at(1)).sends == [m.HelloClient("1", "3.11", 5, "here", session=2)]


def test_an_end_of_an_earlier_session_is_ignored() -> None:
    client = welcomed_client()
    client.submit(submit("r"), at(0))
    client.handle(m.Stranger("second"), at(1))

    effects = client.handle(ended("r", 1, session=1), at(1))

    assert (effects.events, effects.sends) == ([], [])


def test_a_run_that_is_not_recorded_is_missing() -> None:
    client = welcomed_client()
    client.watch(["r"], at(0))

    assert client.handle(m.Missing(1, 1, "r"), at(0.1)).events == [RunMissing("r")]


def test_a_request_is_answered_once() -> None:
    client = welcomed_client()
    number = client.request_number()
    client.request(m.GetStatus(number), at(0))

    assert client.handle(m.Done(number), at(0.1)).events == [Answered(number, m.Done(number))]
    assert client.handle(m.Done(number), at(0.2)).events == []
    assert client.wake_at() is None


def test_who_waits_says_so_with_the_broker_that_it_believes_in() -> None:
    client = welcomed_client()
    client.watch(["r"], at(0))

    assert m.Beat("boot") in client.tick(at(0)).sends
    assert m.Beat("boot") not in client.tick(at(module.BEAT_S / 2)).sends
    assert m.Beat("boot") in client.tick(at(module.BEAT_S)).sends


def test_a_closing_broker_and_a_refusal_are_events() -> None:
    client = welcomed_client()

    assert client.handle(m.Closed(), at(0)).events == [BrokerClosed()]
    assert client.handle(m.Rejected("version", "too old"), at(0)).events == [Turned("version", "too old")]


def test_a_question_for_which_there_was_no_room_is_said_again_soon() -> None:
    client = welcomed_client()
    question = m.GetRun(client.request_number(), "r")
    client.request(question, at(1))

    assert client.handle(m.NotDone(question.request, "too much waits", again=True), at(1)).events == []

    wake_at = client.wake_at()
    assert wake_at is not None
    assert client.tick(at(wake_at)).sends == [question]
    assert wake_at < 2
    answer = m.RunFound(question.request, None)
    assert client.handle(answer, at(2)).events == [Answered(question.request, answer)]
