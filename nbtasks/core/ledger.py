"""The live runs, and the only place where a run changes.

Every change is noted in the `Output` under construction, so that what is in memory after a pass is
what is committed by it. Final runs leave the memory with that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from nbtasks.core.messages import Attempt, Moment, NewRun, PeerId, Progress, RunId, Spec, Submit, Terms
from nbtasks.core.records import NewRow, Output, RunRecord
from nbtasks.core.retention import Past
from nbtasks.core.states import FINAL, TYPES, Cause, State, StateType, move

TALLIES_MAX = 1000  # tasks that are counted one by one


class Tally(msgspec.Struct):
    """Runs of one task by state type, final ones included."""

    key: str  # "": runs whose task is not told, or not looked up yet
    name: str
    counts: dict[str, int] = msgspec.field(default_factory=lambda: {str(t): 0 for t in StateType})


class Ledger:
    """Records of live runs by id, and counts of all runs by task and state type.

    Of a run that was final before this broker began only the state type is known at first; `attribute`
    tells later, range by range of sequence numbers, of which task it was.
    """

    def __init__(self) -> None:
        self.runs: dict[RunId, RunRecord] = {}
        self.rest = Tally("", "")
        self.tallies: dict[str, Tally] = {"": self.rest}
        self.observe: Callable[[RunRecord], None] | None = None  # called with each change, if anybody looks
        self._attributed = self._former_seq = 0
        self.last_seq = 0
        self.out = Output()
        self.claimed: dict[tuple[str, str], RunId] = {}  # (task, idempotency key) by this output
        self.ended: dict[RunId, str] = {}  # runs that this output ends -> name of their state
        self._new: set[RunId] = set()  # recorded by the output under construction
        self._first_history: tuple[Moment, ...] = (Moment("", 0.0),)  # shared by the runs of a batch
        self._children: dict[RunId, int] = {}  # how many live runs a run submitted

    def restore(self, records: Iterable[RunRecord], counts: dict[str, int], last_seq: int) -> None:
        """Take over what the table holds; `counts` include final runs."""
        self.runs = {record.run: record for record in records}
        self.rest.counts.update(counts)
        self.last_seq = self._former_seq = last_seq
        for record in self.runs.values():
            kind = record.state.type.value
            self.rest.counts[kind] -= 1
            self._tally(record.spec).counts[kind] += 1
            self._count_child(record, 1)

    def take(self) -> Output:
        """Hand over what has to be committed and sent."""
        out, self.out = self.out, Output()
        self._new.clear()
        self.claimed.clear()
        self.ended.clear()
        return out

    @property
    def counts(self) -> dict[str, int]:
        """All runs by state type."""
        return {str(t): sum(tally.counts[t.value] for tally in self.tallies.values()) for t in StateType}

    def _tally(self, spec: Spec) -> Tally:
        tally = self.tallies.get(spec.key)
        if tally is None:
            if len(self.tallies) > TALLIES_MAX:
                return self.rest
            tally = self.tallies[spec.key] = Tally(spec.key, spec.name)
        return tally

    def unattributed(self, rows: int) -> tuple[int, int] | None:
        """The next range of sequence numbers to look up, both ends included; None: all is known."""
        if self._attributed >= self._former_seq:
            return None
        return self._attributed + 1, min(self._attributed + rows, self._former_seq)

    def attribute(self, upto: int, found: Iterable[tuple[Spec, str, int]]) -> None:
        """Final runs up to this number are of these tasks: (spec, state type, number of runs)."""
        for spec, kind, number in found:
            self.rest.counts[kind] -= number
            self._tally(spec).counts[kind] += number
        self._attributed = upto

    def is_new(self, run: RunId) -> bool:
        """Whether this pass records `run`; it may be final already."""
        return run in self._new

    def add(
        self, new: NewRun, submit: Submit, spec_id: str, unix_s: float, blocked: bool = False
    ) -> RunRecord:
        """Take in a new run.

        Parameters
        ----------
        blocked
            Whether runs that it needs are still to end.
        """
        self.last_seq += 1
        waits = submit.terms.eta > unix_s
        state = State.AWAITING_DEPENDENCIES if blocked else State.PENDING
        state = State.SCHEDULED if waits else state
        if self._first_history[0].at != unix_s or self._first_history[0].state != state:
            self._first_history = (Moment(state.value, unix_s),)
        record = RunRecord(
            seq=self.last_seq,
            run=new.run,
            batch=submit.batch,
            spec=submit.spec,
            spec_id=spec_id,
            parent=submit.parent,
            submitted=unix_s,
            state=state,
            at=unix_s,
            history=self._first_history,
            due=submit.terms.eta if waits else 0.0,
            terms=_terms(submit, new),
        )
        self.runs[new.run] = record
        self._new.add(new.run)
        self._tally(record.spec).counts[state.type] += 1
        self._count_child(record, 1)
        self.out.new.append(NewRow(record, new.args, new.parameters))
        if self.observe is not None:
            self.observe(record)
        return record

    def claim(self, task: str, key: str, record: RunRecord) -> None:
        """Give this idempotency key to a new run."""
        self.claimed[task, key] = record.run
        self.out.keys.append((task, key, record.seq))

    def touch(self, record: RunRecord) -> None:
        """Note that a field changed which is not the state."""
        self.out.changed[record.seq] = record

    def change(
        self, record: RunRecord, cause: Cause, unix_s: float, message: str = "", label: str = ""
    ) -> None:
        """Move the run along `cause`; a state that it enters anew is added to its history.

        Parameters
        ----------
        label
            The user's name for the state.
        """
        old, new = record.state, move(record.state, cause)
        unix_s = max(unix_s, record.at)  # the wall clock may have been set back
        if new is not old:
            tally = self._tally(record.spec)
            tally.counts[old.type] -= 1
            if new in FINAL and self._attributed < record.seq <= self._former_seq:
                tally = self.rest  # its range is still to be looked up
            tally.counts[new.type] += 1
            record.state, record.at = new, unix_s
            record.history = (*record.history, Moment(new.value, unix_s, message, label))
        record.message = message
        self.out.changed[record.seq] = record
        if new in FINAL:
            record.worker, record.started, record.stop, record.due = "", False, "", 0.0
            del self.runs[record.run]
            self.ended[record.run] = new.value
            self._count_child(record, -1)
        if self.observe is not None:
            self.observe(record)

    def is_parent(self, run: RunId) -> bool:
        """Whether `run` submitted one that is live."""
        return run in self._children

    def remove(self, past: Past) -> None:
        """Let a final run leave the table."""
        tally = self.tallies.get(past.key, self.rest)
        if self._attributed < past.seq <= self._former_seq:
            tally = self.rest
        tally.counts[TYPES[State(past.state)].value] -= 1
        self.out.removed.append(past)

    def _count_child(self, record: RunRecord, step: int) -> None:
        if record.parent:
            left = self._children.get(record.parent, 0) + step
            if left:
                self._children[record.parent] = left
            else:
                del self._children[record.parent]

    # -- attempts --------------------------------------------------------------------------------------

    def assign(self, record: RunRecord, worker: PeerId) -> None:
        """Give the run to a worker under a fresh attempt number."""
        record.attempt += 1
        record.worker, record.started, record.stop, record.chunks, record.due = worker, False, "", 0, 0.0
        self.touch(record)

    def charge(self, record: RunRecord, pid: int, start: float) -> None:
        """User code of the current attempt began at `start` (UNIX seconds)."""
        if record.started:
            return
        start = max(start, record.submitted)
        record.started = True
        record.attempts = (*record.attempts, Attempt(len(record.attempts) + 1, record.worker, pid, start))
        if record.state is State.CANCELLING:
            self.touch(record)
            if self.observe is not None:
                self.observe(record)
        else:
            self.change(record, Cause.STARTED, start)

    def progress(self, record: RunRecord, progress: Progress) -> None:
        """The code of the charged attempt is so far; an older word changes nothing."""
        last = record.attempts[-1]
        if last.progress is not None and last.progress.number >= progress.number:
            return
        record.attempts = (*record.attempts[:-1], msgspec.structs.replace(last, progress=progress))
        self.touch(record)
        if self.observe is not None:
            self.observe(record)

    def printed(self, record: RunRecord, body: bytes) -> None:
        """One more chunk of what the current attempt puts out."""
        record.chunks += 1
        self.out.chunks.append((record.seq, record.attempt, record.chunks, body))
        self.touch(record)
        if self.observe is not None:
            self.observe(record)

    def end_attempt(self, record: RunRecord, end: float, outcome: str) -> None:
        """Close the row of the charged attempt; it must have been charged."""
        last = record.attempts[-1]
        closed = msgspec.structs.replace(last, end=max(end, last.start), outcome=outcome)
        record.attempts = (*record.attempts[:-1], closed)

    def release(self, record: RunRecord) -> None:
        """Nobody holds the run any more."""
        record.worker, record.started, record.stop = "", False, ""
        self.touch(record)


def _terms(submit: Submit, new: NewRun) -> Terms:
    """Those of the batch, with what is said run by run."""
    if not (new.needs or new.name or new.cache_key):
        return submit.terms
    return msgspec.structs.replace(submit.terms, needs=new.needs, name=new.name, cache_key=new.cache_key)
