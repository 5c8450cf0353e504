"""What follows from the end of an attempt."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.core import policy
from nbtasks.core.policy import Verdict, after_attempt
from nbtasks.core.records import RunRecord
from nbtasks.core.states import Cause
from tests.core.given import spec


def record(failures: int = 0, crashes: int = 0, stop: str = "", **options: Any) -> RunRecord:
    return RunRecord(
        1, "r", "b", spec(**options), "s", "", 0.0, failures=failures, crashes=crashes, stop=stop
    )


@pytest.mark.feature("T8")
@pytest.mark.parametrize("outcome", [policy.RAISED, policy.TIMED_OUT])
def test_an_attempt_that_was_the_last_one_by_its_own_word_is_not_tried_again(outcome: str) -> None:
    run = record(retries=9, timeout_s=2)

    assert after_attempt(run, outcome, "m", 100.0).cause in policy.RETRIES
    assert after_attempt(run, outcome, "m", 100.0, False).cause in (Cause.RAISED, Cause.TIMED_OUT)


def test_a_worker_that_died_in_hooks_is_no_reason_to_run_the_code_again() -> None:
    run = record(crash_retries=9)

    assert after_attempt(run, policy.DIED, "m", 100.0).cause is Cause.CRASHED_RETRY
    assert after_attempt(run, policy.DIED, "m", 100.0, False).cause is Cause.CRASHED


def test_code_may_cancel_its_own_run() -> None:
    verdict = after_attempt(record(retries=9), policy.CANCELLED, "m", 100.0)

    assert verdict == Verdict(Cause.CANCELLED, "m")
    assert verdict.confirms(policy.CANCELLED)
    assert not verdict.confirms(policy.RAISED)


@pytest.mark.parametrize(
    ("run", "outcome", "verdict"),
    [
        (record(), policy.COMPLETED, Verdict(Cause.COMPLETED, "m")),
        (record(stop="cancel"), policy.COMPLETED, Verdict(Cause.COMPLETED, "m")),
        (record(stop="cancel", retries=9), policy.RAISED, Verdict(Cause.CANCELLED)),
        (record(stop="cancel", crash_retries=9), policy.DIED, Verdict(Cause.CANCELLED)),
        (record(), policy.RAISED, Verdict(Cause.RAISED, "m")),
        (record(retries=1), policy.RAISED, Verdict(Cause.RAISED_RETRY, "m")),
        (record(retries=1, failures=1), policy.RAISED, Verdict(Cause.RAISED, "m")),
        (record(retries=1, retry_delay_s=3), policy.RAISED, Verdict(Cause.RAISED_RETRY_LATER, "m", 103.0)),
        (record(timeout_s=2), policy.TIMED_OUT, Verdict(Cause.TIMED_OUT, "exceeded 2 s")),
        (record(timeout_s=2, stop="timeout"), policy.DIED, Verdict(Cause.TIMED_OUT, "exceeded 2 s")),
        (record(timeout_s=2, retries=1), policy.TIMED_OUT, Verdict(Cause.RAISED_RETRY, "exceeded 2 s")),
        (record(retries=9), policy.DIED, Verdict(Cause.CRASHED, "m")),
        (record(crash_retries=1), policy.DIED, Verdict(Cause.CRASHED_RETRY, "m")),
        (record(crash_retries=1, crashes=1), policy.DIED, Verdict(Cause.CRASHED, "m")),
        (record(retries=9, crash_retries=9), policy.CRASHED, Verdict(Cause.CRASHED, "m")),
    ],
)
def test_one_rule_decides(run: RunRecord, outcome: str, verdict: Verdict) -> None:
    assert after_attempt(run, outcome, "m", 100.0) == verdict
