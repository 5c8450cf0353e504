"""The broker's loop: receive a batch, run the machine, make safe what it records, then send.

Everything else here is about coming up and going down: who owns the home, what is watched, and why
the broker ends.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import FrameType

import msgspec

from nbtasks.broker.answers import Answers
from nbtasks.broker.payloads import Payloads
from nbtasks.broker.reader import Reader
from nbtasks.broker.store import Store
from nbtasks.broker.sweep import Sweep
from nbtasks.broker.watches import Watches
from nbtasks.core import codec, events
from nbtasks.core.broker import Broker, Limits
from nbtasks.core.intake import names_runs
from nbtasks.core.messages import (
    PROTOCOL,
    BoardRow,
    Finished,
    HelloClient,
    HelloPool,
    HelloWorker,
    Left,
    PeerId,
    Rejected,
    RunFilter,
    RunId,
    Spec,
    Submit,
)
from nbtasks.core.policy import CRASHED
from nbtasks.core.records import Now
from nbtasks.core.states import StateType
from nbtasks.core.version import VERSION
from nbtasks.core.vigil import Vigil
from nbtasks.errors import ProtocolError, VersionMismatch
from nbtasks.settings import Settings
from nbtasks.wire import access, clock, connection
from nbtasks.wire.alive import born
from nbtasks.wire.blobs import Blobs
from nbtasks.wire.broker_sockets import BrokerSockets, Received, Subscription
from nbtasks.wire.connection import Connection
from nbtasks.wire.cores import cores
from nbtasks.wire.keys import Keys
from nbtasks.wire.lock import HomeLock
from nbtasks.wire.outbox import Outboxes
from nbtasks.wire.process import ProcessWatch
from nbtasks.wire.sockets import BROKER

FRAMES_PER_PASS = 500  # so that a flood does not keep the first sender waiting for its commit
LOOK_S = 1.0  # between two looks at the home and at threads
GARBAGE_LOG_S = 10.0  # between two log lines about frames that cannot be read
BLOBS_PER_LOOK = 200  # files whose age is looked at, some milliseconds
ATTRIBUTED_ROWS = 2000  # looked up in one pass, some milliseconds
FAILED = (StateType.FAILED.value, StateType.CRASHED.value)
GARBAGE_OBJECTS = 100_000  # new ones between two looks for cycles
SPECS_MAX = 4096  # equal specs are kept once; so many are remembered

log = logging.getLogger("nbtasks.broker")


class Daemon:
    """One broker process, from the taken lock to its end.

    Parameters
    ----------
    lock
        Held by this process.
    owner
        A process with which the broker ends.
    """

    def __init__(
        self, home: Path, runtime: Path, lock: HomeLock, keys: Keys, settings: Settings, owner: int | None
    ) -> None:
        self._home = home
        self._runtime = runtime
        self._lock = lock
        self._settings = settings
        self._started = time.time()
        self._specs: dict[Spec, tuple[Spec, str]] = {}
        self._garbage = 0
        self._garbage_log_at = 0.0
        self._look_at = 0.0
        self._stop_signals = 0
        self._owner = None if owner is None else ProcessWatch(owner, born(owner) or 0.0)
        self._store = Store(home / "journal.db", settings.durability, self._waits_for_room)
        self._restored = self._store.restore()
        self._reader = Reader(self._store.path, settings.runs_listed_max, self._store.settle)
        self._outboxes = Outboxes(home)
        self._has_adopted = False  # in this pass
        self._blobs = Blobs(home)
        self._blob_sweep: Iterator[int] | None = None
        self._blobs_are_due = False  # to be looked at in this pass
        self._queries = self._store.queries(events.ROWS_MAX)
        self._upkeep = self._store.upkeep()
        self._connection = self._make_connection(keys)
        self._sockets = BrokerSockets(self._connection, keys)
        self._wake_reading, self._wake_writing = os.pipe()
        self._watches = Watches()
        self._polled: tuple[tuple[int, ...], list[int]] = ((), [])  # of the watches, and all
        self._broker = Broker(
            Limits(
                queue_limit=settings.queue_limit,
                idle_stop_s=settings.idle_stop_s,
                # an outbox is not synced to the disk
                allows_promises=settings.durability == "process",
            ),
            secrets.token_hex(8),
            clock.now(),
            pid=os.getpid(),
            recorded=self._store.recorded,
            keyed=self._store.keyed,
            cached=self._store.cached,
            final=self._store.final,
            spec_id=self._spec_id,
            newest=self._newest,
        )
        self._answers = Answers(
            self._sockets,
            self._reader,
            payloads := Payloads(self._store, settings.payload_cache_bytes),
            waiting_reason=self._broker.waiting_reason,
            ending=self._queries.ending,
            info=self._queries.run,
            status=lambda request: self._broker.status(request, clock.now(), str(self._home), self._started),
        )
        self._payloads = payloads
        self._vigil = Vigil(cores(), self._broker.has_busy_workers)
        self._sweep = Sweep(
            self._broker, self._reader, settings, self._answers.reply, self._gone, self._outboxes.runs
        )

    def _make_connection(self, keys: Keys) -> Connection:
        pid = os.getpid()
        return Connection(
            home=str(self._home), pid=pid, born=born(pid) or 0.0, protocol=PROTOCOL, version=VERSION,
            control=f"ipc://{self._runtime}/control.sock", publish=f"ipc://{self._runtime}/publish.sock",
            server_key=keys.server.public, public_key=keys.full.public, secret_key=keys.full.secret,
        )  # fmt: skip

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until there is a reason to stop; returns the exit status."""
        self._restore()
        self._listen_to_signals()
        connection.write(self._connection, self._runtime)
        log.info("broker %s is up for %s", os.getpid(), self._home)
        # what is here now stays, and what a pass makes ends with it: looking for cycles finds nothing
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)
        while not self._pass():
            pass
        return 0

    def _pass(self) -> bool:
        """One turn; True after the last one."""
        ready = self._wait()
        now = clock.now()
        for subscription in self._sockets.subscriptions():
            self._on_subscription(subscription, now)
        frames = self._sockets.receive(FRAMES_PER_PASS)
        if frames:
            self._vigil.came(now)
        for received in frames:
            self._take(received, now)
        for fd in ready:
            self._on_ready(fd, now)
        if self._look_at <= now.mono_s:
            self._look(now)
        self._broker.tick(now)
        self._sweep.step(now, busy=bool(frames))
        is_last = self._act(now)
        self._has_adopted = False
        self._attribute()
        return is_last

    def _wait(self) -> set[int]:
        """Wait for whatever comes next; returns the ready descriptors."""
        timeout_s, now = self._timeout_s(), clock.now()
        awake_until_s = min(self._vigil.until(now), now.mono_s + timeout_s)
        return self._sockets.poll(timeout_s, self._fds(), awake_until_s)

    def _act(self, now: Now) -> bool:
        output = self._broker.take()
        if output.writes:
            if not self._store.note(output):
                self._store.commit(output)
            self._payloads.committed(output)
            if output.removed:
                self._sweep.committed(output.removed)
            for peer, record in output.peers.items():
                if record is None:
                    self._forget(peer)
        self._outboxes.remove_left()
        if self._blobs_are_due:
            # after the commit: the file of a run from an outbox may be as old as its client is dead
            self._blobs_are_due = False
            self._sweep_blobs()
        self._answers.perform(output, now.mono_s)
        if output.writes:
            # nobody waits for that
            self._store.settle()
            self._upkeep.committed(output)
        for peer, wish in self._answers.prunes:
            self._sweep.ask(peer, wish, now)
        self._answers.prunes.clear()
        for act in output.signals:
            self._watches.signal(act)
        self._end_damaged(now)
        return output.stop

    def _waits_for_room(self) -> bool:
        """Whether it is worth waiting until the disk is not full any more: nothing is lost meanwhile."""
        return not (self._stop_signals or (self._owner and self._owner.is_dead()))

    def _timeout_s(self) -> float:
        if self._broker.unattributed(ATTRIBUTED_ROWS):
            return 0.0
        wake_at = self._broker.wake_at()
        until = min(self._look_at, self._sweep.wake_at())
        until = until if wake_at is None else min(wake_at, until)
        return max(0.0, until - time.monotonic())

    def _fds(self) -> list[int]:
        """What to wait for besides the sockets; the same list until it changes."""
        watched, fds = self._polled
        if not fds or watched is not self._watches.fds:
            watched = self._watches.fds
            fds = [self._wake_reading, self._reader.fileno(), *watched]
            if self._owner:
                fds.append(self._owner.fileno())
            self._polled = watched, fds
        return fds

    def _restore(self) -> None:
        restored, now = self._restored, clock.now()
        self._broker.restore(
            restored.records, restored.peers, restored.counts, restored.last_seq, now, restored.limits,
            restored.holdings,
        )  # fmt: skip
        for record in restored.peers:
            self._watches.known(record)
        if restored.records:
            log.info("%d live runs were found in the journal", len(restored.records))

    # -- what comes in --------------------------------------------------------------------------------------

    def _take(self, received: Received, now: Now) -> None:
        try:
            peer, messages = codec.for_broker.decode(received.frame)
        except VersionMismatch as error:
            self._reject(received, str(error), now)
            return
        except ProtocolError as error:
            self._drop(str(error), now)
            return
        self._answers.learn(peer, received.route)
        for message in messages:
            if not access.may_say(received.role, message):
                self._drop(f"{peer} may only observe, but said {type(message).__name__}", now)
                continue
            if names_runs(message) and not self._has_adopted:
                self._adopt(now)
            if isinstance(message, Submit):
                message = self._interned(message)
            self._broker.handle(peer, message, now)
            if isinstance(message, (HelloClient, HelloWorker, HelloPool)):
                self._watches.hello(peer, message)
            elif isinstance(message, Left):
                self._forget(peer)

    def _adopt(self, now: Now) -> None:
        """Record what is in outboxes: clients that are dead or not heard yet may have told of it."""
        self._has_adopted = True
        for submit in self._outboxes.read():
            self._broker.adopt(self._interned(submit), now)

    def _on_subscription(self, subscription: Subscription, now: Now) -> None:
        if not subscription.peer:
            self._broker.observed(subscription.topic, subscription.is_on)
        elif subscription.is_on:
            self._answers.subscribed()
            self._broker.subscribed(subscription.peer, now)

    def _newest(self) -> list[BoardRow]:
        """The rows that a board shows first: what failed last and what came last."""
        failed, _ = self._queries.runs(RunFilter(FAILED, limit=events.FAILED_MAX))
        newest, _ = self._queries.runs(RunFilter(limit=events.ROWS_MAX))
        return [events.row_of_info(info) for info in reversed([*newest, *failed])]

    def _attribute(self) -> None:
        """For a board, find out of which tasks the runs of former brokers were, a range in each pass."""
        if wanted := self._broker.unattributed(ATTRIBUTED_ROWS):
            self._broker.attribute(wanted[1], self._queries.finals_by_task(*wanted))

    def _reject(self, received: Received, reason: str, now: Now) -> None:
        answer = Rejected("version", f"{reason}; the broker is nbtasks {VERSION}")
        self._sockets.send(received.route, codec.encode(BROKER, [answer]))
        self._drop(reason, now)

    def _drop(self, reason: str, now: Now) -> None:
        self._garbage += 1
        if self._garbage_log_at <= now.mono_s:
            log.warning("%d frames or messages were ignored, the last one because: %s", self._garbage, reason)
            self._garbage, self._garbage_log_at = 0, now.mono_s + GARBAGE_LOG_S

    def _forget(self, peer: PeerId) -> None:
        self._watches.forget(peer)
        self._answers.forget(peer)

    def _interned(self, message: Submit) -> Submit:
        """Let equal specs be one object: a queued run must not cost a spec of its own."""
        spec = self._intern(message.spec)[0]
        return message if spec is message.spec else msgspec.structs.replace(message, spec=spec)

    def _intern(self, spec: Spec) -> tuple[Spec, str]:
        found = self._specs.get(spec)
        if found is None:
            digest = hashlib.blake2b(codec.spec_bytes(spec), digest_size=16).hexdigest()
            found = self._specs[spec] = (spec, digest)
            if len(self._specs) > SPECS_MAX:
                del self._specs[next(iter(self._specs))]
        return found

    def _spec_id(self, spec: Spec) -> str:
        return self._intern(spec)[1]

    def _end_damaged(self, now: Now) -> None:
        """Runs whose arguments cannot be read any more must not wait for ever."""
        for record in self._answers.damaged:
            word = Finished(
                record.run,
                record.attempt,
                CRASHED,
                "its stored arguments are damaged",
                b"",
                0,
                now.unix_s,
                now.unix_s,
            )
            self._broker.handle(record.worker, word, now)
        self._answers.damaged.clear()

    def _gone(self, runs: list[RunId]) -> None:
        """These runs are not recorded any more: the one place from which what else they left is removed."""
        self._blobs.remove(runs)

    def _sweep_blobs(self) -> None:
        """Look at some files of large values, and remove those that nothing refers to."""
        if self._blob_sweep is None:
            # a journal that was set aside may be mended, and its runs need their files
            is_known = self._queries.refers if not self._store.damaged() else lambda run, attempt: True
            self._blob_sweep = self._blobs.sweep(is_known)
        if sum(1 for _ in islice(self._blob_sweep, BLOBS_PER_LOOK)) < BLOBS_PER_LOOK:
            self._blob_sweep = None

    # -- why it ends ----------------------------------------------------------------------------------------

    def _on_ready(self, fd: int, now: Now) -> None:
        if fd == self._wake_reading:
            os.read(fd, 4096)
            drain_s = self._settings.drain_s if self._stop_signals < 2 else 0.0
            self._close(f"signal number {self._stop_signals}", drain_s, now)
        elif fd == self._reader.fileno():
            self._reader.take()
        elif self._owner and fd == self._owner.fileno():
            self._owner.close()
            self._owner = None
            self._polled = (), []
            self._close("the owner's process ended", 0.0, now)
        elif ended := self._watches.ended(fd):
            peer, exited = ended
            self._broker.process_gone(peer, exited, now)
            self._answers.forget(peer)

    def _look(self, now: Now) -> None:
        self._look_at = now.mono_s + LOOK_S
        if not self._reader.is_alive:
            raise RuntimeError("the thread that reads the journal died")
        if damage := self._reader.damage or self._upkeep.damage:
            raise damage
        if self._upkeep.checked_at:
            self._store.checked(self._upkeep.checked_at)
            self._upkeep.checked_at = 0.0
        self._outboxes.find_left()
        self._adopt(now)
        self._blobs_are_due = True
        if not self._lock.is_intact():
            self._close(f"{self._home} was deleted or replaced", 0.0, now)
        elif not self._store.is_in_place():
            copy = self._store.rescue()
            raise RuntimeError(f"{self._store.path} was removed or replaced; what was recorded is in {copy}")

    def _close(self, reason: str, drain_s: float, now: Now) -> None:
        log.info("broker %s stops: %s", os.getpid(), reason)
        self._broker.close(drain_s, now)

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
        os.write(self._wake_writing, b"!")

    def suspect(self, error: Exception) -> None:
        """This ended us: if the journal is damaged, the next start shall know."""
        self._store.suspect(error)

    def close(self) -> None:
        """Leave nothing behind: connection file, sockets, runtime directory; the lock last."""
        connection.remove(self._runtime)
        self._sockets.close()
        self._watches.close()
        self._reader.close()
        self._upkeep.close()
        self._store.close()
        for folder in (self._runtime / "k", self._runtime):
            with suppress(OSError):
                folder.rmdir()  # if no worker lives: the sockets of its kernel are its own
        self._lock.release()
