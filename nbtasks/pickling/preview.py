"""A short text of a result, without executing any code of its class, or what its pickle names."""

from __future__ import annotations

import io
import json
import pickle
import reprlib
from typing import Any

from nbtasks.core.payload import Payload
from nbtasks.pickling import serializers
from nbtasks.pickling.offered import Offered, value_in

PREVIEW_BYTES_MAX = 64 * 1024  # of a pickle that is looked into
PREVIEW_CHARACTERS_MAX = 300

_repr = reprlib.Repr()
_repr.maxlevel = 4
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = 12
_repr.maxdict = 8
_repr.maxstring = _repr.maxother = 120


class _Plain(pickle.Unpickler):
    """Knows numbers, texts and the containers of these, and what a cell offers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (Offered.__module__, Offered.__qualname__):
            return Offered
        if (module, name) == ("builtins", "complex"):
            return complex
        raise pickle.UnpicklingError(f"{module}.{name} is not plain")


def preview(body: Payload) -> str:
    """How a plain value is written; "" of any other, of a large one, and of None."""
    if body.buffers or body.size > PREVIEW_BYTES_MAX:
        return ""
    try:
        stream, is_json = serializers.opened(b"".join(body.stream))
        value = json.loads(stream) if is_json else _Plain(io.BytesIO(stream)).load()
    except Exception:
        return ""  # whatever asks for the value says why
    value = value_in(value)
    return "" if value is None else _repr.repr(value)[:PREVIEW_CHARACTERS_MAX]
