"""States as user code meets them: what hooks and conditions are given, and what a body may return.

A body that returns `Completed(...)`, `Failed(...)` or `Cancelled(...)` ends its run so, whatever retries
there are; the name is the user's, programs go by the type.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from nbtasks.core.states import State as Names
from nbtasks.core.states import StateType
from nbtasks.errors import CancelledRun, CrashedRun, FailedRun, TimedOut

NAME_CHARACTERS_MAX = 100
_ERRORS = {
    StateType.FAILED: FailedRun,
    StateType.CANCELLED: CancelledRun,
    StateType.CRASHED: CrashedRun,
}


class State:
    """A state that a run is in.

    Attributes
    ----------
    type, name, message
        What a program tests, what a user reads, and why.
    data
        The result of a run that completed, or the exception of one that did not; None if there is none.
    timestamp
        Since when; aware.
    """

    def __init__(
        self, kind: StateType, name: str, message: str, data: Any = None, timestamp: datetime | None = None
    ) -> None:
        self.type = kind
        self.name = name
        self.message = message
        self.data = data
        self.timestamp = timestamp or datetime.now(timezone.utc)

    @property
    def is_final(self) -> bool:
        return self.type is StateType.COMPLETED or self.type in _ERRORS

    def result(self, raise_on_failure: bool = True) -> Any:
        """What the run gave.

        Parameters
        ----------
        raise_on_failure
            False: an exception is returned instead of raised.

        Raises
        ------
        Exception
            The run did not complete; what its code raised, if it did.
        RuntimeError
            The run has not ended.
        """
        if not self.is_final:
            raise RuntimeError(f"a run that is {self.name} has no result yet")
        if self.type is StateType.COMPLETED:
            return self.data
        error = self.data
        if not isinstance(error, BaseException):
            error = _ERRORS[self.type](self.message or f"the run ended {self.name}")
        if raise_on_failure:
            raise error
        return error

    def __str__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, message={self.message!r})"


class Returned(State):
    """A state that a body may return."""

    kind: StateType

    def __init__(self, *, name: str = "", message: str = "", data: Any = None) -> None:
        for word, text in (("name", name), ("message", message)):
            if not isinstance(text, str):
                raise TypeError(f"{word} is a string, not {text!r}")
        if len(name) > NAME_CHARACTERS_MAX:
            raise ValueError(f"the name of a state has at most {NAME_CHARACTERS_MAX} characters")
        if not message and isinstance(data, BaseException):
            message = f"{type(data).__name__}: {data}"
        super().__init__(self.kind, name or type(self).__name__, message, data)


class Completed(Returned):
    """The run is done; `data` is its result."""

    kind = StateType.COMPLETED


class Failed(Returned):
    """The run failed and is not retried; `data` is the exception that whoever waits gets."""

    kind = StateType.FAILED


class Cancelled(Returned):
    """The run gave up; whoever waits gets a `CancelledRun`."""

    kind = StateType.CANCELLED


# -- what hooks and conditions are given ----------------------------------------------------------------


def running(attempt: int) -> State:
    """Of a run whose code is about to begin."""
    return State(StateType.RUNNING, (Names.RUNNING if attempt == 1 else Names.RETRYING).value, "")


def failed(error: BaseException, message: str) -> State:
    """Of an attempt that raised, or was interrupted at its deadline."""
    name = Names.TIMED_OUT if isinstance(error, TimedOut) else Names.FAILED
    return State(StateType.FAILED, name.value, message, error)


def moment(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, timezone.utc)
