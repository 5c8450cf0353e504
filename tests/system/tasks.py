"""The functions that the system tests send to workers; importable there because the tests' folder travels."""

from __future__ import annotations

import os
import time
from pathlib import Path

HANG_S = 120.0  # a task that waits for something never waits longer


def note(path: str, text: str) -> None:
    """Append one line; whole even if many processes do so."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def lines(path: str | Path) -> list[str]:
    """The whole lines that were noted so far."""
    path = Path(path)
    return path.read_text().splitlines() if path.exists() else []


def double(x: int) -> int:
    return 2 * x


def echo(value: object) -> object:
    return value


def fail_first(path: str, array: object) -> int:
    """Note each attempt; the first two raise."""
    note(path, "attempt")
    if len(lines(path)) < 3:
        raise ValueError("not yet")
    return int(sum(array))  # type: ignore[call-overload]


def hold(path: str, release: str, name: str = "") -> str:
    """Note where and as what it runs, then wait until the file `release` exists."""
    note(path, f"{name} {os.getpid()}")
    ends_at = time.monotonic() + HANG_S
    while not os.path.exists(release) and time.monotonic() < ends_at:
        time.sleep(0.01)
    return name


def say_and_hold(text: str, release: str) -> dict[str, str]:
    """Print, wait until the file `release` exists, print that, too."""
    print(text)
    ends_at = time.monotonic() + HANG_S
    while not os.path.exists(release) and time.monotonic() < ends_at:
        time.sleep(0.01)
    print("released")
    return {"said": text}


def leave(status: int) -> None:
    os._exit(status)


def flood(megabytes: int) -> int:
    """Print that many million bytes in lines of 100."""
    line = "x" * 99
    for _ in range(megabytes):
        print("\n".join([line] * 10_000))
    return megabytes


def held_lock() -> object:
    """Something that no pickle can hold."""
    import threading

    return threading.Lock()


class SlowToPickle:
    """Takes a millisecond to pickle, so that a submitter can be killed in the middle of a map."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        time.sleep(0.001)
        return int, (self.value,)
