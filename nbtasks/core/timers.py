"""Things to do later, in one heap; an entry that no longer matters is recognised when it is due."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any


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
