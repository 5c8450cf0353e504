"""SIGINT while user code runs, and at no other time.

The agent asks for one attempt by name; the handler raises only while that attempt's user code has the
main thread, so a late signal cannot hit the next run. Our own code that user code calls (writing to
stdout, say) is protected: an interrupt that arrives there is raised when it is over.
"""

from __future__ import annotations

# signal's own function makes an enum of every answer, which is most of its cost
import _signal  # type: ignore[import-not-found]
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from nbtasks.core.messages import RunId

Key = tuple[RunId, int]

_SIGINT = int(signal.SIGINT)


class Interrupts:
    """Made by the main thread; also the context manager that protects our own code."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._open: Key | None = None
        self._asked: Key | None = None
        self._depth = 0  # of protected code in the main thread
        self._late = False
        self._before: Any = int(signal.SIG_IGN)

    # -- main thread ----------------------------------------------------------------------------------

    def open(self, key: Key) -> None:
        """From here on SIGINT raises KeyboardInterrupt; at once, if that was asked for already."""
        self._late = False
        self._before = _signal.signal(_SIGINT, self._on_signal)
        self._open = key
        if self._asked == key:
            raise KeyboardInterrupt

    def close(self) -> None:
        """From here on nothing is raised; may be called twice."""
        self._open = None
        _signal.signal(_SIGINT, self._before)

    def renew(self) -> None:
        """Raise an interrupt again that other code has caught and kept to itself."""
        if self._open is not None and self._asked == self._open:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._open is None:
            return
        if self._depth:
            self._late = True
            return
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if threading.get_ident() == self._main:
            self._depth -= 1
            if self._late and not self._depth:
                self._late = False
                if self._open is not None:
                    raise KeyboardInterrupt

    # -- agent ------------------------------------------------------------------------------------------

    def ask(self, key: Key) -> None:
        """Interrupt this attempt; the caller holds the lock without which it cannot be reported as ended."""
        self._asked = key
        if self._open == key:
            # to the thread, so that blocking calls in it return and the processes it started are spared
            signal.pthread_kill(self._main, signal.SIGINT)
