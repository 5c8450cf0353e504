"""Finals: numbered per client and session, a bounded number in flight, repeated until noted."""

from __future__ import annotations

from nbtasks.core import messages as m
from nbtasks.core.finals import IN_FLIGHT_MAX, REPEAT_S, Finals
from nbtasks.core.records import Output, TellEnd
from nbtasks.core.timers import Timers
from tests.core.given import HELLO_CLIENT, Desk, at, desk, finished


def opened() -> Finals:
    finals = Finals(Timers())
    finals.open("c-1", 1)
    return finals


def test_an_end_is_told_again_until_it_is_noted() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))

    assert broker.passes(REPEAT_S) == [("c-1", "end", "r", 1)]
    broker.hears("c-1", m.Noted(1, 1), s=REPEAT_S)
    assert broker.passes(100.0) == []


def test_only_so_many_are_in_flight() -> None:
    finals, out = opened(), Output()
    for number in range(IN_FLIGHT_MAX + 5):
        finals.tell("c-1", f"r-{number}", at(0), out)
    assert len(out.sends) == IN_FLIGHT_MAX

    more = Output()
    finals.noted("c-1", 1, 3, at(1), more)

    assert [(item.number, item.run) for item in more.sends if isinstance(item, TellEnd)] == [
        (IN_FLIGHT_MAX + n, f"r-{IN_FLIGHT_MAX + n - 1}") for n in (1, 2, 3)
    ]


def test_a_note_of_an_old_session_is_ignored() -> None:
    finals, out = opened(), Output()
    finals.open("c-1", 2)
    finals.tell("c-1", "r", at(0), out)

    finals.noted("c-1", 1, 1, at(1), out)
    out.sends.clear()
    finals.repeat("c-1", at(1), out)

    assert out.sends == [TellEnd("c-1", 2, 1, "r")]


def test_a_repeated_hello_forgets_nothing() -> None:
    broker = desk().with_run("r")
    broker.hears("w-1", finished("r"))

    broker.hears("c-1", HELLO_CLIENT)

    assert broker.passes(REPEAT_S) == [("c-1", "end", "r", 1)]


def test_a_welcome_names_the_session_that_it_answers() -> None:
    broker = Desk().with_client()

    said = broker.hears("c-1", m.HelloClient("1", "3.11", 5, "here", session=4))

    assert said == [("c-1", m.Welcome("boot", 1, 4))]


def test_who_watches_what_is_over_is_told_at_once_and_what_is_unknown_is_told_too() -> None:
    broker = desk().with_run("r").with_client("c-2")
    broker.hears("w-1", finished("r"))

    said = broker.hears("c-2", m.Watch(1, ("r", "unknown")))

    assert said == [("c-2", "end", "r", 1), ("c-2", "end", "unknown", 2), ("c-2", m.Done(1))]


def test_a_client_that_is_gone_is_told_nothing() -> None:
    broker = desk().with_run("r")
    broker.broker.process_gone("c-1", None, at(0))

    assert broker.hears("w-1", finished("r")) == []
