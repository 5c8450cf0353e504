"""The worker's way to the broker, shared by two threads under one lock.

While runs follow each other closely the main thread receives and sends itself, so that a short run
costs no change of threads. The agent's thread takes over when a run lasts, and when the main thread
serves the kernel: it interrupts runs, gives away their output, repeats what was not answered, and
wakes the main thread for work.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from nbtasks.core.codec import for_worker
from nbtasks.core.messages import Leave, Message, OutputKept, Push
from nbtasks.core.records import Break, Effects, Exit, MarkEnded, Read, Show
from nbtasks.core.worker import Worker, stack_shown
from nbtasks.runners.signals import Interrupts
from nbtasks.wire import clock, connection, lock
from nbtasks.wire.alive import is_alive
from nbtasks.wire.connection import Connection
from nbtasks.wire.marker import Marker
from nbtasks.wire.peer_sockets import PeerSockets
from nbtasks.wire.sockets import poll_of
from nbtasks.worker import stacks
from nbtasks.worker.loglines import LogLines

STAND_BACK_S = 0.005  # so long the agent leaves the sockets to a main thread that is at it
STAND_BACK_S_MAX = 0.02  # to one that goes on and on, from whose runs each look takes the interpreter
LOOK_S = 1.0  # between two looks at home, pool and broker
ALONE_S = 60.0  # without a broker, after which an empty-handed worker leaves
PENDING_LIMIT_S = 1e9

Ready = list[tuple[int, int]]  # descriptors with what they are ready for, as a poll gives them


class MainThread(Enum):
    """What the main thread is doing."""

    SERVES = "serves"  # the kernel's event loop
    WAITS = "waits"  # for the next run, at the sockets
    EXECUTES = "executes"


class Agent:
    """Owns the worker's machine and sockets.

    Parameters
    ----------
    pool_pid, owner
        The process that started this worker, and the one with which everything ends (with its birth time).
    """

    def __init__(
        self,
        home: Path,
        found: Connection,
        name: str,
        machine: Worker,
        interrupts: Interrupts,
        marker: Marker,
        log: LogLines,
        owner: tuple[int, float] | None,
    ) -> None:
        self._home = home
        self._connection = found
        self._name = name
        self._machine = machine
        self._interrupts = interrupts
        self._marker = marker
        self._log = log
        self._owner = owner
        self._pool_pid = os.getppid()
        self._pid = os.getpid()
        self._main_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._sockets = PeerSockets(found, name, for_worker)
        self._wake_reading, self._wake_writing = os.pipe()
        os.set_blocking(self._wake_reading, False)
        os.set_blocking(self._wake_writing, False)
        self._main = MainThread.SERVES
        self._since_s = 0.0  # mono seconds
        self._patience_s = STAND_BACK_S
        self._progress: tuple[float, float, str] | None = None  # of the run; None: said
        self._kept = 0  # output chunks of the current run, in the journal
        self._ready: Ready = []  # as the agent's thread saw it last
        self._look_at = 0.0
        self._alone_since: float | None = None
        self.arrived_s = 0.0  # mono seconds, when something came from the broker for the last time
        self.exit_status: int | None = None
        self.wake_main: Callable[[], None] = lambda: None
        self.flush: Callable[[], float | None] = lambda: None
        self.recorded: Callable[[int], None] = lambda upto: None
        self.read: Callable[[int], None] = lambda upto: None
        self._thread = threading.Thread(target=self._run, name="nbtasks-agent", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- main thread ------------------------------------------------------------------------------------

    def next_push(self, wait_s: float) -> Push | None:
        """The next run to execute, waited for at most `wait_s`; None: serve the kernel."""
        poll: select.poll | None = None
        until_s = time.monotonic() + wait_s
        ready: Ready = []
        while True:
            with self._lock:
                if push := self._take():
                    return push
                self._pump(ready)
                if push := self._take():
                    return push
                wake_at = self._machine.wake_at()
                left_s = until_s - time.monotonic()
                if left_s <= 0 or self.exit_status is not None:
                    self._main, self._since_s = MainThread.SERVES, time.monotonic()
                    break
                self._main, self._since_s = MainThread.WAITS, time.monotonic()
            if wake_at is not None:
                left_s = min(left_s, max(0.0, wake_at - time.monotonic()))
            poll = poll or poll_of(self._filenos())
            ready = poll.poll(left_s * 1000)
        self._wake()
        return None

    def started(self) -> float:
        """User code of the taken run begins now (its marker is written); returns the time (UNIX seconds)."""
        now = clock.now()
        with self._lock:
            self._say(self._machine.started(now))
        return now.unix_s

    def ended(self, outcome: str, message: str, value: bytes, start: float, *more: Any) -> None:
        """The taken run is over, and all its output was given to `printed`; marks and says it.

        Parameters
        ----------
        more
            Of `Finished`, what comes after `end`.
        """
        with self._lock:
            self._say_progress()
            self._perform(self._machine.ended(outcome, message, value, start, clock.now(), *more))
            self._main, self._since_s = MainThread.WAITS, time.monotonic()

    @property
    def has_pool(self) -> bool:
        """Whether the process that started this one still lives."""
        return os.getppid() == self._pool_pid

    @property
    def broken(self) -> str:
        """Why the current run was interrupted: "", "cancel", "timeout", "stale"."""
        return self._machine.broken

    # -- any thread -------------------------------------------------------------------------------------

    def printed(self, body: bytes) -> int:
        """Give away a chunk of the current run's output; returns its number."""
        with self._lock:
            self._say(self._machine.printed(body))
            number = self._machine.chunks_printed
            if self._sockets.has_news():
                self._wake()  # sending may have swallowed the sign that something came
        return number

    def progressed(self, done: float, total: float, text: str) -> None:
        """The code of the current run is so far."""
        # no lock: a signal handler of the run may call this wherever the main thread is
        is_first, self._progress = self._progress is None, (done, total, text)
        if is_first:
            self._wake()

    def hurry(self) -> None:
        """Let `flush` be called soon."""
        self._wake()

    def leave(self) -> None:
        """Take nothing new, and end when nothing is held any more."""
        with self._lock:
            self._perform(self._machine.handle(Leave(), clock.now()))

    def close(self) -> None:
        """Send what is queued."""
        with self._lock:
            self._sockets.close()

    # -- the agent's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self.exit_status is None:
                self._turn()
        except BaseException:
            # without its agent a worker can be neither cancelled nor asked
            self._log.bug("the agent's thread")
            os._exit(70)

    def _turn(self) -> None:
        back_s = self._stands_back_s()
        if back_s > 0:
            poll_of([self._wake_reading]).poll(back_s * 1000)
            _drain(self._wake_reading)
            return
        _drain(self._wake_reading)
        with self._lock:
            self._pump(self._ready)
            if self._main is MainThread.SERVES and (self._machine.has_work or self.exit_status is not None):
                # the main thread has the sockets until it serves again
                self._main, self._since_s = MainThread.WAITS, time.monotonic()
                self.wake_main()
                return
            wake_at = self._machine.wake_at() or PENDING_LIMIT_S
            if self._progress:
                if self._machine.progress_at <= time.monotonic():
                    self._say_progress()
                else:
                    wake_at = min(wake_at, self._machine.progress_at)
            kept, self._kept = self._kept, 0
            fds = self._filenos()
        if kept:
            self.recorded(kept)
        flush_at = self.flush() or PENDING_LIMIT_S
        now_s = time.monotonic()
        if self._look_at <= now_s:
            self._look_at = now_s + LOOK_S
            self._look()
        until_s = min(wake_at, flush_at, self._look_at)
        self._ready = poll_of(fds).poll(max(0.0, until_s - time.monotonic()) * 1000 + 0.999)

    def _stands_back_s(self) -> float:
        left_s = self._since_s + STAND_BACK_S - time.monotonic()
        if self._main is MainThread.SERVES or left_s <= 0:
            self._patience_s = STAND_BACK_S
            return 0.0
        back_s = max(left_s, self._patience_s)
        self._patience_s = min(2 * self._patience_s, STAND_BACK_S_MAX)
        return back_s

    # -- with the lock ------------------------------------------------------------------------------------

    def _take(self) -> Push | None:
        if self.exit_status is not None:
            return None
        push = self._machine.take()
        if push:
            self._main, self._since_s, self._kept = MainThread.EXECUTES, time.monotonic(), 0
            self._progress = None
        return push

    def _pump(self, ready: Ready) -> None:
        """Take in what came, do what is due; afterwards no socket has news, so that all may wait for them."""
        self._sockets.ready(fd for fd, _ in ready)
        while True:
            now = clock.now()
            effects = Effects()
            messages = self._sockets.receive()
            if messages:
                self.arrived_s = time.monotonic()
            for message in messages:
                _add(effects, self._machine.handle(message, now))
                self._note(message)
            _add(effects, self._machine.tick(now))
            self._perform(effects)
            if not self._sockets.has_news():
                return

    def _note(self, message: Message) -> None:
        current = self._machine.current
        if isinstance(message, OutputKept) and current and current.run == message.run:
            self._kept = max(self._kept, message.upto)

    def _perform(self, effects: Effects) -> None:
        for act in effects.acts:
            if type(act) is MarkEnded:
                self._marker.ended(act.words)
        self._say(effects)
        for act in effects.acts:
            if type(act) is Break:
                self._interrupts.ask((act.run, act.attempt))
            elif type(act) is Read:
                self.read(act.upto)
            elif type(act) is Show:
                self._sockets.send([stack_shown(act.asked, stacks.of_thread(self._main_thread))])
            elif type(act) is Exit:
                self._exit(act.status)

    def _say(self, effects: Effects) -> None:
        if effects.sends:
            self._sockets.send(effects.sends)

    def _say_progress(self) -> None:
        """Say the newest word of the current run about its progress, if there is one."""
        word, self._progress = self._progress, None
        if word and self._machine.current:
            self._say(self._machine.progressed(*word, clock.now()))

    def _exit(self, status: int) -> None:
        if self.exit_status is None:
            self.exit_status = status
            self._wake()
            self.wake_main()

    def _filenos(self) -> Iterable[int]:
        return (*self._sockets.filenos(), self._wake_reading)

    # -- alone --------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        try:
            os.write(self._wake_writing, b"!")
        except BlockingIOError:
            return  # it is awake

    def _look(self) -> None:
        """Is there still a home, a pool, a broker to work for?"""
        if not self._home.is_dir():
            self._log.problem(f"{self._home} is gone; this worker ends")
            os._exit(1)
        if not self.has_pool and self._owner and not is_alive(*self._owner):
            os._exit(1)
        with self._lock:
            if self._sockets.is_connected and not self._sockets.refused:
                self._alone_since = None
                return
        self._look_for_broker()

    def _look_for_broker(self) -> None:
        now_s = time.monotonic()
        self._alone_since = now_s if self._alone_since is None else self._alone_since
        found = connection.read(self._home)
        with self._lock:
            known = self._connection
            if found and (found.control, found.server_key) != (known.control, known.server_key):
                # another broker at another place: what we hold is told there
                self._sockets.close()
                self._connection, self._sockets = found, PeerSockets(found, self._name, for_worker)
            elif (
                self._alone_since + ALONE_S <= now_s
                and self._machine.is_empty_handed
                and lock.owner(self._home) is None
            ):
                self._exit(0)


def _add(effects: Effects, more: Effects) -> None:
    effects.sends += more.sends
    effects.acts += more.acts


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        return
