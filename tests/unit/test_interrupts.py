"""SIGINT reaches the user code it is meant for, and nothing else."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from nbtasks.runners.signals import Interrupts

RUN = ("run", 1)
OTHER = ("other", 1)


def interrupt() -> None:
    """SIGINT to this thread; handled before this returns, because it is the main one."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.fixture
def interrupts() -> Interrupts:
    return Interrupts()


def test_an_attempt_that_runs_is_interrupted(interrupts: Interrupts) -> None:
    interrupts.open(RUN)
    with pytest.raises(KeyboardInterrupt):
        interrupts.ask(RUN)
    interrupts.close()


def test_an_attempt_that_was_to_be_interrupted_before_it_began_does_not_begin(interrupts: Interrupts) -> None:
    interrupts.ask(RUN)

    with pytest.raises(KeyboardInterrupt):
        interrupts.open(RUN)
    interrupts.close()


def test_an_interrupt_that_comes_late_does_not_hit_the_next_run(interrupts: Interrupts) -> None:
    interrupts.open(RUN)
    interrupts.close()
    interrupts.ask(RUN)

    interrupts.open(OTHER)
    interrupts.close()


def test_an_interrupt_in_our_own_code_is_raised_behind_it(interrupts: Interrupts) -> None:
    done = []

    def user_code() -> None:
        with interrupts:
            with interrupts:
                interrupt()
                done.append("inner")
            done.append("outer")
        done.append("user code")

    interrupts.open(RUN)
    with pytest.raises(KeyboardInterrupt):
        user_code()
    interrupts.close()

    assert done == ["inner", "outer"]


def test_between_runs_nothing_is_raised(interrupts: Interrupts) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.open(RUN)
        interrupts.close()
        interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_by_somebody_else_is_one_too(interrupts: Interrupts) -> None:
    interrupts.open(RUN)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    interrupts.close()
