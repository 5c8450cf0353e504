"""Where the body of a task is executed if not in a thread of this process, and what is said on the way.

The run itself stays here: its retries, hooks, conditions and cache are led by a thread of this process,
so that they see what the caller sees. Only the function and its arguments travel, as a `Body`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from nbtasks.runners.course import Course

# Said by a body while it goes on: a word, then what belongs to it.
Said = tuple[Any, ...]
BEGAN = "began"  # its arguments are loaded and the user's code comes next: from here on time counts
YIELDED = "yielded"  # a value of a generator, as its maker packed it; any size
PRINTED = "printed"  # whether to stderr, text

Answer = Any  # what a body gave, which only its maker understands


class Channel(Protocol):
    """What a body has to do with whoever executes it."""

    def say(self, said: Said) -> None:
        """Let the caller know this; in order, and before the answer."""

    def stopped_by(self, stop: Callable[[], object]) -> AbstractContextManager[None]:
        """A block that is not interrupted: `stop` is called instead, from another thread."""


Body = Callable[[Channel], Answer]  # plain data with a call: it has to be importable where it goes


class Terms(NamedTuple):
    """How long a body may take."""

    timeout_s: float  # 0: as long as it likes
    grace_s: float  # between an interrupt and the kill


class Place(Protocol):
    """Executes bodies elsewhere."""

    def perform(self, body: Body, course: Course, hear: Callable[[Said], object], terms: Terms) -> Answer:
        """Have it executed; blocks.

        Parameters
        ----------
        hear
            Called in this thread with what the body says.

        Raises
        ------
        Overdue
            Its time was over.
        Interrupted
            The run was cancelled.
        ProcessDied
            Nobody will answer.
        """


class Overdue(Exception):
    """The time of a body was over, and it was interrupted."""
