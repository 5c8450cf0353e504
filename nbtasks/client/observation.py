"""Somebody looks at a run or at the board: from when this is made until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nbtasks.client.link import Link
from nbtasks.core.events import age
from nbtasks.core.messages import Board, RunChanged, RunId


class Observation:
    """Keeps the client's thread listening, and the broker telling, as long as it is open.

    Parameters
    ----------
    name
        A run, or `observer.BOARD_NAME`.
    look
        Called with what is new, by one thread at a time and never with what is older than before.
    """

    def __init__(self, link: Link, name: RunId, look: Callable[[Any], object]) -> None:
        self._link = link
        self._name = name
        self._look: Callable[[Any], object] | None = look
        self._last: Any = None
        self._in_order = threading.Lock()  # two threads that listen in turn may call at the same time
        link.observe(name, self._call)

    def _call(self, seen: Board | RunChanged | None) -> None:
        with self._in_order:
            look = self._look
            if look is not None and not _is_older(seen, self._last):
                self._last = seen or self._last
                look(seen)

    @property
    def is_open(self) -> bool:
        """Whether anything may still be heard."""
        return self._look is not None and not self._link.is_over

    def close(self) -> None:
        """Look no more; may be called from `look`, and twice."""
        if self._look is not None:
            self._look = None
            self._link.unobserve(self._name, self._call)


def _is_older(seen: Board | RunChanged | None, last: Any) -> bool:
    if isinstance(seen, Board) and isinstance(last, Board):
        return seen.boot == last.boot and seen.number < last.number
    return isinstance(seen, RunChanged) and isinstance(last, RunChanged) and age(seen) < age(last)
