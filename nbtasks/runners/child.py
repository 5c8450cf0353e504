"""A process of `ProcessPoolTaskRunner`: executes bodies one after another in its main thread.

A thread beside it listens, so that the code can be interrupted; when whoever started the process is gone,
that thread ends it, whatever the code does. What the code prints is sent back.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from nbtasks.runners.places import PRINTED, Body, Said
from nbtasks.runners.signals import Interrupts

ANSWERED = "answered"
LEAVE_S = 3.0  # what it takes to end at most, once it is asked to
Order = tuple[
    int, list[str], str, Body
]  # number of the call, sys.path and directory of the caller, what to do


class Child:
    """The channel of the body that is executed, and the loop around it.

    Parameters
    ----------
    connection
        To whoever started this process. From there come orders, and numbers of calls that are to be
        interrupted.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._interrupts = Interrupts()
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._call = 0  # the number of the one that goes on
        self._stopped = 0  # the last one that was to be interrupted
        self._stop: Callable[[], object] | None = None
        self._is_left = False  # nobody waits for an answer any more

    def run(self) -> None:
        """Until there is nobody to work for."""
        threading.Thread(target=self._listen, name="nbtasks-child", daemon=True).start()
        while (order := self._orders.get()) is not None:
            call, path, directory, body = order
            sys.path[:] = path
            with suppress(OSError):
                os.chdir(directory)
            answer = self._answer(call, body)
            with suppress(OSError):
                self.say((ANSWERED, answer))

    def _answer(self, call: int, body: Body) -> Any:
        """What the body gives; None: it was interrupted."""
        key = (str(call), 0)
        answer = None
        try:
            try:
                with self._asking:
                    if self._is_left:
                        return None
                    self._call = call
                self._interrupts.open(key)
                answer = body(self)
            finally:
                self._interrupts.close()
        except KeyboardInterrupt:
            self._interrupts.close()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        with self._asking:
            self._call = 0
            return None if self._stopped == call else answer

    # -- the channel --------------------------------------------------------------------------------------

    def say(self, said: Said) -> None:
        with self._interrupts, self._sending:
            self._connection.send(said)

    @contextmanager
    def stopped_by(self, stop: Callable[[], object]) -> Iterator[None]:
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    @property
    def protection(self) -> Interrupts:
        """Around what must not be interrupted in the middle."""
        return self._interrupts

    # -- the thread beside --------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                order = self._connection.recv()
                if isinstance(order, int):
                    self._interrupt(order)
                else:
                    self._orders.put(order)
        except (EOFError, OSError):
            pass
        with self._asking:
            self._is_left, is_busy = True, self._call > 0
        self._orders.put(None)
        if not is_busy:
            time.sleep(LEAVE_S)  # for the interpreter to end, which waits for threads that the code has left
        os.killpg(0, signal.SIGKILL)  # our own group: also what the code has started

    def _interrupt(self, call: int) -> None:
        with self._asking:
            self._stopped = call
            stop = self._stop if self._call == call else None
            if stop is None:
                self._interrupts.ask((str(call), 0))
        if stop is not None:
            with suppress(RuntimeError):  # its loop has just ended
                stop()


class Printed(io.TextIOBase):
    """Stands for stdout or stderr: sends what is written, line by line or when it is flushed."""

    def __init__(self, child: Child, is_error: bool) -> None:
        self._child = child
        self._is_error = is_error
        self._lock = threading.Lock()
        self._text = ""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2 if self._is_error else 1

    def write(self, text: str) -> int:
        with self._child.protection, self._lock:
            self._text += text
            if "\n" in text or "\r" in text:
                self._send()
        return len(text)

    def flush(self) -> None:
        with self._child.protection, self._lock:
            self._send()

    def _send(self) -> None:
        text, self._text = self._text, ""
        if text:
            with suppress(OSError):  # nobody listens any more
                self._child.say((PRINTED, self._is_error, text))


def main(descriptor: int) -> None:
    os.set_inheritable(descriptor, False)
    # only we interrupt: not who presses ^C in the terminal of the caller
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = Child(Connection(descriptor))
    sys.stdout, sys.stderr = Printed(child, False), Printed(child, True)
    child.run()
