"""Whether the broker stays awake for the next frame, or sleeps until it comes.

Who slept takes two or three times as long for the same work: the core was somebody else's meanwhile, and
so are its caches. When runs follow each other closely the next frame is due within a moment, and to
look for it until then is worth what it costs. That is a core, so it is done only while frames come that
fast and the workers leave a core free.
"""

from __future__ import annotations

from collections.abc import Callable

from nbtasks.core.records import Now

CLOSE_S = 0.002  # between two frames that follow each other closely; so long is looked for another


class Vigil:
    """When to look for frames without sleeping.

    Parameters
    ----------
    cores
        That broker and workers share.
    has_busy
        Tells whether so many workers hold a run.
    """

    def __init__(self, cores: int, has_busy: Callable[[int], bool]) -> None:
        self._cores = cores
        self._has_busy = has_busy
        self._came_s = float("-inf")  # mono seconds
        self._ends_s = 0.0

    def came(self, now: Now) -> None:
        """Frames have come."""
        follows = now.mono_s - self._came_s <= CLOSE_S
        self._came_s = now.mono_s
        self._ends_s = now.mono_s + CLOSE_S if follows else 0.0

    def until(self, now: Now) -> float:
        """How long to look for the next frame (mono seconds); 0: sleep."""
        if now.mono_s >= self._ends_s or self._cores < 2 or self._has_busy(self._cores):
            return 0.0
        return self._ends_s
