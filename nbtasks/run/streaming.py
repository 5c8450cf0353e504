"""Iterating over a run: the values of its generator, as they are yielded.

A reader has what it was given for itself; several of them may read the same run.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from nbtasks import pickling
from nbtasks.context import waiting
from nbtasks.core.messages import Done, GetYielded, StopReading, YieldedFound
from nbtasks.core.streams import VALUES
from nbtasks.errors import NbtasksError, Restarted
from nbtasks.run import detaching, unserved

if TYPE_CHECKING:
    from nbtasks.run.handle import Run

TURN_S = 2.0  # after which an unanswered question is asked anew: the worker hears that somebody reads

_Chunk = tuple[int, list[bytes]]  # place of the first value among all, and the pickled values


class Reader:
    """Where somebody is who iterates over a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._attempt = self._after = self._given = 0
        self._is_over = False

    def more(self) -> list[Any] | None:
        """The next values, waited for; None: these were all.

        Raises
        ------
        Restarted
            Values were given, and now the run is executed again from its beginning.
        Exception
            What `run.result()` raises, once the values that came before it were given.
        """
        while not self._is_over:
            answer = self._asked()
            if answer.attempt != self._attempt:
                if self._given:
                    self._is_over = True
                    name = f"run {self._run.name!r} ({self._run.id})"
                    raise Restarted(
                        f"{name} is executed again from its beginning, after {self._given} values of an "
                        "earlier attempt: iterate over it anew"
                    )
                self._attempt = answer.attempt
            self._after = answer.upto
            if values := [value for chunk in answer.chunks for value in self._values(chunk)]:
                return values
            if not answer.live:
                self._is_over = True
                return rest_of(self._run, self._given)
        return None

    def close(self) -> None:
        """Nobody reads on; in a thread, because a garbage collector may call this anywhere."""
        if self._is_over or not self._attempt:
            return
        self._is_over = True
        try:
            threading.Thread(target=self._say_so, name="nbtasks-reader", daemon=True).start()
        except RuntimeError:
            return  # the interpreter ends, and the broker notices that

    def _say_so(self) -> None:
        run, attempt = str(self._run.id), self._attempt
        with suppress(NbtasksError):
            self._run._client.ask(lambda number: StopReading(number, run, attempt), Done)

    def _asked(self) -> YieldedFound:
        run, client = str(self._run.id), self._run._client
        question = partial(GetYielded, run=run, attempt=self._attempt, after=self._after)
        found: list[YieldedFound] = []

        def listen(is_done: Callable[[], bool], timeout_s: float | None) -> bool:
            ends_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
            while not is_done():
                if found:  # but it is waited for the run's end
                    return client.wait(is_done, timeout_s)
                turn_s = min(TURN_S, ends_s - time.monotonic())
                if turn_s <= 0:
                    return False
                with suppress(TimeoutError):
                    found.append(client.ask(question, YieldedFound, turn_s, is_done))
            return True

        with waiting(lambda: [run]):
            _ = self._run._settled  # whoever is interrupted may cancel it, and waits for its end
            listens = unserved.telling(listen, lambda: self._run)
            detaching.wait(listens, client.wake, lambda: bool(found), None, lambda: [self._run])
        return found[0]

    def _values(self, chunk: bytes) -> list[Any]:
        first, bodies = msgspec.msgpack.decode(chunk[len(VALUES) :], type=_Chunk)
        fresh = bodies[max(0, self._given - first) :]
        self._given += len(fresh)
        return [pickling.load_result(self._run._client.unpack(body)) for body in fresh]


def rest_of(run: Run, given: int) -> list[Any]:
    """What of a run that is over was not given yet; raises what `run.result()` raises."""
    result = run.result()
    if not isinstance(result, list):
        raise TypeError(
            f"run {run.name!r} returned {type(result).__name__}, and only what a generator yields can be "
            "iterated over: use run.result()"
        )
    return result[given:]
