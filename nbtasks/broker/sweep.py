"""Runs that leave the journal, in pieces so small that nobody waits for them.

The reader's thread finds what is over, `core.retention` chooses, the machine looks once more whether
anything live refers to it, and the commits of the loop carry it out: a few runs at a time, at once
while nothing else happens, now and then while there is other work. A broker that is killed meanwhile
has removed whole runs only; the next sweep goes on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from nbtasks.broker.queries import PastPage
from nbtasks.broker.reader import Failed, Reader
from nbtasks.core.broker import Broker
from nbtasks.core.messages import Message, NotDone, PeerId, Prune, Pruned, RunId
from nbtasks.core.records import Now
from nbtasks.core.retention import Bounds, Past
from nbtasks.settings import Settings

AFTER_S = 30.0  # from the start to the first sweep that nobody asked for
EVERY_S = 600.0
ANSWER_S = 0.5  # an order is answered after this, and the rest has to be asked for
ANSWERS_MAX = 64  # that are remembered
ORDERS_MAX = 8
PIECE_S = 0.0015  # that one piece may take
PIECE_RUNS_MIN, PIECE_RUNS_MAX = 8, 1000
PIECE_BYTES = 2**20  # every page of a large value is read before it is free
BUSY_S = 0.01  # after the last frame; until then there is one piece in `REST_S` only
REST_S = 0.02
DAY_S = 86_400.0

log = logging.getLogger("nbtasks.broker")


class _Order:
    """What is to be done, and how far it is."""

    def __init__(self, peer: PeerId, wish: Prune) -> None:
        self.peer = peer  # "": nobody asked
        self.wish = wish
        self.ends_s: float | None = None  # mono; None: not begun
        self.after = wish.after
        self.runs = 0
        self.size = 0
        self.is_last_page = False


class Sweep:
    """Carries out orders one after the other.

    Parameters
    ----------
    reply
        Sends an answer to a peer.
    gone
        Is told, after the commit, which runs are not recorded any more: what else belongs to them may go.
    promised
        Gives the runs that outboxes name.
    """

    def __init__(
        self,
        broker: Broker,
        reader: Reader,
        settings: Settings,
        reply: Callable[[PeerId, Message], None],
        gone: Callable[[list[RunId]], None],
        promised: Callable[[], Container[RunId]],
    ) -> None:
        self._broker = broker
        self._reader = reader
        self._days, self._bytes_max = settings.retention_days, settings.retention_bytes
        self._reply = reply
        self._gone = gone
        self._promised = promised
        self._orders: deque[_Order] = deque()
        self._answered: dict[tuple[PeerId, int], Pruned] = {}  # oldest first
        self._left: deque[Past] = deque()  # of the first order's page
        self._is_reading = False
        self._piece_runs = PIECE_RUNS_MIN
        self._next_s = 0.0  # mono: when the next piece may go
        self._busy_until_s = 0.0
        self._began_s = 0.0
        self._order_at_s = time.monotonic() + AFTER_S

    # -- orders -------------------------------------------------------------------------------------------

    def ask(self, peer: PeerId, wish: Prune, now: Now) -> None:
        """Somebody wants runs removed; what is said again is done once, and answered again."""
        if answer := self._answered.get((peer, wish.request)):
            self._reply(peer, answer)
            return
        if any((order.peer, order.wish.request) == (peer, wish.request) for order in self._orders):
            return
        if len(self._orders) >= ORDERS_MAX:
            self._reply(peer, NotDone(wish.request, "other removals are under way; try again", again=True))
            return
        self._orders.append(_Order(peer, wish))

    def wake_at(self) -> float:
        """When `step` has something to do next (mono seconds)."""
        if self._orders:
            return self._next_s if not self._is_reading else float("inf")
        return self._order_at_s

    def step(self, now: Now, busy: bool) -> None:
        """Do what is due; once per pass, before its output is taken."""
        if busy:
            self._busy_until_s = now.mono_s + BUSY_S
        if not self._orders and now.mono_s >= self._order_at_s:
            self._order_at_s = now.mono_s + EVERY_S
            self._orders.append(_Order("", Prune(0)))
        if not self._orders or self._is_reading or now.mono_s < self._next_s:
            return
        order = self._orders[0]
        if self._left:
            self._remove_piece(order, now)
        elif order.is_last_page or (order.ends_s is not None and now.mono_s >= order.ends_s):
            self._finish(order)
        else:
            self._read(order, now)

    # -- one order ----------------------------------------------------------------------------------------

    def _bounds(self, wish: Prune, unix_s: float) -> tuple[float, int | None]:
        """Which runs are too old (UNIX seconds), and how many bytes there may be."""
        if wish.older_s is None and wish.bytes_max is None:
            before = unix_s - self._days * DAY_S if self._days else 0.0
            return before, self._bytes_max or None
        before = 0.0 if wish.older_s is None else unix_s - wish.older_s
        bytes_max = None if wish.bytes_max is None else wish.bytes_max
        return before, bytes_max if bytes_max is None else bytes_max + wish.counted_bytes

    def _read(self, order: _Order, now: Now) -> None:
        if order.ends_s is None:
            order.ends_s = now.mono_s + ANSWER_S
        before, bytes_max = self._bounds(order.wish, now.unix_s)
        dry_bytes = order.size if order.wish.dry_run else 0
        limit = None if bytes_max is None else bytes_max + dry_bytes
        self._is_reading = self._reader.ask(
            self,
            lambda queries: queries.past(order.after, before, limit),
            lambda page: self._on_page(order, before, page),
        )
        if not self._is_reading:
            self._next_s = now.mono_s + REST_S

    def _on_page(self, order: _Order, before: float, page: Any) -> None:
        self._is_reading = False
        if isinstance(page, Failed):
            self._orders.popleft()
            if order.peer:
                self._reply(order.peer, NotDone(order.wish.request, page.reason))
            return
        assert isinstance(page, PastPage)
        order.after, order.is_last_page = page.more, not page.more
        now = Now(time.monotonic(), time.time())
        chosen = self._broker.leaving(page.past, Bounds(before, page.excess_bytes), now)
        if order.wish.dry_run:
            self._count(order, chosen)
        else:
            self._left.extend(chosen)
            if page.excess_bytes and chosen:
                # sizes are estimates: whether that is enough is seen when these are gone
                order.after, order.is_last_page = chosen[-1].seq, False

    def _remove_piece(self, order: _Order, now: Now) -> None:
        piece = [self._left.popleft()]
        size = piece[0].size
        while self._left and len(piece) < self._piece_runs and size + self._left[0].size < PIECE_BYTES:
            piece.append(self._left.popleft())
            size += piece[-1].size
        self._count(order, self._broker.remove(piece, now, self._promised()))
        self._began_s = time.monotonic()

    def _count(self, order: _Order, past: list[Past]) -> None:
        order.runs += len(past)
        order.size += sum(one.size for one in past)

    def committed(self, removed: list[Past]) -> None:
        """A piece is gone: the next one is as large as the time that this one took allows."""
        ended_s = time.monotonic()
        took_s = ended_s - self._began_s
        # between a half and twice as much, because one slow disk access says little about the next
        factor = min(2.0, max(0.5, PIECE_S / max(took_s, 1e-6)))
        self._piece_runs = int(min(PIECE_RUNS_MAX, max(PIECE_RUNS_MIN, self._piece_runs * factor)))
        self._next_s = ended_s + (REST_S if ended_s < self._busy_until_s else 0.0)
        self._gone([one.run for one in removed])

    def _finish(self, order: _Order) -> None:
        self._orders.popleft()
        if order.is_last_page and not order.wish.dry_run and (order.runs or order.peer):
            self._reader.ask((self, "specs"), lambda queries: queries.unused_specs(), self._forget_specs)
        if order.peer:
            more = 0 if order.is_last_page else order.after
            answer = Pruned(order.wish.request, order.runs, order.size, more)
            self._answered[order.peer, order.wish.request] = answer
            if len(self._answered) > ANSWERS_MAX:
                del self._answered[next(iter(self._answered))]
            self._reply(order.peer, answer)
            return
        if order.runs:
            log.info("%d runs of %d bytes left the journal", order.runs, order.size)
        if not order.is_last_page:
            self._orders.append(_Order("", Prune(0, after=order.after)))  # behind what others want

    def _forget_specs(self, found: Any) -> None:
        if not isinstance(found, Failed) and found[1]:
            self._broker.forget_specs(found[1], found[0])
