"""A pickled value on its way: the pickle in pieces, and the buffers that lie outside of it.

Nothing is copied until it is known whether the value travels in a message or in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Payload(NamedTuple):
    """What pickling makes and takes.

    Attributes
    ----------
    stream
        The pickle; its pieces belong together in this order.
    buffers
        Contiguous bytes to which the pickle refers by their order.
    """

    stream: Sequence[bytes | memoryview]
    buffers: Sequence[memoryview] = ()

    @property
    def size(self) -> int:
        """Bytes of all, without what a file adds."""
        size = sum(map(len, self.stream))
        return size + sum(buffer.nbytes for buffer in self.buffers) if self.buffers else size
