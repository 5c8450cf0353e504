"""Names for runs and peers.

Run ids are UUIDv7 with a counter within the millisecond: they sort by time, and SQLite's index grows
at one end instead of everywhere (random keys cost it a factor of 4 to 6).
"""

from __future__ import annotations

import os
import secrets
import threading
import time

_COUNTER_MAX = 0xFFF
_lock = threading.Lock()
_last_ms = 0
_counter = 0


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
    tail = (int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
    text = f"{head:012x}7{count:03x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def peer_id(kind: str) -> str:
    """A fresh name for a peer; `kind` is "c" (client), "w" (worker) or "p" (pool)."""
    return f"{kind}-{secrets.token_hex(6)}"
