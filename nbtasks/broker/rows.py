"""How records lie in the journal's rows: the columns of a state, and the JSON of its lists."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from nbtasks.core.messages import Attempt, Moment, Spec
from nbtasks.core.records import RunRecord
from nbtasks.core.states import FINAL, State

LIVE = tuple(state.value for state in State if state not in FINAL)
ENDED = tuple(state.value for state in State if state in FINAL)

STATE_COLUMNS = (
    "state",
    "message",
    "at",
    "history",
    "attempts",
    "attempt",
    "worker",
    "started",
    "stop",
    "due",
    "failures",
    "crashes",
    "chunks",
)

_json = msgspec.json.Encoder()
history_of = msgspec.json.Decoder(tuple[Moment, ...]).decode
attempts_of = msgspec.json.Decoder(tuple[Attempt, ...]).decode
spec_of = msgspec.json.Decoder(Spec).decode


class Damaged(Exception):
    """What was read is not what was written."""


def text(value: Any) -> str:
    return _json.encode(value).decode()


def marks(values: tuple[str, ...] | list[str]) -> str:
    """A question mark for each value."""
    return ", ".join("?" * len(values))


def crc(run: str, parameters: str, args: bytes) -> int:
    return zlib.crc32(args, zlib.crc32(f"{run}{parameters}".encode()))


def state_rows(records: Iterable[RunRecord]) -> list[tuple[Any, ...]]:
    """Of each the values of `STATE_COLUMNS`, then the key."""
    found, shared, history = [], None, ""
    for record in records:
        if record.history is not shared:
            # runs of a batch share the first one
            shared, history = record.history, text(record.history)
        found.append(_state_row(record, history))
    return found


def _state_row(r: RunRecord, history: str) -> tuple[Any, ...]:
    return (
        r.state,
        r.message,
        r.at,
        history,
        text(r.attempts) if r.attempts else "[]",
        r.attempt,
        r.worker,
        r.started,
        r.stop,
        r.due,
        r.failures,
        r.crashes,
        r.chunks,
        r.seq,
    )
