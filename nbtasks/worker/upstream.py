"""What the runs gave that a run needs: values that came with the push, the others asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbtasks import context, pickling
from nbtasks.core.messages import Given, RunId
from nbtasks.core.states import State, StateType
from nbtasks.errors import ResultCorrupt
from nbtasks.run.handle import failure_of
from nbtasks.wire.blobs import Blobs


class Upstreams:
    """The values of runs, by their ids, of which it was told how they ended."""

    def __init__(self, told: Iterable[Given], blobs: Blobs) -> None:
        self._given = {given.run: given for given in told}
        self._blobs = blobs
        self._values: dict[RunId, Any] = {}

    def value_of(self, run: RunId, tolerant: bool) -> Any:
        """The result; if `tolerant`, the exception of one that did not complete."""
        if run not in self._values:
            given = self._given.get(run)
            if given is None:
                raise ResultCorrupt(f"run {run} is an argument, but it is not recorded any more")
            self._values[run] = self._load(given, self._body(given))
        return self._values[run]

    def _body(self, given: Given) -> bytes:
        return context.submitter().value(given.run) if given.fetch else given.value

    def _load(self, given: Given, body: bytes) -> Any:
        state = State(given.state)
        if state.type is StateType.COMPLETED:
            return pickling.load_result(self._blobs.unpack(body))
        return failure_of(f"run {given.run}", state, given.message, body)
