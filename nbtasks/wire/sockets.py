"""The sockets: what the broker binds, and what every peer connects to it.

Frames that must arrive go through DEALER and ROUTER, pushes and finals through SUB and XPUB, on a
topic of the peer's own. No call here blocks but `poll`, and every queue is bounded: what does not
fit is dropped, and said again by the machine that needs its effect.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import zmq
from zmq.backend import Socket as RawSocket
from zmq.utils.monitor import parse_monitor_message

from nbtasks.core import codec
from nbtasks.core.codec import Decoder
from nbtasks.core.messages import Message, PeerId
from nbtasks.errors import BrokerUnavailable, ProtocolError, VersionMismatch
from nbtasks.wire import access
from nbtasks.wire.access import Gate
from nbtasks.wire.connection import Connection
from nbtasks.wire.keys import Keys

T = TypeVar("T")

FRAMES_MAX = 2000  # of one peer in one direction; more than the finals that a client may have un-noted
UNCONNECTED_FRAMES_MAX = 8  # kept for a broker that is not there; the rest is said again when it is
HANG_UPS_MAX = 3
LINGER_MS = 500  # for the last words of a process that ends
RECONNECT_MS = 20  # a restarted broker is found within this
RECONNECT_MS_MAX = 250
MONITOR_LOOK_S = 0.1  # between two looks of one who sends whether the way is still open
COPY_BYTES_MAX = 65536  # a larger frame is handed to zmq as it is
EVENTS = "e/"  # what topics of events begin with
BROKER = "broker"  # sender of the broker's frames

_TOPIC_END = b"\0"  # between the topic and the frame; topics are ASCII

# plain numbers: to combine pyzmq's enums costs more than the call they are for
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)
_RCVMORE = int(zmq.RCVMORE)
_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.SNDMORE) | _NOW
_get_option: Any = RawSocket.get  # pyzmq's own makes an enum of every answer

log = logging.getLogger("nbtasks.wire")


class Subscription(NamedTuple):
    """Somebody began (or ceased) to listen to a topic."""

    topic: str
    is_on: bool

    @property
    def peer(self) -> PeerId:
        """Whose own topic it is; "" if it is one of events."""
        return "" if self.topic.startswith(EVENTS) else self.topic[2:-1]


class Received(NamedTuple):
    """A frame from a peer, the way back to it, and what its key may do."""

    route: bytes
    frame: bytes
    role: str


def topic_of(peer: PeerId) -> bytes:
    """The topic that a peer subscribes to; it ends in a delimiter because subscriptions match prefixes."""
    return f"{peer[0]}/{peer}/".encode()


def _limit(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.MAXMSGSIZE, codec.FRAME_BYTES_MAX)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, FRAMES_MAX)
    socket.setsockopt(zmq.RCVHWM, FRAMES_MAX)


def _is_readable(socket: zmq.Socket[bytes]) -> bool:
    return bool(_get_option(socket, _EVENTS) & _POLLIN)


def _poll(sockets: Iterable[zmq.Socket[bytes]], timeout_s: float | None, fds: Iterable[int]) -> set[int]:
    entries: list[Any] = [*((socket, _POLLIN) for socket in sockets), *((fd, _POLLIN) for fd in fds)]
    return {item for item, _ in zmq.zmq_poll(entries, _milliseconds(timeout_s)) if isinstance(item, int)}


def poll_of(fds: Iterable[int]) -> select.poll:
    """What waits until one of these descriptors is readable, or ends."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return poller


def _milliseconds(timeout_s: float | None) -> int:
    # rounded up, so that a timer is due when we wake for it
    return -1 if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))


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
            _limit(socket)
            self._gate.guard(socket, keys)
            socket.bind(endpoint)
        for path in self._paths:
            os.chmod(path, 0o600)
        self._by_fileno = {int(_get_option(each, zmq.FD)): each for each in (self._router, self._xpub)}
        self._suspects = set(self._by_fileno.values())
        self._news: set[zmq.Socket[bytes]] = set()  # sockets that seemed to have something after the wait
        self._fds: Sequence[int] | None = None
        self._poller = select.poll()

    @property
    def is_guarded(self) -> bool:
        """Whether somebody answers handshakes; if not, the broker must exit."""
        return self._gate.is_manned

    def receive(self, limit: int = 1000) -> list[Received]:
        """What had arrived when `poll` returned, at most `limit` frames."""
        received: list[Received] = []
        router = self._router
        if router not in self._news:
            return received
        try:
            while len(received) < limit:
                route = router.recv(_NOW, copy=False)  # without asking: it is here but for a false sign
                parts = [router.recv(_NOW)] if route.more else []
                while _get_option(router, _RCVMORE):
                    parts.append(router.recv(_NOW))
                if len(parts) == 1:
                    received.append(Received(route.bytes, parts[0], _role(route)))
                if not _is_readable(router):
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
        while _is_readable(self._xpub):
            frame = self._xpub.recv(_NOW, copy=False)
            while _get_option(self._xpub, _RCVMORE):
                self._xpub.recv(_NOW)
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
            self._router.send(frame, _NOW, copy=len(frame) <= COPY_BYTES_MAX)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send to whoever subscribed to `topic`; nothing tells whether anybody did."""
        self._suspects.add(self._xpub)
        # one part, topic first: a second one takes every step of the way again
        self._xpub.send(topic + _TOPIC_END + frame, _NOW, copy=len(frame) <= COPY_BYTES_MAX)

    def poll(self, timeout_s: float | None, fds: Sequence[int] = ()) -> set[int]:
        """Wait for a frame, a subscription or a ready descriptor; return the ready descriptors.

        Parameters
        ----------
        fds
            Descriptors; never changed in place.
        """
        if fds is not self._fds:
            self._fds, self._poller = fds, poll_of([*self._by_fileno, *fds])
        self._news = {socket for socket in self._suspects if _is_readable(socket)}
        self._suspects.clear()
        ready = {fd for fd, _ in self._poller.poll(0 if self._news else _milliseconds(timeout_s))}
        for fd, socket in self._by_fileno.items():
            if fd in ready:
                ready.discard(fd)
                self._news.add(socket)
        self._suspects |= self._news
        return ready

    def close(self) -> None:
        """Send what is queued, for at most `LINGER_MS`, and take the endpoints away."""
        self._router.close()
        self._xpub.close()
        self._gate.close()
        self._context.term()
        for path in self._paths:
            Path(path).unlink(missing_ok=True)


def _role(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


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
            _limit(socket)
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
        self._by_fileno = {int(_get_option(each, zmq.FD)): each for each in (self._dealer, self._sub)}
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
                self._dealer.send(frame, _NOW, copy=len(frame) <= COPY_BYTES_MAX)
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
            while is_here or _is_readable(socket):
                is_here = False
                if limit <= 0:
                    return messages
                limit -= 1
                try:
                    body = socket.recv(_NOW)
                except zmq.Again:
                    break
                start = body.find(_TOPIC_END) + 1 if socket is self._sub else 0
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
            if _is_readable(socket):
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
        while _is_readable(self._monitor):
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
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
