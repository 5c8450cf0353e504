"""Who may connect, and what each key may do.

CURVE alone lets in whoever knows the broker's public key, so every handshake is asked about here
(ZAP), for one exact domain; and every message is looked at once more for what its key may say.
"""

from __future__ import annotations

import re

import zmq
from zmq.auth.thread import ThreadAuthenticator

from nbtasks.core.messages import (
    Beat,
    GetBoard,
    GetOutput,
    GetRun,
    GetRuns,
    GetStatus,
    GetValue,
    HelloClient,
    Left,
    Message,
    Noted,
    Watch,
)
from nbtasks.wire.keys import FULL, OBSERVE, Keys

DOMAIN = "nbtasks"
TOPIC_BYTES_MAX = 64
OBSERVERS_MAY_SAY = frozenset(
    {HelloClient, Left, Watch, Noted, Beat, GetRuns, GetRun, GetValue, GetOutput, GetStatus, GetBoard}
)
_TOPICS = {
    FULL: re.compile(rb"(?:w/w|c/c|p/p)-[0-9A-Za-z_-]+/|e/.*", re.DOTALL),
    # pushes carry code and arguments, which an observer must not see
    OBSERVE: re.compile(rb"c/c-[0-9A-Za-z_-]+/|e/.*", re.DOTALL),
}


def may_say(role: str, message: Message) -> bool:
    return role == FULL or (role == OBSERVE and type(message) in OBSERVERS_MAY_SAY)


def may_hear(role: str, topic: bytes) -> bool:
    """Whether this role may subscribe to `topic`, which must be a whole one, not a prefix of many."""
    pattern = _TOPICS.get(role)
    return pattern is not None and len(topic) <= TOPIC_BYTES_MAX and pattern.fullmatch(topic) is not None


class Gate:
    """Answers every handshake of a context's sockets, in a thread of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._authenticator = _RoleAuthenticator(context, keys)
        self._authenticator.start()

    @property
    def is_manned(self) -> bool:
        """Whether the thread lives; without it nobody could connect any more."""
        return self._authenticator.is_alive()

    def close(self) -> None:
        self._authenticator.stop()

    def guard(self, socket: zmq.Socket[bytes], keys: Keys) -> None:
        """Set this on a socket before it is bound."""
        if not zmq.has("curve"):
            raise RuntimeError("this libzmq was built without CURVE; nbtasks does not run without it")
        socket.curve_server = True
        socket.curve_secretkey = keys.server.secret.encode()
        socket.curve_publickey = keys.server.public.encode()
        socket.zap_domain = DOMAIN.encode()
        # without this a missing answerer would let everybody in
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class _RoleAuthenticator(ThreadAuthenticator):
    """Names the role instead of the key in the User-Id of every message."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        super().__init__(context)
        self._keys = keys
        self.configure_curve_callback(domain=DOMAIN, credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        return domain == DOMAIN and self._keys.role_of(key) is not None

    def curve_user_id(self, client_public_key: bytes) -> str:
        return self._keys.role_of(zmq.utils.z85.encode(client_public_key)) or ""
