"""Runs that need other runs: who waits, who starts, who never does."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.core import messages as m
from nbtasks.core.retention import Bounds, Past
from nbtasks.core.states import State
from tests.core.given import SPEC, Desk, at, desk, finished

pytestmark = pytest.mark.feature("D7")


def needing(run: str, *needs: str | m.Need, **terms: Any) -> m.Submit:
    asked = tuple(need if isinstance(need, m.Need) else m.Need(need) for need in needs)
    return m.Submit(f"b-{run}", SPEC, b"code", (m.NewRun(run, b"args", needs=asked),), terms=m.Terms(**terms))


def test_a_run_waits_until_all_that_it_needs_completed() -> None:
    broker = desk().with_started("a").with_run("b")
    broker.hears("c-1", needing("r", "a", "b"))
    assert broker.state("r") is State.AWAITING_DEPENDENCIES

    broker.hears("w-1", finished("a"))
    assert broker.state("r") is State.AWAITING_DEPENDENCIES
    said = broker.hears("w-1", finished("b"))

    assert broker.state("r") is State.PENDING
    assert ("w-1", "push", "r", 1) in said


def test_a_run_whose_needs_completed_before_never_waits() -> None:
    broker = desk().with_started("a")
    broker.hears("w-1", finished("a"))

    broker.hears("c-1", needing("r", "a"))

    assert [moment.state for moment in broker.rows["r"].history] == ["Pending"]


def test_a_failure_is_told_down_a_chain_of_any_length() -> None:
    broker = desk().with_started("a")
    before = "a"
    for i in range(3000):
        broker.broker.handle("c-1", needing(f"r{i}", before), at(0))
        before = f"r{i}"
    broker.passes(0)

    broker.hears("w-1", finished("a", "raised"))

    assert {broker.state(f"r{i}") for i in range(3000)} == {State.UPSTREAM_FAILED}
    assert broker.rows["r0"].message == "run a, which it needs, ended Failed"


def test_who_tolerates_a_failure_starts_after_it() -> None:
    broker = desk().with_started("a")
    broker.hears("c-1", needing("r", m.Need("a", tolerant=True)))

    said = broker.hears("w-1", finished("a", "raised"))

    assert ("w-1", "push", "r", 1) in said


def test_an_unknown_need_is_refused_and_nothing_is_recorded() -> None:
    broker = desk()

    [(_, refused)] = broker.hears("c-1", needing("r", "nobody"))

    assert (refused.code, refused.reason) == (
        "unknown_run", "it needs run nobody, which is not recorded in this home",
    )  # fmt: skip
    assert not broker.rows


def test_a_cancelled_run_waits_for_nothing_any_more() -> None:
    broker = desk().with_started("a")
    broker.hears("c-1", needing("r", "a"))

    broker.hears("c-1", m.Cancel(1, ("r",)))
    broker.hears("w-1", finished("a"))

    assert broker.state("r") is State.CANCELLED


def test_an_eta_comes_first_and_then_the_needs() -> None:
    broker = desk().with_started("a")
    broker.hears("c-1", needing("r", "a", eta=1010.0))
    assert broker.state("r") is State.SCHEDULED

    broker.passes(11)
    assert broker.state("r") is State.AWAITING_DEPENDENCIES
    broker.hears("w-1", finished("a"), s=12)

    assert broker.rows["r"].worker == "w-1"


def test_an_upstream_that_fails_ends_a_run_before_its_eta() -> None:
    broker = desk().with_started("a")
    broker.hears("c-1", needing("r", "a", eta=1010.0))

    broker.hears("w-1", finished("a", "raised"))

    assert broker.state("r") is State.UPSTREAM_FAILED


def leaves(broker: Desk, run: str) -> bool:
    past = [Past(broker.rows[run].seq, run, "Completed", 1000.0, 1, "m:f")]
    return bool(broker.broker.leaving(past, Bounds(1e9), at(100_000)))


def test_what_a_live_run_needs_stays_in_the_journal() -> None:
    broker = desk().with_started("a")
    broker.hears("w-1", finished("a"))
    broker.hears("c-1", m.Noted(1, 1))
    broker.hears("c-1", needing("r", "a"))
    assert not leaves(broker, "a")

    broker.hears("w-1", finished("r"))

    assert leaves(broker, "a")
