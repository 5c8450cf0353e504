"""Code and arguments on their way to workers: at hand if there is room for them, else read from the store.

Most runs are pushed within milliseconds of their submit, and reading them back would be in vain; but
a long queue must not fill the memory. Of runs that wait for a worker alone the oldest stay: they are
pushed first. What waits for anything else, or has started, would take their room.
"""

from __future__ import annotations

from collections import OrderedDict

from nbtasks.broker.store import Store
from nbtasks.core.records import Output, RunRecord
from nbtasks.core.states import State

ENTRY_BYTES = 200  # what the cache itself needs for one entry, roughly


class Payloads:
    """The payloads of live runs, with a bounded cache in front of the table.

    Parameters
    ----------
    bytes_max
        Of arguments; code may take as much again.
    """

    def __init__(self, store: Store, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._arguments: dict[int, bytes] = {}  # of a run, by its sequence number
        self._arguments_bytes = 0
        self._codes: OrderedDict[str, bytes] = OrderedDict()  # by digest, the last one used last
        self._codes_bytes = 0

    def committed(self, output: Output) -> None:
        """Keep what is new, forget what has started or is over."""
        for _, spec, code in output.specs:
            if code:
                self._keep_code(spec.code, code)
        for new in output.new:
            size = len(new.args) + ENTRY_BYTES
            if new.record.state is State.PENDING and self._arguments_bytes + size <= self._bytes_max:
                self._arguments[new.record.seq] = new.args
                self._arguments_bytes += size
        for seq, record in output.changed.items():
            if (record.is_final or record.started) and (args := self._arguments.pop(seq, None)) is not None:
                self._arguments_bytes -= len(args) + ENTRY_BYTES

    def arguments(self, record: RunRecord) -> bytes:
        """The pickled arguments of a run (of a hook run: those of its subject); raises `rows.Damaged`."""
        if record.spec.hook:
            return self._store.arguments_of(record.parent)
        kept = self._arguments.get(record.seq)
        return self._store.arguments(record.seq) if kept is None else kept

    def code(self, digest: str) -> bytes:
        """A pickled function; b"" if only a serving pool can run it."""
        if not digest:
            return b""
        kept = self._codes.get(digest)
        if kept is None:
            kept = self._store.code(digest)
            self._keep_code(digest, kept)
        else:
            self._codes.move_to_end(digest)
        return kept

    def _keep_code(self, digest: str, code: bytes) -> None:
        before = self._codes.pop(digest, None)
        if before is not None:
            self._codes_bytes -= len(before) + ENTRY_BYTES
        self._codes[digest] = code
        self._codes_bytes += len(code) + ENTRY_BYTES
        while self._codes_bytes > self._bytes_max and self._codes:
            _, oldest = self._codes.popitem(last=False)
            self._codes_bytes -= len(oldest) + ENTRY_BYTES
