"""Whether a process lives, and whether it is still the same one that had this pid before."""

from __future__ import annotations

import os
import socket
import sys

BORN_SLACK_S = 0.02  # two clock ticks of rounding


def born(pid: int) -> float | None:
    """When a process started, in seconds; None if there is no such process, or only its zombie.

    Two values of one machine and boot can be compared, and nothing else: on Linux it counts from the
    boot, because the wall clock may be set while processes live.
    """
    return _born_linux(pid) if sys.platform == "linux" else _born_elsewhere(pid)


def is_alive(pid: int, born_s: float) -> bool:
    """Whether the process that had `pid` and started at `born_s` still runs."""
    found = born(pid)
    return found is not None and abs(found - born_s) <= BORN_SLACK_S


def host_name() -> str:
    """This machine, as peers name it: pids of two peers can be compared if this is equal."""
    return socket.gethostname()


def _born_linux(pid: int) -> float | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the name, in parentheses, may hold anything
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _born_elsewhere(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
