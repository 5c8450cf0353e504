"""How the runs of a list ended, counted as they end, at a constant cost for each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from nbtasks.run.group import _watch
from nbtasks.run.handle import Run


class Tally:
    """Counts the endings of runs by state type.

    Parameters
    ----------
    changed
        Called after each ending that is counted later, in whatever thread learns of it.
    """

    def __init__(self, runs: Sequence[Run], changed: Callable[[], object]) -> None:
        self.total = len(runs)
        self.ended: Counter[str] = Counter()  # by state type; "" for runs that are not recorded
        self._changed = changed
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Run, Callable[[], None]]] = {}
        for run in runs:
            if (kind := run._state_type) is not None:
                self.ended[kind.value] += 1
            else:
                self._open[run._run] = (run, partial(self._on_end, run._run))
        waiting = list(self._open.values())
        self.total = sum(self.ended.values()) + len(waiting)  # a run that is there twice counts once
        _watch([run for run, _ in waiting])
        for run, callback in waiting:
            run._settled.add(callback)

    @property
    def left(self) -> int:
        """How many have not ended."""
        return len(self._open)

    def holds(self, run: str) -> bool:
        """Whether this run is among those that have not ended."""
        return run in self._open

    def open_ids(self) -> list[str]:
        return list(self._open)

    def _on_end(self, run: str) -> None:
        with self._lock:
            found = self._open.pop(run, None)
            if found is None:
                return
            kind = found[0]._state_type
            self.ended[kind.value if kind else ""] += 1
        self._changed()

    def close(self) -> None:
        """Count no more."""
        with self._lock:
            waiting = list(self._open.values())
        for run, callback in waiting:
            run._settled.discard(callback)
