"""A home as a server looks at it: one client for all pages and questions, let go when nobody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nbtasks.client import Client
from nbtasks.live.writer import Writer

IDLE_S = 30.0  # after the last use, before the broker loses this client


class Source:
    """The broker of one home; it is never started from here. From any thread.

    Parameters
    ----------
    clock
        Mono seconds.
    """

    def __init__(self, home: str | Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = Client(home, start=False)
        self._clock = clock
        self._lock = threading.Lock()
        self._uses = 0
        self._used_s = clock()
        self.writer = Writer()

    @property
    def home(self) -> Path:
        return self._client.home

    @contextmanager
    def use(self) -> Iterator[Client]:
        """The client, which stays open meanwhile; its calls may raise `BrokerUnavailable`."""
        with self._lock:
            self._uses += 1
        try:
            yield self._client
        finally:
            with self._lock:
                self._uses -= 1
                self._used_s = self._clock()

    def rest(self) -> None:
        """Let go of the broker if nobody used it lately: a client would keep it from its idle stop."""
        with self._lock:
            if not self._uses and self._clock() >= self._used_s + IDLE_S:
                self._client.close()

    def close(self) -> None:
        self.writer.stop()
        self._client.close()
