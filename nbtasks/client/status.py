"""What `client.status()` gives: the broker's answer in the words that users write."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from nbtasks.core import messages
from nbtasks.core.messages import PoolInfo, WorkerInfo
from nbtasks.wire.alive import host_name


class WorkerStatus(NamedTuple):
    """One worker kernel."""

    name: str
    pool: str
    pid: int
    state: str  # starting, idle, busy, draining; stalled: it lives and has said nothing for long
    current_run: UUID | None
    busy_since: datetime | None
    serves: tuple[str, ...] | None  # task keys; None: any task
    memory_bytes: int | None = None  # resident, of its process without children; None: not to be known here


class PoolStatus(NamedTuple):
    """One pool of workers."""

    name: str
    pid: int
    generic: bool  # the one that `set_generic_pool` sets
    serves: tuple[str, ...] | None
    least: int
    most: int
    workers: int


class Status(NamedTuple):
    """A broker at one moment."""

    broker_pid: int
    home: str
    started: datetime
    clients: int
    workers: list[WorkerStatus]
    pools: list[PoolStatus]
    counts: dict[str, int]  # state type -> number of runs, all eight of them
    queues: dict[str, tuple[int, float]]  # task key -> waiting runs, age of the oldest in seconds
    damaged: tuple[str, ...] = ()  # journals that were set aside, whose runs are not listed


def of_message(message: messages.Status) -> Status:
    return Status(
        message.pid,
        message.home,
        _when(message.started),
        message.clients,
        [_worker(worker) for worker in message.workers],
        [_pool(pool) for pool in message.pools],
        dict(message.counts),
        dict(message.queues),
        tuple(sorted(str(path) for path in Path(message.home).glob("journal.db.damaged-*[0-9]"))),
    )


def _worker(info: WorkerInfo) -> WorkerStatus:
    return WorkerStatus(
        info.worker,
        info.pool,
        info.pid,
        info.state,
        UUID(info.run) if info.run else None,
        _when(info.busy_since) if info.busy_since else None,
        info.serves,
        _memory_bytes(info.pid) if info.host == host_name() else None,
    )


def _memory_bytes(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None  # it just ended


def _pool(info: PoolInfo) -> PoolStatus:
    return PoolStatus(info.pool, info.pid, info.generic, info.serves, info.least, info.most, info.workers)


def _when(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, timezone.utc)
