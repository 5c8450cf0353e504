"""The life of a run, as one table.

Everything that may happen to a run is a row of `MOVES`; nothing else in nbtasks assigns a state. A
state is known by its *name* (what a user reads); several names share one *type* (what a program
tests). Which worker holds a run is not part of its state: a pushed run is still Pending.
"""

from __future__ import annotations

import difflib
from enum import Enum

from nbtasks.errors import IllegalMove


class _Word(str, Enum):
    """A text that is one of a few. It hashes as the text that it equals; Enum's own hash is a call more."""

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return str(self.value)


class StateType(_Word):
    """What a program tests for; every state name belongs to exactly one of these eight."""

    SCHEDULED = "SCHEDULED"  # not before a time that lies ahead
    PENDING = "PENDING"  # may start as soon as a worker is free
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"  # cancel asked; the code may still be running
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"  # the process died, or the code left the interpreter


class State(_Word):
    """What a user reads. The value is the name that is shown and stored."""

    SCHEDULED = "Scheduled"  # its eta lies ahead
    AWAITING_RETRY = "AwaitingRetry"  # a delayed retry, until its code starts again
    PENDING = "Pending"
    AWAITING_DEPENDENCIES = "AwaitingDependencies"  # runs that it needs have not ended
    AWAITING_SLOT = "AwaitingConcurrencySlot"  # a tag of it has no free slot; until its code starts
    RUNNING = "Running"
    RETRYING = "Retrying"  # an immediate retry, from the failure on
    CANCELLING = "Cancelling"
    COMPLETED = "Completed"
    CACHED = "Cached"  # with the result of an earlier run
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    UPSTREAM_FAILED = "UpstreamFailed"  # a run that it needs did not complete; its code never starts
    CANCELLED = "Cancelled"
    CRASHED = "Crashed"

    @property
    def type(self) -> StateType:
        return TYPES[self]


TYPES: dict[State, StateType] = {
    State.SCHEDULED: StateType.SCHEDULED,
    State.AWAITING_RETRY: StateType.SCHEDULED,
    State.PENDING: StateType.PENDING,
    State.AWAITING_DEPENDENCIES: StateType.PENDING,
    State.AWAITING_SLOT: StateType.PENDING,
    State.RUNNING: StateType.RUNNING,
    State.RETRYING: StateType.RUNNING,
    State.CANCELLING: StateType.CANCELLING,
    State.COMPLETED: StateType.COMPLETED,
    State.CACHED: StateType.COMPLETED,
    State.FAILED: StateType.FAILED,
    State.TIMED_OUT: StateType.FAILED,
    State.UPSTREAM_FAILED: StateType.FAILED,
    State.CANCELLED: StateType.CANCELLED,
    State.CRASHED: StateType.CRASHED,
}

FINAL = frozenset(
    {
        State.COMPLETED,
        State.CACHED,
        State.FAILED,
        State.TIMED_OUT,
        State.UPSTREAM_FAILED,
        State.CANCELLED,
        State.CRASHED,
    }
)


def state_word(given: str) -> str:
    """The state type or name that is meant; in lower case, say, a type goes before a name.

    Raises
    ------
    ValueError
        There is none; the message says which there are.
    """
    words = [*map(str, StateType), *map(str, State)]
    if given in words:
        return given
    for word in words:
        if word.lower() == given.lower():
            return word
    close = difflib.get_close_matches(given.lower(), [word.lower() for word in words], 1)
    near = f", did you mean {next(word for word in words if word.lower() == close[0])!r}?" if close else ""
    types, names = ", ".join(map(str, StateType)), ", ".join(map(str, State))
    raise ValueError(f"there is no state {given!r}{near or '.'} Types are {types}; names are {names}")


FINAL_TYPES = frozenset(state.type for state in FINAL)
FIRST = (State.SCHEDULED, State.AWAITING_DEPENDENCIES, State.PENDING)  # in which a run may begin


class Cause(_Word):
    """What may happen to a run; the label of an arrow in the diagram."""

    DUE = "due"  # its eta has come
    DUE_WAITING = "due, needs other runs"
    READY = "all it needs completed"
    UPSTREAM_FAILED = "one it needs did not complete"
    NO_SLOT = "no slot of a tag is free"
    STARTED = "started"  # user code of an attempt begins
    COMPLETED = "completed"
    CACHED = "an earlier result is taken"
    RAISED = "raised"  # the last attempt failed
    RAISED_RETRY = "raised, retry now"
    RAISED_RETRY_LATER = "raised, retry later"
    TIMED_OUT = "timed out"  # the last attempt was interrupted at its deadline
    CRASHED = "crashed"
    CRASHED_RETRY = "crashed, run again"
    CANCEL = "cancel"  # asked while a worker holds it
    CANCELLED = "cancelled"  # confirmed, or nobody held it


_ENDINGS = {
    Cause.COMPLETED: State.COMPLETED,
    Cause.CACHED: State.CACHED,
    Cause.RAISED: State.FAILED,
    Cause.RAISED_RETRY: State.RETRYING,
    Cause.RAISED_RETRY_LATER: State.AWAITING_RETRY,
    Cause.TIMED_OUT: State.TIMED_OUT,
    Cause.CRASHED: State.CRASHED,
    Cause.CRASHED_RETRY: State.RETRYING,
}

MOVES: dict[State, dict[Cause, State]] = {
    State.SCHEDULED: {
        Cause.DUE: State.PENDING,
        Cause.DUE_WAITING: State.AWAITING_DEPENDENCIES,
        Cause.UPSTREAM_FAILED: State.UPSTREAM_FAILED,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.AWAITING_DEPENDENCIES: {
        Cause.READY: State.PENDING,
        Cause.UPSTREAM_FAILED: State.UPSTREAM_FAILED,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.PENDING: {
        Cause.UPSTREAM_FAILED: State.UPSTREAM_FAILED,
        Cause.CACHED: State.CACHED,
        Cause.NO_SLOT: State.AWAITING_SLOT,
        Cause.STARTED: State.RUNNING,
        Cause.CANCEL: State.CANCELLING,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.AWAITING_SLOT: {
        Cause.STARTED: State.RUNNING,
        Cause.CANCEL: State.CANCELLING,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.RUNNING: {**_ENDINGS, Cause.CANCEL: State.CANCELLING},
    State.AWAITING_RETRY: {
        Cause.STARTED: State.RETRYING,
        Cause.CANCEL: State.CANCELLING,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.RETRYING: {
        **_ENDINGS,
        Cause.STARTED: State.RETRYING,
        Cause.CANCEL: State.CANCELLING,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.CANCELLING: {
        Cause.CACHED: State.CACHED,
        Cause.COMPLETED: State.COMPLETED,  # it was faster than the interrupt: the work is kept
        Cause.CANCELLED: State.CANCELLED,
    },
    State.COMPLETED: {},
    State.CACHED: {},
    State.FAILED: {},
    State.TIMED_OUT: {},
    State.UPSTREAM_FAILED: {},
    State.CANCELLED: {},
    State.CRASHED: {},
}


def move(state: State, cause: Cause) -> State:
    """Return the state that `cause` leads to from `state`.

    Raises
    ------
    IllegalMove
        The pair is not in `MOVES`.
    """
    try:
        return MOVES[state][cause]
    except KeyError:
        raise IllegalMove(f"{cause} cannot happen to a run that is {state}") from None


def mermaid() -> str:
    """Draw `MOVES` as a mermaid state diagram; the README holds a copy and a test compares them."""
    rows = ["stateDiagram-v2", *(f"    [*] --> {state}" for state in FIRST)]
    for source, arrows in MOVES.items():
        labels: dict[State, list[str]] = {}
        for cause, target in arrows.items():
            if target is not source:
                labels.setdefault(target, []).append(str(cause))
        rows += [f"    {source} --> {target}: {' / '.join(causes)}" for target, causes in labels.items()]
    rows += [f"    {state} --> [*]" for state in MOVES if state in FINAL]
    return "\n".join(rows)
