"""Names for runs and peers.

Run ids are UUIDv7 with a counter within the millisecond: they sort by time, and SQLite's index grows
at one end instead of everywhere (random keys cost it a factor of 4 to 6).
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import time

_COUNTER_MAX = 0xFFF
_lock = threading.Lock()
_last_ms = 0
_counter = 0
_TAIL = struct.Struct("64Q")
_random: list[int] = []  # numbers that no id has yet


def run_id() -> str:
    """A fresh UUIDv7 in canonical form, larger than every one made before in this process.

    References
    ----------
    RFC 9562, section 6.2, method 1 (fixed bit-length dedicated counter).
    """
    global _last_ms, _counter
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms, _counter = now_ms, 0
        elif _counter < _COUNTER_MAX:
            _counter += 1
        else:
            # more than 4096 in one millisecond, or the clock was set back: borrow from the future
            _last_ms, _counter = _last_ms + 1, 0
        head, count = _last_ms, _counter
        if not _random:
            # of many, because asking the system costs as much as all the rest
            _random.extend(_TAIL.unpack(os.urandom(_TAIL.size)))
        tail = _random.pop() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    start = f"{head >> 16:08x}-{head & 0xFFFF:04x}-7{count:03x}"
    return f"{start}-{tail >> 48:04x}-{tail & 0xFFFF_FFFF_FFFF:012x}"


def peer_id(kind: str) -> str:
    """A fresh name for a peer; `kind` is "c" (client), "w" (worker) or "p" (pool)."""
    return f"{kind}-{secrets.token_hex(6)}"


def _after_fork() -> None:
    """A child must not make its parent's next ids, nor wait for a thread that it does not have."""
    global _lock
    _lock = threading.Lock()
    _random.clear()


os.register_at_fork(after_in_child=_after_fork)
