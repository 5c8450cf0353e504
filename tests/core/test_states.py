"""The life of a run, as one table."""

from __future__ import annotations

import pytest

from nbtasks.core.states import FINAL, FIRST, MOVES, TYPES, Cause, State, StateType, mermaid, move, state_word
from nbtasks.errors import IllegalMove


def test_every_name_has_a_type_and_every_type_a_name() -> None:
    assert set(TYPES) == set(MOVES) == set(State)
    assert set(TYPES.values()) == set(StateType)


def test_nothing_leads_out_of_a_final_state_and_something_out_of_every_other() -> None:
    assert {state for state in State if not MOVES[state]} == FINAL


def test_every_state_can_be_reached_and_can_end() -> None:
    reached, frontier = set(), set(FIRST)
    while frontier:
        reached |= frontier
        frontier = {target for state in frontier for target in MOVES[state].values()} - reached
    assert reached == set(State)
    for state in set(State) - FINAL:
        assert any(Cause.CANCEL in MOVES[state] or target in FINAL for target in MOVES[state].values())


def test_what_cannot_happen_is_a_bug_of_ours() -> None:
    with pytest.raises(IllegalMove, match="completed cannot happen to a run that is Pending"):
        move(State.PENDING, Cause.COMPLETED)


def test_the_diagram_shows_every_move_to_another_state() -> None:
    diagram = mermaid()

    for source, arrows in MOVES.items():
        for cause, target in arrows.items():
            if target is not source:
                line = next(row for row in diagram.splitlines() if f" {source} --> {target}:" in row)
                assert str(cause) in line


@pytest.mark.parametrize(
    ("given", "meant"),
    [("FAILED", "FAILED"), ("Failed", "Failed"), ("failed", "FAILED"), ("timedout", "TimedOut")],
)
def test_a_state_is_named_by_type_or_name_in_any_case(given: str, meant: str) -> None:
    assert state_word(given) == meant


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"no state 'Timeout', did you mean 'TimedOut'\? Types are SCHEDULED"
    ):
        state_word("Timeout")
    with pytest.raises(ValueError, match=r"no state 'xyz'\. Types are .* names are Scheduled"):
        state_word("xyz")
