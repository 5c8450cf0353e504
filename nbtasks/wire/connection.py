"""The connection file: how to reach the broker of a home, readable only by its owner.

It lies in the runtime directory, which the lock file names. A file whose broker is gone counts as
absent: nobody waits for the dead.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbtasks.wire import lock
from nbtasks.wire.private import read_private, write_private

FILE_NAME = "connection.json"


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer needs to talk to a broker with the full key."""

    home: str
    pid: int
    born: float  # as `wire.alive.born` says
    protocol: int
    version: str
    control: str  # endpoint of the ROUTER
    publish: str  # endpoint of the XPUB
    server_key: str
    public_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Connection(home={self.home!r}, pid={self.pid}, control={self.control!r}, keys=…)"


def write(connection: Connection, runtime: str | Path) -> None:
    write_private(Path(runtime) / FILE_NAME, msgspec.json.encode(connection))


def remove(runtime: str | Path) -> None:
    (Path(runtime) / FILE_NAME).unlink(missing_ok=True)


def read(home: str | Path) -> Connection | None:
    """The connection to the live broker of this home; None if there is none, or not yet.

    A file that belongs to a dead process, another home or another user, or that is broken, is none.
    """
    owner = lock.owner(home)
    if owner is None:
        return None
    try:
        body = read_private(Path(owner.runtime) / FILE_NAME)
        if body is None:
            return None
        connection = msgspec.json.decode(body, type=Connection)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    return connection if connection.pid == owner.pid else None
