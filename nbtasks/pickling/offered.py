"""What a run gives besides its result: names of a cell, with their values.

They are stored as one value, so that what is shared among them, and with the result, is shared still when
they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbtasks.core.messages import RunId

Taker = Callable[[RunId, "Offered"], object]


@dataclass
class Offered:
    """A result, and names that may be assigned where the run was made."""

    value: Any
    names: dict[str, Any] = field(default_factory=dict)


# who wants to know of what is loaded in this process: a notebook that assigns names
takers: list[Taker] = []


def result_of(run: RunId, stored: Any) -> Any:
    """The result in what a run stored; takers hear of the names beside it."""
    if not isinstance(stored, Offered):
        return stored
    for take in list(takers):
        take(run, stored)
    return stored.value


def value_in(stored: Any) -> Any:
    """The result in what a run stored."""
    return stored.value if isinstance(stored, Offered) else stored
