"""Where the page of a home is, if a dashboard serves it: a file, believed while its process lives."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import msgspec

from nbtasks.wire import alive
from nbtasks.wire.private import read_private, write_private

_FILE_NAME = "dashboard.json"
_TOKEN_FILE_NAME = "dashboard.token"
_LOOK_S = 1.0  # between two looks of a process that names the page in each line it writes


class Announced(msgspec.Struct, frozen=True):
    """A dashboard that serves a home."""

    url: str  # ends with a slash
    pid: int
    born: float  # as `wire.alive.born` says


def announce(home: str | Path, url: str) -> None:
    """This process serves the page of `home` at `url` from now on."""
    told = Announced(url, os.getpid(), alive.born(os.getpid()) or 0.0)
    write_private(Path(home) / _FILE_NAME, msgspec.json.encode(told))


def withdraw(home: str | Path) -> None:
    (Path(home) / _FILE_NAME).unlink(missing_ok=True)


def find(home: str | Path) -> Announced | None:
    """The dashboard of `home`; None if there is none."""
    try:
        body = read_private(Path(home) / _FILE_NAME)
        told = msgspec.json.decode(body, type=Announced) if body else None
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    return told if told and alive.is_alive(told.pid, told.born) else None


def token(home: str | Path) -> str:
    """What opens the dashboards of `home`; the same for each, so that a browser stays let in."""
    path = Path(home) / _TOKEN_FILE_NAME
    known = read_private(path)
    if not known:
        known = secrets.token_hex(24).encode()
        write_private(path, known)
    return known.decode()


def url_of_run(home: str | Path, run: str) -> str:
    """Where the page of a run is; "" without a dashboard. Cheap when called for each of many runs."""
    now_s = time.monotonic()
    if _looked.get(str(home), (-_LOOK_S, ""))[0] + _LOOK_S <= now_s:
        found = find(home)
        _looked[str(home)] = (now_s, found.url if found else "")
    url = _looked[str(home)][1]
    return f"{url}runs/task-run/{run}" if url else ""


_looked: dict[str, tuple[float, str]] = {}  # home -> when it was looked for (mono s), and what was found
