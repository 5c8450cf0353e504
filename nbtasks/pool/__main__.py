"""`python -m nbtasks.pool`: some workers of one home on this machine, until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from nbtasks import settings
from nbtasks.core.messages import HelloPool
from nbtasks.core.version import VERSION
from nbtasks.pool import kinds
from nbtasks.pool.edge import PoolEdge
from nbtasks.wire import connection
from nbtasks.wire.alive import born, host_name
from nbtasks.wire.connection import Connection
from nbtasks.wire.kind import Kind
from nbtasks.wire.kind import read as read_kind

NO_BROKER_S = 10.0  # for a broker that just starts
NO_BROKER, BAD_CONFIGURATION = 69, 78  # exit statuses, as in sysexits.h


class Served(msgspec.Struct):
    """A task that the workers serve, as the file of `--serves` lists it."""

    key: str
    name: str
    code: str  # path of the pickled function


def main() -> int:
    options = _options()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
            signal.signal(number, _end_at_once)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s",
        datefmt="%H:%M:%S",
    )  # fmt: skip
    try:
        home = settings.home_path(options.home)
        serves = _serves(options.serves)
        drain_s = settings.load(home).drain_s if options.drain_timeout is None else options.drain_timeout
        kind = kinds.workers(_kind(options.kind), options.most, dict(os.environ))
    except (OSError, ValueError, msgspec.DecodeError) as error:
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION
    if serves is not None:
        worker_log = logging.getLogger("nbtasks.worker")
        worker_log.info("Starting task worker...")
        worker_log.info("Subscribing to runs of task(s): %s", " | ".join(task.name for task in serves))
    found = _broker(home)
    if found is None:
        print(f"no broker runs for {home}; start one by: nbtasks broker start", file=sys.stderr)
        return NO_BROKER
    hello = _hello(options, serves, kind.tags)
    edge = PoolEdge(options.name, home, found, hello, options.serves, drain_s, options.owner, kind)
    return edge.run()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """A signal before there are workers."""
    os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nbtasks.pool", description="Workers of one home.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True, help="p-…, never used before")
    parser.add_argument("--least", type=int, default=1, help="workers to have always")
    parser.add_argument("--most", type=int, default=1, help="workers to have while runs wait")
    parser.add_argument("--serves", type=Path, help="JSON: the tasks to serve; without it, any task")
    parser.add_argument(
        "--generic", action="store_true", help="be the one pool that `%%nbtasks workers` sets"
    )
    parser.add_argument("--stays", action="store_true", help="stay when nobody needs workers")
    parser.add_argument("--kind", type=Path, help="JSON: what the workers are like")
    parser.add_argument("--owner", type=int, metavar="PID", help="a process with which the pool ends")
    parser.add_argument("--drain-timeout", type=float, metavar="S", help="else the setting drain_s")
    options = parser.parse_args()
    if not 0 <= options.least <= options.most or not options.most:
        parser.error(f"--least {options.least} --most {options.most} is not a range of workers")
    return options


def _serves(path: Path | None) -> list[Served] | None:
    return None if path is None else msgspec.json.decode(path.read_bytes(), type=list[Served])


def _broker(home: Path) -> Connection | None:
    until_s = time.monotonic() + NO_BROKER_S
    while (found := connection.read(home)) is None and time.monotonic() < until_s:
        time.sleep(0.02)
    return found


def _kind(path: Path | None) -> Kind:
    return Kind() if path is None else read_kind(path)


def _hello(options: argparse.Namespace, serves: list[Served] | None, tags: tuple[str, ...]) -> HelloPool:
    pid = os.getpid()
    return HelloPool(
        version=VERSION,
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        pid=pid,
        born=born(pid) or 0.0,
        host=host_name(),
        generic=options.generic,
        serves=None if serves is None else tuple(task.key for task in serves),
        least=options.least,
        most=options.most,
        stays=options.stays,
        tags=tags,
    )


if __name__ == "__main__":
    sys.exit(main())
