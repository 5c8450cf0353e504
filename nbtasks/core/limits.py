"""Slots of named limits: how many runs with a tag, or blocks of code, may be under way at a time.

A run holds a slot of each of its limited tags exactly while a worker holds the run, so that the table of
runs tells how many are taken. Code that asks for slots itself (`concurrency`) holds them until it gives
them back or its attempt is over; those are rows of their own. A limit with a period is a rate.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import (
    Done,
    GetLimits,
    LimitInfo,
    LimitsFound,
    Message,
    NotDone,
    Occupy,
    PeerId,
    RunId,
    SetLimit,
    Vacate,
)
from nbtasks.core.records import Holding, Limit, Now, RunRecord, Send
from nbtasks.core.timers import Timers

WAITING_MAX = 10_000  # blocks of code that wait for slots


class _Asked(NamedTuple):
    peer: PeerId
    message: Occupy


class TagLimits:
    """The limits of a home, and who holds what."""

    def __init__(self, ledger: Ledger, timers: Timers) -> None:
        self._ledger = ledger
        self._timers = timers
        self._limits: dict[str, Limit] = {}
        self._runs: Counter[str] = Counter()  # tag -> runs that a worker holds, of limited tags or not
        self._holdings: dict[str, Holding] = {}  # by token
        self._waiting: dict[str, _Asked] = {}  # by token, first come first served
        self._starts: dict[str, deque[float]] = {}  # of rates: mono seconds of the starts within a period
        self._by_run: dict[RunId, set[str]] = {}  # tokens

    def restore(self, limits: Iterable[Limit], holdings: Iterable[Holding]) -> None:
        """Take over what the table holds."""
        self._limits = {limit.name: limit for limit in limits}
        for holding in holdings:
            self._hold(holding)

    # -- runs ------------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        return bool(self._limits)

    def taken(self, record: RunRecord) -> None:
        """A worker holds this run from now on."""
        for tag in record.spec.tags:
            self._runs[tag] += 1

    def freed(self, record: RunRecord) -> None:
        """No worker holds this run any more."""
        for tag in record.spec.tags:
            self._runs[tag] -= 1

    def ended(self, record: RunRecord) -> None:
        """The attempt of this run is over, and what its code held is free."""
        for token in list(self._by_run.get(record.run, ())):
            self._let_go(token)

    def limits(self, tags: Iterable[str]) -> bool:
        """Whether any of these tags is limited."""
        return any(tag in self._limits and not self._limits[tag].period_s for tag in tags)

    def room(self, tags: Iterable[str]) -> int | None:
        """How many more runs with these tags may start; None: as many as there are."""
        rooms = [
            max(0, limit.slots - self._in_use(limit.name))
            for tag in tags
            if (limit := self._limits.get(tag)) and not limit.period_s
        ]
        return min(rooms, default=None)

    # -- what is asked ---------------------------------------------------------------------------------

    def answer(self, peer: PeerId, message: Message, now: Now) -> Message | None:
        """Do what is asked; None: it is answered later."""
        if isinstance(message, SetLimit):
            return self.set(message, now)
        if isinstance(message, Occupy):
            return self.occupy(peer, message, now)
        if isinstance(message, Vacate):
            return self.vacate(message, now)
        assert isinstance(message, GetLimits), message
        return LimitsFound(message.request, self.infos())

    def set(self, message: SetLimit, now: Now) -> Message:
        """Change a limit; whoever holds its slots keeps them."""
        if message.slots is None:
            self._limits.pop(message.name, None)
            self._ledger.out.limits[message.name] = None
        else:
            limit = Limit(message.name, message.slots, message.period_s)
            self._limits[message.name] = self._ledger.out.limits[message.name] = limit
        self.grant(now)
        return Done(message.request)

    def infos(self) -> tuple[LimitInfo, ...]:
        """All limits, for people."""
        waiting = Counter(asked.message.name for asked in self._waiting.values())
        return tuple(
            LimitInfo(limit.name, limit.slots, limit.period_s, self._in_use(limit.name), waiting[limit.name])
            for limit in self._limits.values()
        )

    def occupy(self, peer: PeerId, message: Occupy, now: Now) -> Message | None:
        """Code of a run asks for slots; None: it is answered when they are free."""
        record = self._ledger.runs.get(message.run)
        if record is None or record.attempt != message.attempt or not record.worker:
            return NotDone(message.request, f"run {message.run} is over", code="over")
        if message.token in self._holdings:
            return Done(message.request)
        limit = self._limits.get(message.name)
        if limit is None or (message.name in record.spec.tags and not message.rate):
            return Done(message.request)  # no limit, or the run holds the slot of its tag already
        if message.rate != bool(limit.period_s):
            kind = "a number of slots, not a rate" if message.rate else "a rate, not a number of slots"
            return NotDone(message.request, f"the limit {message.name!r} is {kind}", code="value")
        if message.slots > limit.slots > 0:
            reason = (
                f"{message.slots} slots of {message.name!r} are asked for, of {limit.slots} that there are"
            )
            return NotDone(message.request, reason, code="value")
        if message.token not in self._waiting and len(self._waiting) >= WAITING_MAX:
            return NotDone(message.request, f"too many blocks of code wait for slots ({WAITING_MAX})")
        # said again, it keeps its place
        self._waiting[message.token] = _Asked(peer, message)
        self._by_run.setdefault(message.run, set()).add(message.token)
        self.grant(now)
        return None

    def vacate(self, message: Vacate, now: Now) -> Message:
        """Code of a run gives slots back, or waits for them no more."""
        self._let_go(message.token)
        self.grant(now)
        return Done(message.request)

    def grant(self, now: Now) -> None:
        """Answer those whose turn it is."""
        if not self._waiting:
            return
        blocked: set[str] = set()  # names whose first in line has to wait
        for token, asked in list(self._waiting.items()):
            name = asked.message.name
            limit = self._limits.get(name)
            if name in blocked:
                continue
            if limit is not None and not self._may(limit, asked.message, now):
                blocked.add(name)
                continue
            del self._waiting[token]
            if limit is not None and not limit.period_s:
                holding = Holding(token, name, asked.message.slots, asked.message.run)
                self._hold(holding)
                self._ledger.out.holdings[token] = holding
            elif tokens := self._by_run.get(asked.message.run):
                tokens.discard(token)
            self._ledger.out.sends.append(Send(asked.peer, Done(asked.message.request)))

    def waiting_reason(self, record: RunRecord) -> str:
        """For which slot this queued run waits; "": for none."""
        tags = [tag for tag in record.spec.tags if self.room((tag,)) == 0]
        return f"waiting for a slot of {', '.join(tags)}" if tags else ""

    # -- pieces ----------------------------------------------------------------------------------------

    def _in_use(self, name: str) -> int:
        return self._runs[name] + sum(h.slots for h in self._holdings.values() if h.name == name)

    def _may(self, limit: Limit, asked: Occupy, now: Now) -> bool:
        if not limit.period_s:
            return self._in_use(limit.name) + asked.slots <= limit.slots
        starts = self._starts.setdefault(limit.name, deque())
        while starts and starts[0] + limit.period_s <= now.mono_s:
            starts.popleft()
        if len(starts) + asked.slots > limit.slots:
            self._timers.add(starts[0] + limit.period_s, "grant", None)
            return False
        starts.extend([now.mono_s] * asked.slots)
        return True

    def _hold(self, holding: Holding) -> None:
        self._holdings[holding.token] = holding
        self._by_run.setdefault(holding.run, set()).add(holding.token)

    def _let_go(self, token: str) -> None:
        asked = self._waiting.pop(token, None)
        holding = self._holdings.pop(token, None)
        if holding is not None:
            self._ledger.out.holdings[token] = None
        run = holding.run if holding else asked.message.run if asked else ""
        if tokens := self._by_run.get(run):
            tokens.discard(token)
            if not tokens:
                del self._by_run[run]
