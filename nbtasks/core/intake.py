"""Recording what clients submit: whole batches, each once, and none beyond the limit.

A client may promise a submit: it is in the client's outbox, a file of the home, and `.delay()` has
returned. Such a one is never refused, it may also be read from the outbox (`adopt`), and nobody waits
for its Accepted: that one travels late, with others, or not at all if the run's end was told by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks.core.attempts import Attempts
from nbtasks.core.dependencies import Dependencies
from nbtasks.core.finals import Finals
from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import (
    Accepted,
    Cancel,
    GetBoard,
    GetOutput,
    GetRun,
    GetRuns,
    GetStatus,
    GetValue,
    Message,
    NewRun,
    PeerId,
    Prune,
    Refused,
    RunId,
    Submit,
    Watch,
)
from nbtasks.core.records import Now, RunRecord, Send
from nbtasks.core.states import State
from nbtasks.core.timers import Timers

REFUSED_MAX = 10_000  # refused batches that are remembered
ACCEPT_S = 0.05  # an Accepted that nobody waits for travels so late
ACCEPTS_MAX = 32  # unless there are so many for one client

# what is asked of runs by whoever knows their ids: before it is answered, outboxes are to be adopted
QUERIES = frozenset({Watch, Cancel, GetRun, GetRuns, GetValue, GetOutput, GetStatus, GetBoard, Prune})


def names_runs(message: Message) -> bool:
    """Whether this is about runs that may be in an outbox and not recorded yet."""
    if isinstance(message, Submit):
        return any(new.needs for new in message.runs)
    return type(message) in QUERIES


class Intake:
    """The door through which runs come in.

    Parameters
    ----------
    recorded, keyed, cached, spec_id
        See `core.broker.Broker`.
    queue_limit, allows_promises
        See `core.broker.Limits`.
    """

    def __init__(
        self,
        ledger: Ledger,
        attempts: Attempts,
        dependencies: Dependencies,
        finals: Finals,
        timers: Timers,
        recorded: Callable[[RunId], bool],
        keyed: Callable[[str, str], RunId],
        cached: Callable[[str, float], int],
        spec_id: Callable[[Any], str],
        queue_limit: int,
        allows_promises: bool,
    ) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._dependencies = dependencies
        self._finals = finals
        self._timers = timers
        self._queue_limit = queue_limit
        self._allows_promises = allows_promises
        self._recorded = recorded
        self._keyed = keyed
        self._cached = cached
        self._spec_id = spec_id
        self._known_specs: set[str] = set()
        self._refused: dict[str, Refused] = {}  # by batch, oldest first
        self._late: dict[PeerId, list[tuple[str, RunId]]] = {}  # batches that nobody waits for, with a run

    def submit(self, peer: PeerId, message: Submit, now: Now) -> None:
        """Record the batch, or say why not; a copy of it is told the same."""
        runs = message.runs
        if not runs:
            self._accept(peer, message.batch)
        elif self._is_recorded(runs[0].run):
            # a batch is recorded whole or not at all, so its first run speaks for it
            self._accept(peer, message.batch)
            if message.watch:
                self._finals.watch_all(
                    peer, [new.run for new in runs], self._ledger.runs, now, self._ledger.out
                )
        elif holder := self._holder(message):
            room = self._room()
            self._ledger.out.sends.append(Send(peer, Accepted(message.batch, room, holder)))
        elif refused := self._refuses(message):
            self._ledger.out.sends.append(Send(peer, refused))
        else:
            if message.watch:
                for new in runs:
                    self._finals.watch(peer, new.run)
            self._record(message, now)  # some may end with it: they need one that did not complete
            if message.promised and message.watch:
                self._accept_late(peer, message, now)
            else:
                self._accept(peer, message.batch)

    def adopt(self, message: Submit, now: Now) -> None:
        """Record a promised batch whose sender may be gone."""
        if message.runs and not self._is_recorded(message.runs[0].run):
            self._record(message, now)

    def accept_late(self, peer: PeerId) -> None:
        """A timer of ours is due: tell what the client does not know yet."""
        for batch, run in self._late.pop(peer, ()):
            if run in self._ledger.runs:  # otherwise its end is told, and says as much
                self._accept(peer, batch)

    def forget_specs(self, spec_ids: list[str], upto: int) -> None:
        """No run with a sequence number up to `upto` has these specs: they leave if no later one has them."""
        self._known_specs.difference_update(spec_ids)
        self._ledger.out.unused = (upto, spec_ids)

    # -- pieces ----------------------------------------------------------------------------------------

    def _is_recorded(self, run: RunId) -> bool:
        return run in self._ledger.runs or self._ledger.is_new(run) or self._recorded(run)

    def _holder(self, message: Submit) -> RunId:
        """The run that was submitted before with the same idempotency key; "" if there is none."""
        task, key = message.spec.key, message.terms.key
        return (self._ledger.claimed.get((task, key)) or self._keyed(task, key)) if key else ""

    def _refuses(self, message: Submit) -> Refused | None:
        """Say no to a batch for which there is no room; a copy of it that comes later is told the same."""
        if message.promised:
            return None
        if message.batch not in self._refused:
            refused = self._no_room(message) or self._unknown_need(message)
            if refused is None:
                return None
            self._refused[message.batch] = refused
            if len(self._refused) > REFUSED_MAX:
                del self._refused[next(iter(self._refused))]
        return self._refused[message.batch]

    def _no_room(self, message: Submit) -> Refused | None:
        live, limit = len(self._ledger.runs), self._queue_limit
        if live + len(message.runs) <= limit:
            return None
        reason = f"{live} runs are waiting or running; the queue limit is {limit}"
        return Refused(message.batch, "queue_full", reason)

    def _unknown_need(self, message: Submit) -> Refused | None:
        for new in message.runs:
            if new.needs and (unknown := self._dependencies.unknown(new.needs)):
                reason = f"it needs run {unknown}, which is not recorded in this home"
                return Refused(message.batch, "unknown_run", reason)
        return None

    def _record(self, message: Submit, now: Now) -> None:
        spec_id = self._spec_id(message.spec)
        if spec_id not in self._known_specs:
            self._known_specs.add(spec_id)
            self._ledger.out.specs.append((spec_id, message.spec, message.code))
        for new in message.runs:
            blocked = bool(new.needs) and self._dependencies.blocks(new.needs)
            record = self._ledger.add(new, message, spec_id, now.unix_s, blocked)
            cached = self._is_cached(record, new)
            if cached and (source := self._cached(new.cache_key, now.unix_s)):
                self._attempts.take_cached(record, source, now)
            else:
                self._attempts.admit(record, now)
        if message.terms.key:
            self._ledger.claim(message.spec.key, message.terms.key, record)

    @staticmethod
    def _is_cached(record: RunRecord, new: NewRun) -> bool:
        """Whether an earlier result is to be taken now; a run that waits asks when it starts."""
        return bool(new.cache_key) and not record.terms.refresh and record.state is State.PENDING

    def _accept(self, peer: PeerId, batch: str) -> None:
        self._ledger.out.sends.append(Send(peer, Accepted(batch, self._room())))

    def _room(self) -> int:
        return max(0, self._queue_limit - len(self._ledger.runs)) if self._allows_promises else 0

    def _accept_late(self, peer: PeerId, message: Submit, now: Now) -> None:
        late = self._late.setdefault(peer, [])
        if not late:
            self._timers.add(now.mono_s + ACCEPT_S, "accept", peer)
        late.append((message.batch, message.runs[0].run))
        if len(late) >= ACCEPTS_MAX:
            self.accept_late(peer)
