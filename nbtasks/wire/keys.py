"""The key pairs of a home: the broker's own, and one for each role.

They are made once and kept, so that workers and clients reconnect to a restarted broker by themselves.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbtasks.wire.private import read_private, write_private

FULL, OBSERVE = "full", "observe"  # may do everything; may only look


class KeyPair(msgspec.Struct, frozen=True):
    """A CURVE key pair in Z85; the representation hides the secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r}, secret=…)"


class Keys(msgspec.Struct, frozen=True):
    server: KeyPair
    full: KeyPair
    observe: KeyPair

    def role_of(self, public: bytes) -> str | None:
        """The role of a client's public key (Z85); None: a stranger's."""
        name = public.decode("ascii", "replace")
        if name == self.full.public:
            return FULL
        return OBSERVE if name == self.observe.public else None


def load(home: str | Path) -> Keys:
    """Read the keys of a home, or make them; only the holder of the home's lock may call this.

    Raises
    ------
    PermissionError
        Others may read the file.
    ValueError
        The file is there but broken.
    """
    path = Path(home) / "keys.json"
    if (body := read_private(path)) is not None:
        try:
            return msgspec.json.decode(body, type=Keys)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise ValueError(
                f"{path} is broken; remove it, and running workers will have to be started again"
            ) from None
    keys = Keys(server=_pair(), full=_pair(), observe=_pair())
    write_private(path, msgspec.json.encode(keys))
    return keys


def _pair() -> KeyPair:
    import zmq

    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))
