"""Ending a broker on purpose, and seeing that it is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nbtasks.client.link import Link
from nbtasks.core.messages import Done, StopBroker
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.wire.alive import born
from nbtasks.wire.process import ProcessWatch

if TYPE_CHECKING:
    from nbtasks.client.client import Client

STOP_MARGIN_S = 15.0  # beyond the drain, for a broker to end


def stop(client: Client, link: Link, drain_s: float) -> None:
    """Have the broker stop after a drain; returns when its process is gone."""
    pid = link.broker_pid
    watch = ProcessWatch(pid, born(pid) or 0.0)
    try:
        client.ask(lambda number: StopBroker(number, drain_s), Done)
        ends_s = time.monotonic() + drain_s + STOP_MARGIN_S
        try:
            # it says so to every client in the end
            link.wait(watch.is_dead, drain_s + STOP_MARGIN_S)
        except BrokerUnavailable:
            while not watch.is_dead() and time.monotonic() < ends_s:
                time.sleep(0.005)
        if not watch.is_dead():
            raise NbtasksError(f"the broker of {client.home} (pid {pid}) is still stopping")
    finally:
        watch.close()
