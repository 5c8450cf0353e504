"""The way to the broker of a home: finding or starting it, and sockets that survive its restarts."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nbtasks.core.codec import for_client
from nbtasks.core.messages import ToClient
from nbtasks.errors import BrokerUnavailable
from nbtasks.wire import connection, ids
from nbtasks.wire.connection import Connection
from nbtasks.wire.peer_sockets import PeerSockets
from nbtasks.wire.process import ProcessWatch, start_broker
from nbtasks.wire.sockets import poll_of

START_S = 15.0  # for a broker to come up
GONE_S = 2.0  # for somebody else to start a broker again, when we must not
ROOM_BYTES = 2**20  # on a disk; with less it counts as full
STOP_S = 10.0  # for a broker that says Closed to end

T = TypeVar("T")


class Way:
    """Sockets to a broker process, and the descriptors that tell of both.

    Parameters
    ----------
    starts
        Whether a broker that is not there may be started.
    """

    def __init__(self, home: Path, starts: bool) -> None:
        self.home = home
        self._starts = starts
        self.peer = ids.peer_id("c")
        self._connection: Connection | None = None
        self._watch: ProcessWatch | None = None
        self._life = select.poll()
        self.sockets: PeerSockets[ToClient] | None = None
        self.pollers: list[select.poll] = []  # for two threads: a poller serves one at a time
        self._wake_reading, self._wake_writing = os.pipe()
        for descriptor in (self._wake_reading, self._wake_writing):
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        """The broker's process; 0: there never was one."""
        return self._connection.pid if self._connection else 0

    @property
    def is_broken(self) -> bool:
        """Whether the broker's process is gone."""
        return self._watch is not None and bool(self._life.poll(0))

    def says_broken(self, ready: list[int]) -> bool:
        """Whether what `wait` returned says so."""
        return self._watch is not None and self._watch.fileno() in ready

    def has_successor(self) -> bool:
        """Whether somebody started another broker."""
        found = connection.read(self.home)
        return found is not None and found.pid != self.pid

    def find(self, was_stopped: bool) -> Connection:
        """Find the broker, or start one; may take seconds.

        Parameters
        ----------
        was_stopped
            The one we know said that it ends: before it has, no other can come up.

        Raises
        ------
        BrokerUnavailable
            There is none, and none may or can be started.
        """
        if was_stopped and self._watch is not None:
            _until(lambda: self.is_broken, STOP_S)
        if self._starts:
            try:
                return start_broker(self.home, START_S)
            except OSError as error:
                raise BrokerUnavailable(f"no broker can be started for {self.home}: {error}") from error
        found = _until(lambda: connection.read(self.home), GONE_S if self._connection is not None else 0.0)
        if found is None:
            raise BrokerUnavailable(f"no broker runs for {self.home}; start it by: nbtasks broker start")
        return found

    def adopt(self, found: Connection) -> bool:
        """Talk to this broker from now on; whether it is another process than before."""
        before, self._connection = self._connection, found
        if self.sockets is None or before is None or _keys(before) != _keys(found):
            if self.sockets is not None:
                self.sockets.close()
            self.sockets = PeerSockets(found, self.peer, for_client)
        is_new = before is None or (before.pid, before.born) != (found.pid, found.born)
        if is_new:
            if self._watch is not None:
                self._watch.close()
            self._watch = ProcessWatch(found.pid, found.born)
            self._life = poll_of([self._watch.fileno()])
        assert self._watch is not None
        descriptors = (*self.sockets.filenos(), self._wake_reading, self._watch.fileno())
        self.pollers = [poll_of(descriptors), poll_of(descriptors)]
        return is_new

    def wait(self, which: int, timeout_s: float) -> list[int]:
        """Wait until anything may have happened; returns the readable descriptors."""
        ready = [descriptor for descriptor, _ in self.pollers[which].poll(timeout_s * 1000)]
        if self._wake_reading in ready:
            with suppress(BlockingIOError):  # another thread was faster
                os.read(self._wake_reading, 4096)
        return ready

    def wake(self) -> None:
        """Let whoever waits look."""
        try:
            os.write(self._wake_writing, b"!")
        except BlockingIOError:
            return  # it is full of such signs

    def close(self) -> None:
        """Nobody waits any more."""
        if self.sockets is not None:
            self.sockets.close()
        if self._watch is not None:
            self._watch.close()
        os.close(self._wake_reading)
        os.close(self._wake_writing)


def stopped(home: Path) -> BrokerUnavailable:
    """What those hear who want something of a broker that was stopped on purpose."""
    again = "%nbtasks start or nbtasks broker start starts it again, with its runs"
    return BrokerUnavailable(f"the broker of {home} was stopped; {again}")


def full_disk(home: Path) -> str:
    """The end of a sentence about what does not work, if that may be the reason."""
    with suppress(OSError):
        if shutil.disk_usage(home).free < ROOM_BYTES:
            return " (the disk of this home is full)"
    return ""


def refused(home: Path, pid: int) -> BrokerUnavailable:
    """What those hear whom the broker does not let in."""
    return BrokerUnavailable(
        f"the broker of {home} (pid {pid}) refused this process's key: "
        "the keys in the home and those of the broker differ"
    )


def _keys(found: Connection) -> tuple[str, ...]:
    return found.control, found.publish, found.server_key, found.public_key, found.secret_key


def _until(look: Callable[[], T], timeout_s: float) -> T:
    """The first true answer within the time, else the last one."""
    ends_s = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < ends_s:
        time.sleep(0.01)
    return found
