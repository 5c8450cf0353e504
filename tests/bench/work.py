"""The functions that every system runs."""

from __future__ import annotations

import os
import time
from typing import Any


def noop(x: Any = None) -> Any:
    return x


def echo(array: Any) -> Any:
    """Reads one element of each page, so that nobody wins by never mapping the data."""
    array[::512].sum()
    return array


def note(path: str, text: str = "") -> None:
    """Append one line to a file, whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def hold(path: str, seconds: float) -> None:
    """Note when and where it started, then keep its worker."""
    note(path, f"{time.time()} {os.getpid()}")
    time.sleep(seconds)
