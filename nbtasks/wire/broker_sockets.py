"""The broker's side of the way: what it binds."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import zmq

from nbtasks.core.messages import PeerId
from nbtasks.core.records import Piece
from nbtasks.wire import access
from nbtasks.wire.access import Gate
from nbtasks.wire.connection import Connection
from nbtasks.wire.keys import Keys
from nbtasks.wire.sockets import (
    COPY_BYTES_MAX,
    EVENTS,
    NOW,
    TOPIC_END,
    get_option,
    is_readable,
    milliseconds,
    poll_of,
    set_limits,
)

_RCVMORE = int(zmq.RCVMORE)
_NOW_AND_MORE = int(zmq.SNDMORE) | NOW


class Subscription(NamedTuple):
    """Somebody began (or ceased) to listen to a topic."""

    topic: str
    is_on: bool

    @property
    def peer(self) -> PeerId:
        """Whose own topic it is; "" if it is one of events."""
        return "" if self.topic.startswith(EVENTS) else self.topic[2:-1]


class Received(Piece, frozen=True):
    """A frame from a peer, the way back to it, and what its key may do."""

    route: bytes
    frame: bytes
    role: str


class BrokerSockets:
    """The broker's side. Its process must hold the lock of the home: binding takes an endpoint over.

    Asking a socket whether it has something costs as much as reading it. So before a wait it is asked only
    if a call since its last no may have swallowed the sign for which we would wait: `_suspects` holds those.
    """

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._paths = [
            endpoint.removeprefix("ipc://") for endpoint in (connection.control, connection.publish)
        ]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 8192)
        self._gate = Gate(self._context, keys)
        self._router = self._context.socket(zmq.ROUTER)
        self._xpub = self._context.socket(zmq.XPUB)
        # an unknown route is told to us instead of swallowed
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # we say which subscriptions count: by default everybody hears what he asks for, payloads included
        self._xpub.setsockopt(zmq.XPUB_MANUAL, 1)
        for socket, endpoint in ((self._router, connection.control), (self._xpub, connection.publish)):
            set_limits(socket)
            self._gate.guard(socket)
            socket.bind(endpoint)
        for path in self._paths:
            os.chmod(path, 0o600)
        sockets = (self._router, self._xpub, self._gate.zap_socket)
        self._by_fileno = {int(get_option(each, zmq.FD)): each for each in sockets}
        self._suspects = set(self._by_fileno.values())
        self._news: set[zmq.Socket[bytes]] = set()  # sockets that seemed to have something after the wait
        self._fds: Sequence[int] | None = None
        self._poller = select.poll()

    def receive(self, limit: int = 1000) -> list[Received]:
        """What had arrived when `poll` returned, at most `limit` frames."""
        received: list[Received] = []
        router = self._router
        if router not in self._news:
            return received
        try:
            while len(received) < limit:
                route = router.recv(NOW, copy=False)  # without asking: it is here but for a false sign
                parts = [router.recv(NOW)] if route.more else []
                while get_option(router, _RCVMORE):
                    parts.append(router.recv(NOW))
                if len(parts) == 1:
                    received.append(Received(route.bytes, parts[0], _role(route)))
                if not is_readable(router):
                    self._suspects.discard(router)
                    break
        except zmq.Again:
            self._suspects.discard(router)
        return received

    def subscriptions(self) -> list[Subscription]:
        """What was subscribed to or given up until `poll` returned, once for each connection."""
        found: list[Subscription] = []
        if self._xpub not in self._news:
            return found
        while is_readable(self._xpub):
            frame = self._xpub.recv(NOW, copy=False)
            while get_option(self._xpub, _RCVMORE):
                self._xpub.recv(NOW)
            body = frame.bytes
            topic = body[1:]
            if body[:1] == b"\x00":
                self._xpub.setsockopt(zmq.UNSUBSCRIBE, topic)
                found.append(Subscription(topic.decode("ascii", "replace"), False))
            elif body[:1] == b"\x01" and access.may_hear(_role(frame), topic):
                self._xpub.setsockopt(zmq.SUBSCRIBE, topic)
                found.append(Subscription(topic.decode("ascii", "replace"), True))
        return found

    def send(self, route: bytes, frame: bytes) -> bool:
        """Send to where a frame came from; False if that peer is gone, or does not read."""
        self._suspects.add(self._router)
        try:
            self._router.send(route, _NOW_AND_MORE)
            self._router.send(frame, NOW, copy=len(frame) <= COPY_BYTES_MAX)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send to whoever subscribed to `topic`; nothing tells whether anybody did."""
        self._suspects.add(self._xpub)
        # one part, topic first: a second one takes every step of the way again
        self._xpub.send(topic + TOPIC_END + frame, NOW, copy=len(frame) <= COPY_BYTES_MAX)

    def poll(self, timeout_s: float | None, fds: Sequence[int] = (), awake_until_s: float = 0.0) -> set[int]:
        """Wait for a frame, a subscription or a ready descriptor; return the ready descriptors.

        Who connects meanwhile is let in, or not.

        Parameters
        ----------
        fds
            Descriptors; never changed in place.
        awake_until_s
            Until then (mono seconds), look again and again instead of sleeping for the time-out.
        """
        if fds is not self._fds:
            self._fds, self._poller = fds, poll_of([*self._by_fileno, *fds])
        self._news = {socket for socket in self._suspects if is_readable(socket)}
        self._suspects.clear()
        found = self._poller.poll(0 if self._news or awake_until_s else milliseconds(timeout_s))
        while not (found or self._news) and time.monotonic() < awake_until_s:
            found = self._poller.poll(0)
        ready = {fd for fd, _ in found}
        for fd, socket in self._by_fileno.items():
            if fd in ready:
                ready.discard(fd)
                self._news.add(socket)
        if self._gate.zap_socket in self._news:
            self._news.discard(self._gate.zap_socket)
            self._gate.answer()
        self._suspects |= self._news
        return ready

    def close(self) -> None:
        """Send what is queued, for at most `LINGER_MS`, and take the endpoints away."""
        self._router.close()
        self._xpub.close()
        self._gate.stop()
        self._context.term()
        for path in self._paths:
            Path(path).unlink(missing_ok=True)


def _role(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
