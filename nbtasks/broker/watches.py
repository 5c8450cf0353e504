"""The local processes that the broker keeps an eye on: its owner, workers, pools, clients.

A process exit is a fact that the kernel tells within a millisecond; silence is not.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import NamedTuple

from nbtasks.core.messages import Exited, HelloClient, HelloPool, HelloWorker, PeerId
from nbtasks.core.records import PeerRecord, Signal, WorkerRecord
from nbtasks.wire import marker
from nbtasks.wire.alive import born, host_name, is_alive
from nbtasks.wire.process import ProcessWatch

log = logging.getLogger("nbtasks.broker")

UNKNOWN_EXIT = "exit status unknown"


class _Watched(NamedTuple):
    peer: PeerId
    watch: ProcessWatch
    pid: int
    born_s: float
    marker: str  # "": not a worker


class Watches:
    """Watched peers of this machine; others are left alone."""

    def __init__(self) -> None:
        self._host = host_name()
        self._by_peer: dict[PeerId, _Watched] = {}
        self._by_fd: dict[int, PeerId] = {}
        self.fds: tuple[int, ...] = ()  # one is readable when its process ends; another tuple if they change

    def hello(self, peer: PeerId, message: HelloClient | HelloWorker | HelloPool) -> None:
        """A peer said who it is; a client's name is as fresh as its pid, so that it needs no birth time."""
        if message.host != self._host or peer in self._by_peer:
            return
        try:
            self._watch_new(peer, message)
        except OSError as error:
            # no descriptor is left: only its pool, or a broker that starts anew, will see its end
            log.warning("%s is not watched: %s", peer, error)

    def _watch_new(self, peer: PeerId, message: HelloClient | HelloWorker | HelloPool) -> None:
        if isinstance(message, HelloClient):
            self._add(peer, message.pid, born(message.pid) or 0.0, "")
        else:
            self._add(
                peer, message.pid, message.born, message.marker if isinstance(message, HelloWorker) else ""
            )

    def known(self, record: PeerRecord) -> None:
        """A peer that a former broker knew."""
        if record.host == self._host:
            if isinstance(record, WorkerRecord):
                self._add(record.worker, record.pid, record.born, record.marker)
            else:
                self._add(record.pool, record.pid, record.born, "")

    def forget(self, peer: PeerId) -> None:
        if watched := self._by_peer.pop(peer, None):
            del self._by_fd[watched.watch.fileno()]
            self.fds = tuple(self._by_fd)
            watched.watch.close()

    def ended(self, fd: int) -> tuple[PeerId, Exited | None] | None:
        """The peer whose process ended, and, of a worker, what its marker file holds; None: not ours."""
        peer = self._by_fd.get(fd)
        if peer is None:
            return None
        watched = self._by_peer[peer]
        self.forget(peer)
        if not watched.marker:
            return peer, None
        return peer, Exited(peer, UNKNOWN_EXIT, marker.read(watched.marker), marker.said(watched.marker))

    def signal(self, act: Signal) -> None:
        """Send a signal to a local worker's process group, if it still executes what it is sent for."""
        watched = self._by_peer.get(act.worker)
        if watched is None or not is_alive(watched.pid, watched.born_s):
            return
        if act.run and not marker.is_running(watched.marker, act.run, act.attempt):
            return
        number = signal.Signals[act.name]
        try:
            if os.getpgid(watched.pid) == watched.pid:
                os.killpg(watched.pid, number)
            else:
                os.kill(watched.pid, number)
        except ProcessLookupError:
            pass  # it ended by itself meanwhile

    def close(self) -> None:
        for peer in list(self._by_peer):
            self.forget(peer)

    def _add(self, peer: PeerId, pid: int, born_s: float, marker_path: str) -> None:
        watch = ProcessWatch(pid, born_s)
        self._by_peer[peer] = _Watched(peer, watch, pid, born_s, marker_path)
        self._by_fd[watch.fileno()] = peer
        self.fds = tuple(self._by_fd)
