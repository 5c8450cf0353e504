"""A fresh home for a test, a demo or a notebook: short enough for sockets, without processes afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

# A socket's path has at most 107 bytes, and macOS has temporary directories of 50.
PREFIX_BYTES_MAX = 40
LEAVE_S = 15.0  # twenty times what a broker and two workers need to leave on a busy machine


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set (or, for None, remove) variables of this process, and put back what was there."""
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


def variables(base: Path) -> dict[str, str]:
    """What a process needs to know of the home under `base`; its broker ends with this process."""
    return {
        "NBTASKS_HOME": str(base / "h"),
        "NBTASKS_RUNTIME_DIR": str(base / "r"),
        "NBTASKS_OWNER_PID": str(os.getpid()),
    }


@contextmanager
def fresh_home() -> Iterator[Path]:
    """Give this process a home of its own; at the end its broker is stopped and nothing may be left.

    Raises
    ------
    AssertionError
        A process that names the home was still there after `LEAVE_S`; it has been killed.
    """
    place = tempfile.gettempdir()
    base = Path(tempfile.mkdtemp(prefix="nb-", dir=place if len(place) <= PREFIX_BYTES_MAX else "/tmp"))
    try:
        with environment(variables(base)):
            try:
                yield base / "h"
            finally:
                stop_broker(base / "h")
        left = end_leftovers(base)
        assert not left, f"processes of {base} are left: {left}"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def stop_broker(home: Path) -> None:
    """Stop the broker of `home` and its pools, if there is one that listens."""
    import nbtasks

    try:
        with nbtasks.connect(home, start=False) as client:
            client.stop_broker()
    except nbtasks.BrokerUnavailable:
        return  # none, or one that was killed: what is left of it shows


def processes_naming(text: str) -> list[psutil.Process]:
    """Every other process whose environment or command line holds `text`, without our ancestors."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            texts = [*process.cmdline(), *process.environ().values()]
            if any(text in part for part in texts) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue  # it ended, or is not ours to look at
    return found


def end_leftovers(base: Path) -> list[str]:
    """Wait until nothing names `base`; kill what still does after `LEAVE_S`, and say what it was."""
    ends_at = time.monotonic() + LEAVE_S
    while (left := processes_naming(str(base))) and time.monotonic() < ends_at:
        psutil.wait_procs(left, timeout=0.1)
    words = [f"{process.pid} {_command(process)}" for process in left]
    for process in left:
        try:
            process.kill()
        except psutil.Error:
            continue  # it ended meanwhile
    return words


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(ended)"


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
