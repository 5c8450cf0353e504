"""Who may connect, and what each key may do.

CURVE alone lets in whoever knows the broker's public key, so every handshake is asked about here
(ZAP), for one exact domain; and every message is looked at once more for what its key may say.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

import zmq
from zmq.auth.base import Authenticator

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
from nbtasks.wire.sockets import NOW, is_readable

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


class Gate(Authenticator):
    """Answers the handshakes of a context's sockets, in the loop of whoever polls `zap_socket`.

    In the User-Id of every message it names the role instead of the key.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        super().__init__(context)
        self._keys = keys
        self.configure_curve_callback(domain=DOMAIN, credentials_provider=self)
        self.start()

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Set this on a socket before it is bound."""
        if not zmq.has("curve"):
            raise RuntimeError("this libzmq was built without CURVE; nbtasks does not run without it")
        socket.curve_server = True
        socket.curve_secretkey = self._keys.server.secret.encode()
        socket.curve_publickey = self._keys.server.public.encode()
        socket.zap_domain = DOMAIN.encode()
        # without this a missing answerer would let everybody in
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self) -> None:
        """Answer all that ask now."""
        while is_readable(self.zap_socket):
            _run(self.handle_zap_message(self.zap_socket.recv_multipart(NOW)))

    # -- what pyzmq asks for ------------------------------------------------------------------------------

    def callback(self, domain: str, key: bytes) -> bool:
        return domain == DOMAIN and self._keys.role_of(key) is not None

    def curve_user_id(self, client_public_key: bytes) -> str:
        return self._keys.role_of(zmq.utils.z85.encode(client_public_key)) or ""


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what is a coroutine for callbacks that wait, which ours do not."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("the answer to a handshake waits for something")
