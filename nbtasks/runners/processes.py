"""The task runner whose bodies run in processes of this machine.

Each process is one interpreter that is started by its command line, with a socket to this one. Not
`concurrent.futures` or loky: there, a process that dies takes the calls of its neighbours along, and nobody
knows which process to interrupt for a call. Nothing is forked, and nothing imports the caller's script.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from nbtasks.runners.child import ANSWERED, LEAVE_S
from nbtasks.runners.course import Course, ProcessDied
from nbtasks.runners.interrupts import Interrupted
from nbtasks.runners.local import LocalRun
from nbtasks.runners.places import BEGAN, Answer, Body, Overdue, Said, Terms
from nbtasks.runners.threads import Call, LedByThreads, checked
from nbtasks.wire.cores import cores

KILL_S = LEAVE_S + 2.0  # after which a process that should have ended is killed from here
_START = "import sys; sys.path[:] = {path!r}; from nbtasks.runners.child import main; main({descriptor})"


class ProcessPoolTaskRunner(LedByThreads):
    """Executes the code of runs in processes of this machine, within a `with` block.

    What it executes has to travel: functions and closures of notebooks do. Hooks, conditions of retries and
    cache keys are called here, so they share the cache and the variables of the caller. Prints and log lines
    of the code appear here. Code that is cancelled or takes too long is interrupted whatever it does, and
    its process killed `grace_s` later; one whose process dies is Crashed. Runs that the code submits itself
    run in threads of its process, and end before it does.

    At the end of the block it waits for its runs and ends the processes. If the block raised, runs that have
    not started are cancelled first.

    Parameters
    ----------
    max_workers
        How many processes, which are started when there is work; else one for each core that there is to use.

    Raises
    ------
    NotPicklable
        By `.submit()` and `map()`: a function or an argument cannot travel; the message names it.
    """

    is_elsewhere = True

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(checked(max_workers) or cores())
        self._free = threading.Condition()
        self._idle: list[_Process] = []
        self._number = 0  # of processes, with those that are about to start
        self._blocks = 0

    def submit(self, run: LocalRun, call: Call) -> None:
        super().submit(run, lambda course: call(course, self))

    def __enter__(self) -> ProcessPoolTaskRunner:
        with self._free:
            self._blocks += 1
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            with self._free:
                self._blocks -= 1
                over = [] if self._blocks else self._idle
                if over:
                    self._idle, self._number = [], self._number - len(over)
            _close(over)

    # -- the place ----------------------------------------------------------------------------------------

    def perform(self, body: Body, course: Course, hear: Callable[[Said], object], terms: Terms) -> Answer:
        with course.shielded():
            process = self._taken(course)
            try:
                course.placed(process.pid)
                return process.perform(body, course, hear, terms)
            finally:
                self._give_back(process)

    def _taken(self, course: Course) -> _Process:
        """A process that has nothing to do; waits for one, as there may be a thread too many for a while."""

        def is_there() -> bool:
            return course.is_stopped or bool(self._idle) or self._number < self.max_workers

        with course.stopped_by(self._wake), self._free:
            self._free.wait_for(is_there)
            if course.is_stopped:
                raise Interrupted
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                process.close()
                self._number -= 1
            self._number += 1
        try:
            return _Process()
        except BaseException:
            with self._free:
                self._number -= 1
                self._free.notify_all()
            raise

    def _wake(self) -> None:
        with self._free:
            self._free.notify_all()

    def _give_back(self, process: _Process) -> None:
        with self._free:
            is_kept = process.is_usable and self._blocks > 0
            if is_kept:
                self._idle.append(process)
            else:
                self._number -= 1
            self._free.notify_all()
        if not is_kept:
            _close([process])


class _Process:
    """One of them; executes one body at a time."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            start = _START.format(path=sys.path, descriptor=theirs.fileno())
            self._popen = subprocess.Popen(
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a group to kill, which no ^C in a terminal reaches
            )
        self._connection = Connection(os.dup(self._socket.fileno()))
        self._lock = threading.Lock()
        self._call = 0
        self._is_busy = False
        self._timers: list[threading.Timer] = []
        self._watch = threading.Thread(target=self._watched, name="nbtasks-child-watch", daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen.returncode is None

    @property
    def is_usable(self) -> bool:
        return self.is_alive and not self._is_busy

    def _watched(self) -> None:
        self._popen.wait()
        with suppress(OSError):
            # there may be no end of file: what the code forked holds the other end, too
            self._socket.shutdown(socket.SHUT_RDWR)

    def perform(self, body: Body, course: Course, hear: Callable[[Said], object], terms: Terms) -> Answer:
        self._call += 1
        self._is_busy, overdue = True, threading.Event()
        call = self._call

        def stop() -> None:
            self._send(call)
            self._after(terms.grace_s, lambda: self.kill(call))

        def time_is_over() -> None:
            overdue.set()
            stop()

        try:
            with course.stopped_by(stop):
                self._send((call, list(sys.path), _directory(), body))
                while (said := self._received())[0] != ANSWERED:
                    if said[0] != BEGAN:
                        hear(said)
                    elif terms.timeout_s:
                        self._after(terms.timeout_s, time_is_over)
        except ProcessDied:
            if course.is_stopped:
                raise Interrupted from None
            if overdue.is_set():
                raise Overdue from None
            raise
        finally:
            self._rest()
        with self._lock:
            self._is_busy = False
        if said[1] is not None:
            return said[1]
        raise Overdue if overdue.is_set() and not course.is_stopped else Interrupted

    def _send(self, order: Any) -> None:
        with self._lock, suppress(OSError):  # if it is gone, receiving says so
            self._connection.send(order)

    def _received(self) -> Said:
        try:
            return self._connection.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            self._watch.join(KILL_S)
            raise ProcessDied(f"process {self.pid} {_ending(self._popen.returncode)}") from None

    def _after(self, seconds: float, do: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        timer.name = "nbtasks-child-timer"
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def _rest(self) -> None:
        with self._lock:
            timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()

    def kill(self, call: int = 0) -> None:
        """End it at once, with all that it started; if `call` is given, only while that goes on."""
        with self._lock:
            if self.is_alive and (not call or (self._is_busy and self._call == call)):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Ask it to end, if it is not in the middle of something."""
        if self._is_busy:
            self.kill()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Wait until it has ended."""
        self._watch.join(KILL_S)
        if self._watch.is_alive():
            self.kill()
            self._watch.join()
        self._connection.close()
        self._socket.close()


def _close(processes: list[_Process]) -> None:
    for process in processes:
        process.leave()
    for process in processes:
        process.close()


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was deleted


def _ending(status: int | None) -> str:
    if status is None:
        return "does not answer"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
