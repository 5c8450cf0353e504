"""What the broker said of batches and requests, until whoever waits for it looks."""

from __future__ import annotations

from nbtasks.core.happenings import Answered, Event, NotRecorded, Recorded
from nbtasks.core.messages import Message, RunId
from nbtasks.errors import NbtasksError, QueueFull, UnknownRun

_ERRORS: dict[str, type[NbtasksError]] = {"queue_full": QueueFull, "unknown_run": UnknownRun}


class Outcomes:
    """Each is kept until it is asked for or forgotten."""

    def __init__(self) -> None:
        self._recorded: dict[str, RunId] = {}
        self._refused: dict[str, NbtasksError] = {}
        self._answers: dict[int, Message] = {}

    def take(self, event: Event) -> bool:
        """Keep this event, if it is one of ours."""
        if type(event) is Recorded:
            self._recorded[event.batch] = event.run
        elif type(event) is NotRecorded:
            error = _ERRORS.get(event.code, NbtasksError)
            self._refused[event.batch] = error(event.reason)
        elif type(event) is Answered:
            self._answers[event.request] = event.message
        else:
            return False
        return True

    def is_recorded(self, batch: str) -> bool:
        """Whether this batch is recorded; raises if it is refused."""
        if batch in self._refused:
            raise self._refused.pop(batch)
        return batch in self._recorded

    def recorded(self, batch: str) -> RunId:
        """The run that has the same idempotency key already; "": the batch itself is recorded."""
        return self._recorded.pop(batch)

    def has_answer(self, request: int) -> bool:
        return request in self._answers

    def answer(self, request: int) -> Message | None:
        return self._answers.pop(request, None)


def afresh(error: NbtasksError) -> NbtasksError:
    """The same error, without the tracebacks of all who were told before."""
    return type(error)(*error.args)
