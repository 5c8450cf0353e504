"""The pool's loop: one thread that waits for messages, for ends of processes and for signals.

All decisions are those of `core.pool`; here they are carried out.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType

from nbtasks.core.codec import for_pool
from nbtasks.core.messages import Exited, ExitNoted, HelloPool, Message, PeerId, Rejected
from nbtasks.core.pool import Pool
from nbtasks.core.records import Effects, Exit, Launch, Signal
from nbtasks.pool.kinds import Workers
from nbtasks.pool.launcher import WorkerProcess, environment, forget, last_text
from nbtasks.wire import clock, connection, lock
from nbtasks.wire.connection import Connection
from nbtasks.wire.peer_sockets import PeerSockets
from nbtasks.wire.process import ProcessWatch, born

LOOK_S = 1.0  # between two looks at home and broker
ALONE_S = 50.0  # without a broker, after which the pool lets its workers leave; a little less than theirs
LEAVE_S = 24 * 3600.0  # then, for workers that still execute something

log = logging.getLogger("nbtasks.pool")


class PoolEdge:
    """One pool process.

    Parameters
    ----------
    serves
        File that lists the tasks its workers serve; None: any task.
    drain_s
        For running code when the process is asked to stop.
    owner
        A process with which this one and its workers end.
    kind
        What its workers are like.
    """

    def __init__(
        self,
        name: PeerId,
        home: Path,
        found: Connection,
        hello: HelloPool,
        serves: Path | None,
        drain_s: float,
        owner: int | None,
        kind: Workers,
    ) -> None:
        self._name = name
        self._home = home
        self._connection = found
        self._serves = serves
        self._drain_s = drain_s
        self._kind = kind
        self._stays = hello.stays  # in the foreground: it has a terminal, or a script that has one
        self._machine = Pool(name, hello)
        self._sockets = PeerSockets(found, name, for_pool)
        self._environment = environment(home, owner)
        self._owner = None if owner is None else ProcessWatch(owner, born(owner) or 0.0)
        self._workers: dict[int, WorkerProcess] = {}  # by the descriptor that tells of the end
        self._wake_reading, self._wake_writing = os.pipe()
        self._stop_signals = 0
        self._stops_done = 0
        self._look_at = 0.0
        self._alone_since: float | None = None
        self._exit_status: int | None = None

    def run(self) -> int:
        """Work until there is a reason to end; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        is_of_terminal = self._stays and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # by nohup
        signal.signal(signal.SIGHUP, self._on_hangup if is_of_terminal else signal.SIG_IGN)
        while self._exit_status is None:
            self._turn()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # one more of them, while the interpreter ends, must not take the place of this status
            signal.signal(number, signal.SIG_IGN)
        if self._exit_status:
            self._kill_all()
        self._sockets.close()
        return self._exit_status

    def _turn(self) -> None:
        ready = self._sockets.poll(self._timeout_s(), self._fds())
        now = clock.now()
        for fd in ready:
            self._on_ready(fd)
        for message in self._sockets.receive():
            self._note(message)
            self._perform(self._machine.handle(message, now))
        if self._look_at <= now.mono_s:
            self._look_at = now.mono_s + LOOK_S
            self._look(now.mono_s)
        self._perform(self._machine.tick(clock.now()))

    def _timeout_s(self) -> float:
        wake_at = self._machine.wake_at()
        until = self._look_at if wake_at is None else min(wake_at, self._look_at)
        return max(0.0, until - time.monotonic())

    def _fds(self) -> list[int]:
        fds = [self._wake_reading, *self._workers]
        if self._owner:
            fds.append(self._owner.fileno())
        return fds

    # -- what happens -------------------------------------------------------------------------------------

    def _on_ready(self, fd: int) -> None:
        if worker := self._workers.pop(fd, None):
            exited = worker.reaped()
            self._tell(exited)
            self._perform(self._machine.exited(exited, clock.now()))
        elif fd == self._wake_reading:
            os.read(fd, 4096)
            self._stop()
        elif self._owner and fd == self._owner.fileno():
            self._owner.close()
            self._owner = None
            self._perform(self._machine.end_workers(clock.now()))

    def _stop(self) -> None:
        """First let workers finish, then end them, then end without any manners."""
        while self._stops_done < self._stop_signals:
            self._stops_done += 1
            if self._stops_done == 1:
                self._perform(self._machine.drain(self._drain_s, clock.now()))
            elif self._stops_done == 2:
                self._perform(self._machine.end_workers(clock.now()))
            else:
                self._kill_all()
                os._exit(1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
        os.write(self._wake_writing, b"!")

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if not self._stop_signals:  # a terminal that closes and its shell say so both
            self._on_signal(number, frame)

    def _note(self, message: Message) -> None:
        if isinstance(message, ExitNoted):
            forget(self._home, message.worker)
        elif isinstance(message, Rejected):
            log.error("the broker refuses this pool: %s", message.reason)

    def _tell(self, exited: Exited) -> None:
        """An end that nobody asked for is worth a line."""
        if exited.status == "exit status 0" or self._machine.is_ending(exited.worker):
            return
        words = last_text(exited)
        log.error(
            "worker %s ended: %s%s", exited.worker, exited.status, f"; it said:\n{words}" if words else ""
        )

    # -- what is asked for --------------------------------------------------------------------------------

    def _perform(self, effects: Effects) -> None:
        if effects.sends:
            self._sockets.send(effects.sends)
        for act in effects.acts:
            if isinstance(act, Launch):
                self._launch(act.worker)
            elif isinstance(act, Signal):
                self._signal(act)
            elif isinstance(act, Exit) and self._exit_status is None:
                self._exit_status = act.status

    def _launch(self, name: PeerId) -> None:
        try:
            taken = [worker.device for worker in self._workers.values()]
            env = self._kind.environment(self._environment, taken)
            worker = WorkerProcess(name, self._name, self._home, self._serves, env, self._kind)
        except Exception as error:
            log.exception("worker %s could not be started", name)
            exited = Exited(name, f"could not be started: {error}")
            self._perform(self._machine.exited(exited, clock.now()))
            return
        self._workers[worker.fileno()] = worker

    def _signal(self, act: Signal) -> None:
        for worker in self._workers.values():
            if worker.name == act.worker and not worker.signal(act):
                self._machine.spared(act.worker)

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.reaped()

    # -- alone --------------------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        """Is there still a home, and a broker to work for?"""
        if not self._home.is_dir():
            log.error("%s is gone; this pool ends", self._home)
            self._exit_status = 1
        elif self._sockets.refused:
            self._look_for_broker(now_s)
        elif self._sockets.is_connected:
            self._alone_since = None
        else:
            self._look_for_broker(now_s)

    def _look_for_broker(self, now_s: float) -> None:
        self._alone_since = now_s if self._alone_since is None else self._alone_since
        found, known = connection.read(self._home), self._connection
        if found and (found.control, found.server_key) != (known.control, known.server_key):
            # another broker at another place: what happened meanwhile is told there
            self._sockets.close()
            self._connection, self._sockets = found, PeerSockets(found, self._name, for_pool)
        elif found is None and self._alone_since + ALONE_S <= now_s and lock.owner(self._home) is None:
            # workers leave by themselves when they hold nothing; who still executes is waited for
            self._perform(self._machine.drain(LEAVE_S, clock.now(), hands_over=True))
