"""The client: what this process says to a broker, and how it waits."""

from __future__ import annotations

import os

from nbtasks import settings
from nbtasks.client.client import Client
from nbtasks.client.pools import Pool
from nbtasks.client.status import PoolStatus, Status, WorkerStatus

__all__ = ["Client", "Pool", "PoolStatus", "Status", "WorkerStatus", "connect", "default_client"]


def connect(home: str | os.PathLike[str] | None = None, start: bool = True) -> Client:
    """A client of the broker of a home; as a context manager, tasks within the block talk to that home.

    Parameters
    ----------
    home
        Directory of the broker; else `NBTASKS_HOME`, else the user's data directory.
    start
        Whether a broker that is not there is started.

    Raises
    ------
    BrokerUnavailable
        There is no broker and none may or can be started, or it refused this process's key.
    """
    client = Client(home, start)
    try:
        return client.open()
    except BaseException:
        client.close()
        raise


_defaults: dict[str, Client] = {}


def default_client() -> Client:
    """The client of this process for the home that `NBTASKS_HOME` names now; opened when it is used.

    It starts a broker that is not there if the home's setting `start_broker` says so.
    """
    home = os.environ.get("NBTASKS_HOME", "")
    found = _defaults.get(home)
    if found is None:
        starts = settings.load(settings.home_path()).start_broker
        found = _defaults.setdefault(home, Client(start=starts))
    return found
