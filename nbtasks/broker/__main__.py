"""`python -m nbtasks.broker --home H [--owner PID]`: exactly one per home; a second one exits with 73."""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import traceback
from pathlib import Path

from nbtasks import settings
from nbtasks.broker.daemon import Daemon
from nbtasks.broker.store import JournalError, NewerSchema
from nbtasks.wire import keys, lock
from nbtasks.wire.private import private_dir, runtime_dir

# as in sysexits.h
BUG, CANNOT_CREATE, BAD_CONFIGURATION = 70, 73, 78

SWITCH_S = (
    0.0005  # for so long the loop may wait for a thread that reads; Python's own 5 ms is ten round trips
)

log = logging.getLogger("nbtasks.broker")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nbtasks.broker", description="The broker of one home.")
    parser.add_argument("--home", required=True, type=Path, help="directory of journal, keys and logs")
    parser.add_argument("--owner", type=int, metavar="PID", help="a process with which the broker ends")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s",
        datefmt="%H:%M:%S",
    )  # fmt: skip
    try:
        home = private_dir(settings.home_path(arguments.home))
        chosen = settings.load(home)
        runtime = runtime_dir(home)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION
    home_lock = lock.HomeLock(home)
    if not home_lock.take(runtime):
        owner = lock.owner(home)
        holder = f"pid {owner.pid}" if owner else "another process"
        print(f"{home} has a broker already: {holder}", file=sys.stderr)
        return CANNOT_CREATE
    _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_S)
    try:
        daemon = Daemon(home, runtime, home_lock, keys.load(home), chosen, arguments.owner)
    except (NewerSchema, PermissionError, ValueError) as error:
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION
    return _run(daemon)


def _run(daemon: Daemon) -> int:
    """Run to the end; a fault ends the process before anything is said that is not safe."""
    try:
        status = daemon.run()
    except JournalError as error:
        log.critical("the journal cannot be used (%s); what was accepted is in it or its redo log", error)
        daemon.suspect(error)
        status = BUG
    except Exception:
        traceback.print_exc()
        status = BUG
    try:
        daemon.close()
    except (JournalError, OSError):
        traceback.print_exc()
        status = status or BUG
    return status


def _raise_descriptor_limit() -> None:
    """One descriptor per watched process and per connection: the usual soft limit of 1024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
