"""What handles tell of runs: the states that they were in, their attempts, how far they are."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

from nbtasks import pickling
from nbtasks.core.messages import Attempt, Moment, Need
from nbtasks.core.states import FINAL_TYPES, State, StateType
from nbtasks.pickling.upstream import Upstream


class _StateParts(NamedTuple):
    type: StateType
    name: str  # the user's own, if the code returned a state with one
    message: str
    timestamp: datetime


class RunState(_StateParts, Upstream):
    """A state that a run is or was in: its type, name, message and timestamp.

    As an argument of a run it is replaced by the result of the run whose state it is; elsewhere it travels
    as a state.
    """

    run: Upstream | None = None  # whose state it is

    @classmethod
    def of(cls, run: Upstream, moment: Moment) -> RunState:
        """What a run was at this moment."""
        kind = State(moment.state).type
        state = cls(kind, moment.label or moment.state, moment.message, _when(moment.at))
        state.run = run
        return state

    def need(self) -> Need | None:
        return self.run.need() if self.run is not None else None

    def at_hand(self) -> Any:
        return NotImplemented if self.run is None else self.run.__reduce_ex__(pickling.PROTOCOL)

    def __reduce__(self) -> Any:
        return RunState, tuple(self)

    @property
    def is_final(self) -> bool:
        return self.type in FINAL_TYPES

    def __str__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"


class RunProgress(NamedTuple):
    """How far the code of a run says that it is."""

    done: float
    total: float | None  # None: not known
    text: str

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1; None if the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None


class RunAttempt(NamedTuple):
    """One attempt whose user code started."""

    number: int
    worker: str
    pid: int
    start: datetime
    end: datetime | None
    outcome: str  # "" while it runs

    @classmethod
    def of(cls, attempt: Attempt) -> RunAttempt:
        end = _when(attempt.end) if attempt.end else None
        return cls(attempt.number, attempt.worker, attempt.pid, _when(attempt.start), end, attempt.outcome)


def _when(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, timezone.utc)
