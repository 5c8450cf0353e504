"""What follows from the end of an attempt: the one place that decides between a retry and a final state."""

from __future__ import annotations

import zlib

from nbtasks.core.messages import RunId, Spec
from nbtasks.core.records import Piece, RunRecord
from nbtasks.core.states import Cause, State

COMPLETED, RAISED, CANCELLED, TIMED_OUT, CRASHED = "completed", "raised", "cancelled", "timed_out", "crashed"
CACHED = "cached"  # the result of an earlier run was found before user code
DIED = "died"  # the process is gone while user code ran; said by whoever saw it, not by the worker

RETRIES = frozenset({Cause.RAISED_RETRY, Cause.RAISED_RETRY_LATER, Cause.CRASHED_RETRY})
OUTCOMES = frozenset({COMPLETED, CACHED, RAISED, CANCELLED, TIMED_OUT, CRASHED, DIED})


class Verdict(Piece, frozen=True):
    """What happens to the run now."""

    cause: Cause
    message: str = ""
    due: float = 0.0  # UNIX seconds; of a delayed retry

    def confirms(self, outcome: str) -> bool:
        """Whether the run ends as its code did."""
        return _CAUSES.get(outcome) is self.cause


_CAUSES = {COMPLETED: Cause.COMPLETED, RAISED: Cause.RAISED, CANCELLED: Cause.CANCELLED}
_NAMES = {
    CACHED: State.CACHED,
    COMPLETED: State.COMPLETED,
    RAISED: State.FAILED,
    CANCELLED: State.CANCELLED,
    TIMED_OUT: State.TIMED_OUT,
    CRASHED: State.CRASHED,
    DIED: State.CRASHED,
}
_STOP_NAMES = {"cancel": State.CANCELLED, "timeout": State.TIMED_OUT}


def outcome_name(outcome: str, stop: str) -> str:
    """What an attempt is shown to have come to, that was being interrupted because of `stop`."""
    state = _NAMES[outcome]
    return (state if outcome in (COMPLETED, CACHED) else _STOP_NAMES.get(stop, state)).value


def retry_delay_s(spec: Spec, failures: int, run: RunId) -> float | None:
    """Pause before the next attempt after `failures` failed ones; None: there is no next one.

    The jitter is drawn from the run's name, so that whoever asks again is told the same.
    """
    if failures > spec.retries:
        return None
    delays = (spec.retry_delay_s, *spec.later_delays_s)
    delay_s = delays[min(failures, len(delays)) - 1]
    if spec.retry_jitter:
        drawn = zlib.crc32(f"{run}/{failures}".encode()) / 2**32  # evenly in [0, 1)
        delay_s *= 1 + spec.retry_jitter * (2 * drawn - 1)
    return max(0.0, delay_s)


def after_attempt(
    record: RunRecord, outcome: str, message: str, unix_s: float, retry: bool = True
) -> Verdict:
    """Judge the end of a charged attempt.

    Parameters
    ----------
    outcome
        One of `OUTCOMES`, as seen from outside; what the run is being stopped for is in the record.
    message
        One line about an exception or an exit.
    unix_s
        The time from which a retry's delay counts.
    retry
        False: user code says that this was the last attempt, by its condition or by what it returned.
    """
    if outcome in (COMPLETED, CACHED):
        return Verdict(Cause.COMPLETED if outcome == COMPLETED else Cause.CACHED, message)
    if record.stop == "cancel":
        return Verdict(Cause.CANCELLED)
    if record.stop == "timeout" or outcome == TIMED_OUT:
        return _failed(record, Cause.TIMED_OUT, f"exceeded {record.spec.timeout_s:g} s", unix_s, retry)
    if outcome == DIED:
        if retry and record.crashes < record.spec.crash_retries:
            return Verdict(Cause.CRASHED_RETRY, message)
        return Verdict(Cause.CRASHED, message)
    if outcome == RAISED:
        return _failed(record, Cause.RAISED, message, unix_s, retry)
    if outcome == CANCELLED:
        return Verdict(Cause.CANCELLED, message)  # by its own code: nobody here asked
    # SystemExit, or an interrupt that nobody here asked for: the code wanted out, so it is not run again
    return Verdict(Cause.CRASHED, message)


def _failed(record: RunRecord, last: Cause, message: str, unix_s: float, retry: bool) -> Verdict:
    delay_s = retry_delay_s(record.spec, record.failures + 1, record.run) if retry else None
    if delay_s is None:
        return Verdict(last, message)
    if delay_s <= 0:
        return Verdict(Cause.RAISED_RETRY, message)
    return Verdict(Cause.RAISED_RETRY_LATER, message, unix_s + delay_s)
