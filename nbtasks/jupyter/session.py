"""Which broker the magics of a notebook talk to: the one that `.delay()` in the same cell would use."""

from __future__ import annotations

from nbtasks.client import Client
from nbtasks.context import submitter
from nbtasks.errors import BrokerUnavailable
from nbtasks.wire import connection


def client() -> Client:
    """The client of this thread of execution; asking for it starts nothing."""
    try:
        found = submitter()
    except ValueError as error:
        raise BrokerUnavailable(str(error)) from error  # settings that cannot be read
    if not isinstance(found, Client):
        raise BrokerUnavailable("no broker here: tasks run within this process")
    return found


def is_running() -> bool:
    return connection.read(client().home) is not None


def running() -> Client:
    """The client, if its broker runs; looking at things never starts one.

    Raises
    ------
    BrokerUnavailable
        No broker runs for this home.
    """
    if not is_running():
        raise BrokerUnavailable(f"no broker runs for home {client().home}; start one by %nbtasks start")
    return client().open()
