"""How a result is written. What is written says itself how, so that anybody can read it."""

from __future__ import annotations

import json
import zlib
from typing import Any

from nbtasks.core.payload import Payload
from nbtasks.errors import NotPicklable

SERIALIZERS = ("pickle", "json", "compressed/pickle", "compressed/json")

# no pickle begins so, nor a reference to a blob
_JSON = b"\x00json "
_COMPRESSED = b"\x00zlib "


def check(name: str) -> None:
    """Refuse what is not the name of a serializer."""
    if name not in SERIALIZERS:
        raise ValueError(f"there is no result serializer {name!r}; there are {', '.join(SERIALIZERS)}")


def json_of(value: Any) -> bytes:
    """A value as JSON, with its mark; raises `NotPicklable` if there is none of it."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(value).__qualname__
        raise NotPicklable(
            f"the result, a {kind}, cannot be written as JSON ({error}): return plain values, or let the "
            "task have result_serializer='pickle'"
        ) from None
    return _JSON + text.encode()


def compressed(payload: Payload) -> Payload:
    """The same, smaller; all in one piece."""
    return Payload([_COMPRESSED + zlib.compress(b"".join(payload.stream), 6)])


def opened(stream: bytes) -> tuple[bytes, bool]:
    """What was written: the pickle or the JSON text, and whether it is JSON."""
    if stream.startswith(_COMPRESSED):
        stream = zlib.decompress(memoryview(stream)[len(_COMPRESSED) :])
    if stream.startswith(_JSON):
        return stream[len(_JSON) :], True
    return stream, False
