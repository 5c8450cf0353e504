"""The source of code that is in no file: it travels with the code, for tracebacks."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable
from typing import Any

Sources = tuple[tuple[str, str], ...]  # name of the file that is none, text


def of(filenames: Iterable[str]) -> Sources:
    """The sources of those of these files that exist in this process alone."""
    found = (
        (filename, _cached(filename))
        for filename in sorted(filenames)
        if filename in linecache.cache and not os.path.exists(filename)
    )
    return tuple((filename, source) for filename, source in found if source)


def _cached(filename: str) -> str:
    entry: Any = linecache.cache[filename]
    return "".join(entry[2]) if len(entry) == 4 else ""


def remember(sources: Sources) -> None:
    """Put them where tracebacks look for them."""
    for filename, source in sources:
        entry = linecache.cache.get(filename)
        if entry is None or entry[0] != len(source) or _cached(filename) != source:
            # without a time stamp linecache never compares the entry with a file
            linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
