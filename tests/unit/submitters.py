"""A submitter in memory: it executes what it is given at once, in this process, when it is waited for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nbtasks import pickling
from nbtasks.context import Fate, Served
from nbtasks.core.messages import Attempt, Ended, Moment, NewRun, RunFilter, RunId, RunInfo, Spec, Terms
from nbtasks.core.payload import Payload
from nbtasks.core.states import State
from nbtasks.errors import UnknownRun


class MemorySubmitter:
    """Satisfies `nbtasks.context.Submitter`; `step` executes the oldest run that waits."""

    def __init__(self) -> None:
        self.recorded: dict[RunId, tuple[Spec, bytes, NewRun, RunId]] = {}
        self.terms: dict[RunId, Terms] = {}
        self.keys: dict[str, RunId] = {}
        self.ended: dict[RunId, Ended] = {}
        self.batches: list[int] = []
        self.served: list[tuple[Sequence[Served], int | None]] = []
        self._fates: dict[RunId, list[Fate]] = {}
        self._numbers = itertools.count(1)
        self._large: dict[bytes, Payload] = {}

    def pack(self, payload: Payload, run: RunId) -> bytes:
        if not payload.buffers:
            return b"".join(payload.stream)
        body = f"large value of {run}".encode()
        self._large[body] = payload
        return body

    def unpack(self, body: bytes) -> Payload:
        return self._large.get(body, Payload([body]))

    def wake(self) -> None:
        pass

    def waits(self, run: RunId, attempt: int, runs: Sequence[RunId]) -> AbstractContextManager[None]:
        return nullcontext()

    def submit(self, spec: Spec, code: bytes, run: NewRun, parent: RunId, terms: Terms) -> Fate:
        if holder := self.keys.get(terms.key):
            return self.fates([holder])[0]
        [fate] = self.submit_many(spec, code, [[run]], parent, terms)
        return fate

    def submit_many(
        self, spec: Spec, code: bytes, batches: Iterable[Sequence[NewRun]], parent: RunId, terms: Terms
    ) -> list[Fate]:
        made = []
        for batch in batches:
            self.batches.append(len(batch))
            for run in batch:
                self.recorded[run.run] = (spec, code, run, parent)
                self.terms[run.run] = terms
                if terms.key:
                    self.keys[terms.key] = run.run
                made.append(run.run)
        return self.fates(made)

    def page_of(self, run: RunId) -> str:
        return ""

    def fates(self, runs: Sequence[RunId]) -> list[Fate]:
        found = [Fate(run) for run in runs]
        for fate in found:
            self._fates.setdefault(fate.run, []).append(fate)
            if fate.run in self.ended or fate.run not in self.recorded:
                fate.settle(self.ended.get(fate.run))
        return found

    def step(self) -> bool:
        """Execute one run; False if none waits."""
        run = next((run for run in self.recorded if run not in self.ended), None)
        if run is None:
            return False
        _, code, new, _ = self.recorded[run]
        args, kwargs = pickling.load_arguments(self.unpack(new.args))
        try:
            result = pickling.dump_result(pickling.load_function(code)(*args, **kwargs))
            self.end(run, State.COMPLETED, "", self.pack(result, f"{run} result"))
        except Exception as error:
            self.end(run, State.FAILED, f"{type(error).__name__}: {error}", pickling.dump_failure(error))
        return True

    def end(self, run: RunId, state: State, message: str = "", value: bytes = b"") -> None:
        """Let a run end so."""
        ended = Ended(1, next(self._numbers), run, state.value, message, time.time(), value)
        self.ended[run] = ended
        for fate in self._fates.pop(run, []):
            for callback in fate.settle(ended):
                callback()

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        while not is_done():
            if timeout_s is not None or not self.step():
                return False
        return True

    def keep(self, fate: Fate) -> None:
        pass

    def info(self, run: RunId) -> RunInfo:
        if run not in self.recorded:
            raise UnknownRun(f"no run {run}")
        spec, _, new, parent = self.recorded[run]
        ended = self.ended.get(run)
        moments = [Moment("Pending", 1.0)]
        if ended is not None:
            moments += [Moment("Running", 2.0), Moment(ended.state, ended.at, ended.message)]
        attempts = (Attempt(1, "w-1", 7, 2.0, ended.at, ended.state),) if ended else ()
        last = moments[-1]
        return RunInfo(
            run,
            spec,
            1.0,
            new.parameters,
            parent,
            last.state,
            last.message,
            last.at,
            tuple(moments),
            attempts,
            own_name=new.name,
        )

    def infos(self, wanted: RunFilter) -> list[RunInfo]:
        return [self.info(run) for run in reversed(self.recorded)][: wanted.limit]

    def value(self, run: RunId) -> bytes:
        return self.ended[run].value

    def output(self, run: RunId, after: int = 0) -> list[bytes]:
        return [
            b'[{"output_type": "stream", "name": "stdout", "text": "a\\n"}]',
            b'[{"output_type": "stream", "name": "stdout", "text": "b\\n"},'
            b' {"output_type": "display_data", "data": {"text/plain": "<Figure>"}, "metadata": {}}]',
        ][after:]

    def cancel(self, runs: Sequence[RunId]) -> None:
        for run in runs:
            if run not in self.ended:
                self.end(run, State.CANCELLED)

    def serve(self, tasks: Sequence[Served], limit: int | None) -> Any:
        self.served.append((tasks, limit))
