"""The one thread that writes to widgets: cards that heard something, each in its turn.

Widgets are not safe to be set from several threads, and a front end that is sent more than it can draw
drops messages. So all are written here, each at most every `TICK_S`, and few in one tick. The thread
lives only while there is something to write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

TICK_S = 0.25  # between two updates of one widget
CARDS_PER_TICK_MAX = 10  # a server passes on 1000 messages/s of a kernel and drops the rest
LINGER_S = 2.0  # without anything to write, before the thread ends

log = logging.getLogger("nbtasks.widgets")


class Writable(Protocol):
    def write(self) -> None:
        """Send what is new to the front end."""


class Writer:
    """Cards to be written, the oldest mark first.

    Parameters
    ----------
    clock
        Mono seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._needed = threading.Condition()
        self._marked: dict[Writable, None] = {}
        self._not_before: dict[Writable, float] = {}
        self._linger_s = LINGER_S
        self._thread: threading.Thread | None = None
        self._tick: list[float] = []  # when the last `CARDS_PER_TICK_MAX` cards were written

    @property
    def mono_s(self) -> float:
        """Mono seconds."""
        return self._clock()

    def mark(self, card: Writable) -> None:
        """Have `card` written soon; from any thread, and quick."""
        with self._needed:
            if card not in self._marked:
                self._marked[card] = None
                self._start()
                self._needed.notify()

    def forget(self, card: Writable) -> None:
        """It is closed."""
        with self._needed:
            self._marked.pop(card, None)
            self._not_before.pop(card, None)

    def stop(self) -> None:
        """Write nothing more, and let the thread end now; a later mark starts another."""
        with self._needed:
            self._marked.clear()
            self._linger_s = 0.0
            self._needed.notify()

    def turn(self) -> float | None:
        """Write what is due; returns the seconds until something else may be, None if nothing is marked."""
        while True:
            with self._needed:
                now_s = self._clock()
                wait_s = self._wait_s(now_s)
                if wait_s is None or wait_s > 0:
                    return wait_s
                card = next(card for card in self._marked if self._not_before.get(card, 0.0) <= now_s)
                del self._marked[card]
                self._not_before[card] = now_s + TICK_S
                self._tick = [*self._tick[1 - CARDS_PER_TICK_MAX :], now_s]
            try:
                card.write()
            except Exception:
                # a front end that is gone, or a kernel that ends
                log.debug("a widget could not be written", exc_info=True)

    def _wait_s(self, now_s: float) -> float | None:
        """Seconds until a card may be written; None if none is marked. Locked."""
        if not self._marked:
            return None
        at = min(self._not_before.get(card, 0.0) for card in self._marked)
        if len(self._tick) == CARDS_PER_TICK_MAX:
            at = max(at, self._tick[0] + TICK_S)
        return max(0.0, at - now_s)

    # -- the thread ---------------------------------------------------------------------------------------

    @property
    def is_working(self) -> bool:
        return self._thread is not None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nbtasks-widgets", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            wait_s = self.turn()
            with self._needed:
                if self._marked and wait_s is None:
                    continue  # marked just now
                self._needed.wait(self._linger_s if wait_s is None else wait_s)
                if not self._marked and (wait_s is None or not self._linger_s):
                    self._not_before.clear()
                    self._thread, self._linger_s = None, LINGER_S
                    return
