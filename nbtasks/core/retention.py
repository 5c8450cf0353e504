"""Which runs leave the journal: those that ended long ago, and the oldest ones when it is too large.

What is live stays, and so does what something live refers to. Counts mean what is recorded now, so
they go down with each run that leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from nbtasks.core.messages import RunId

# A client repeats a submit for a minute or two, and a waiter whose broker died watches again: for so
# long the id of a run must be known, or it would run twice, and its end, or nobody could tell it.
RECENT_S = 600.0


class Past(NamedTuple):
    """A final run as the journal holds it."""

    seq: int
    run: RunId
    state: str  # its name
    ended: float  # UNIX seconds
    size: int  # bytes that its rows and files take, about
    key: str  # of its task


class Bounds(NamedTuple):
    """What is to go."""

    ended_before: float  # UNIX seconds; all that ended before
    excess_bytes: int = 0  # and, oldest first, until so many bytes are gone


def leaving(
    past: Iterable[Past], bounds: Bounds, unix_s: float, is_needed: Callable[[Past], bool]
) -> list[Past]:
    """Choose what leaves.

    Parameters
    ----------
    past
        Final runs in the order of their arrival; the whole journal, or the next part of it.
    is_needed
        Whether something live refers to a run.
    """
    found: list[Past] = []
    freed = 0
    for one in past:
        if one.ended > unix_s - RECENT_S or is_needed(one):
            continue
        if one.ended < bounds.ended_before or freed < bounds.excess_bytes:
            found.append(one)
            freed += one.size
    return found
