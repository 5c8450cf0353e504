"""What all simulated processes have in common, and the file that outlives a worker."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from nbtasks.core import messages as m

if TYPE_CHECKING:
    from tests.sim.world import World

MARKER_SLOTS = 63  # as many as the real file has


class Process:
    """A process with a machine in it."""

    machine: Any

    def __init__(self, world: World, name: m.PeerId) -> None:
        self.world = world
        self.name = name
        self.pid = 1000 + len(world.peers)
        self.alive = True
        self.killed_s: float | None = None  # mono seconds
        self.stalled_until_s = 0.0
        self.topics: list[str] = []  # of events that it hears
        self._alarm: float | None = None
        self._outgoing: list[m.Message] = []

    def begin(self) -> None:
        """Come up: connect, and say Hello."""
        self.world.note(self.name, "is up")
        self.world.start(self)
        self.wake()

    def receive(self, frame: list[m.Message]) -> None:
        if self._postponed(self.receive, frame):
            return
        now = self.world.now()
        for message in frame:
            if self.alive:
                self.perform(self.machine.handle(message, now))
        self.wake()

    def wake(self) -> None:
        """Let the machine do what is due, send, and set the alarm."""
        if self._postponed(self.wake):
            return
        self.perform(self.machine.tick(self.world.now()))
        self.flush()
        if not self.alive:
            return
        self.machine.check()
        at = self.machine.wake_at()
        if at is not None and (self._alarm is None or at < self._alarm):
            assert at > self.world.mono_s, f"{self.name} is busy without work"
            self._alarm = at
            self.world.at(at, self._on_alarm, at)

    def _on_alarm(self, at: float) -> None:
        if self._alarm == at:
            self._alarm = None
            self.wake()

    def _postponed(self, do: Any, *args: Any) -> bool:
        if self.alive and self.stalled_until_s > self.world.mono_s:
            self.world.at(self.stalled_until_s, do, *args)
            return True
        return not self.alive

    def perform(self, effects: Any) -> None:
        self._outgoing += effects.sends
        for act in effects.acts:
            self.act(act)

    def act(self, act: Any) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self.world.up(self, outgoing)

    def die(self, status: str) -> None:
        if not self.alive:
            return
        self.world.note(self.name, "ends:", status)
        self.alive = False
        self.status = status
        if status.startswith("killed"):
            self.killed_s = self.world.mono_s
        else:
            self.flush()
        self.world.died(self)

    @property
    def is_quiet(self) -> bool:
        raise NotImplementedError


class Marker:
    """The marker file: a ring that outlives its process."""

    def __init__(self) -> None:
        self._slots: deque[m.Held] = deque(maxlen=MARKER_SLOTS)
        self._words: deque[tuple[m.Printed | m.Finished, ...]] = deque(maxlen=MARKER_SLOTS)
        self.deleted = False

    def started(self, key: tuple[str, int]) -> None:
        self._slots.append(m.Held(*key, started=True))

    def hooks(self, hook: str) -> None:
        self._slots.append(msgspec.structs.replace(self._slots.pop(), hooks=hook))

    def ended(self, words: tuple[m.Printed | m.Finished, ...]) -> None:
        last = self._slots.pop()
        self._slots.append(msgspec.structs.replace(last, ended=True))
        self._words.append(words)

    def said(self) -> tuple[m.Printed | m.Finished, ...]:
        """What there was to say of the attempts that ended."""
        return () if self.deleted else tuple(word for words in self._words for word in words)

    def held(self) -> tuple[m.Held, ...]:
        return () if self.deleted else tuple(self._slots)

    def is_running(self, run: str, attempt: int) -> bool:
        return any((h.run, h.attempt) == (run, attempt) and not h.ended for h in self.held())
