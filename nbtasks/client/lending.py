"""Waits inside of runs: the broker is told for which runs the code of one waits, as that changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from nbtasks.core.messages import Message, RunId, Waits
from nbtasks.errors import BrokerUnavailable

NAMED_MAX = 1000  # runs that are named of a wait for more

Ask = Callable[[Callable[[int], Message]], object]


class Lending:
    """The waits of this process's run, of all its threads and coroutines together.

    Parameters
    ----------
    ask
        Has a message answered, which is made for a request number.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._open: dict[int, tuple[RunId, ...]] = {}  # wait -> runs
        self._numbers = 0

    @contextmanager
    def waits(self, run: RunId, attempt: int, runs: Sequence[RunId]) -> Iterator[None]:
        """A block within which the code of `run` waits for `runs`; raises ValueError, `WouldDeadlock`."""
        with self._lock:
            self._numbers += 1
            wait = self._numbers
            self._open[wait] = tuple(runs)
        try:
            self._say(run, attempt)
            yield
        finally:
            with self._lock:
                del self._open[wait]
            with suppress(BrokerUnavailable):  # whoever comes after it finds the run as it is: executing
                self._say(run, attempt)

    def _say(self, run: RunId, attempt: int) -> None:
        with self._lock:
            self._numbers += 1
            number = self._numbers
            runs = tuple(dict.fromkeys(one for group in self._open.values() for one in group))[:NAMED_MAX]
        self._ask(lambda request: Waits(request, run, attempt, number, runs))
