"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HANG_S = 60.0  # far beyond what any condition of these tests needs on a busy machine


def until(condition: Callable[[], T], what: str, hang_s: float = HANG_S, pause_s: float = 0.005) -> T:
    """Return the first true value of `condition()`; fail with `what` after `hang_s`."""
    ends_at = time.monotonic() + hang_s
    while time.monotonic() < ends_at:
        if value := condition():
            return value
        time.sleep(pause_s)
    raise AssertionError(f"after {hang_s:g} s still not: {what}")
