"""The pool's decisions, step by step."""

from __future__ import annotations

from nbtasks.core import pool as module
from nbtasks.core.messages import (
    Beat,
    Disband,
    Draining,
    Exited,
    ExitNoted,
    HelloPool,
    Kill,
    Left,
    Message,
    Rejected,
    Stranger,
    Want,
    Welcome,
)
from nbtasks.core.pool import Pool
from nbtasks.core.records import Effects, Exit, Launch, Now, Signal

FIRST, SECOND, THIRD = "w-x-1", "w-x-2", "w-x-3"
DEAD = "killed by SIGKILL"


def at(s: float) -> Now:
    return Now(s, 1000.0 + s)


def hello(least: int = 1, workers: tuple[str, ...] = ()) -> HelloPool:
    return HelloPool("1", "3.11", 7, 1.0, "here", False, None, least, 4, True, workers)


def pool(least: int = 1) -> Pool:
    made = Pool("p-x", hello(least))
    made.tick(at(0))
    made.handle(Welcome("boot", 1), at(0))
    return made


def said(effects: Effects) -> list[Message]:
    return [message for message in effects.sends if not isinstance(message, Beat)]


def test_workers_are_started_before_the_broker_has_answered() -> None:
    made = Pool("p-x", hello(2))

    effects = made.tick(at(0))

    assert effects.acts == [Launch(FIRST), Launch(SECOND)]
    assert effects.sends == [hello(2)]


def test_as_many_workers_are_started_as_are_wanted() -> None:
    made = pool(1)

    made.handle(Want(3), at(1))

    assert made.tick(at(1)).acts == [Launch(SECOND), Launch(THIRD)]
    assert made.tick(at(2)).acts == []


def test_a_worker_that_dies_is_told_until_noted_and_replaced() -> None:
    made = pool()
    exited = Exited(FIRST, DEAD)

    assert made.exited(exited, at(60)).sends == [exited]
    effects = made.tick(at(60))
    assert effects.acts == [Launch(SECOND)]
    assert said(made.tick(at(60 + module.REPEAT_S))) == [exited]
    made.handle(ExitNoted(FIRST), at(61))

    assert said(made.tick(at(62))) == []


def test_the_next_worker_waits_longer_while_workers_die_young() -> None:
    made, now = pool(), 1.0
    pauses = []
    for number in range(1, 8):
        made.exited(Exited(f"w-x-{number}", "exit status 1"), at(now))
        died = now
        while not made.tick(at(now)).acts:
            now += 0.5
        pauses.append(now - died)

    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_kill_is_a_term_and_then_a_kill_for_that_very_attempt() -> None:
    made = pool()

    assert made.handle(Kill(FIRST, "r", 2), at(1)).acts == [Signal(FIRST, "SIGTERM", "r", 2)]
    assert made.handle(Kill(FIRST, "r", 2), at(1.5)).acts == []
    assert made.is_ending(FIRST)
    assert made.tick(at(1 + module.TERM_S)).acts == [Signal(FIRST, "SIGKILL", "r", 2)]


def test_a_worker_that_was_spared_is_ended_with_the_others() -> None:
    made = pool()
    made.handle(Kill(FIRST, "r", 2), at(1))
    made.spared(FIRST)

    assert made.tick(at(3)).acts == []
    made.handle(Disband(5.0), at(10))
    assert made.tick(at(14)).acts == []
    assert made.tick(at(15)).acts == [Signal(FIRST, "SIGTERM")]
    made.spared(FIRST)
    assert made.tick(at(16)).acts == [Signal(FIRST, "SIGKILL")]


def test_a_worker_whose_kill_is_under_way_is_ended_at_the_deadline_too() -> None:
    made = pool()
    made.handle(Disband(0.5), at(1))
    made.handle(Kill(FIRST, "r", 2), at(1))

    assert made.tick(at(1.5)).acts == [Signal(FIRST, "SIGTERM")]


def test_a_pool_that_is_disbanded_ends_with_its_last_worker() -> None:
    made = pool(2)
    made.handle(Disband(30.0), at(1))

    made.exited(Exited(FIRST, "exit status 0"), at(2))
    made.handle(ExitNoted(FIRST), at(2))
    assert made.tick(at(2)).acts == []
    made.exited(Exited(SECOND, "exit status 0"), at(3))
    assert made.tick(at(3)).acts == []
    made.handle(ExitNoted(SECOND), at(3.1))

    effects = made.tick(at(3.1))
    assert effects.acts == [Exit(0)]
    assert effects.sends[-1] == Left()


def test_a_pool_does_not_wait_long_for_the_last_exit_to_be_noted() -> None:
    made = pool()
    made.handle(Disband(30.0), at(1))
    made.exited(Exited(FIRST, "exit status 0"), at(2))

    assert made.tick(at(2)).acts == []
    assert made.wake_at() is not None
    assert made.tick(at(2 + module.LAST_WORD_S)).acts == [Exit(0)]


def test_a_drain_says_so_and_ends_what_still_runs_when_the_time_is_over() -> None:
    made = pool()

    effects = made.drain(30.0, at(1))
    assert said(effects) == [Draining(30.0)]
    assert effects.acts == []
    assert made.tick(at(30.9)).acts == []

    assert made.tick(at(31)).acts == [Signal(FIRST, "SIGTERM")]


def test_a_drain_that_hands_over_leaves_what_still_runs_to_itself() -> None:
    made = pool()
    made.drain(30.0, at(1), hands_over=True)

    assert made.tick(at(31)).acts == [Exit(0)]


def test_a_second_request_to_stop_ends_the_workers() -> None:
    made = pool()
    made.drain(30.0, at(1))

    assert made.end_workers(at(2)).acts == [Signal(FIRST, "SIGTERM")]
    made.exited(Exited(FIRST, "killed by SIGTERM"), at(2.1))
    made.handle(ExitNoted(FIRST), at(2.1))

    assert made.tick(at(2.1)).acts == [Exit(0)]


def test_a_new_broker_is_told_the_workers_and_the_deaths_that_nobody_noted() -> None:
    made = pool(2)
    exited = Exited(FIRST, DEAD)
    made.exited(exited, at(60))
    made.tick(at(60))

    made.handle(Stranger("second"), at(61))
    assert said(made.tick(at(61))) == [hello(2, (SECOND, THIRD))]
    made.handle(Welcome("second", 2), at(61.1))

    assert said(made.tick(at(61.1))) == [exited]


def test_a_refused_pool_ends() -> None:
    made = pool()

    assert made.handle(Rejected("generic", "there is one"), at(1)).acts == [Exit(1)]
    assert made.tick(at(2)) == Effects()
