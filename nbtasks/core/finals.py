"""Telling clients how runs ended: numbered per client, a bounded number in flight, repeated until noted.

Only ids wait here; what is told is read from the committed row when it is sent.
"""

from __future__ import annotations

from collections import deque

from nbtasks.core.messages import PeerId, RunId
from nbtasks.core.records import Now, Output, TellEnd
from nbtasks.core.timers import Timers

IN_FLIGHT_MAX = 1024  # finals a client may have un-noted
REPEAT_S = 0.5  # pause before un-noted finals are told again; doubled up to REPEAT_S_MAX
REPEAT_S_MAX = 8.0


class _Outbox:
    """What one client has to be told."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.waiting: deque[RunId] = deque()
        self.in_flight: deque[tuple[int, RunId]] = deque()
        self.last_number = 0
        self.pause_s = REPEAT_S
        self.repeat_at: float | None = None


class Finals:
    """Who waits for which run, and what each client was told."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._outboxes: dict[PeerId, _Outbox] = {}
        self._watchers: dict[RunId, tuple[PeerId, ...]] = {}
        self._alone: tuple[PeerId, ...] = ()  # the last one of one client: the runs of a batch share it

    def open(self, client: PeerId, session: int) -> None:
        """A client said Hello; in a new session numbering starts anew, a repeated Hello changes nothing."""
        known = self._outboxes.get(client)
        if known is None or known.session < session:
            self._outboxes[client] = _Outbox(session)

    def session(self, client: PeerId) -> int:
        """The session within which finals of this client are numbered; 1 if it is no client."""
        outbox = self._outboxes.get(client)
        return outbox.session if outbox else 1

    def close(self, client: PeerId) -> None:
        """The client is gone; its watches are forgotten as their runs end."""
        self._outboxes.pop(client, None)

    def watch(self, client: PeerId, run: RunId) -> None:
        """Tell this client when the live `run` ends."""
        watchers = self._watchers.get(run, ())
        if not watchers:
            if self._alone != (client,):
                self._alone = (client,)
            self._watchers[run] = self._alone
        elif client not in watchers:
            self._watchers[run] = (*watchers, client)

    def tell(self, client: PeerId, run: RunId, now: Now, out: Output) -> None:
        """Tell this client now what the table knows of `run`."""
        if outbox := self._outboxes.get(client):
            outbox.waiting.append(run)
            self._fill(client, outbox, now, out)

    def ended(self, run: RunId, now: Now, out: Output) -> None:
        """`run` became final: tell everybody who watches it."""
        for client in self._watchers.pop(run, ()):
            self.tell(client, run, now, out)

    def owed(self) -> set[RunId]:
        """Runs that ended and of which somebody is still to be told."""
        owed: set[RunId] = set()
        for outbox in self._outboxes.values():
            owed.update(outbox.waiting)
            owed.update(run for _, run in outbox.in_flight)
        return owed

    def noted(self, client: PeerId, session: int, upto: int, now: Now, out: Output) -> None:
        outbox = self._outboxes.get(client)
        if outbox is None or outbox.session != session:
            return
        before = len(outbox.in_flight)
        while outbox.in_flight and outbox.in_flight[0][0] <= upto:
            outbox.in_flight.popleft()
        if len(outbox.in_flight) < before:
            outbox.pause_s = REPEAT_S
        if outbox.waiting:
            self._fill(client, outbox, now, out)

    def repeat(self, client: PeerId, now: Now, out: Output) -> None:
        """A timer of ours is due: tell again what was not noted in time."""
        outbox = self._outboxes.get(client)
        if outbox is None or outbox.repeat_at is None or outbox.repeat_at > now.mono_s:
            return
        outbox.repeat_at = None
        if outbox.in_flight:
            outbox.pause_s = min(2 * outbox.pause_s, REPEAT_S_MAX)
            out.sends += [TellEnd(client, outbox.session, number, run) for number, run in outbox.in_flight]
            self._arm(client, outbox, now)

    def _fill(self, client: PeerId, outbox: _Outbox, now: Now, out: Output) -> None:
        while outbox.waiting and len(outbox.in_flight) < IN_FLIGHT_MAX:
            outbox.last_number += 1
            run = outbox.waiting.popleft()
            outbox.in_flight.append((outbox.last_number, run))
            out.sends.append(TellEnd(client, outbox.session, outbox.last_number, run))
        self._arm(client, outbox, now)

    def _arm(self, client: PeerId, outbox: _Outbox, now: Now) -> None:
        if outbox.repeat_at is None:
            outbox.repeat_at = now.mono_s + outbox.pause_s
            self._timers.add(outbox.repeat_at, "finals", client)
