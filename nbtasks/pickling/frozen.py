"""A value as it was at one moment, which travels within another pickle.

What it holds is pickled once, when it is frozen; what happens to the objects later does not show.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from nbtasks.core.messages import Need
from nbtasks.core.payload import Payload
from nbtasks.pickling import sources
from nbtasks.pickling.sources import Sources


class Frozen:
    """Unpickled it is the value again.

    Parameters
    ----------
    payload
        The pickled value; its buffers are those of the living objects, unless it is a `copy()`.
    needs
        The runs whose values stand in it.
    carried
        The sources of its functions that are in no file.
    """

    def __init__(self, payload: Payload, needs: Sequence[Need], carried: Sources = ()) -> None:
        self.payload = payload
        self.needs = list(needs)
        self._carried = carried

    def copy(self) -> Frozen:
        """One that shares no memory with the objects it was made of."""
        stream = [bytes(piece) for piece in self.payload.stream]
        # of bytes an array would be read-only
        buffers = [memoryview(bytearray(buffer)) for buffer in self.payload.buffers]
        return Frozen(Payload(stream, buffers), self.needs, self._carried)

    def thawed(self) -> Any:
        """The value, loaded here; see `upstream.given` for runs in it."""
        return _thawed(b"".join(self.payload.stream), self.payload.buffers, self._carried)

    def __reduce__(self) -> Any:
        stream = pickle.PickleBuffer(b"".join(self.payload.stream))
        buffers = [pickle.PickleBuffer(buffer) for buffer in self.payload.buffers]
        return _thawed, (stream, buffers, self._carried)


def _thawed(stream: Any, buffers: Sequence[Any], carried: Sources) -> Any:
    sources.remember(carried)
    return pickle.loads(stream, buffers=buffers)
