"""A peer's side of the way: sockets that connect to the broker of a home, again and again if need be."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import zmq

from nbtasks.core import codec
from nbtasks.core.codec import Decoder
from nbtasks.core.messages import Message, PeerId
from nbtasks.errors import BrokerUnavailable, ProtocolError, VersionMismatch
from nbtasks.wire.connection import Connection
from nbtasks.wire.sockets import (
    COPY_BYTES_MAX,
    NOW,
    POLLIN,
    TOPIC_END,
    get_option,
    is_readable,
    milliseconds,
    set_limits,
    topic_of,
)

T = TypeVar("T")

UNCONNECTED_FRAMES_MAX = 8  # kept for a broker that is not there; the rest is said again when it is
HANG_UPS_MAX = 3
RECONNECT_MS = 20  # a restarted broker is found within this
RECONNECT_MS_MAX = 250
MONITOR_LOOK_S = 0.1  # between two looks of one who sends whether the way is still open

log = logging.getLogger("nbtasks.wire")

_forks = 0  # how many times this process is removed from the one that imported us


def _after_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


class PeerSockets(Generic[T]):
    """A peer's side: connected with the full key, subscribed to its own topic.

    Sockets belong to no thread here: callers share them under a lock of their own. In a forked child
    every call does nothing.

    Asking a socket whether it has something costs as much as reading it. So it is asked only if its
    descriptor said so, or if a call may have swallowed that sign: `_suspects` holds those sockets.

    Parameters
    ----------
    decoder
        One of `codec.for_client`, `codec.for_worker`, `codec.for_pool`.
    """

    def __init__(self, connection: Connection, peer_id: PeerId, decoder: Decoder[T]) -> None:
        self._forks = _forks
        self._peer_id = peer_id
        self._decoder = decoder
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._dealer = self._context.socket(zmq.DEALER)
        self._is_connected = False
        self._looked_s = 0.0  # mono seconds, at the monitor
        self._unconnected_frames = 0
        self._hang_ups = 0  # unexplained ends of handshakes in a row
        self._refused = False
        self._is_closed = False
        for socket in (self._sub, self._dealer):
            set_limits(socket)
            try:
                socket.curve_serverkey = connection.server_key.encode()
                socket.curve_publickey = connection.public_key.encode()
                socket.curve_secretkey = connection.secret_key.encode()
            except zmq.ZMQError:
                self._context.destroy(linger=0)
                raise BrokerUnavailable(
                    f"the connection file of {connection.home} holds no key that can be used; "
                    "restart its broker, which writes it anew"
                ) from None
            socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        events = (
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_DISCONNECTED
        )
        self._monitor = self._dealer.get_monitor_socket(int(events))
        self._sub.subscribe(topic_of(peer_id))
        self._sub.connect(connection.publish)
        self._dealer.connect(connection.control)
        self._by_fileno = {int(get_option(each, zmq.FD)): each for each in (self._dealer, self._sub)}
        self._suspects = {self._dealer, self._sub}
        self._signed: set[zmq.Socket[bytes]] = set()  # those of which the descriptor said so

    @property
    def is_usable(self) -> bool:
        """False after `close`, and in a forked child."""
        return not self._is_closed and self._forks == _forks

    def listen(self, topic: str, is_on: bool = True) -> None:
        """Hear the events of `topic`, or no longer; over new connections as well."""
        if self.is_usable:
            self._sub.setsockopt(zmq.SUBSCRIBE if is_on else zmq.UNSUBSCRIBE, topic.encode())

    def send(self, messages: Iterable[Message]) -> None:
        """Send in as few frames as possible; what does not fit a queue is dropped."""
        if not self.is_usable:
            return
        if not self._is_connected or self._looked_s + MONITOR_LOOK_S < time.monotonic():
            self._look_at_monitor()
        for batch in codec.batches(messages):
            if not self._is_connected:
                if self._unconnected_frames >= UNCONNECTED_FRAMES_MAX:
                    return
                self._unconnected_frames += 1
            frame = codec.encode(self._peer_id, batch)
            try:
                self._suspects.add(self._dealer)
                self._dealer.send(frame, NOW, copy=len(frame) <= COPY_BYTES_MAX)
            except zmq.Again:
                return

    def receive(self, limit: int = 1000) -> list[T]:
        """The messages of what has arrived, at most `limit` frames; unreadable ones are dropped."""
        messages: list[T] = []
        if not self.is_usable:
            return messages
        for socket in tuple(self._suspects):
            is_here = socket in self._signed  # but for a false sign
            self._signed.discard(socket)
            while is_here or is_readable(socket):
                is_here = False
                if limit <= 0:
                    return messages
                limit -= 1
                try:
                    body = socket.recv(NOW)
                except zmq.Again:
                    break
                start = body.find(TOPIC_END) + 1 if socket is self._sub else 0
                try:
                    messages += self._decoder.decode(memoryview(body)[start:])[1]
                except (ProtocolError, VersionMismatch) as error:
                    log.warning("a frame of the broker was dropped: %s", error)
            self._suspects.discard(socket)
        return messages

    def poll(self, timeout_s: float | None, fds: Iterable[int] = ()) -> set[int]:
        """Wait for a message or a ready descriptor; return the ready descriptors."""
        if not self.is_usable:
            return set()
        self._suspects.update(self._by_fileno.values())
        return _poll((self._dealer, self._sub), timeout_s, fds)

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that become readable when something may have happened.

        They are edge-triggered: wait for them only while `has_news` is false, and tell `ready` which
        were readable.
        """
        return tuple(self._by_fileno)

    def ready(self, filenos: Iterable[int]) -> None:
        """Some of these descriptors were readable; others than ours are ignored."""
        for fileno in filenos:
            if socket := self._by_fileno.get(fileno):
                self._suspects.add(socket)
                self._signed.add(socket)

    def has_news(self) -> bool:
        """Whether `receive` would return something now; if not, its descriptors will tell."""
        if not self.is_usable:
            return False
        for socket in tuple(self._suspects):
            if is_readable(socket):
                return True
            self._suspects.discard(socket)
        return False

    @property
    def refused(self) -> bool:
        """Whether the broker's last word was to refuse our key, or it is not the one that we look for."""
        if self.is_usable:
            self._look_at_monitor()
        return self._refused

    @property
    def is_connected(self) -> bool:
        """Whether the way to the broker is open."""
        if self.is_usable:
            self._look_at_monitor()
        return self._is_connected

    def close(self) -> None:
        """Send what is queued, in the background, for at most `LINGER_MS`."""
        if not self.is_usable:
            return
        self._is_closed = True
        self._dealer.disable_monitor()
        for socket in (self._monitor, self._dealer, self._sub):
            socket.close()
        self._context.term()

    def _look_at_monitor(self) -> None:
        self._looked_s = time.monotonic()
        while is_readable(self._monitor):
            event = _event_of(self._monitor.recv_multipart(zmq.NOBLOCK))
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._is_connected, self._refused = True, False
                self._unconnected_frames = self._hang_ups = 0
            elif event == zmq.EVENT_DISCONNECTED:
                self._is_connected = False
            else:
                self._is_connected = False
                # a broker that dies in a handshake looks like one that hangs up on a wrong key, but only once
                self._hang_ups += 1
                if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL or self._hang_ups >= HANG_UPS_MAX:
                    self._refused = True


def _poll(sockets: Iterable[zmq.Socket[bytes]], timeout_s: float | None, fds: Iterable[int]) -> set[int]:
    entries: list[Any] = [*((socket, POLLIN) for socket in sockets), *((fd, POLLIN) for fd in fds)]
    return {item for item, _ in zmq.zmq_poll(entries, milliseconds(timeout_s)) if isinstance(item, int)}


def _event_of(message: list[bytes]) -> int:
    """What a monitor tells: a number of 16 bits, before its value and the endpoint.

    pyzmq's own parser comes with asyncio, which takes as long to import as all else that a broker needs.
    """
    return int.from_bytes(message[0][:2], sys.byteorder)
