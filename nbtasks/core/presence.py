"""Coming and going: Hellos and farewells of clients, workers and pools, and how many workers there should be.

Silence means nothing here. A peer is gone when it says so, or when a process exit was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from nbtasks.core.attempts import Attempts
from nbtasks.core.dispatching import Dispatcher
from nbtasks.core.finals import Finals
from nbtasks.core.ledger import Ledger
from nbtasks.core.limits import TagLimits
from nbtasks.core.messages import (
    Closed,
    Disband,
    Done,
    Draining,
    Exited,
    ExitNoted,
    Finished,
    HelloClient,
    HelloPool,
    HelloWorker,
    Interrupt,
    Leave,
    Left,
    Message,
    NotDone,
    PeerId,
    Rejected,
    SetPool,
    Stranger,
    Want,
    Welcome,
)
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.records import Now, PeerRecord, PoolRecord, Send, Signal, WorkerRecord
from nbtasks.core.staff import PoolSeat, Seat, Staff
from nbtasks.core.timers import Timers

REPEAT_S = 1.0  # pause before a Want, Leave or Disband that had no effect yet is said again
LAST_WORD_S = 0.25  # a process that ended its run may have a Finished under way
POOL_WORD_S = 1.0  # a worker's exit is the pool's to tell; so long it may take
DRAIN_S = 30.0  # of a pool that has to stop, if nobody knows any more how long it may take
SURPLUS_S = 5.0  # an idle worker that was started for a run that waited stays so long
CLOSE_MARGIN_S = 5.0  # beyond the drain, until the broker stops without its pools

COMING_AND_GOING = frozenset({HelloClient, HelloWorker, HelloPool, Left, Exited, Draining})


class Presence:
    """Who is known, and what follows from their coming and going."""

    def __init__(
        self,
        boot: str,
        pid: int,
        ledger: Ledger,
        queue: ReadyQueue,
        staff: Staff,
        finals: Finals,
        attempts: Attempts,
        dispatcher: Dispatcher,
        timers: Timers,
        limits: TagLimits,
    ) -> None:
        self._boot = boot
        self._pid = pid
        self._ledger = ledger
        self._queue = queue
        self._staff = staff
        self._finals = finals
        self._attempts = attempts
        self._dispatcher = dispatcher
        self._timers = timers
        self._limits = limits
        self._clients: dict[PeerId, None] = {}  # a set would be left in another order by each process
        self._subscribed: set[PeerId] = set()
        self._close_at: float | None = None  # mono seconds: closing, and over by then
        self._closed = False

    def restore(self, peers: Iterable[PeerRecord]) -> None:
        for record in peers:
            if isinstance(record, WorkerRecord):
                self._staff.seat(record)
            else:
                self._staff.pools[record.pool] = PoolSeat(record)

    # -- who is known ----------------------------------------------------------------------------------

    @property
    def client_count(self) -> int:
        return len(self._clients)

    @property
    def closing(self) -> bool:
        return self._close_at is not None

    def knows(self, peer: PeerId) -> bool:
        """Whether this peer said Hello to this broker."""
        if peer in self._clients:
            return True
        known = self._staff.seats.get(peer) or self._staff.pools.get(peer)
        return known is not None and known.said_hello

    def subscribed(self, peer: PeerId, now: Now) -> None:
        self._subscribed.add(peer)
        if self.knows(peer):
            self._welcome(peer)
        else:
            self._send(peer, Stranger(self._boot))

    def takes(self, peer: PeerId, message: Message, now: Now) -> bool:
        """Handle `message` if it is about coming and going."""
        if type(message) not in COMING_AND_GOING:
            return False
        if isinstance(message, HelloClient):
            self._clients[peer] = None
            self._finals.open(peer, message.session)
            self._welcome(peer)
        elif isinstance(message, HelloWorker):
            self._on_hello_worker(peer, message, now)
        elif isinstance(message, HelloPool):
            self._on_hello_pool(peer, message, now)
        elif isinstance(message, Left):
            self._on_left(peer, now)
        elif isinstance(message, Exited):
            self._exited(message.worker, message, now)
            if message.worker not in self._staff.seats:
                # only now: the pool deletes the marker, and a broker that starts anew would need it
                self._send(peer, ExitNoted(message.worker))
        else:
            assert isinstance(message, Draining), message
            self._on_draining(peer, now)
        return True

    # -- coming ----------------------------------------------------------------------------------------

    def _on_hello_worker(self, peer: PeerId, message: HelloWorker, now: Now) -> None:
        record = WorkerRecord(
            worker=peer, pool=message.pool, pid=message.pid, born=message.born, host=message.host,
            python=message.python, marker=message.marker, serves=message.serves, tags=message.tags,
        )  # fmt: skip
        seat = self._staff.seats.get(peer)
        if seat is None:
            seat = self._staff.seat(record)
            self._ledger.out.peers[peer] = record
        seat.said_hello = True
        held = {(h.run, h.attempt) for h in message.held}
        for record_held in list(seat.held.values()):
            if (record_held.run, record_held.attempt) in held:
                seat.unacked.discard(record_held.run)
            else:
                self._dispatcher.push(record_held, seat, now, again=True)
        for h in message.held:
            if self._attempts.current(peer, (h.run, h.attempt)) is None:
                self._send(peer, Interrupt(h.run, h.attempt, "stale"))
        self._welcome(peer)
        pool = self._staff.pools.get(message.pool)
        if self.closing or pool is None or pool.closes:
            self._dismiss(seat, now)
        elif self._dismiss_surplus(pool, now):
            # it was started before the pool knew of a lower bound, or still does not know
            self._want(pool, now)

    def _on_hello_pool(self, peer: PeerId, message: HelloPool, now: Now) -> None:
        seat = self._staff.pools.get(peer)
        if seat is None:
            other = self._staff.generic_pool() if message.generic else None
            if other is not None:
                reason = f"this home's generic pool runs already (pid {other.record.pid})"
                self._send(peer, Rejected("generic", reason))
                return
            record = PoolRecord(
                pool=peer, pid=message.pid, born=message.born, host=message.host, generic=message.generic,
                serves=message.serves, least=message.least, most=message.most, stays=message.stays,
                tags=message.tags,
            )  # fmt: skip
            seat = self._staff.pools[peer] = PoolSeat(record)
            self._ledger.out.peers[peer] = record
            self._staff.dead_pool_pid = 0
        if not seat.said_hello:
            seat.said_hello = True
            seat.want = max(seat.want, len(message.workers))
            self._staff.lends = self._staff.lends or seat.want > seat.record.most
            self._timers.add(now.mono_s, "want", peer)
        self._welcome(peer)
        if self.closing:
            self._disband(seat, 0.0, now)
        elif seat.record.most == 0 and not seat.closes:
            # a former broker was asked to stop it, and may have been killed before it could
            self._disband(seat, DRAIN_S, now)

    def _welcome(self, peer: PeerId) -> None:
        if peer in self._subscribed:
            self._send(peer, Welcome(self._boot, self._pid, self._finals.session(peer)))
            if seat := self._staff.seats.get(peer):
                seat.ready = True

    # -- going -----------------------------------------------------------------------------------------

    def _on_left(self, peer: PeerId, now: Now) -> None:
        if peer in self._clients:
            self._forget_client(peer)
        elif seat := self._staff.seats.get(peer):
            # it holds nothing, so what we gave it meanwhile has not started
            for record in list(seat.held.values()):
                self._attempts.requeue(record, now)
            self._forget_worker(seat)
        elif pool := self._staff.pools.get(peer):
            self._forget_pool(pool, now)

    def process_gone(self, peer: PeerId, exited: Exited | None, now: Now) -> None:
        if peer in self._clients:
            self._forget_client(peer)
        elif pool := self._staff.pools.get(peer):
            if not pool.closes:
                self._staff.dead_pool_pid = pool.record.pid
            self._forget_pool(pool, now)
        elif (seat := self._staff.seats.get(peer)) and exited is not None and seat.gone is None:
            seat.gone = exited
            waits_s = POOL_WORD_S if seat.record.pool in self._staff.pools else LAST_WORD_S
            self._timers.add(now.mono_s + waits_s, "gone", peer)

    def _exited(self, worker: PeerId, exited: Exited, now: Now) -> None:
        """The pool saw the process end; judge at once, unless a Finished may still be under way."""
        seat = self._staff.seats.get(worker)
        if seat is None:
            return
        seat.gone = exited
        told = {(word.run, word.attempt) for word in exited.said if isinstance(word, Finished)}
        ended = {(h.run, h.attempt) for h in exited.held if h.ended} - told
        if any((record.run, record.attempt) in ended for record in seat.held.values()):
            self._timers.add(now.mono_s + LAST_WORD_S, "gone", worker)
        else:
            self._attempts.lost(seat, exited, now)
            self._forget_worker(seat)

    def _forget_client(self, peer: PeerId) -> None:
        self._clients.pop(peer, None)
        self._subscribed.discard(peer)
        self._finals.close(peer)

    def _forget_worker(self, seat: Seat) -> None:
        worker = seat.record.worker
        self._staff.unseat(seat)
        self._subscribed.discard(worker)
        self._ledger.out.peers[worker] = None

    def _forget_pool(self, pool: PoolSeat, now: Now) -> None:
        name = pool.record.pool
        del self._staff.pools[name]
        self._subscribed.discard(name)
        self._ledger.out.peers[name] = None
        for seat in self._staff.seats_of(name):
            self._dismiss(seat, now)

    # -- letting workers go ----------------------------------------------------------------------------

    def _dismiss(self, seat: Seat, now: Now) -> None:
        """Have the worker finish what it executes, hand back the rest, and leave."""
        if not seat.leaving:
            seat.leaving = True
            self._dispatcher.flush_kept(seat)
            self._timers.add(now.mono_s + REPEAT_S, "leave", seat.record.worker)
        self._send(seat.record.worker, Leave())

    def _on_draining(self, peer: PeerId, now: Now) -> None:
        if worn := self._staff.seats.get(peer):
            self._dismiss(worn, now)
        pool = self._staff.pools.get(peer)
        if pool and not pool.closes:
            pool.disband_s = -1.0  # it ends by itself
            for seat in self._staff.seats_of(peer):
                self._dismiss(seat, now)

    def _disband(self, pool: PoolSeat, drain_s: float, now: Now) -> None:
        pool.disband_s = drain_s
        self._send(pool.record.pool, Disband(drain_s))
        self._timers.add(now.mono_s + REPEAT_S, "disband", pool.record.pool)
        for seat in self._staff.seats_of(pool.record.pool):
            self._dismiss(seat, now)

    # -- how many workers ------------------------------------------------------------------------------

    def set_pool(self, message: SetPool, now: Now) -> Message:
        """Change the bounds of a pool; answers the request."""
        pool = self._staff.pools.get(message.pool) if message.pool else self._staff.generic_pool()
        if pool is None or pool.closes:
            what = f"pool {message.pool}" if message.pool else "generic pool"
            return NotDone(message.request, f"there is no {what}")
        if not 0 <= message.least <= message.most:
            return NotDone(message.request, f"{message.least}..{message.most} is not a range of workers")
        pool.record.least, pool.record.most = message.least, message.most
        self._ledger.out.peers[pool.record.pool] = pool.record
        if message.most == 0:
            self._disband(pool, message.drain_s, now)
            return Done(message.request)
        pool.want = min(max(pool.want, message.least), self._most(pool))
        self._want(pool, now)
        self._dismiss_surplus(pool, now)
        return Done(message.request)

    def _dismiss_surplus(self, pool: PoolSeat, now: Now) -> bool:
        """Let go what is beyond the bound, idle workers first; whether there was any."""
        staying = [seat for seat in self._staff.seats_of(pool.record.pool) if not seat.leaving]
        staying.sort(key=lambda seat: len(seat.held), reverse=True)
        surplus = staying[self._most(pool) :]
        for seat in surplus:
            self._dismiss(seat, now)
        return bool(surplus)

    def size_pools(self, now: Now) -> None:
        """Ask for more workers where runs wait; a pool that grew stays so."""
        for pool in self._staff.pools.values():
            r = pool.record
            most = self._most(pool)
            if pool.want > most and not pool.shrinks:
                pool.shrinks = True
                self._timers.add(now.mono_s + SURPLUS_S, "surplus", r.pool)
            if pool.closes or pool.want >= most:
                continue
            seats = [seat for seat in self._staff.seats_of(r.pool) if not seat.leaving]
            python = seats[0].record.python if seats else ""
            fits = partial(self._staff.could_start, pool, python)
            waiting = self._queue.count_for(fits, self._limits.room) if len(self._queue) else 0
            # a run that was given ahead to a busy worker waits as well
            held = sum(len(seat.held) for seat in seats)
            want = max(r.least, min(most, held + waiting))
            if want > pool.want:
                pool.want = want
                self._want(pool, now)

    def _most(self, pool: PoolSeat) -> int:
        """How many workers the pool may have: one more for each whose run waits for others."""
        return pool.record.most + self._staff.lent(pool.record.pool)

    def _shrink(self, pool: PoolSeat, now: Now) -> None:
        """Let go idle workers beyond what the pool may have."""
        most = self._most(pool)
        pool.shrinks = False
        if pool.closes or pool.want <= most:
            return
        seats = [seat for seat in self._staff.seats_of(pool.record.pool) if not seat.leaving]
        idle = [seat for seat in seats if not seat.held]
        surplus = len(seats) - most
        for seat in idle[: max(0, surplus)]:
            self._dismiss(seat, now)
        pool.want = max(most, len(seats) - min(len(idle), max(0, surplus)))
        self._want(pool, now)  # before they leave, so that none is started in their place

    def _want(self, pool: PoolSeat, now: Now) -> None:
        self._send(pool.record.pool, Want(pool.want))
        self._timers.add(now.mono_s + REPEAT_S, "want", pool.record.pool)

    # -- stopping --------------------------------------------------------------------------------------

    def close(self, drain_s: float, now: Now) -> None:
        until = now.mono_s + drain_s + CLOSE_MARGIN_S
        if self._close_at is not None and self._close_at <= until:
            return
        self._close_at = until
        self._timers.add(until, "close", None)
        for pool in self._staff.pools.values():
            self._disband(pool, drain_s, now)
        for seat in self._staff.seats.values():
            self._dismiss(seat, now)

    def stop_idle(self, now: Now) -> None:
        """Nobody is here and nothing is to be done."""
        if not any(pool.record.stays for pool in self._staff.pools.values()):
            self.close(0.0, now)
            return
        for pool in self._staff.pools.values():
            if not pool.record.stays and not pool.closes:
                self._disband(pool, 0.0, now)

    def close_if_done(self, now: Now) -> None:
        """When everybody left, or the time is over: the end."""
        if self._close_at is None or self._closed:
            return
        late = now.mono_s >= self._close_at
        if not late and (self._staff.pools or self._staff.seats):
            return
        self._closed = True
        for seat in self._staff.seats.values():
            self._ledger.out.signals.append(Signal(seat.record.worker, "SIGKILL"))
        for client in self._clients:
            self._send(client, Closed())
        self._ledger.out.stop = True

    # -- timers ----------------------------------------------------------------------------------------

    def due(self, kind: str, peer: PeerId, now: Now) -> None:
        seat, pool = self._staff.seats.get(peer), self._staff.pools.get(peer)
        if kind == "gone" and seat and seat.gone:
            self._attempts.lost(seat, seat.gone, now)
            self._forget_worker(seat)
        elif kind == "leave" and seat and seat.leaving:
            self._send(peer, Leave())
            self._timers.add(now.mono_s + REPEAT_S, "leave", peer)
        elif kind == "disband" and pool and pool.closes:
            self._send(peer, Disband(max(0.0, pool.disband_s or 0.0)))
            self._timers.add(now.mono_s + REPEAT_S, "disband", peer)
        elif kind == "surplus" and pool:
            self._shrink(pool, now)
        elif kind == "want" and pool and not pool.closes and self._lacks_workers(pool):
            self._want(pool, now)

    def _lacks_workers(self, pool: PoolSeat) -> bool:
        return sum(not seat.leaving for seat in self._staff.seats_of(pool.record.pool)) < pool.want

    def _send(self, peer: PeerId, message: Message) -> None:
        self._ledger.out.sends.append(Send(peer, message))
