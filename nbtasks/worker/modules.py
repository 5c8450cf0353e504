"""The submitters' own modules: a run must see them as they are in their files now.

Python imports a module once. A worker that stays while its user edits files would go on with what it
imported first, so before each run it forgets the local modules if one of them changed, or if they
belong to another submitter's paths.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class _Module(NamedTuple):
    """A local module, and its file as it was when it was imported."""

    file: str
    stamp: tuple[int, int] | None  # time in ns, size; None: the file changed while that run executed


class LocalModules:
    """Made before the first run: what is imported by then is the worker's own."""

    def __init__(self) -> None:
        self._known = set(sys.modules)
        self._local: dict[str, _Module] = {}
        self._roots: tuple[str, ...] = ()
        self._entered_ns = 0
        self._looked_s = 0.0  # mono seconds of the last look at the files

    def enter(self, roots: Iterable[str], arrived_s: float) -> None:
        """A run begins whose submitter imports from these directories.

        Parameters
        ----------
        arrived_s
            When it came here (mono seconds): what was edited before it was submitted was edited by then.
        """
        roots = tuple(roots)
        if self._local and (roots != self._roots or self._has_changed(arrived_s)):
            self._forget()
        self._roots = roots
        self._entered_ns = time.time_ns()

    def leave(self) -> None:
        """The run is over: remember what it imported."""
        if len(sys.modules) == len(self._known):
            return
        for name in sys.modules.keys() - self._known:
            file = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(file, str) and self._is_local(file):
                stamp = _stamp(file)
                is_sure = stamp is not None and stamp[0] < self._entered_ns
                self._local[name] = _Module(file, stamp if is_sure else None)
        self._known = set(sys.modules)

    def _has_changed(self, arrived_s: float) -> bool:
        if arrived_s < self._looked_s:
            # of many runs that wait here only the first looks
            return any(module.stamp is None for module in self._local.values())
        self._looked_s = time.monotonic()
        return any(map(_changed, self._local.values()))

    def _is_local(self, file: str) -> bool:
        if any(part in file for part in _INSTALLED):
            return False
        return any(file.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)

    def _forget(self) -> None:
        for name, module in self._local.items():
            sys.modules.pop(name, None)
            self._known.discard(name)
            linecache.cache.pop(module.file, None)
        self._local.clear()
        # a finder may have listed its directory before a file came
        importlib.invalidate_caches()


def _changed(module: _Module) -> bool:
    return module.stamp is None or _stamp(module.file) != module.stamp


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
