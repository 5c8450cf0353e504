"""Bytes from messages and back; what is malformed, oversized or of another version is refused here.

A frame is one msgpack array: [protocol, sender, [message, …]]. One frame carries a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from nbtasks.core.messages import (
    PROTOCOL,
    CallFound,
    Ended,
    Exited,
    Finished,
    Message,
    Output,
    PeerId,
    Printed,
    Push,
    Submit,
    ToBroker,
    ToClient,
    ToPool,
    ToWorker,
    Value,
    YieldedFound,
)
from nbtasks.errors import ProtocolError, VersionMismatch

VALUE_BYTES_MAX = 64 * 2**20  # one argument list or one result
BATCH_BYTES_MAX = 8 * 2**20  # where a sender closes a batch, unless one value alone is larger
BATCH_MESSAGES_MAX = 4096
FRAME_BYTES_MAX = VALUE_BYTES_MAX + 2 * BATCH_BYTES_MAX + 2**20  # also MAXMSGSIZE of every socket
INLINE_BYTES_MAX = 64 * 1024  # a value up to this size is told with the final; a larger one is asked for

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_version = msgspec.msgpack.Decoder(tuple[int, str, Any])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding garbage may raise


class Decoder(Generic[T]):
    """Decodes frames that hold messages of one union; strict about types, sizes and version."""

    def __init__(self, union: Any) -> None:
        self._union = union

    @cached_property
    def _frame(self) -> msgspec.msgpack.Decoder[Any]:
        # made when it is used: it takes milliseconds, and most processes are of one kind
        return msgspec.msgpack.Decoder(tuple[int, str, list[self._union]])  # type: ignore[name-defined]

    def decode(self, frame: bytes | memoryview) -> tuple[PeerId, list[T]]:
        """Return sender and messages.

        Raises
        ------
        VersionMismatch
            The frame is whole but of another protocol version.
        ProtocolError
            It is anything else that this side does not understand.
        """
        if len(frame) > FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {len(frame)} bytes; at most {FRAME_BYTES_MAX} are allowed")
        try:
            protocol, sender, messages = self._frame.decode(frame)
        except _UNREADABLE as error:
            self._refuse_other_version(frame)
            raise ProtocolError(f"not a frame of protocol {PROTOCOL}: {error}") from None
        if protocol != PROTOCOL:
            raise VersionMismatch(f"a frame of protocol {protocol}; this side speaks {PROTOCOL}")
        if not 0 < len(sender) <= 64 or len(messages) > BATCH_MESSAGES_MAX:
            raise ProtocolError(f"a frame of {len(messages)} messages, sender of {len(sender)} characters")
        return sender, messages

    def _refuse_other_version(self, frame: bytes | memoryview) -> None:
        try:
            protocol, _, _ = _version.decode(frame)
        except _UNREADABLE:
            return
        if protocol != PROTOCOL:
            raise VersionMismatch(f"a frame of protocol {protocol}; this side speaks {PROTOCOL}")


for_broker: Decoder[ToBroker] = Decoder(ToBroker)
for_client: Decoder[ToClient] = Decoder(ToClient)
for_worker: Decoder[ToWorker] = Decoder(ToWorker)
for_pool: Decoder[ToPool] = Decoder(ToPool)


def encode(sender: PeerId, messages: list[Message]) -> bytes:
    """Return the one frame that holds all `messages`."""
    return pack((PROTOCOL, sender, messages))


def pack(value: Any) -> bytes:
    """Msgpack of messages; lone surrogates, as names of files may have them, are spelled out."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_spelled_out(value))


def pack_json(value: Any) -> bytes:
    """JSON of outputs, likewise."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_spelled_out(value))


def _spelled_out(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, msgspec.Struct):
        fields = {name: _spelled_out(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, (tuple, list)):
        return type(value)(map(_spelled_out, value))
    if isinstance(value, dict):
        return {_spelled_out(key): _spelled_out(item) for key, item in value.items()}
    return value


def batches(messages: Iterable[Message]) -> list[list[Message]]:
    """Cut messages into batches of at most `BATCH_BYTES_MAX` of payload and `BATCH_MESSAGES_MAX` messages.

    A message that alone is larger goes alone.
    """
    cut: list[list[Message]] = []
    size = 0
    for message in messages:
        weight = payload_bytes(message)
        if not cut or size + weight > BATCH_BYTES_MAX or len(cut[-1]) >= BATCH_MESSAGES_MAX:
            cut.append([])
            size = 0
        cut[-1].append(message)
        size += weight
    return cut


def payload_bytes(message: Message) -> int:
    """Bytes of the payloads in a message; headers are not counted."""
    weigh = _WEIGHTS.get(type(message))
    return weigh(message) if weigh else 0


def _submit_bytes(message: Submit) -> int:
    return len(message.code) + sum(len(run.args) + len(run.parameters) for run in message.runs)


_WEIGHTS: dict[type, Callable[[Any], int]] = {
    Submit: _submit_bytes,
    Push: lambda message: len(message.args) + len(message.code),
    Printed: lambda message: len(message.body),
    Finished: lambda message: len(message.value),
    Ended: lambda message: len(message.value),
    Value: lambda message: len(message.value),
    Output: lambda message: sum(map(len, message.chunks)),
    YieldedFound: lambda message: sum(map(len, message.chunks)),
    CallFound: lambda message: len(message.code) + len(message.args),
    Exited: lambda message: len(message.last_words) + sum(map(payload_bytes, message.said)),
}


def spec_bytes(spec: Any) -> bytes:
    """The bytes whose digest names a spec."""
    return _encoder.encode(spec)
