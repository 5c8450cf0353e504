"""Runs that may start: one lane per task, Python version, priority and tags, first come first served in each.

A worker takes the oldest run of the most urgent lanes it can execute, so the order between tasks is that
of arrival, and a lane that nobody serves costs the others nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Union

from nbtasks.core.messages import RunId
from nbtasks.core.records import Piece, RunRecord


class Lane(Piece, frozen=True):
    """What the runs in one lane have in common."""

    key: str
    python: str  # minor version
    travels: bool  # the code came along
    priority: int
    tags: tuple[str, ...]
    worker_tags: tuple[str, ...]
    sticky: str


Fits = Callable[[Lane], bool]
Room = Callable[[tuple[str, ...]], Union[int, None]]  # how many with these tags may start; None: any number


def lane_of(record: RunRecord) -> Lane:
    spec = record.spec
    return Lane(
        spec.key,
        spec.python,
        bool(spec.code),
        record.terms.priority,
        spec.tags,
        spec.worker_tags,
        spec.sticky,
    )


def _rank(record: RunRecord) -> tuple[int, int]:
    """Who comes first has the least."""
    return -record.terms.priority, record.seq


class ReadyQueue:
    """Unassigned runs that are due."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[int]] = {}  # heaps of sequence numbers
        self._ready: dict[int, RunRecord] = {}
        self._depth: dict[str, int] = {}
        self._urgent: dict[RunId, int] = {}  # run -> how many wait for it
        self._urged: dict[int, RunRecord] = {}  # those of them that are here, the newest wish last

    def __len__(self) -> int:
        return len(self._ready)

    def __contains__(self, record: RunRecord) -> bool:
        return record.seq in self._ready

    def add(self, record: RunRecord) -> None:
        """Put a run in; one that was handed back keeps its place by its sequence number."""
        if record.seq in self._ready:
            return
        self._ready[record.seq] = record
        self._depth[record.spec.key] = self._depth.get(record.spec.key, 0) + 1
        if record.run in self._urgent:
            self._urged[record.seq] = record
        heapq.heappush(self._lanes.setdefault(lane_of(record), []), record.seq)

    def remove(self, record: RunRecord) -> None:
        """Take a run out wherever it is; its entry in the lane is skipped later."""
        if self._ready.pop(record.seq, None) is None:
            return
        self._urged.pop(record.seq, None)
        key = record.spec.key
        self._depth[key] -= 1
        if not self._depth[key]:
            del self._depth[key]

    @property
    def top(self) -> int:
        """The greatest priority that there is; perhaps, for a moment, that of a run that was taken out."""
        return max((lane.priority for lane in self._lanes), default=0)

    def first(self, fits: Fits, room: Room) -> RunRecord | None:
        """The first run that may start, in lanes that fit; it stays in."""
        for urged in reversed(self._urged.values()):
            if room(urged.spec.tags) != 0 and fits(lane_of(urged)):
                return urged
        best: RunRecord | None = None
        for lane in list(self._lanes):
            if not fits(lane) or (lane.tags and room(lane.tags) == 0):
                continue
            record = self._head(lane)
            if record and (best is None or _rank(record) < _rank(best)):
                best = record
        return best

    def urge(self, run: RunId, record: RunRecord | None) -> None:
        """Somebody's code waits for this run: it goes before all others, the newest wish first."""
        self._urgent[run] = self._urgent.get(run, 0) + 1
        if record is not None and record in self:
            self._urged.pop(record.seq, None)
            self._urged[record.seq] = record

    def calm(self, run: RunId) -> None:
        """Take one `urge` back."""
        self._urgent[run] -= 1
        if not self._urgent[run]:
            del self._urgent[run]
            self._urged = {seq: record for seq, record in self._urged.items() if record.run != run}

    def blocked(self, room: Room) -> list[RunRecord]:
        """The heads of lanes of which none may start."""
        heads = [self._head(lane) for lane in list(self._lanes) if lane.tags and room(lane.tags) == 0]
        return [head for head in heads if head]

    def count_for(self, fits: Fits, room: Room) -> int:
        """How many runs such workers could execute now, side by side."""
        return sum(self._size(lane, room(lane.tags)) for lane in list(self._lanes) if fits(lane))

    def depths(self) -> dict[str, int]:
        """Number of runs by task key."""
        return dict(self._depth)

    def oldest(self, key: str) -> RunRecord | None:
        heads = [self._head(lane) for lane in list(self._lanes) if lane.key == key]
        return min((head for head in heads if head), key=lambda head: head.seq, default=None)

    def _head(self, lane: Lane) -> RunRecord | None:
        heap = self._lanes.get(lane)
        while heap:
            if record := self._ready.get(heap[0]):
                return record
            heapq.heappop(heap)
        self._lanes.pop(lane, None)
        return None

    def _size(self, lane: Lane, room: int | None) -> int:
        # entries of runs that were taken out make this too large for a moment; it only sizes pools
        size = len(self._lanes.get(lane, ())) if self._head(lane) else 0
        if lane.sticky:
            size = min(size, 1)
        return size if room is None else min(size, room)
