"""Telling clients how runs ended: numbered per client, a bounded number in flight, repeated until noted.

Only ids wait here; what is told is read from the committed row when it is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable

from nbtasks.core.messages import PeerId, RunId
from nbtasks.core.records import Now, Output, TellEnd
from nbtasks.core.timers import Timers

IN_FLIGHT_MAX = 1024  # finals a client may have un-noted
REPEAT_S = 0.5  # pause before un-noted finals are told again; doubled up to REPEAT_S_MAX
REPEAT_S_MAX = 8.0


class _Account:
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
        self._accounts: dict[PeerId, _Account] = {}
        self._watchers: dict[RunId, tuple[PeerId, ...]] = {}
        self._alone: tuple[PeerId, ...] = ()  # the last one of one client: the runs of a batch share it

    def open(self, client: PeerId, session: int) -> None:
        """A client said Hello; in a new session numbering starts anew, a repeated Hello changes nothing."""
        known = self._accounts.get(client)
        if known is None or known.session < session:
            self._accounts[client] = _Account(session)

    def session(self, client: PeerId) -> int:
        """The session within which finals of this client are numbered; 1 if it is no client."""
        account = self._accounts.get(client)
        return account.session if account else 1

    def close(self, client: PeerId) -> None:
        """The client is gone; its watches are forgotten as their runs end."""
        self._accounts.pop(client, None)

    def watch(self, client: PeerId, run: RunId) -> None:
        """Tell this client when the live `run` ends."""
        watchers = self._watchers.get(run, ())
        if not watchers:
            if self._alone != (client,):
                self._alone = (client,)
            self._watchers[run] = self._alone
        elif client not in watchers:
            self._watchers[run] = (*watchers, client)

    def watch_all(
        self, client: PeerId, runs: Iterable[RunId], live: Container[RunId], now: Now, out: Output
    ) -> None:
        """Tell this client how these runs end, of those that are not live at once."""
        for run in runs:
            if run in live:
                self.watch(client, run)
            else:
                self.tell(client, run, now, out)

    def tell(self, client: PeerId, run: RunId, now: Now, out: Output) -> None:
        """Tell this client now what the table knows of `run`."""
        if account := self._accounts.get(client):
            account.waiting.append(run)
            self._fill(client, account, now, out)

    def ended(self, run: RunId, now: Now, out: Output) -> None:
        """`run` became final: tell everybody who watches it."""
        for client in self._watchers.pop(run, ()):
            self.tell(client, run, now, out)

    def owed(self) -> set[RunId]:
        """Runs that ended and of which somebody is still to be told."""
        owed: set[RunId] = set()
        for account in self._accounts.values():
            owed.update(account.waiting)
            owed.update(run for _, run in account.in_flight)
        return owed

    def noted(self, client: PeerId, session: int, upto: int, now: Now, out: Output) -> None:
        account = self._accounts.get(client)
        if account is None or account.session != session:
            return
        before = len(account.in_flight)
        while account.in_flight and account.in_flight[0][0] <= upto:
            account.in_flight.popleft()
        if len(account.in_flight) < before:
            account.pause_s = REPEAT_S
        if account.waiting:
            self._fill(client, account, now, out)

    def repeat(self, client: PeerId, now: Now, out: Output) -> None:
        """A timer of ours is due: tell again what was not noted in time."""
        account = self._accounts.get(client)
        if account is None or account.repeat_at is None or account.repeat_at > now.mono_s:
            return
        account.repeat_at = None
        if account.in_flight:
            account.pause_s = min(2 * account.pause_s, REPEAT_S_MAX)
            out.sends += [TellEnd(client, account.session, number, run) for number, run in account.in_flight]
            self._arm(client, account, now)

    def _fill(self, client: PeerId, account: _Account, now: Now, out: Output) -> None:
        while account.waiting and len(account.in_flight) < IN_FLIGHT_MAX:
            account.last_number += 1
            run = account.waiting.popleft()
            account.in_flight.append((account.last_number, run))
            out.sends.append(TellEnd(client, account.session, account.last_number, run))
        self._arm(client, account, now)

    def _arm(self, client: PeerId, account: _Account, now: Now) -> None:
        if account.repeat_at is None:
            account.repeat_at = now.mono_s + account.pause_s
            self._timers.add(account.repeat_at, "finals", client)
