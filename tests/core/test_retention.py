"""Which runs leave the journal, and that nobody misses them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbtasks.core import messages as m
from nbtasks.core.retention import RECENT_S, Bounds, Past, leaving
from tests.core.given import Desk, at, desk, finished, spec, submit

LATER_S = 2 * RECENT_S
ENDED = st.floats(0, 10_000)
PASTS = st.lists(st.tuples(ENDED, st.integers(0, 1000)), max_size=30).map(
    lambda pairs: [
        Past(i, f"r{i}", "Completed", ended, size, "m:f") for i, (ended, size) in enumerate(pairs, 1)
    ]
)
NOW_S = 10_000 + RECENT_S + 1


def nobody(past: Past) -> bool:
    return False


def past(desk: Desk, run: str) -> Past:
    row = desk.rows[run]
    return Past(row.seq, run, row.state.value, row.at, 100, row.spec.key)


def removed(desk: Desk, *runs: str, s: float = LATER_S) -> list[str]:
    """Which of `runs` the broker lets go."""
    gone = desk.broker.remove([past(desk, run) for run in runs], at(s))
    desk.passes(s)
    return [one.run for one in gone]


@given(PASTS, ENDED)
def test_by_age_exactly_what_ended_before_leaves(pasts: list[Past], before: float) -> None:
    assert leaving(pasts, Bounds(before), NOW_S, nobody) == [p for p in pasts if p.ended < before]


@given(PASTS, st.integers(0, 20_000))
def test_by_size_the_oldest_leave_and_no_more_than_necessary(pasts: list[Past], excess: int) -> None:
    gone = leaving(pasts, Bounds(0.0, excess), NOW_S, nobody)

    assert gone == pasts[: len(gone)]
    assert sum(p.size for p in gone) >= min(excess, sum(p.size for p in pasts))
    assert sum(p.size for p in gone[:-1]) < excess or not gone


@given(PASTS, ENDED, st.integers(0, 20_000), st.sets(st.integers(1, 30)), st.floats(0, 20_000))
def test_what_is_needed_or_recent_stays(
    pasts: list[Past], before: float, excess: int, needed: set[int], unix_s: float
) -> None:
    gone = leaving(pasts, Bounds(before, excess), unix_s, lambda p: p.seq in needed)

    assert not {p.seq for p in gone} & needed
    assert all(p.ended <= unix_s - RECENT_S for p in gone)


@given(PASTS, ENDED, st.integers(0, 20_000))
def test_what_has_left_once_leaves_nothing_for_the_same_bounds(
    pasts: list[Past], before: float, excess: int
) -> None:
    gone = leaving(pasts, Bounds(before, excess), NOW_S, nobody)
    left = [p for p in pasts if p not in gone]
    rest = max(0, excess - sum(p.size for p in gone))

    assert leaving(left, Bounds(before, rest), NOW_S, nobody) == []


def ended_run(desk: Desk, run: str = "r") -> Desk:
    desk.with_run(run)
    desk.hears("w-1", finished(run))
    desk.hears("c-1", m.Noted(1, 10**6))
    return desk


def test_a_run_that_leaves_is_counted_no_more() -> None:
    table = ended_run(ended_run(desk(), "r"), "newer")

    assert removed(table, "r") == ["r"]

    assert [one.run for one in table.output.removed] == ["r"]
    assert table.broker.status(1, at(LATER_S), "", 0.0).counts["COMPLETED"] == 1


def test_the_newest_run_stays_so_that_its_number_is_not_given_twice() -> None:
    assert removed(ended_run(desk()), "r") == []


def test_a_run_that_an_outbox_names_stays_or_it_would_be_taken_for_a_new_one() -> None:
    table = ended_run(ended_run(desk(), "r"), "newer")

    assert table.broker.remove([past(table, "r")], at(LATER_S), promised={"r"}) == []
    assert removed(table, "r") == ["r"]


def test_a_run_that_ended_just_now_stays() -> None:
    table = ended_run(ended_run(desk(), "r"), "newer")

    assert removed(table, "r", s=RECENT_S - 1) == []


def test_the_parent_of_a_live_run_stays_until_that_ends() -> None:
    table = ended_run(desk(), "parent")
    table.hears("c-1", m.Submit("b-child", spec(), b"code", (m.NewRun("child", b""),), parent="parent"))
    ended_run(table, "newer")

    assert removed(table, "parent") == []
    table.hears("w-1", finished("child"), s=LATER_S)
    table.hears("c-1", m.Noted(1, 10**6), s=LATER_S)
    assert removed(table, "parent") == ["parent"]


def test_the_parent_of_a_run_that_waits_stays_after_a_restart() -> None:
    table = ended_run(desk(), "parent")
    table.hears("c-1", m.Submit("b-child", spec(code=""), b"", (m.NewRun("child", b""),), parent="parent"))
    after = Desk().with_client()
    live = [row for row in table.rows.values() if not row.is_final]
    after.broker.restore(live, [], {"PENDING": 1, "COMPLETED": 1}, 2, at(0))
    after.rows.update(table.rows)

    assert removed(after, "parent") == []


def test_a_run_whose_end_is_not_noted_stays() -> None:
    table = desk().with_run("r")
    table.hears("w-1", finished("r"))
    ended_run(Desk(), "other")
    table.hears("c-1", submit("newer", batch="b-newer"))

    assert removed(table, "r") == []
    table.hears("c-1", m.Noted(1, 1), s=LATER_S)
    assert removed(table, "r") == ["r"]


def test_a_run_that_is_watched_again_stays_until_it_is_noted() -> None:
    table = ended_run(ended_run(desk(), "r"), "newer")
    table.hears("c-1", m.Watch(1, ("r",)), s=LATER_S)

    assert removed(table, "r") == []


def test_a_spec_that_left_is_recorded_again_when_it_is_used_again() -> None:
    table = ended_run(desk())
    table.broker.forget_specs([str(spec())], 1)
    table.passes(1.0)
    assert table.output.unused == (1, [str(spec())])

    table.hears("c-1", submit("again", batch="b-again"), s=1.0)

    assert [spec_id for spec_id, _, _ in table.output.specs] == [str(spec())]


def test_a_prune_is_not_for_peers_that_only_observe() -> None:
    from nbtasks.wire import access

    assert not access.may_say(access.OBSERVE, m.Prune(1))
    assert access.may_say(access.FULL, m.Prune(1))
