"""The clock, read here and nowhere else, in the form that the machines want."""

from __future__ import annotations

import time

from nbtasks.core.records import Now


def now() -> Now:
    return Now(time.monotonic(), time.time())
