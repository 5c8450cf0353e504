"""Every error that nbtasks raises on purpose; one tree, so that a caller can catch them all.

Blame is in the type: `ProtocolError` is the peer's fault, `IllegalMove` is ours (a bug), the others
tell the caller what happened, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BlobCorrupt",
    "BrokerUnavailable",
    "CancelledRun",
    "CrashedRun",
    "Detached",
    "FailedCell",
    "FailedRun",
    "IllegalMove",
    "NbtasksError",
    "NotPicklable",
    "ProtocolError",
    "QueueFull",
    "Restarted",
    "ResultCorrupt",
    "SubmitUnknown",
    "TimedOut",
    "UnknownRun",
    "UpstreamFailed",
    "ValueTooLarge",
    "VersionMismatch",
    "WouldDeadlock",
]


class NbtasksError(Exception):
    """The root of all errors below."""


class IllegalMove(NbtasksError):
    """A cause reached a run in a state where it cannot happen: a bug in nbtasks."""


class ProtocolError(NbtasksError):
    """A peer sent what is malformed, too large, or of another protocol version."""


class VersionMismatch(NbtasksError):
    """The two sides run versions of nbtasks that do not understand each other."""


class Restarted(NbtasksError):
    """A run that yielded values is executed again from its beginning: iterate over it anew."""


class _OneLine:
    """What IPython shows of it is its message: a traceback would only lead through our code."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class BrokerUnavailable(_OneLine, NbtasksError):
    """There is no broker to talk to, or it refused this process's key."""


class SubmitUnknown(NbtasksError):
    """The broker went away before it said whether a run was recorded.

    Attributes
    ----------
    run_id
        The id that the run has if it was recorded; `nbtasks.get_run(run_id)` tells.
    """

    def __init__(self, message: str, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class NotPicklable(NbtasksError, TypeError):
    """Something that has to travel to a worker cannot be pickled; the message names it."""


class ValueTooLarge(NbtasksError, ValueError):
    """An argument or a result is larger than what may travel; the message names it and its size."""


class QueueFull(NbtasksError):
    """The broker holds as many live runs as it may; nothing was submitted."""


class UnknownRun(NbtasksError, KeyError):
    """No run of that id is recorded in this home."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CancelledRun(NbtasksError):
    """The run was cancelled; raised to whoever waits for its result."""


class Detached(_OneLine, NbtasksError, KeyboardInterrupt):
    """Whoever waited for runs left by an interrupt (■); they go on."""


class CrashedRun(NbtasksError):
    """The worker died, or left the interpreter, while it executed the run."""


class UpstreamFailed(NbtasksError):
    """A run that this one needs did not complete, so that its code never started."""


class WouldDeadlock(NbtasksError):
    """The code of a run waits for another run that could never end; the message names both."""


class FailedRun(NbtasksError):
    """The run failed with an exception that could not travel, or without one.

    The message is that of the exception, and says why it is not the exception itself; the traceback is its
    cause.
    """


class FailedCell(FailedRun):
    """A cell of a notebook task raised, or its kernel died.

    The exception itself is in the kernel; the message is its name and text, and says which cell it was.

    Attributes
    ----------
    notebook
        The `ExecutedNotebook` up to there; None if it was too large to travel.
    ename, evalue
        Name and text of the exception; the name is "" if the kernel died.
    traceback
        The lines that the cell shows, with colours.
    """

    notebook: Any = None

    def __init__(self, message: str, notebook: Any, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(message)
        self.notebook = notebook
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback

    def _render_traceback_(self) -> list[str]:
        # IPython asks for it
        return [*self.traceback, f"{type(self).__name__}: {self}"]


class ResultCorrupt(NbtasksError):
    """A result was recorded but what is stored cannot be read back."""


class BlobCorrupt(ResultCorrupt):
    """The file of a large argument or result is missing or not what was written; the message names it."""


class TimedOut(NbtasksError, TimeoutError):
    """The run took longer than its `timeout_seconds`."""
