"""Things to do later, in one heap; an entry that no longer matters is recognised when it is due."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from nbtasks.core.records import Now

LOOK_S = 1.0  # the wall clock may be set; so often it is looked at


class Timers:
    """Moments (mono seconds), each with a kind and a subject."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Any]] = []
        self._count = 0  # breaks ties in order of arrival, so subjects are never compared

    def add(self, at: float, kind: str, subject: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, kind, subject))

    def due(self, mono_s: float) -> Iterator[tuple[str, Any]]:
        """Take out what is due at `mono_s`, earliest first."""
        while self._heap and self._heap[0][0] <= mono_s:
            _, _, kind, subject = heapq.heappop(self._heap)
            yield kind, subject

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None


class Calendar:
    """Moments of the wall clock, which may be set at any time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Any]] = []
        self._count = 0
        self._look_at: float | None = None  # mono seconds

    def add(self, unix_s: float, kind: str, subject: Any) -> None:
        """Note this; the next `due` of the same pass counts it in."""
        self._count += 1
        heapq.heappush(self._heap, (unix_s, self._count, kind, subject))

    def due(self, now: Now) -> Iterator[tuple[str, Any]]:
        """Take out what is due, earliest first."""
        while self._heap and self._heap[0][0] <= now.unix_s:
            _, _, kind, subject = heapq.heappop(self._heap)
            yield kind, subject
        self._look_at = now.mono_s + min(self._heap[0][0] - now.unix_s, LOOK_S) if self._heap else None

    def next_at(self) -> float | None:
        """When to look again (mono seconds), as of the last `due`."""
        return self._look_at
