"""What this process says to its broker and hears from it, and whose turn it is to listen.

Sockets and machine are shared under a lock. Whoever waits for an answer listens himself: he polls the
descriptors, takes what arrived and lets the machine judge it, so that a call costs no change of
threads. Of several who wait one listens and wakes the others. A thread of our own listens only when
nobody waits and something is watched.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from nbtasks.client.looks import Look, Looks
from nbtasks.client.outcomes import Outcomes, afresh
from nbtasks.client.way import START_S, Way, refused, stopped
from nbtasks.context import Fate
from nbtasks.core.client import Client as Machine
from nbtasks.core.events import BOARD, run_topic
from nbtasks.core.happenings import (
    BrokerClosed,
    ClientEffects,
    Event,
    OutboxDone,
    RunEnded,
    RunMissing,
    Turned,
)
from nbtasks.core.messages import Ended, HelloClient, Message, RunId, Submit
from nbtasks.core.observer import BOARD_NAME, BoardSeen, RunSeen
from nbtasks.core.version import VERSION
from nbtasks.errors import BrokerUnavailable, NbtasksError, VersionMismatch
from nbtasks.wire import clock
from nbtasks.wire.alive import host_name
from nbtasks.wire.outbox import Outbox

HANDSHAKE_LOOK_S = 0.1  # between two looks whether our key was refused
QUIET_S = 0.03  # without a caller, before our own thread listens
TURN_S = 1.0  # the longest time that one listens without a look at everything
CALLER, THREAD = 0, 1  # who listens
LISTENS, NAPS, SLEEPS = "listens", "naps", "sleeps"  # what our thread does

T = TypeVar("T")
log = logging.getLogger("nbtasks.client")


class Link:
    """To the broker of one home, through its restarts; any thread may call.

    Parameters
    ----------
    starts
        Whether a broker that is not there may be started.
    """

    def __init__(self, home: Path, starts: bool) -> None:
        self._home = home
        self._way = Way(home, starts)
        self._outbox = Outbox(home, self._way.peer)
        self._machine = Machine(
            HelloClient(VERSION, f"{sys.version_info[0]}.{sys.version_info[1]}", os.getpid(), host_name())
        )
        self._lock = threading.Lock()
        self._finding = threading.Lock()  # two who start a broker at once start one too many
        self._changed = threading.Condition(self._lock)  # for callers while another one listens
        self._thread_needed = threading.Condition(self._lock)
        self._callers = 0
        self._caller_listens = False
        self._last_call_s = 0.0  # mono
        self._thread: threading.Thread | None = None
        self._thread_does = SLEEPS
        self._is_over = False
        self._is_stopped = False  # the broker was stopped on purpose, or is gone for good
        self._trouble: NbtasksError | None = None  # why nobody will be answered
        self.outcomes = Outcomes()
        self._fates: WeakValueDictionary[RunId, Fate] = WeakValueDictionary()
        self._kept: dict[RunId, Fate] = {}
        self._looks = Looks()
        self._due: list[Callable[[], object]] = []  # to be called without the lock

    @property
    def broker_pid(self) -> int:
        return self._way.pid

    @property
    def is_over(self) -> bool:
        """Whether it was closed; nothing is heard any more."""
        return self._is_over

    def open(self, starts_again: bool = False) -> None:
        """See that there is a broker and that it knows us.

        Parameters
        ----------
        starts_again
            Whether one that was stopped on purpose may be started.
        """
        with self._lock:
            is_gone = self._way.is_broken
            if is_gone and not self._is_stopped:
                if (sockets := self._way.sockets) is not None:
                    sockets.ready(sockets.filenos())  # nobody waited at them when it came
                self._take()  # its last word may be that it was stopped
            is_there = self._way.pid != 0 and not self._is_stopped and not is_gone
            if is_there and self._machine.is_connected and self._trouble is None:
                return
            if self._is_stopped and not starts_again and not self._way.has_successor():
                raise afresh(self._trouble or stopped(self._home))
            self._trouble = None
        self._call_due()
        if not is_there:
            self._find()
        if not self.wait(lambda: self._machine.is_connected, START_S):
            raise BrokerUnavailable(f"the broker of {self._home} (pid {self.broker_pid}) does not answer")

    def _find(self) -> None:
        with self._finding:
            found = self._way.find(self._is_stopped)
        with self._lock:
            before = self._way.sockets
            if self._way.adopt(found):
                self._machine.lost(clock.now())
            if self._way.sockets is not before:
                for name in self._looks:
                    self._listen_to(name, True)
            self._is_stopped, self._trouble = False, None

    # -- what callers want --------------------------------------------------------------------------------

    def submit(self, message: Submit, fates: Iterable[Fate]) -> None:
        """Say it until it is answered; if it may be promised it is recorded now."""
        with self._lock:
            for fate in fates:
                self._fates[fate.run] = fate
            entry = None
            if self._machine.may_promise(message):
                promised = msgspec.structs.replace(message, promised=True)
                entry = self._outbox.room_for(promised)
                message = message if entry is None else promised
            self._say(self._machine.submit(message, clock.now()), self._machine.withdraw, message.batch)
            if entry is not None:
                self._outbox.put(entry)  # while the broker works on it

    def abandon(self, batch: str) -> None:
        """Nobody waits for this batch to be recorded any more."""
        with self._lock:
            self._machine.abandon(batch)

    def ask(self, make: Callable[[int], Message]) -> int:
        """Send the request that `make(number)` gives; returns its number."""
        with self._lock:
            number = self._machine.request_number()
            self._say(self._machine.request(make(number), clock.now()), self._machine.forget, number)
        return number

    def forget(self, request: int) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._machine.forget(request)
            self.outcomes.answer(request)

    def fates(self, runs: Iterable[RunId]) -> list[Fate]:
        """The fates of these runs, watched."""
        found, new = [], []
        with self._lock:
            for run in runs:
                fate = self._fates.get(run)
                if fate is None:
                    fate = self._fates[run] = Fate(run)
                    new.append(run)
                found.append(fate)
            if new:
                self._perform(self._machine.watch(new, clock.now()))
        return found

    def keep(self, fate: Fate) -> None:
        """Somebody wants to be called when this is settled."""
        with self._lock:
            if not fate.is_settled:
                self._kept[fate.run] = fate
                self._last_call_s = 0.0  # our thread is to listen at once
                self._wake_thread(from_nap=True)

    def observe(self, name: RunId, look: Look) -> None:
        """Have `look` called with what is new of a run, or of the board (`BOARD_NAME`), until `unobserve`.

        It is called by whoever listens, and with None when nothing will be heard any more.
        """
        with self._lock:
            if self._looks.add(name, look):
                self._listen_to(name, True)
            self._perform(self._machine.observe(name, clock.now()))
            self._wake_thread()

    def unobserve(self, name: RunId, look: Look) -> None:
        with self._lock:
            if self._looks.drop(name, look):
                self._machine.unobserve(name)
                self._listen_to(name, False)

    def _listen_to(self, name: RunId, is_on: bool) -> None:
        if self._way.sockets is not None:
            self._way.sockets.listen(run_topic(name) if name else BOARD, is_on)

    # -- listening ----------------------------------------------------------------------------------------

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Listen until `is_done()`, which is asked whenever something arrived; False when the time is over.

        Raises
        ------
        BrokerUnavailable
            There is no broker any more and none may be started, or it refused us.
        """
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        listens = False
        with self._lock:
            self._callers += 1
        try:
            while True:
                with self._lock:
                    if is_done():
                        return True
                    if self._trouble is not None:
                        raise afresh(self._trouble)
                    left_s = TURN_S if ends_s is None else min(TURN_S, ends_s - time.monotonic())
                    if left_s <= 0:
                        return False
                    if self._caller_listens and not listens:
                        self._changed.wait(left_s)
                        continue
                    listens = self._caller_listens = True
                self._listen(left_s, CALLER)
        finally:
            with self._lock:
                self._callers -= 1
                self._last_call_s = time.monotonic()
                if listens:
                    self._caller_listens = False
                    self._changed.notify_all()
                if self._machine.watched or self._looks:
                    self._wake_thread()

    def wake(self) -> None:
        """Let every caller that waits ask again whether it is done."""
        with self._lock:
            if not self._is_over:
                self._changed.notify_all()
                self._way.wake()

    def _listen(self, timeout_s: float, who: int) -> None:
        """Take what has arrived; if that is nothing, wait for it and take it then."""
        with self._lock:
            timeout_s = self._quiet_s(timeout_s)
            if not timeout_s:
                self._take()
        if timeout_s:
            ready = self._way.wait(who, timeout_s)
            with self._lock:
                if self._way.sockets is not None:
                    self._way.sockets.ready(ready)
                if who == THREAD and self._callers:
                    return  # who waits himself must not miss that it arrived
                self._take()
                is_gone = self._way.says_broken(ready) and not self._is_stopped
            if is_gone:
                self._replace_broker()
        self._call_due(listens=who == CALLER)

    def _take(self) -> bool:
        """Let the machine judge what has arrived, and the time; whether there was anything. Locked."""
        sockets = self._way.sockets
        if sockets is None or self._is_over:
            raise BrokerUnavailable(f"the connection to the broker of {self._home} was closed")
        now = clock.now()
        messages = sockets.receive()
        for message in messages:
            self._perform(self._machine.handle(message, now))
        wake_at = self._machine.wake_at()
        if wake_at is not None and wake_at <= now.mono_s:
            self._perform(self._machine.tick(now))
        if messages:
            self._changed.notify_all()
        elif not self._machine.is_connected and sockets.refused and self._trouble is None:
            self._fail(refused(self._home, self.broker_pid))
        return bool(messages)

    def _quiet_s(self, timeout_s: float) -> float:
        """How long nothing is to be done, at most `timeout_s`; 0: something has arrived or is due. Locked."""
        if self._way.sockets is None or self._is_over or self._way.sockets.has_news():
            return 0.0  # asked, because sending may have swallowed the sign for which we would wait
        if not self._machine.is_connected:
            timeout_s = min(timeout_s, HANDSHAKE_LOOK_S)
        wake_at = self._machine.wake_at()
        if wake_at is not None:
            timeout_s = min(timeout_s, wake_at - time.monotonic())
        return max(timeout_s, 0.0)

    def _call_due(self, listens: bool = False) -> None:
        """Call what has to be called without the lock; `listens`: by the caller that listens."""
        if not self._due:
            return
        while self._due:
            with self._lock:
                due, self._due = self._due, []
            for callback in due:
                callback()
        with self._lock:
            # callers may have looked before that was done
            self._changed.notify_all()
            if self._caller_listens and not listens:
                self._way.wake()

    def _replace_broker(self) -> None:
        """The broker's process is gone, and it did not say that it was stopped."""
        try:
            self._find()
        except BrokerUnavailable as error:
            with self._lock:
                self._is_stopped = True
                self._fail(error)

    def _fail(self, error: NbtasksError) -> None:
        """Nobody who waits will be answered. Locked."""
        self._trouble = error
        for fate in self._kept.values():
            self._due += [partial(lost, afresh(error)) for lost in fate.losses()]
        self._due += self._looks.calls_of_loss()
        self._changed.notify_all()

    # -- what the machine says ----------------------------------------------------------------------------

    def _perform(self, effects: ClientEffects) -> None:
        for event in effects.events:
            self._on_event(event)
        sockets = self._way.sockets
        if effects.sends and sockets is not None:
            sockets.send(effects.sends)
            if (self._caller_listens or self._thread_does is LISTENS) and sockets.has_news():
                # this may have swallowed the sign for which somebody waits
                self._way.wake()

    def _say(self, effects: ClientEffects, take_back: Callable[[T], object], what: T) -> None:
        """Perform; what cannot be said now must not be said again, in the calls of others."""
        try:
            self._perform(effects)
        except Exception:
            take_back(what)
            raise

    def _on_event(self, event: Event) -> None:
        if self.outcomes.take(event):
            return
        if type(event) is RunEnded:
            self._settle(event.ended.run, event.ended)
        elif type(event) is RunMissing:
            self._settle(event.run, None)
        elif type(event) is BoardSeen:
            self._due += self._looks.calls(BOARD_NAME, event.board)
        elif type(event) is RunSeen:
            self._due += self._looks.calls(event.run.run, event.run)
        elif type(event) is OutboxDone:
            self._outbox.clear()
        elif type(event) is Turned:
            kind = VersionMismatch if event.code == "version" else BrokerUnavailable
            self._fail(kind(f"the broker of {self._home} refused us: {event.reason}"))
        elif type(event) is BrokerClosed:
            self._is_stopped = True
            self._fail(stopped(self._home))

    def _settle(self, run: RunId, ended: Ended | None) -> None:
        self._kept.pop(run, None)
        if (fate := self._fates.pop(run, None)) is not None:
            self._due += fate.settle(ended)

    # -- our own thread -----------------------------------------------------------------------------------

    def _wake_thread(self, from_nap: bool = False) -> None:
        """Let our thread listen as soon as it is quiet, or at once. Locked."""
        if self._thread is None and not self._is_over:
            self._thread = threading.Thread(target=self._listen_alone, name="nbtasks-client", daemon=True)
            self._thread.start()
        elif self._thread_does is SLEEPS or (from_nap and self._thread_does is NAPS):
            self._thread_needed.notify()

    def _listen_alone(self) -> None:
        """Listen while nobody else does."""
        with self._lock:
            self._thread_does = LISTENS
        while not self._is_over:
            with self._lock:
                is_lost = self._trouble is not None
                if is_idle := is_lost or not (self._machine.watched or self._kept or self._looks):
                    self._pause_thread(SLEEPS, TURN_S if is_lost and self._looks else None)
                elif self._callers or time.monotonic() - self._last_call_s < QUIET_S:
                    self._pause_thread(NAPS, QUIET_S)
                    continue
            try:
                if is_lost:
                    self._follow()
                elif not is_idle:
                    self._listen(TURN_S, THREAD)
            except BrokerUnavailable:
                continue
            except Exception:
                log.exception("listening to the broker of %s failed", self._home)
                time.sleep(TURN_S)

    def _follow(self) -> None:
        """Somebody else may have started the next broker: who looks at something hears of it."""
        if self._looks and not self._is_over and self._way.has_successor():
            self.open()

    def _pause_thread(self, word: str, timeout_s: float | None) -> None:
        if not self._is_over:
            self._thread_does = word
            self._thread_needed.wait(timeout_s)
            self._thread_does = LISTENS

    # -- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Tell the broker that we leave; whoever waits gets `BrokerUnavailable`."""
        with self._lock:
            if self._is_over:
                return
            if self._machine.is_connected and not self._is_stopped and self._way.sockets is not None:
                self._way.sockets.send(self._machine.leave().sends)
            self._is_over = True
            self._fail(BrokerUnavailable(f"the connection to the broker of {self._home} was closed"))
            self._thread_needed.notify_all()
            self._way.wake()
        self._call_due()
        # one whose start was interrupted does not live yet, and ends as soon as it does
        if self._thread and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(TURN_S)
        with self._lock:
            if not self._callers and not (self._thread is not None and self._thread.is_alive()):
                self._way.close()
                self._outbox.close()
