"""What the thread that leads a run through is to tell, and to whom: nobody, of a plain call."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nbtasks.states import Returned


class ProcessDied(BaseException):
    """The process that executed the code is gone; not an Exception, because there is no other attempt."""


class Course:
    """What a call tells while it goes on, and what it does between attempts; of a plain call: nothing."""

    def began(self, attempt: int) -> None:
        """User code of this attempt begins."""

    def failed(self, error: Exception, pause_s: float) -> None:
        """An attempt failed, and another one follows after a pause."""

    def pause(self, pause_s: float) -> None:
        """Let the time pass."""
        time.sleep(pause_s)

    def shielded(self) -> AbstractContextManager[None]:
        """A block of ours that must not be interrupted."""
        return nullcontext()

    def stopped_by(self, stop: Callable[[], object]) -> AbstractContextManager[None]:
        """A block that is ended by a call of `stop`, not by an interrupt of this thread."""
        return nullcontext()

    def placed(self, pid: int) -> None:
        """User code of this attempt is executed by another process than this one."""

    def yielded(self, value: Any) -> None:
        """User code is a generator, and gave one more value."""

    def timed_out(self, error: Exception) -> None:
        """This error is that of our own time-out, not one of user code."""

    def returned(self, state: Returned) -> None:
        """User code says itself how the run ends."""

    def progressed(self, done: float, total: float, text: str) -> None:
        """User code says how far it is."""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked to end it."""
        return False
