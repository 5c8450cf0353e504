"""Somebody looks at a run or at the board: from when this is made until it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks.client.link import Link
from nbtasks.core.messages import RunId


class Observation:
    """Keeps the client's thread listening, and the broker telling, as long as it is open.

    Parameters
    ----------
    name
        A run, or `observer.BOARD_NAME`.
    look
        Called with what is new.
    """

    def __init__(self, link: Link, name: RunId, look: Callable[[Any], object]) -> None:
        self._link = link
        self._name = name
        self._look: Callable[[Any], object] | None = look
        link.observe(name, self._call)

    def _call(self, seen: Any) -> None:
        look = self._look
        if look is not None:
            look(seen)

    @property
    def is_open(self) -> bool:
        return self._look is not None

    def close(self) -> None:
        """Look no more; may be called from `look`, and twice."""
        if self._look is not None:
            self._look = None
            self._link.unobserve(self._name, self._call)
