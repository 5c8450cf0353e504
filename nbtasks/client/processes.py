"""Clients at the ends of processes: a forked child begins anew, and who ends says so to his brokers."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

from nbtasks.client.link import Link


class Resets(Protocol):
    """What a client does in a forked child."""

    def reset(self) -> None:
        """Forget what belongs to the parent."""


clients: weakref.WeakSet[Resets] = weakref.WeakSet()
links: set[Link] = set()  # open ones, also of clients that nobody refers to any more
_abandoned: list[Link] = []  # of the parent of this forked process: never touched, so never collected


def _after_fork() -> None:
    _abandoned.extend(links)
    links.clear()
    for client in list(clients):
        client.reset()


def _close_all() -> None:
    for link in list(links):
        link.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close_all)
