"""When the broker looks for the next frame instead of sleeping until it comes."""

from __future__ import annotations

from nbtasks.core import vigil
from nbtasks.core.vigil import Vigil
from tests.core.given import at, desk, finished

SOON_S = vigil.CLOSE_S / 4
LATE_S = vigil.CLOSE_S * 4


def nobody(number: int) -> bool:
    return False


def test_a_broker_stays_awake_while_frames_follow_each_other() -> None:
    watch = Vigil(2, nobody)
    watch.came(at(0))
    watch.came(at(SOON_S))

    assert watch.until(at(SOON_S)) == at(SOON_S + vigil.CLOSE_S).mono_s


def test_a_broker_sleeps_after_a_frame_that_comes_alone() -> None:
    watch = Vigil(2, nobody)
    watch.came(at(0))
    assert watch.until(at(0)) == 0.0

    watch.came(at(LATE_S))
    assert watch.until(at(LATE_S)) == 0.0


def test_a_broker_sleeps_when_the_next_frame_is_late_even_if_a_timer_woke_it() -> None:
    watch = Vigil(2, nobody)
    watch.came(at(0))
    watch.came(at(SOON_S))

    assert watch.until(at(SOON_S + vigil.CLOSE_S)) == 0.0


def test_a_broker_takes_no_core_that_a_worker_needs() -> None:
    broker = desk().with_worker("w-2").with_run("r")
    watch = Vigil(2, broker.broker.has_busy_workers)
    watch.came(at(0))
    watch.came(at(0))
    assert watch.until(at(0)) > 0.0

    broker.with_run("s")
    assert watch.until(at(0)) == 0.0

    broker.hears("w-1", finished("r"))
    assert watch.until(at(0)) > 0.0


def test_a_broker_with_a_single_core_never_stays_awake() -> None:
    watch = Vigil(1, nobody)
    watch.came(at(0))
    watch.came(at(0))

    assert watch.until(at(0)) == 0.0
