"""Hook runs: what the broker records when a run ended without a worker that could run its hooks."""

from __future__ import annotations

from uuid import UUID

import pytest

from nbtasks.core import messages as m
from nbtasks.core.hooks import ENDS, hook_run_id
from nbtasks.core.states import State
from nbtasks.wire import ids
from tests.core.given import Desk, at, desk, finished

RUN = ids.run_id()
HOOK = hook_run_id(RUN)


def follower(table: Desk) -> m.Spec:
    """The spec of the hook run that was recorded with the last pass."""
    [new] = table.output.new
    row = new.record
    assert (row.run, row.parent, new.args) == (HOOK, RUN, b"")
    assert (row.spec_id, row.spec) in [(spec_id, spec) for spec_id, spec, _ in table.output.specs]
    return row.spec


def test_the_id_of_a_hook_run_is_a_uuid_that_follows_from_the_run_and_lies_beside_it() -> None:
    after = ids.run_id()

    assert UUID(HOOK).version == 8
    assert hook_run_id(RUN) == HOOK != hook_run_id(after)
    assert RUN < HOOK
    assert HOOK[:13] == RUN[:13]


@pytest.mark.feature("T13")
def test_a_run_that_is_cancelled_in_the_queue_is_followed_by_its_hooks() -> None:
    table = Desk().with_client().with_run(RUN, hooks=("on_cancellation",), retries=3, crash_retries=3)

    table.hears("c-1", m.Cancel(1, (RUN,)))

    spec = follower(table)
    assert (spec.hook, spec.hooks, spec.retries, spec.crash_retries) == ("on_cancellation", (), 0, 0)
    assert table.rows[HOOK].name == f"{table.rows[RUN].spec.name}: on_cancellation"
    said = table.with_pool().with_worker() and table.output.sends
    assert any(getattr(item, "record", None) is table.rows[HOOK] for item in said)


@pytest.mark.feature("T13")
def test_a_crash_and_a_kill_at_the_deadline_are_followed_by_their_hooks() -> None:
    for options, hook in (({}, "on_crash"), ({"timeout_s": 1.0, "grace_s": 0.0}, "on_failure")):
        table = desk().with_started(RUN, hooks=ENDS, **options)  # type: ignore[arg-type]
        if options:
            table.passes(2.0)

        table.hears("p-1", m.Exited("w-1", "killed by SIGKILL", (m.Held(RUN, 1, started=True),)), s=2.0)

        assert follower(table).hook == hook


@pytest.mark.feature("T13")
@pytest.mark.parametrize(("outcome", "hook"), [("completed", "on_completion"), ("raised", "on_failure")])
def test_hooks_that_the_worker_ran_are_not_followed(outcome: str, hook: str) -> None:
    for told in (hook, ""):
        table = desk().with_started(RUN, hooks=ENDS)

        table.hears("w-1", finished(RUN, outcome, hooks=told))

        assert table.rows[RUN].is_final
        assert [new.record.run for new in table.output.new] == ([] if told else [HOOK])


@pytest.mark.feature("T13")
def test_hooks_that_a_dead_worker_had_begun_are_neither_followed_nor_is_the_code_run_again() -> None:
    table = desk().with_started(RUN, hooks=("on_completion",), crash_retries=3)

    held = m.Held(RUN, 1, started=True, hooks="on_completion")
    table.hears("p-1", m.Exited("w-1", "exit status 3", (held,)))

    assert table.state(RUN) is State.CRASHED
    assert not table.output.new


@pytest.mark.feature("T13")
def test_an_attempt_that_is_tried_again_is_followed_by_nothing() -> None:
    table = desk().with_started(RUN, hooks=ENDS, retries=1)

    table.hears("w-1", finished(RUN, "raised"))

    assert not table.rows[RUN].is_final
    assert not table.output.new


@pytest.mark.feature("T13")
def test_a_hook_run_is_followed_by_nothing() -> None:
    table = Desk().with_client().with_run(RUN, hooks=ENDS)
    table.hears("c-1", m.Cancel(1, (RUN,)))

    table.hears("c-1", m.Cancel(2, (HOOK,)))

    assert table.rows[HOOK].is_final
    assert not table.output.new


@pytest.mark.feature("T8")
def test_a_condition_that_said_no_is_honoured() -> None:
    table = desk().with_started("r", retries=9)

    table.hears("w-1", finished("r", "raised", retry=False))

    assert table.state("r") is State.FAILED


@pytest.mark.feature("R6")
@pytest.mark.parametrize(
    ("outcome", "state"),
    [("completed", State.COMPLETED), ("raised", State.FAILED), ("cancelled", State.CANCELLED)],
)
def test_the_users_name_for_a_state_lies_under_its_type(outcome: str, state: State) -> None:
    table = desk().with_started("r", retries=9)

    table.hears("w-1", finished("r", outcome, retry=False, label="Mine"))

    assert table.state("r") is state
    assert table.rows["r"].history[-1].label == "Mine"
    assert table.broker.status(1, at(0), "", 0.0).counts[state.type.value] == 1


def test_a_name_for_another_end_than_the_run_comes_to_is_not_kept() -> None:
    table = desk().with_started("r")
    table.hears("c-1", m.Cancel(1, ("r",)))

    table.hears("w-1", finished("r", "raised", retry=False, label="Mine"))

    assert table.state("r") is State.CANCELLED
    assert table.rows["r"].history[-1].label == ""
