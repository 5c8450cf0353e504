"""What users give to find runs and to wait for them: refused if it is of the wrong kind, and in one form."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from nbtasks.core.messages import RunId
from nbtasks.core.states import state_word


def run_id(given: Any) -> RunId:
    """The id of a run as it is recorded, of whatever `uuid.UUID` takes; a text that is none as it is.

    Raises
    ------
    TypeError
        It is neither a text nor a UUID.
    """
    if isinstance(given, UUID):
        return str(given)
    if not isinstance(given, str):
        raise TypeError(f"the id of a run is expected, a text or a UUID, not {given!r}")
    try:
        return str(UUID(given))
    except ValueError:
        return given  # no run has it, which is said where it is looked for


def state_words(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """State types and names, of one or several; none of them means all.

    Raises
    ------
    TypeError, ValueError
        It is no text and no list of texts; there is no such state.
    """
    if given is None:
        return ()
    words = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"state is a state type or name, or a list of them, not {given!r}")
    if not words:
        raise ValueError("state is an empty list; None means runs in any state")
    return tuple(map(state_word, words))


def timeout_s(given: Any) -> float | None:
    """Seconds to wait; None: as long as it takes.

    Raises
    ------
    TypeError, ValueError
        It is no number.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise TypeError(f"timeout is a number of seconds, or None, not {given!r}")
    seconds = float(given)
    if math.isnan(seconds):
        raise ValueError("timeout is a number of seconds, or None, not NaN")
    return None if seconds == math.inf else seconds
