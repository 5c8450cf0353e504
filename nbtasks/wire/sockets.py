"""What the broker's sockets and those of its peers have in common.

Frames that must arrive go through DEALER and ROUTER, pushes and finals through SUB and XPUB, on a
topic of the peer's own. No call blocks but `poll`, and every queue is bounded: what does not fit is
dropped, and said again by the machine that needs its effect.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any

import zmq
from zmq.backend import Socket as RawSocket

from nbtasks.core import codec
from nbtasks.core.messages import PeerId

FRAMES_MAX = 2000  # of one peer in one direction; more than the finals that a client may have un-noted
LINGER_MS = 500  # for the last words of a process that ends
COPY_BYTES_MAX = 65536  # a larger frame is handed to zmq as it is
EVENTS = "e/"  # what topics of events begin with
BROKER = "broker"  # sender of the broker's frames
TOPIC_END = b"\0"  # between the topic and the frame; topics are ASCII

# plain numbers: to combine pyzmq's enums costs more than the call they are for
POLLIN = int(zmq.POLLIN)
NOW = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
get_option: Any = RawSocket.get  # pyzmq's own makes an enum of every answer


def topic_of(peer: PeerId) -> bytes:
    """The topic that a peer subscribes to; it ends in a delimiter because subscriptions match prefixes."""
    return f"{peer[0]}/{peer}/".encode()


def set_limits(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.MAXMSGSIZE, codec.FRAME_BYTES_MAX)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, FRAMES_MAX)
    socket.setsockopt(zmq.RCVHWM, FRAMES_MAX)


def is_readable(socket: zmq.Socket[bytes]) -> bool:
    return bool(get_option(socket, _EVENTS) & POLLIN)


def poll_of(fds: Iterable[int]) -> select.poll:
    """What waits until one of these descriptors is readable, or ends."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return poller


def milliseconds(timeout_s: float | None) -> int:
    # rounded up, so that a timer is due when we wake for it
    return -1 if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
