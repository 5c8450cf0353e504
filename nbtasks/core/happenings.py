"""What the client's machine tells its edge: who answered, what is recorded, what has ended."""

from __future__ import annotations

from typing import NamedTuple, Union

import msgspec

from nbtasks.core.messages import (
    BoardFound,
    CallFound,
    Done,
    Ended,
    LimitsFound,
    Message,
    NotDone,
    Output,
    Pruned,
    RunFound,
    RunId,
    Runs,
    StackFound,
    Status,
    Value,
    YieldedFound,
)
from nbtasks.core.observer import BoardSeen, RunSeen


class Connected(NamedTuple):
    """The broker answered our Hello."""

    pid: int


class Turned(NamedTuple):
    """The broker refused our Hello for good."""

    code: str
    reason: str


class Recorded(NamedTuple):
    """A batch is accepted."""

    batch: str
    run: RunId = ""  # recorded already, with the same idempotency key; none of the batch is new


class NotRecorded(NamedTuple):
    batch: str
    code: str
    reason: str


class RunEnded(NamedTuple):
    ended: Ended


class RunMissing(NamedTuple):
    run: RunId


class BrokerClosed(NamedTuple):
    """The broker stops on purpose."""


class OutboxDone(NamedTuple):
    """Everything that was promised is recorded by the broker: the outbox is needed no more."""


class Answered(NamedTuple):
    """A request is answered by `message`."""

    request: int
    message: Message


Answer = Union[
    Runs, CallFound, StackFound, RunFound, Value, Output, YieldedFound, Status, BoardFound, Pruned,
    LimitsFound, Done, NotDone,
]  # fmt: skip
Event = Union[
    Connected, Turned, Recorded, NotRecorded, RunEnded, RunMissing, BrokerClosed, OutboxDone, Answered,
    BoardSeen, RunSeen,
]  # fmt: skip


class ClientEffects(msgspec.Struct):
    sends: list[Message] = msgspec.field(default_factory=list)
    events: list[Event] = msgspec.field(default_factory=list)
