"""Code and arguments on their way to workers: those committed last are at hand, the others in the store.

Most runs are pushed within milliseconds of their submit, and reading them back would be in vain; but
a long queue must not fill the memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from nbtasks.broker.store import Store
from nbtasks.core.records import Output, RunRecord

ENTRY_BYTES = 200  # what the cache itself needs for one entry, roughly


class Payloads:
    """The payloads of live runs, with a bounded cache in front of the table."""

    def __init__(self, store: Store, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def committed(self, output: Output) -> None:
        """Keep what is new, forget what is over."""
        for _, spec, code in output.specs:
            if code:
                self._keep(spec.code, code)
        for new in output.new:
            self._keep(new.record.seq, new.args)
        for seq, record in output.changed.items():
            if record.is_final:
                self._drop(seq)

    def arguments(self, record: RunRecord) -> bytes:
        """The pickled arguments of a run (of a hook run: those of its subject); raises `rows.Damaged`."""
        if record.spec.hook:
            return self._store.arguments_of(record.parent)
        kept = self._kept.get(record.seq)
        return self._store.arguments(record.seq) if kept is None else kept

    def code(self, digest: str) -> bytes:
        """A pickled function; b"" if only a serving pool can run it."""
        if not digest:
            return b""
        kept = self._kept.get(digest)
        if kept is None:
            kept = self._store.code(digest)
            self._keep(digest, kept)
        else:
            self._kept.move_to_end(digest)
        return kept

    def _keep(self, key: Hashable, body: bytes) -> None:
        self._drop(key)
        self._kept[key] = body
        self._bytes += len(body) + ENTRY_BYTES
        while self._bytes > self._bytes_max and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest) + ENTRY_BYTES

    def _drop(self, key: Hashable) -> None:
        body = self._kept.pop(key, None)
        if body is not None:
            self._bytes -= len(body) + ENTRY_BYTES
