"""Interrupting Python code in a thread that is not the main one.

The interpreter raises the exception before the thread's next Python instruction. Code that is not
Python (`time.sleep`, a read, a loop in C) is not stopped: the exception waits until it returns.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Interrupted(BaseException):
    """Not an Exception, so that user code does not handle it by chance."""


class Interruptible:
    """One call in one thread, which other threads may interrupt once, while it goes on and never after."""

    def __init__(self) -> None:
        self._kind: type[Interrupted] | None = None  # what is raised in the thread
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_over = False
        self._shields = 0
        self.was_asked = False

    def call(self, function: Callable[[], T]) -> T:
        """Call it here.

        Raises
        ------
        Interrupted
            It was interrupted, also if user code caught the exception and went on.
        """
        try:
            try:
                with self._lock:
                    self._thread = threading.get_ident()
                    if self.was_asked:
                        raise Interrupted
                value = function()
            finally:
                # may be hit itself; but it is asked only once, so from there on nothing can happen
                self._close()
        except Interrupted as error:
            if type(error) is not self._kind:
                raise
            raise Interrupted from None
        if self.was_asked:
            raise Interrupted
        return value

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
        if self.was_asked and self._thread is not None:
            _set_exception(self._thread, None)

    def interrupt(self) -> None:
        """Called by any thread, at any time."""
        with self._lock:
            if self._is_over or self.was_asked:
                return
            self.was_asked = True
            # a class of its own, because the interpreter raises classes and calls may lie within each other
            self._kind = type("Interrupted", (Interrupted,), {})
            if self._thread is not None and not self._shields:
                _set_exception(self._thread, self._kind)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Within this block of the called thread nothing is raised; it is when the block ends.

        For code of ours that takes locks as logging does: hit between the taking and the `try`, it would
        keep them for ever.
        """
        with self._lock:
            self._shields += 1
            if self.was_asked and self._thread is not None:
                _set_exception(self._thread, None)  # it may be under way
        try:
            yield
        finally:
            with self._lock:
                self._shields -= 1
        if self._kind is not None and not self._shields:
            raise self._kind


def _set_exception(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )


def call_within(timeout_s: float, function: Callable[[], T]) -> T:
    """Call it here, and interrupt it when the time is over; then it raises `Interrupted`."""
    call = Interruptible()
    timer = threading.Timer(timeout_s, call.interrupt)
    timer.daemon = True
    timer.name = "nbtasks-timeout"
    timer.start()
    try:
        return call.call(function)
    finally:
        timer.cancel()
