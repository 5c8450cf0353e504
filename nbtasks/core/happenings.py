"""What the client's machine tells its edge: who answered, what is recorded, what has ended."""

from __future__ import annotations

from typing import Union

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
from nbtasks.core.records import Piece


class Connected(Piece, frozen=True):
    """The broker answered our Hello."""

    pid: int


class Turned(Piece, frozen=True):
    """The broker refused our Hello for good."""

    code: str
    reason: str


class Recorded(Piece, frozen=True):
    """A batch is accepted."""

    batch: str
    run: RunId = ""  # recorded already, with the same idempotency key; none of the batch is new


class NotRecorded(Piece, frozen=True):
    batch: str
    code: str
    reason: str


class RunEnded(Piece, frozen=True):
    ended: Ended


class RunMissing(Piece, frozen=True):
    run: RunId


class BrokerClosed(Piece, frozen=True):
    """The broker stops on purpose."""


class OutboxDone(Piece, frozen=True):
    """Everything that was promised is recorded by the broker: the outbox is needed no more."""


class Answered(Piece, frozen=True):
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
