"""How many cores this process may use: by its affinity, and by the share of CPU time that its container has.

A container sees all cores of its machine, however small its share is, and who starts a process for each of
them has many that wait for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """How many this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    number = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(float(number), share())))


def share(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float:
    """The CPU time that the control groups around this process allow it, in cores; infinite without a bound.

    Parameters
    ----------
    root
        Where control groups are mounted.
    own
        What tells those of this process.
    """
    try:
        lines = own.read_text("utf-8", "replace").splitlines()
    except OSError:
        return math.inf
    shares = [math.inf]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # of version 2
            shares += [_of_version_2(folder) for folder in _folders(root, path)]
        elif "cpu" in controllers.split(","):
            for mount in {root / controllers, root / "cpu"}:
                shares += [_of_version_1(folder) for folder in _folders(mount, path)]
    return min(shares)


def _folders(mount: Path, path: str) -> Iterator[Path]:
    """That of a group and those around it; within a container, the outer part of `path` may not be seen."""
    names = [name for name in path.split("/") if name not in ("", "..")]
    for number in range(len(names), -1, -1):
        yield mount.joinpath(*names[:number])


def _of_version_2(folder: Path) -> float:
    return _quotient(_word(folder / "cpu.max", 0), _word(folder / "cpu.max", 1))


def _of_version_1(folder: Path) -> float:
    return _quotient(_word(folder / "cpu.cfs_quota_us"), _word(folder / "cpu.cfs_period_us"))


def _word(path: Path, place: int = 0) -> str:
    try:
        words = path.read_text("ascii", "replace").split()
    except OSError:
        return ""
    return words[place] if len(words) > place else ""


def _quotient(quota: str, period: str) -> float:
    """In cores; infinite for whatever is no bound: "max", "-1", nothing."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else math.inf
